"""Files of credentials: what is taken from them, what is wrong with them, and who is let in by them."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.transport.credentials import CredentialsError, Users, read_credentials, read_user_lines, read_users


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, mode: int = 0o600) -> Path:
        path = tmp_path / "proxy"
        path.write_bytes(data)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("data", [b"relay:pa:ss word", b"relay:pa:ss word\n", b"relay:pa:ss word\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o440])
def test_credentials_of_a_file(written: Callable[..., Path], data: bytes, mode: int) -> None:
    assert read_credentials(written(data, mode)) == "relay:pa:ss word"


@pytest.mark.parametrize("data", [b"", b"\n", b"secret", b":secret", b"relay:secret\nmore", b"relay:" + b"s" * 5000])
def test_a_file_that_has_none(written: Callable[..., Path], data: bytes) -> None:
    with pytest.raises(CredentialsError, match="not one line of user:password") as caught:
        read_credentials(written(data))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
def test_a_file_that_others_may_use(written: Callable[..., Path], mode: int) -> None:
    with pytest.raises(CredentialsError, match=f"mode {mode:04o}: others may use these credentials. Run: chmod 600 "):
        read_credentials(written(b"relay:secret", mode))


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="No such file"):
        read_credentials(tmp_path / "none")
    with pytest.raises(CredentialsError):
        read_credentials(tmp_path)


# ---- users of the relay -------------------------------------------------------------------------------------------------


def basic(text: str, scheme: str = "Basic") -> bytes:
    return f"{scheme} {base64.b64encode(text.encode()).decode()}".encode()


def test_each_user_of_a_file_is_let_in_and_nobody_else(written: Callable[..., Path]) -> None:
    users = read_users(written(b"# the nodes\r\nocto:s3cret:x\r\n\nocto:the next one\nother:\n"))
    for right in ("octo:s3cret:x", "octo:the next one", "other:"):
        assert users.have(basic(right))
        assert users.have(basic(right, "bASIC") + b" ")
    for wrong in ("octo:s3cret", "octo:s3cret:x ", "Octo:s3cret:x", "octo:", "other", ":", "", "# the nodes", "octo:\xe4"):
        assert not users.have(basic(wrong))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Bearer b2N0bzpz",
        b"b2N0bzpz",
        b"Basic b2N0bzp",
        b"Basic b2N0\nbzpz",
        b"Basic \xff",
        b"Basic b2N0bzpz b2N0bzpz",
    ],
)
def test_what_is_no_basic_authorization_is_nobody_s(value: bytes, written: Callable[..., Path]) -> None:
    users = read_users(written(b"octo:s"))
    assert users.have(b"Basic b2N0bzpz")
    assert not users.have(value)


@given(st.binary())
def test_no_authorization_raises_anything(value: bytes) -> None:
    assert not Users((bytes(32),)).have(value)
    assert not Users((bytes(32),)).have(b"Basic " + value)


def test_no_password_is_kept(written: Callable[..., Path]) -> None:
    users = read_users(written(b"octo:s3cret"))
    assert "s3cret" not in repr(users)
    assert all(b"s3cret" not in each for each in users._hashes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no user in it. Write a line user:password for each."),
        (b"# octo:s3cret\n\n", "no user in it. Write a line user:password for each."),
        (b"octo:s3cret\nocto\n", "line 2 is not user:password. Write user, a colon, and the password."),
        (b":s3cret\n", "line 1 is not user:password. Write user, a colon, and the password."),
        (
            "octo:s3cret\u00e4\n".encode(),
            "line 1 has characters that Octopus does not send: beyond ASCII, or control characters. Use others.",
        ),
        (
            b"octo:s3cret\x07\n",
            "line 1 has characters that Octopus does not send: beyond ASCII, or control characters. Use others.",
        ),
        (b"octo:s3cret\n" * 6000, "more than 65536 bytes. Keep fewer users."),
    ],
)
def test_a_file_without_right_users(data: bytes, said: str, written: Callable[..., Path]) -> None:
    path = written(data)
    with pytest.raises(CredentialsError) as caught:
        read_user_lines(path)
    assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
def test_a_file_of_users_that_others_may_use(written: Callable[..., Path], mode: int) -> None:
    with pytest.raises(CredentialsError, match=f"mode {mode:04o}: others may use these credentials. Run: chmod 600 "):
        read_users(written(b"octo:s3cret", mode))
