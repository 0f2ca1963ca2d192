"""``relay-tentacle identity import`` and ``export``."""

import sys
from pathlib import Path

import click

from certs.errors import CertificateError, PasswordError
from certs.identity import Identity
from certs.pfx import Encryption
from certs.store import read_identity
from relay import identities
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import asked_one, machine_option, octopus_option, open_store, warn
from relay.cli.passwords import ask, for_writing, given, new_password_options, password_options
from relay.export import Format, contents, format_of, put, put_on_standard_output
from relay.identities import Entry
from relay.running import is_running

_DASH = Path("-")


@click.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@machine_option
@octopus_option
@password_options
@click.option("--replace", is_flag=True, help="Overwrite another certificate. Whoever trusts that one must trust the new one.")
@config_option
def import_(
    file: Path,
    machine: str | None,
    octopus: str | None,
    password_file: Path | None,
    password_credential: str | None,
    replace: bool,
    config: Path,
) -> None:
    """Take a key and certificate from FILE (PEM or PFX) for a machine or an octopus entry.

    Octopus keeps its trust in a Tentacle whose identity the relay takes over in this way. A password that is needed and not
    given is asked for.
    """
    if machine is not None and octopus is not None:
        fail("more than one identity is named. Give either --machine NAME or --octopus NAME.")
    table = load_or_exit(config)
    entry = asked_one(table, None, machine, octopus)
    password = given(password_file, password_credential)
    try:
        imported = _read(file, entry, password)
        kept = identities.keep(table, open_store(table), entry, imported, replace)
    except CertificateError as error:
        fail(str(error), NOT_FINE)
    click.echo(f"{entry}: imported, thumbprint {imported.thumbprint}, file {kept}")
    if is_running(table.relay.state):
        click.echo("The running relay still shows what it had. It shows this one after: relay-tentacle reload")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@machine_option
@octopus_option
@click.option(
    "--format", "as_format", type=click.Choice(["pfx", "pem"]), help="If not given: pem where FILE ends in .pem, else pfx."
)
@click.option(
    "--encryption",
    type=click.Choice(["3des", "aes256"]),
    default="3des",
    show_default=True,
    help="Of a PFX: 3des is read by every Tentacle; aes256 is not by those on Windows before 10 (1709) and Server 2019.",
)
@new_password_options
@click.option("--public", is_flag=True, help="The certificate alone, as PEM: no key, no password, readable for all.")
@click.option("--replace", is_flag=True, help="Overwrite FILE where it is there.")
@config_option
def export(
    file: Path,
    machine: str | None,
    octopus: str | None,
    as_format: Format | None,
    encryption: Encryption,
    password_file: Path | None,
    password_credential: str | None,
    no_password: bool,
    public: bool,
    replace: bool,
    config: Path,
) -> None:
    """Write the key and certificate of a machine or an octopus entry to FILE: a PFX as Octopus and Tentacle take it, or PEM.

    FILE has mode 0600. Without a password option, the password is asked for. FILE - is standard output, but never a terminal.
    """
    table = load_or_exit(config)
    entry = asked_one(table, None, machine, octopus)
    found = identities.look(open_store(table), entry)
    if found.identity is None:
        fail(found.problem or f"{entry}: not made yet. Make it with `relay-tentacle identity new`.", NOT_FINE)
    if public:
        if as_format or password_file or password_credential or no_password:
            fail("--public writes a certificate as PEM, and no key: leave out --format and the options for passwords.")
        data = found.identity.certificate_pem()
    else:
        if file == _DASH and sys.stdout.isatty():
            fail("standard output is a terminal, and keys are not shown. Name a file, or a pipe behind this command.")
        data = _encrypted(file, found.identity, as_format, encryption, (password_file, password_credential, no_password))
    try:
        if file == _DASH:
            put_on_standard_output(data)
            return
        put(file, data, public, replace)
    except CertificateError as error:
        fail(str(error), NOT_FINE)
    click.echo(f"{entry}: exported, thumbprint {found.identity.thumbprint}, file {file}")


def _encrypted(
    file: Path,
    identity: Identity,
    as_format: Format | None,
    encryption: Encryption,
    password: tuple[Path | None, str | None, bool],
) -> bytes:
    secret = for_writing(*password, what="what is exported" if file == _DASH else str(file))
    return contents(identity, as_format or format_of(file), secret, encryption)


def _read(file: Path, entry: Entry, password: str | None) -> Identity:
    """Raises CertificateError."""
    warnings: list[str] = []
    try:
        found = read_identity(file, entry.name, password, warnings.append)
    except PasswordError:
        if password is not None:
            raise
        warnings.clear()
        found = read_identity(file, entry.name, ask(str(file)), warnings.append)
    if found is None:
        raise CertificateError(f"{file}: no such file. Name a PEM or PFX file with a key and its certificate.")
    for text in warnings:
        warn(text)
    return found
