"""``relay-tentacle init``: a configuration to begin with."""

import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from certs.thumbprint import Thumbprint, ThumbprintError
from relay.cli.configuration import DEFAULT
from relay.cli.exits import fail
from routing import addresses, starter, values
from routing.mistakes import WrongValueError
from routing.starter import Choices, SiteExistsError

Callback = Callable[[click.Context, click.Parameter, Any], Any]


def _as(read: Callable[[str], object], keep_text: bool = False) -> Callback:
    """An argument that is read, or only checked, as the configuration reads it."""

    def one(value: str) -> object:
        try:
            found = read(value)
        except (WrongValueError, ThumbprintError) as error:
            raise click.BadParameter(f"{value!r}: {error}") from error
        return value if keep_text else found

    def convert(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(one, value))
        return None if value is None else one(value)

    return convert


@click.command()
@click.argument("file", callback=_as(values.path), default=str(DEFAULT))
@click.option(
    "--name", metavar="NAME", callback=_as(values.name), help="The name of this relay.  [default: the name of this host]"
)
@click.option(
    "--state",
    metavar="PATH",
    callback=_as(values.path),
    default="/var/lib/relay-tentacle",
    show_default=True,
    help="The folder of its identities.",
)
@click.option(
    "--octopus",
    metavar="NAME",
    callback=_as(values.name),
    default="production",
    show_default=True,
    help="The name of the octopus entry.",
)
@click.option(
    "--octopus-thumbprint",
    "thumbprints",
    metavar="THUMBPRINT",
    callback=_as(Thumbprint.parse),
    multiple=True,
    help="The thumbprint of that Octopus; may be given more than once. Without it, one line is left to fill in.",
)
@click.option(
    "--front",
    metavar="ADDRESS",
    callback=_as(addresses.door, keep_text=True),
    help="The door that machines share, such as 10933.",
)
@click.option(
    "--admin",
    metavar="ADDRESS",
    callback=_as(addresses.admin_door, keep_text=True),
    default="127.0.0.1:9933",
    show_default=True,
    help="Where metrics and health are served, or none.",
)
def init(
    file: Path, name: str | None, state: Path, octopus: str, thumbprints: tuple[Thumbprint, ...], front: str | None, admin: str
) -> None:
    """Write a commented configuration FILE, the schemas that editors use for it, and a folder for machines beside it.

    Nothing is ever overwritten: if any of the files is there, none is written, and the exit code is 2.
    """
    choices = Choices(name or _host_name(), state, octopus, tuple(dict.fromkeys(thumbprints)), front, admin)
    contents = starter.files(file, choices)
    try:
        starter.write(contents)
    except SiteExistsError as error:
        for path in error.paths:
            click.echo(f"{path}: is there already", err=True)
        fail("init never overwrites, and nothing was written. Name another FILE, or move these away.")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fail(f"{error.filename}: cannot be made: {reason}. Nothing was written. Check the path and who may write there.")
    for path in contents:
        click.echo(f"made {path}")
    click.echo(_next(file, bool(choices.thumbprints)))


def _host_name() -> str:
    host = socket.gethostname().partition(".")[0]
    try:
        return values.name(host)
    except WrongValueError:
        return "relay"


def _next(file: Path, complete: bool) -> str:
    folder = file.parent / starter.MACHINES_FOLDER
    option = "" if file == DEFAULT else f" --config {shlex.quote(str(file))}"
    example, machine = shlex.quote(str(folder / starter.EXAMPLE)), shlex.quote(str(folder / "web01.yaml"))
    steps = [] if complete else [f"in {file}, fill in the line marked FILL IN: the thumbprint of your Octopus"]
    steps += [
        f"cp {example} {machine}, and write your first machine into it",
        f"relay-tentacle check{option}",
        f"relay-tentacle run{option}, which makes the identities",
        f"relay-tentacle machines{option}, for what Octopus and the Tentacles have to know",
    ]
    return "\nNext:\n" + "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
