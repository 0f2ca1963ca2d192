import os
import stat
from pathlib import Path

import pytest

from certs.errors import CertificateError
from certs.files import check_folder, private_folder, read_private, sync_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_read_and_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert write_private(path, b"secret", replace=False)
    assert (read_private(path), mode(path)) == (b"secret", 0o600)
    assert path.stat().st_nlink == 1


def test_the_first_one_stays_unless_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert write_private(path, b"first", replace=False)
    assert not write_private(path, b"second", replace=False)
    assert read_private(path) == b"first"
    assert write_private(path, b"second", replace=True)
    assert read_private(path) == b"second"
    assert os.listdir(tmp_path) == ["key"]


def test_a_replaced_file_does_not_keep_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"open")
    path.chmod(0o644)
    write_private(path, b"closed", replace=True)
    assert mode(path) == 0o600


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none") is None


def test_reading_leaves_no_descriptor_open(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    write_private(good, b"x", replace=False)
    bad.write_bytes(b"x")
    bad.chmod(0o640)
    before = os.listdir("/proc/self/fd")
    read_private(good)
    for path in (bad, tmp_path):
        with pytest.raises(CertificateError):
            read_private(path)
    assert os.listdir("/proc/self/fd") == before


def test_a_folder_is_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for _ in range(2):
        private_folder(folder)
        assert mode(folder) == 0o700


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="none: cannot look at this folder: No such file or directory"):
        check_folder(tmp_path / "none")


def test_a_folder_that_cannot_be_listed_is_synced_with_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []

    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    sync_folder(tmp_path)
    assert synced == [True]


def test_a_file_of_the_operators_may_be_readable_to_others(tmp_path: Path) -> None:
    path, said = tmp_path / "key", list[str]()
    write_private(path, b"secret", replace=False)
    assert read_private(path, said.append) == b"secret"
    assert said == []
    path.chmod(0o644)
    assert read_private(path, said.append) == b"secret"
    assert said == [f"{path}: mode 0644: others than its owner may read this private key. Run: chmod 600 {path}"]
    with pytest.raises(CertificateError):
        read_private(path)
    path.chmod(0o664)
    with pytest.raises(CertificateError, match="mode 0664: others than its owner may use"):
        read_private(path, said.append)
