"""Key files on disk: read only if they are private, written so that they never were anything else.

The one exception are files that the operator provides: whoever may read those is the operator's choice, not ours.

A file is written under a temporary name in its folder with mode 0600 from the first byte, synced, and then put in
place, and the folder is synced: after a crash there is the whole file or none.
"""

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from certs.errors import CertificateError, OutOfReachError

# A PFX with a long chain has some 20 KB. More than this was never a key file.
_MAX_BYTES = 1024 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Reading:
    """What is looked for in a private file, for the messages about it."""

    what: str
    remedy: str


_KEY = Reading("private key", "Name a PEM or PFX file with a key and its certificate.")


def read_private(
    path: Path, shared: Callable[[str], None] | None = None, reading: Reading = _KEY, most: int = _MAX_BYTES
) -> bytes | None:
    """The bytes of a private file, None if there is no such file.

    shared: given, a file that others may read is read all the same, and `shared` is called with a text that says so. For
    files that the operator owns: Kubernetes mounts its secrets with modes 0644 and 0440. most: bytes.

    Raises CertificateError if it is no regular file, if anybody but its owner may touch it, or if it cannot be read.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, "read", error) from error
    try:
        # Of the open file, not of its name: nobody can swap it in between.
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise CertificateError(f"{path}: not a file. {reading.remedy}")
        _check_mode(path, about.st_mode, shared, reading.what)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise unusable(path, "read", error) from error
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise CertificateError(f"{path}: more than {most} bytes. {reading.remedy}")
    return data


def _check_mode(path: Path, mode: int, shared: Callable[[str], None] | None, what: str) -> None:
    """Raises CertificateError where others may do more with this file than they should."""
    place, remedy = f"{path}: mode {stat.S_IMODE(mode):04o}", f"Run: chmod 600 {path}"
    if mode & (_OTHERS_WRITE if shared else _OTHERS):
        raise CertificateError(f"{place}: others than its owner may use this {what}. {remedy}")
    if shared and mode & _OTHERS_READ:
        shared(f"{place}: others than its owner may read this {what}. {remedy}")


def private_folder(path: Path) -> None:
    """Makes the folder with mode 0700, or checks that nobody but its owner may use it. Raises CertificateError."""
    try:
        path.mkdir(mode=0o700)
        sync_folder(path.parent)
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        raise CertificateError(
            f"{path}: cannot make this folder: {path.parent} is not there. Run: mkdir -p {path.parent}"
        ) from error
    except OSError as error:
        raise unusable(path, "make this folder", error) from error
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raises CertificateError unless `path` is a folder that only its owner may use."""
    try:
        _check_folder(path)
    except OSError as error:
        raise unusable(path, "look at this folder", error) from error


def check_if_there(path: Path) -> bool:
    """The same; False where nothing is there."""
    try:
        _check_folder(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unusable(path, "look at it", error) from error
    return True


def _check_folder(path: Path) -> None:
    """Raises OSError, too."""
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise CertificateError(f"{path}: not a folder. Private keys are kept here: name a folder.")
    if mode & _OTHERS:
        raise CertificateError(
            f"{path}: mode {stat.S_IMODE(mode):04o}: others than its owner may use this folder of private keys. "
            f"Run: chmod 700 {path}"
        )


def write_private(path: Path, data: bytes, replace: bool) -> bool:
    """Puts a key file in place, mode 0600. Without `replace`, False if there is one already: that one stays.

    Raises CertificateError.
    """
    return _write(path, data, replace, 0o600)


def write_public(path: Path, data: bytes, replace: bool) -> bool:
    """The same for what anybody may read: mode 0644, whatever the umask."""
    return _write(path, data, replace, 0o644)


def _write(path: Path, data: bytes, replace: bool, mode: int) -> bool:
    # The leading dot keeps a leftover of a crash from being taken for an identity: their names never start with one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            _write_synced(temporary, data, mode)
            if replace:
                os.rename(temporary, path)
            else:
                # Unlike a rename, a link never replaces: of two processes one wins.
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise unusable(path, "write", error) from error
    return True


def unusable(path: Path, what: str, error: OSError) -> CertificateError:
    """What to raise where the system refuses: an OutOfReachError where another user may be allowed to."""
    reason = error.strerror or type(error).__name__
    kind = OutOfReachError if isinstance(error, PermissionError) else CertificateError
    return kind(f"{path}: cannot {what}: {reason}. Check the path and who may use it.")


def sync_folder(path: Path) -> None:
    """Makes new names in the folder survive a crash of the machine. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # We may put names into this folder and not list it (mode 0711): then everything is synced.
        os.sync()
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        if mode != 0o600:
            os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
