"""Files with identities for others to take: what is in them, and how they are written."""

import sys
from pathlib import Path
from typing import Literal

from certs.errors import CertificateError
from certs.files import write_private, write_public
from certs.identity import Identity
from certs.pfx import Encryption, write_pfx

Format = Literal["pfx", "pem"]


def format_of(file: Path) -> Format:
    """By the name's end: PEM where it says so, else a PFX."""
    return "pem" if file.suffix.lower() == ".pem" else "pfx"


def contents(identity: Identity, form: Format, password: str | None, encryption: Encryption) -> bytes:
    """The key, encrypted where there is a password, and the certificate. encryption: of a PFX (see write_pfx)."""
    if form == "pem":
        return identity.pem(password)
    return write_pfx(identity, password, encryption)


def put(file: Path, data: bytes, public: bool, replace: bool) -> None:
    """Writes it whole or not at all: mode 0600, or 0644 where it is public. Raises CertificateError."""
    # What stands at the path is replaced, not written to: a pipe or a device would be gone.
    if file.exists() and not file.is_file():
        raise CertificateError(f"{file}: not a file. Name a file, or - for standard output.")
    if not (write_public if public else write_private)(file, data, replace):
        raise CertificateError(f"{file}: is there already. Name another file, or give --replace to overwrite it.")


def put_on_standard_output(data: bytes) -> None:
    """Raises CertificateError where nobody takes it."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise CertificateError(f"standard output cannot be written: {error.strerror}.") from error
