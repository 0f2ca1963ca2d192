import os
from pathlib import Path

import pytest

from certs.errors import CertificateError
from relay.owners import check_owner, user_name

STRANGER = 4_000_000_000


def test_ones_own_folder_and_one_that_is_not_there(tmp_path: Path) -> None:
    check_owner(tmp_path)
    check_owner(tmp_path / "none")


def test_another_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = user_name(os.geteuid())
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    with pytest.raises(CertificateError) as raised:
        check_owner(tmp_path, "relay-tentacle run")
    assert str(raised.value) == (
        f"{tmp_path}: belongs to {owner}, who could not read what #{STRANGER} puts there. "
        f"Run the same command as {owner}: sudo -u {owner} relay-tentacle run"
    )


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CertificateError, match="cannot look at this folder: Not a directory"):
        check_owner(tmp_path / "file" / "state")
