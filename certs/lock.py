"""One command at a time changes a state folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certs.errors import CertificateError
from certs.files import check_folder, unusable

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. The system gives it back however the process ends.

    Raises CertificateError where another process has it, and for a folder that is not there or that others may use.
    """
    check_folder(folder)
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unusable(path, "open", error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CertificateError(f"{folder}: another command is changing it. Wait for its end, and try again.") from None
        except OSError as error:
            raise unusable(path, "lock", error) from error
        yield
    finally:
        os.close(descriptor)
