"""Octopus's and Tentacle's own names for what the relay calls otherwise, so that hands and scripts that know those find it.

Where Tentacle takes a password as an option, these refuse it: whoever lists the processes would see it.
"""

import json
import sys
from pathlib import Path

import click

from certs.errors import CertificateError
from certs.files import write_public
from certs.identity import Identity
from certs.store import COMMON_NAMES
from relay import identities
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import asked_one, machine_option, name_argument, octopus_option, open_store
from relay.cli.identity_files import import_
from relay.cli.identity_show import new
from relay.cli.passwords import for_writing, new_password_options, password_options
from relay.export import contents, put


def _refused(context: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:
        fail("everybody on this host sees a password on the command line. Put it into a file, and give --password-file.")


_pfx_password = click.option(
    "--pfx-password", "--pw", expose_value=False, callback=_refused, hidden=True, help="Refused: give --password-file."
)


@click.command("new-certificate")
@name_argument
@machine_option
@octopus_option
@click.option("--if-blank", is_flag=True, hidden=True, help="Always so: one that is there is never replaced.")
@click.option(
    "--export-pfx",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the new one to FILE as a PFX for import-certificate, here or of Tentacle, and do not use it.",
)
@new_password_options
@_pfx_password
@config_option
@click.pass_context
def new_certificate(
    context: click.Context,
    name: str | None,
    machine: str | None,
    octopus: str | None,
    if_blank: bool,
    export_pfx: Path | None,
    password_file: Path | None,
    password_credential: str | None,
    no_password: bool,
    config: Path,
) -> None:
    """Tentacle's name for `identity new`. One that is there stays: `identity rotate` replaces it."""
    if export_pfx is None:
        if password_file or password_credential or no_password:
            fail("a password belongs to --export-pfx: the relay's own files have none.")
        context.invoke(new, name=name, machine=machine, octopus=octopus, all_=False, as_json=False, config=config)
        return
    if name is not None or machine is not None or octopus is not None:
        fail("--export-pfx makes one for nobody in particular: leave out the name, and import it for whom it is.")
    password = for_writing(password_file, password_credential, no_password, str(export_pfx))
    made = Identity.new("exported", COMMON_NAMES["machines"])
    try:
        put(export_pfx, contents(made, "pfx", password, "3des"), public=False, replace=False)
    except CertificateError as error:
        fail(str(error), NOT_FINE)
    click.echo(f"exported, thumbprint {made.thumbprint}, file {export_pfx}. Nobody uses it before it is imported.")


@click.command("import-certificate")
@click.option("--from-file", "-f", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A PFX or PEM.")
@machine_option
@octopus_option
@password_options
@_pfx_password
@click.option("--replace", is_flag=True, help="Overwrite another certificate.")
@config_option
@click.pass_context
def import_certificate(
    context: click.Context,
    from_file: Path,
    machine: str | None,
    octopus: str | None,
    password_file: Path | None,
    password_credential: str | None,
    replace: bool,
    config: Path,
) -> None:
    """Tentacle's name for `identity import`."""
    context.invoke(
        import_,
        file=from_file,
        machine=machine,
        octopus=octopus,
        password_file=password_file,
        password_credential=password_credential,
        replace=replace,
        config=config,
    )


@click.command("show-thumbprint")
@name_argument
@machine_option
@octopus_option
@click.option(
    "--format",
    "as_format",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default="text",
    show_default=True,
    help="What is printed.",
)
@click.option("--export-file", "-e", type=click.Path(path_type=Path), metavar="FILE", help="Write it to FILE, too.")
@click.option("--thumbprint-only", is_flag=True, hidden=True, help="Always so: nothing else is printed.")
@click.option("--nologo", is_flag=True, hidden=True, help="Always so: there is no logo.")
@config_option
def show_thumbprint(
    name: str | None,
    machine: str | None,
    octopus: str | None,
    as_format: str,
    export_file: Path | None,
    thumbprint_only: bool,
    nologo: bool,
    config: Path,
) -> None:
    """Tentacle's name for `identity show --thumbprint-only`, of one identity. A single machine needs no name."""
    table = load_or_exit(config)
    if name is None and machine is None and octopus is None and len(table.machines) == 1:
        machine = table.machines[0].name
    entry = asked_one(table, name, machine, octopus)
    found = identities.look(open_store(table), entry)
    if found.identity is None:
        fail(found.problem or f"{entry}: not made yet. `relay-tentacle new-certificate` makes it.", NOT_FINE)
    thumbprint = str(found.identity.thumbprint)
    text = json.dumps({"Thumbprint": thumbprint}) if as_format.lower() == "json" else thumbprint
    click.echo(text)
    if export_file is not None:
        try:
            write_public(export_file, f"{thumbprint}\n".encode(), replace=True)
        except CertificateError as error:
            fail(str(error), NOT_FINE)
    if found.problem:
        click.echo(f"relay-tentacle: {found.entry}: {found.problem}", err=True)
        sys.exit(NOT_FINE)
