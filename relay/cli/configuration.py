"""``relay-tentacle check``, and what all commands share that read the configuration."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from relay.cli.exits import MISUSE, print_error
from relay.cli.tables import print_table
from relay.program import DEFAULT_CONFIG
from relay.provisioned import try_provisioned
from routing.addresses import Address
from routing.load import load
from routing.mistakes import ConfigurationError, Mistake
from routing.table import ConnectDoor, Machine, Octopus, Place, Table
from routing.values import POLLING

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file.",
)


def load_or_exit(config: Path) -> Table:
    """The routing table, or all mistakes of the files, and exit code 2."""
    try:
        return load(config)
    except ConfigurationError as error:
        _report(config, error)
        print_error(_summary(config, error), [str(mistake) for mistake in error.mistakes])
        sys.exit(MISUSE)


def _report(config: Path, error: ConfigurationError) -> None:
    for mistake in error.mistakes:
        click.echo(str(mistake), err=True)
    click.echo(f"relay-tentacle: {_summary(config, error)}", err=True)


def _summary(config: Path, error: ConfigurationError) -> str:
    count = len(error.mistakes)
    return f"{count} mistake{'s' if count > 1 else ''} in {config}; nothing was done"


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object.")
@click.option("--quiet", "-q", is_flag=True, help="Print mistakes and warnings only.")
@click.option(
    "--no-identities", is_flag=True, help="Do not look at the files of identities, of their passwords, and of credentials."
)
def check(config: Path, as_json: bool, quiet: bool, no_identities: bool) -> None:
    """Check the configuration: report all its mistakes at once, or say what it declares.

    Once the text is right, it reads the provisioned identities and their passwords, and files of credentials, too, as `run`
    does. One that this user may not read is a warning on standard error: the relay may run as another user. --no-identities
    leaves them out, for a machine that has not got the keys. Exit code 2: there are mistakes.
    """
    try:
        table = load(config)
        if not no_identities:
            _check_identities(table)
    except ConfigurationError as error:
        if as_json:
            click.echo(json.dumps(_mistaken(config, error), indent=2))
        else:
            _report(config, error)
        sys.exit(MISUSE)
    if as_json:
        click.echo(json.dumps(_fine(table), indent=2))
    elif not quiet:
        _print(table)


def _check_identities(table: Table) -> None:
    """Raises ConfigurationError."""
    tried = try_provisioned(table)
    for warning in tried.warnings:
        click.echo(f"relay-tentacle: warning: {warning}", err=True)
    if tried.mistakes:
        raise ConfigurationError(tried.mistakes, table.files)


def _print(table: Table) -> None:
    counts = f"machines: {len(table.machines)}, octopus entries: {len(table.octopus)}, files: {len(table.files)}"
    click.echo(f"{table.source}: fine; {counts}")
    if not table.machines:
        click.echo("There are no machines yet: the relay starts, and has nothing to relay.")
    click.echo(f"front.listen: {_door(table.front) or 'none'}")
    if table.connect:
        click.echo(f"front.connect: true, {_users(table.connect)}")
    click.echo(f"back.listen: {_door(table.back) or 'none'}")
    click.echo(f"admin.listen: {_door(table.admin) or 'none'}")
    if table.machines:
        click.echo()
        connect = ("CONNECT",) if table.connect else ()
        columns = ("MACHINE", "PORT", "HOST", *connect, "FRONT", "TENTACLE", "OCTOPUS", "DECLARED AT")
        print_table(columns, [_as_row(machine, bool(connect)) for machine in table.machines])


def _users(connect: ConnectDoor) -> str:
    return f"for the users in {connect.credentials}" if connect.credentials else "without credentials"


def _as_row(machine: Machine, connect: bool) -> tuple[str, ...]:
    octopus = ", ".join(octopus.name for octopus in machine.octopus)
    front = POLLING if machine.polled_for else "passthrough" if machine.passthrough else "-"
    place = str(machine.places.of("name"))
    target = (str(machine.target or "-"),) if connect else ()
    return machine.name, _door(machine.door) or "-", machine.host or "-", *target, front, machine.uri, octopus or "-", place


def _door(address: Address | None) -> str:
    """As it is written in a file."""
    return str(address).removeprefix(":") if address else ""


def _path(path: Path | None) -> str | None:
    return str(path) if path else None


def _mistaken(config: Path, error: ConfigurationError) -> dict[str, Any]:
    return {
        "ok": False,
        "config": str(config),
        "files": [str(file) for file in error.files],
        "counts": {"mistakes": len(error.mistakes), "machines": None, "octopus": None, "files": len(error.files)},
        "mistakes": [_mistake(mistake) for mistake in error.mistakes],
        "relay": None,
        "front": None,
        "connect": None,
        "back": None,
        "admin": None,
        "octopus": None,
        "machines": None,
    }


def _fine(table: Table) -> dict[str, Any]:
    counts = {"mistakes": 0, "machines": len(table.machines), "octopus": len(table.octopus), "files": len(table.files)}
    return {
        "ok": True,
        "config": str(table.source),
        "files": [str(file) for file in table.files],
        "counts": counts,
        "mistakes": [],
        "relay": table.relay.name,
        "front": _door(table.front) or None,
        "connect": table.connect and {"credentials": _path(table.connect.credentials)},
        "back": _door(table.back) or None,
        "admin": _door(table.admin) or None,
        "octopus": [_octopus(octopus) for octopus in table.octopus],
        "machines": [_machine(machine) for machine in table.machines],
    }


def _mistake(mistake: Mistake) -> dict[str, Any]:
    return {
        "file": str(mistake.file),
        "line": mistake.line or None,
        "where": mistake.where or None,
        "value": mistake.value,
        "problem": mistake.problem,
        "remedy": mistake.remedy,
        "text": str(mistake),
    }


def _octopus(octopus: Octopus) -> dict[str, Any]:
    return {
        "name": octopus.name,
        "thumbprints": [str(thumbprint) for thumbprint in octopus.thumbprints],
        "identity": str(octopus.identity) if octopus.identity else None,
        "nodes": [f"https://{node}" for node in octopus.nodes],
        **_declared(octopus.places.of("name")),
    }


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "tentacle": machine.uri,
        "thumbprints": [str(thumbprint) for thumbprint in machine.thumbprints],
        "octopus": [octopus.name for octopus in machine.octopus],
        "port": _door(machine.door) or None,
        "host": machine.host,
        "connect": str(machine.target) if machine.target else None,
        "front": POLLING if machine.polled_for else None,
        "passthrough": machine.passthrough,
        "subscription": machine.subscription,
        "identity": str(machine.identity) if machine.identity else None,
        **_declared(machine.places.of("name")),
    }


def _declared(place: Place) -> dict[str, Any]:
    return {"file": str(place.file), "line": place.line}
