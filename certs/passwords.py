"""Where the password of an encrypted file comes from: a file's first line, or a credential that systemd hands to a unit.

A source has the password's place and never the password, so it may be printed.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from certs.errors import CertificateError
from certs.files import Reading, read_private

MAX_PASSWORD = 4096  # bytes of UTF-8
# systemd.exec(5): a credential's name is a file name; it keeps no colon, which ends the name in LoadCredential=.
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
_PREFIX = "credential:"
_FOLDER = "CREDENTIALS_DIRECTORY"
_WANTED = Reading("password", "Name a file whose first line is the password.")


@dataclass(frozen=True, slots=True)
class PasswordFile:
    """The first line of a file, which only its owner may read."""

    path: Path

    def read(self) -> str:
        """Raises CertificateError."""
        data = read_private(self.path, reading=_WANTED)
        if data is None:
            raise CertificateError(f"{self.path}: no such file. {_WANTED.remedy}")
        return first_line(data, str(self.path))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Credential:
    """The first line of a systemd credential: ``LoadCredential=NAME:FILE`` or ``LoadCredentialEncrypted=`` of the unit."""

    name: str

    def read(self) -> str:
        """Raises CertificateError."""
        folder = os.environ.get(_FOLDER)
        if not folder:
            raise CertificateError(
                f"{self}: the environment has no {_FOLDER}. Systemd sets it where the unit has "
                f"LoadCredential={self.name}:FILE; elsewhere, name a file with the password."
            )
        path = Path(folder, self.name)
        # systemd keeps the folder for this unit alone, and may own the file itself: mode 0440 and an ACL for the user.
        data = read_private(path, shared=lambda text: None, reading=_WANTED)
        if data is None:
            raise CertificateError(f"{self}: not in {folder}. Add LoadCredential={self.name}:FILE to the unit.")
        return first_line(data, str(self))

    def __str__(self) -> str:
        return f"{_PREFIX}{self.name}"


PasswordSource = PasswordFile | Credential


def parse_source(text: str) -> PasswordSource:
    """``credential:NAME``, or else a path. Raises ValueError for a name that no credential has."""
    if not text.startswith(_PREFIX):
        return PasswordFile(Path(text))
    return credential(text.removeprefix(_PREFIX))


def credential(name: str) -> Credential:
    """Raises ValueError for a name that no credential has: it becomes part of a path."""
    if not _CREDENTIAL.fullmatch(name):
        raise ValueError("not the name of a credential: write up to 255 letters, digits, dots, dashes and underscores")
    return Credential(name)


def first_line(data: bytes, where: str) -> str:
    """The password in what was read from `where`. Raises CertificateError."""
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise CertificateError(f"{where}: the first line is empty. Put the password there.")
    if len(line) > MAX_PASSWORD:
        raise CertificateError(f"{where}: the first line has more than {MAX_PASSWORD} bytes. Put the password there alone.")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise CertificateError(f"{where}: not UTF-8. Save the password as UTF-8, on the first line.") from None
