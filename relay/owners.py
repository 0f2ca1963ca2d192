"""Whose a file or folder is. What one user writes, with mode 0600, another cannot use: so nobody writes for another."""

import os
import pwd
from pathlib import Path

from certs.errors import CertificateError
from certs.files import unusable


def check_owner(folder: Path, same: str = "relay-tentacle ...") -> None:
    """Raises CertificateError where the folder is another user's. same: the command that was given, for the message."""
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable(folder, "look at this folder", error) from error
    if owner != os.geteuid():
        user = user_name(owner)
        raise CertificateError(
            f"{folder}: belongs to {user}, who could not read what {user_name(os.geteuid())} puts there. "
            f"Run the same command as {user}: sudo -u {user} {same}"
        )


def user_name(number: int) -> str:
    """The name of a user, ``#1001`` where nobody has that number: sudo takes both."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"
