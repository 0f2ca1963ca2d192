"""``relay-tentacle identity``: what the relay shows to Octopus and to the Tentacles."""

import json
import sys
from pathlib import Path
from typing import BinaryIO

import click

from certs.errors import CertificateError, PasswordError
from certs.identity import Identity
from certs.store import IdentityStore, read_identity
from relay import identities
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import MISUSE, NOT_FINE, fail
from relay.cli.tables import print_table
from relay.identities import AmbiguousNameError, Entry, Found, Kind, NoSuchEntryError
from routing.table import Table

_MAX_PASSWORD = 4096

machine_option = click.option("--machine", metavar="NAME", help="The machine of this name: what Octopus sees.")
octopus_option = click.option("--octopus", metavar="NAME", help="The octopus entry of this name: what its Tentacles see.")


@click.group()
def identity() -> None:
    """The certificates that the relay shows to Octopus and to the Tentacles."""


@identity.command()
@click.argument("name", required=False)
@machine_option
@octopus_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list of objects.")
@config_option
def show(name: str | None, machine: str | None, octopus: str | None, as_json: bool, config: Path) -> None:
    """Show the identities: of all machines and octopus entries, or of the one NAME.

    The thumbprint of a machine goes into Octopus, the one of an octopus entry into its Tentacles. Exit code 1: the one asked
    about is not there or cannot be used.
    """
    table = load_or_exit(config)
    one = _asked(table, name, machine, octopus)
    found = [identities.look(_store(table), entry) for entry in ([one] if one else identities.entries(table))]
    if as_json:
        click.echo(json.dumps([_as_dict(each) for each in found], indent=2))
    else:
        columns = ("KIND", "NAME", "SHOWN TO", "THUMBPRINT", "EXPIRES", "FILE")
        print_table(columns, [_as_row(each) for each in found])
    for each in found:
        if each.problem:
            click.echo(f"relay-tentacle: {each.entry}: {each.problem}", err=True)
    if any(each.problem or (one and each.identity is None) for each in found):
        sys.exit(NOT_FINE)


@identity.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@machine_option
@octopus_option
@click.option(
    "--password-file",
    type=click.File("rb"),
    help="A file whose first line is the password of FILE; - is standard input. Left out, a needed password is asked for.",
)
@click.option("--replace", is_flag=True, help="Overwrite another certificate. Whoever trusts that one must trust the new one.")
@config_option
def import_(
    file: Path, machine: str | None, octopus: str | None, password_file: BinaryIO | None, replace: bool, config: Path
) -> None:
    """Take a key and certificate from FILE (PEM or PFX) for a machine or an octopus entry.

    Octopus keeps its trust in a Tentacle whose identity the relay takes over in this way.
    """
    if machine is not None and octopus is not None:
        fail("more than one identity is named. Give either --machine NAME or --octopus NAME.")
    table = load_or_exit(config)
    entry = _asked(table, None, machine, octopus)
    if entry is None:
        fail("for whom? Give --machine NAME or --octopus NAME.")
    try:
        imported = _read(file, entry, password_file)
        kept = identities.keep(table, _store(table), entry, imported, replace)
    except CertificateError as error:
        fail(str(error), NOT_FINE)
    click.echo(f"{entry}: imported, thumbprint {imported.thumbprint}, file {kept}")
    click.echo("A running relay shows it after a restart.")


def _asked(table: Table, name: str | None, machine: str | None, octopus: str | None) -> Entry | None:
    """The entry that the arguments name, if they name one; ends with an exit code where they cannot."""
    arguments: list[tuple[str | None, Kind | None]] = [(name, None), (machine, "machine"), (octopus, "octopus")]
    asked = [(name, kind) for name, kind in arguments if name is not None]
    if len(asked) > 1:
        fail("more than one identity is named. Give one NAME, one --machine or one --octopus.")
    try:
        return identities.entry(table, *asked[0]) if asked else None
    except NoSuchEntryError as error:
        fail(str(error), NOT_FINE)
    except AmbiguousNameError as error:
        fail(f"{error} Give --machine {name} or --octopus {name}.", MISUSE)


def _store(table: Table) -> IdentityStore:
    def made(new: Identity, path: Path) -> None:
        click.echo(f"relay-tentacle: made a new identity for {new.name}: {path}", err=True)

    return IdentityStore(table.relay.state, made, _warn)


def _warn(text: str) -> None:
    click.echo(f"relay-tentacle: warning: {text}", err=True)


def _read(file: Path, entry: Entry, password_file: BinaryIO | None) -> Identity:
    """Raises CertificateError."""
    warnings: list[str] = []
    password = _first_line(password_file) if password_file else None
    try:
        found = read_identity(file, entry.name, password, warnings.append)
    except PasswordError:
        if password_file:
            raise
        warnings.clear()
        found = read_identity(file, entry.name, _ask_password(file), warnings.append)
    if found is None:
        raise CertificateError(f"{file}: no such file. Name a PEM or PFX file with a key and its certificate.")
    for text in warnings:
        _warn(text)
    return found


def _first_line(file: BinaryIO) -> str:
    line = file.readline(_MAX_PASSWORD)
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        fail(f"{file.name}: not UTF-8. Save the password as UTF-8, on the first line.")


def _ask_password(file: Path) -> str:
    if not sys.stdin.isatty():
        fail(f"{file}: needs a password, and there is no terminal to ask on. Name a file with it in --password-file.")
    try:
        password: str = click.prompt(f"Password of {file}", hide_input=True, err=True)
    except click.Abort:
        fail("no password was given. Type it, or name a file with --password-file.")
    return password


def _as_row(found: Found) -> tuple[str, ...]:
    entry, identity = found.entry, found.identity
    if identity:
        thumbprint, expires = str(identity.thumbprint), f"{identity.expires:%Y-%m-%d}"
    else:
        thumbprint, expires = "cannot be used" if found.problem else "not made yet: `run` makes it", "-"
    return entry.kind, entry.name, entry.faces, thumbprint, expires, str(found.file)


def _as_dict(found: Found) -> dict[str, object]:
    identity = found.identity
    return {
        "kind": found.entry.kind,
        "name": found.entry.name,
        "shown_to": found.entry.faces,
        "thumbprint": str(identity.thumbprint) if identity else None,
        "expires": f"{identity.expires:%Y-%m-%dT%H:%M:%SZ}" if identity else None,
        "file": str(found.file),
        "provisioned": found.entry.provisioned is not None,
        "problem": found.problem or None,
    }
