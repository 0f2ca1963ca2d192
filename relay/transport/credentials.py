"""Files of ``user:password``: what the relay says to an HTTP proxy, and who may use the relay as one.

No text of an error has what is in a file, and no repr has a password.
"""

import base64
import binascii
import errno
import hmac
import os
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

_MOST: Final = 4096  # bytes of one line
_MOST_USERS: Final = 64 * 1024  # bytes of a file of users
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP  # a group may read it: Kubernetes mounts secrets with mode 0440
_COMMENT: Final = "#"
_BASIC: Final = b"basic"


class CredentialsError(Exception):
    """A file of credentials cannot be used. The text says why, and what to do. forbidden: another user may be allowed to."""

    def __init__(self, text: str, *, forbidden: bool = False) -> None:
        super().__init__(text)
        self.forbidden = forbidden


@dataclass(frozen=True, slots=True)
class Users:
    """Who may use the relay as a proxy. Holds the hashes of ``user:password`` only."""

    _hashes: tuple[bytes, ...] = field(repr=False)

    def have(self, authorization: bytes) -> bool:
        """Whether one of them sent this Proxy-Authorization (RFC 7617). How long it takes tells nothing of any of them."""
        scheme, _, value = authorization.strip().partition(b" ")
        if scheme.lower() != _BASIC:
            return False
        try:
            given = sha256(base64.b64decode(value.strip(), validate=True)).digest()
        except binascii.Error:
            return False
        found = False
        for each in self._hashes:
            found |= hmac.compare_digest(each, given)
        return found


def read_credentials(path: Path) -> str:
    """``user:password`` from the only line of a file. Raises CredentialsError."""
    data = _read(path, _MOST)
    lines = data.decode("utf-8", "replace").splitlines()
    if len(data) > _MOST or len(lines) != 1 or not _is_user(lines[0]):
        raise CredentialsError(f"{path}: not one line of user:password. Write user, a colon, and the password.")
    return lines[0]


def read_users(path: Path) -> Users:
    """The users in a file, one on each line. Empty lines and those that begin with ``#`` are none. Raises CredentialsError."""
    return Users(tuple(sha256(line.encode("ascii")).digest() for line in read_user_lines(path)))


def read_user_lines(path: Path) -> list[str]:
    """The same, each as ``user:password``."""
    data = _read(path, _MOST_USERS)
    if len(data) > _MOST_USERS:
        raise CredentialsError(f"{path}: more than {_MOST_USERS} bytes. Keep fewer users.")
    found = []
    for number, raw in enumerate(data.split(b"\n"), start=1):
        line = raw.removesuffix(b"\r").decode("utf-8", "replace")
        if not line or line.startswith(_COMMENT):
            continue
        if not _is_user(line):
            raise CredentialsError(f"{path}: line {number} is not user:password. Write user, a colon, and the password.")
        if not (line.isascii() and line.isprintable()):  # Halibut sends "?" for what is beyond ASCII (wire.md 8.1)
            problem = "has characters that Octopus does not send: beyond ASCII, or control characters"
            raise CredentialsError(f"{path}: line {number} {problem}. Use others.")
        found.append(line)
    if not found:
        raise CredentialsError(f"{path}: no user in it. Write a line user:password for each.")
    return found


def _is_user(line: str) -> bool:
    user, colon, _ = line.partition(":")
    return bool(user and colon)


def _read(path: Path, most: int) -> bytes:
    """The file, or a byte more than `most` of it. Raises CredentialsError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise CredentialsError(f"{path}: not a file. Name a file with user:password in it.")
            if about.st_mode & _OTHERS:
                mode = f"mode {stat.S_IMODE(about.st_mode):04o}"
                raise CredentialsError(f"{path}: {mode}: others may use these credentials. Run: chmod 600 {path}")
            return file.read(most + 1)
    except OSError as error:
        raise CredentialsError(
            f"{path}: cannot read: {error.strerror or error}. Check the path and who may use it.",
            forbidden=error.errno == errno.EACCES,
        ) from error
