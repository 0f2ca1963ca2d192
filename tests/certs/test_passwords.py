import os
from pathlib import Path

import pytest

from certs.errors import CertificateError
from certs.passwords import MAX_PASSWORD, Credential, PasswordFile, parse_source


def private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nanother line\n"])
def test_it_is_the_first_line(tmp_path: Path, ending: str) -> None:
    assert PasswordFile(private(tmp_path / "p", f" pässwörd {ending}".encode())).read() == " pässwörd "


def test_what_is_no_password(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    cases = [
        (tmp_path / "none", "no such file. Name a file whose first line is the password."),
        (tmp_path, "not a file. Name a file whose first line is the password."),
        (pipe, "not a file"),
        (private(tmp_path / "empty", b""), "the first line is empty"),
        (private(tmp_path / "blank", b"\nsecret"), "the first line is empty"),
        (private(tmp_path / "long", b"x" * (MAX_PASSWORD + 1)), f"the first line has more than {MAX_PASSWORD} bytes"),
        (private(tmp_path / "latin", b"p\xe4ss"), "not UTF-8"),
    ]
    for path, problem in cases:
        with pytest.raises(CertificateError) as raised:
            PasswordFile(path).read()
        assert str(raised.value).startswith(f"{path}: {problem}")
    assert len(PasswordFile(private(tmp_path / "most", b"x" * MAX_PASSWORD)).read()) == MAX_PASSWORD


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "p", b"secret")
    path.chmod(mode)
    with pytest.raises(CertificateError) as raised:
        PasswordFile(path).read()
    said = f"{path}: mode {mode:04o}: others than its owner may use this password. Run: chmod 600 {path}"
    assert str(raised.value) == said


def test_a_credential_is_where_systemd_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = private(tmp_path / "web01.password", b"secret\n")
    path.chmod(0o440)  # with an access control list for the unit's user, that is its mode
    assert Credential("web01.password").read() == "secret"
    path.chmod(0o460)
    with pytest.raises(CertificateError, match="mode 0460: others than its owner may use this password"):
        Credential("web01.password").read()


def test_a_credential_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(CertificateError, match=f"^credential:p: not in {tmp_path}. Add LoadCredential=p:FILE to the unit.$"):
        Credential("p").read()
    for value in (None, ""):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY") if value is None else monkeypatch.setenv("CREDENTIALS_DIRECTORY", value)
        with pytest.raises(CertificateError, match=r"^credential:p: the environment has no CREDENTIALS_DIRECTORY"):
            Credential("p").read()


def test_a_source_as_it_is_written() -> None:
    assert parse_source("credential:web01.password") == Credential("web01.password")
    assert parse_source("/run/secrets/p") == PasswordFile(Path("/run/secrets/p"))
    assert [str(parse_source(text)) for text in ("credential:a", "b/c")] == ["credential:a", "b/c"]


@pytest.mark.parametrize("name", ["", ".", "..", "../p", "a/b", "a:b", "-p", ".p", "a b", "ä", "x" * 256, "a\n"])
def test_a_name_that_no_credential_has(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a credential"):
        parse_source(f"credential:{name}")
