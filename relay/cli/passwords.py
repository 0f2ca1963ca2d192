"""Options for passwords. None of them takes the password itself: whoever lists the processes would see it."""

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from certs.errors import CertificateError
from certs.passwords import MAX_PASSWORD, PasswordFile, credential, first_line
from relay.cli.exits import fail

F = TypeVar("F", bound=Callable[..., Any])

_file = click.option(
    "--password-file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="A file whose first line is the password, private to its owner; - is standard input.",
)
_credential = click.option(
    "--password-credential", metavar="NAME", help="A credential that systemd hands to this unit: LoadCredential=NAME:FILE."
)
_none = click.option("--no-password", is_flag=True, help="Write it unencrypted: whoever reads the file has the keys.")


def password_options(command: F) -> F:
    """``--password-file`` and ``--password-credential``."""
    return _file(_credential(command))


def new_password_options(command: F) -> F:
    """Both, and ``--no-password``."""
    return _file(_credential(_none(command)))


def given(password_file: Path | None, password_credential: str | None) -> str | None:
    """The password that the options name, None where they name none. Ends with an exit code where there is none to read."""
    if password_file is not None and password_credential is not None:
        fail("more than one password is named. Give either --password-file or --password-credential.")
    try:
        if password_credential is not None:
            return credential(password_credential).read()
        if password_file is not None:
            return _read(password_file)
    except ValueError as error:
        fail(f"--password-credential {password_credential}: {error}.")
    except CertificateError as error:
        fail(str(error))
    return None


def for_writing(password_file: Path | None, password_credential: str | None, no_password: bool, what: str) -> str | None:
    """The password to encrypt `what` with; None: it is to be unencrypted, and was said to be. Asks twice on a terminal."""
    password = given(password_file, password_credential)
    if no_password:
        if password is not None:
            fail("--no-password and a password are given. Give one of them.")
        return None
    if password is not None:
        return password
    if not sys.stdin.isatty():
        fail(
            f"{what}: a password is needed, and there is no terminal to ask on. "
            "Give --password-file, --password-credential, or --no-password."
        )
    try:
        typed: str = click.prompt(f"New password for {what}", hide_input=True, confirmation_prompt=True, err=True)
    except click.Abort:
        fail("no password was given. Type it, or give --password-file, --password-credential, or --no-password.")
    return typed


def ask(what: str) -> str:
    """The password of what is there, typed on a terminal."""
    if not sys.stdin.isatty():
        fail(f"{what}: needs a password, and there is no terminal to ask on. Name a file with it in --password-file.")
    try:
        typed: str = click.prompt(f"Password of {what}", hide_input=True, err=True)
    except click.Abort:
        fail("no password was given. Type it, or name a file with --password-file.")
    return typed


def _read(path: Path) -> str:
    """Raises CertificateError."""
    if str(path) == "-":
        return first_line(sys.stdin.buffer.readline(MAX_PASSWORD + 2), "standard input")
    try:
        piped = stat.S_ISFIFO(path.stat().st_mode)  # as <(command) of a shell gives it
    except OSError:
        piped = False
    if not piped:
        return PasswordFile(path).read()
    with open(path, "rb") as pipe:
        return first_line(pipe.readline(MAX_PASSWORD + 2), str(path))
