"""``relay-tentacle explain``: what would the relay decide, and where is that written?"""

import ipaddress
import json
import sys
from pathlib import Path

import click

from certs.thumbprint import Thumbprint, ThumbprintError
from relay import identities
from relay.cli.completion import host_names, machine_names, octopus_names, target_names
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import open_store
from relay.cli.tables import print_table
from relay.identities import Entry, Kind, NoSuchEntryError
from routing import addresses
from routing.explain import Arrival, AtDoor, AtMachine, AtName, AtTarget, Explanation, Face, Shown
from routing.explain import explain as explain_call
from routing.explain_rules import Asked
from routing.mistakes import WrongValueError
from routing.table import Machine, Octopus, Place, Table

_NONE = "none"


@click.command()
@click.argument("machine", required=False, shell_complete=machine_names)
@click.option("--door", metavar="ADDRESS", help="A caller at this port of the relay, or IP address and port.")
@click.option("--host", metavar="NAME", shell_complete=host_names, help="A caller at the shared door who asks for this name.")
@click.option(
    "--connect",
    metavar="HOST:PORT",
    shell_complete=target_names,
    help="A caller at the CONNECT door who asks for this target, with right credentials if it wants any.",
)
@click.option(
    "--octopus",
    metavar="NAME|THUMBPRINT|none",
    shell_complete=octopus_names,
    help="Who calls: an octopus entry, whoever shows a thumbprint, or somebody without a certificate. Left out: each of the "
    "machine's octopus entries.",
)
@click.option("--from", "source", metavar="ADDRESS", help="The caller's IP address, for items of `allow` with `from`.")
@click.option("--service", metavar="NAME", help="With --method: may it make this call? Such as IScriptServiceV2.")
@click.option("--method", metavar="NAME", help="With --service, such as StartScript.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list of objects.")
@config_option
def explain(
    machine: str | None,
    door: str | None,
    host: str | None,
    connect: str | None,
    octopus: str | None,
    source: str | None,
    service: str | None,
    method: str | None,
    as_json: bool,
    config: Path,
) -> None:
    """Say what the relay would decide about a call to MACHINE, step by step, with the file and line of each.

    It reads the configuration and the identities, and asks no running relay. Exit code 1: the call would be denied, or that
    cannot be told.
    """
    if len([each for each in (machine, door, host, connect) if each is not None]) != 1:
        fail("where does the caller arrive? Give one of MACHINE, --door ADDRESS, --host NAME and --connect HOST:PORT.")
    asked = _asked(source, service, method)
    table = load_or_exit(config)
    arrival = _arrival(table, machine, door, host, connect)
    identity = _Identities(table)
    found = [explain_call(table, arrival, caller, identity.of, asked) for caller in _callers(table, arrival, octopus)]
    if as_json:
        click.echo(json.dumps([_as_dict(each) for each in found], indent=2))
    else:
        for number, each in enumerate(found):
            if number:
                click.echo()
            _print(each)
    if any(each.verdict != "allowed" for each in found):
        sys.exit(NOT_FINE)


def _asked(source: str | None, service: str | None, method: str | None) -> Asked:
    if (service is None) != (method is None):
        fail("--service and --method go together.")
    if source is not None:
        try:
            ipaddress.ip_address(source)
        except ValueError:
            fail(f"--from {source}: not an IP address.")
    return Asked(source, service, method)


def _arrival(table: Table, machine: str | None, door: str | None, host: str | None, connect: str | None) -> Arrival:
    if door is not None:
        try:
            return AtDoor(addresses.door(door))
        except WrongValueError as error:
            fail(f"--door {door}: {error}")
    if host is not None:
        return AtName(host)
    if connect is not None:
        return AtTarget(connect)
    try:
        return AtMachine(identities.machine(table, machine or ""))
    except NoSuchEntryError as error:
        fail(str(error), NOT_FINE)


def _callers(table: Table, arrival: Arrival, octopus: str | None) -> list[Shown | None]:
    """Who calls. A name goes before a thumbprint."""
    if octopus == _NONE:
        return [None]
    if octopus is None:
        machine = arrival.find(table).machine
        return [Shown(entry.thumbprints[0]) for entry in machine.octopus] if machine and machine.octopus else [None]
    for entry in table.octopus:
        if entry.name == octopus:
            return [Shown(entry.thumbprints[0])]
    try:
        return [Shown(Thumbprint.parse(octopus))]
    except ThumbprintError:
        names = ", ".join(entry.name for entry in table.octopus)
        fail(f"--octopus {octopus}: no octopus entry, and no thumbprint. There are: {names}.", NOT_FINE)


class _Identities:
    """What the relay shows."""

    def __init__(self, table: Table) -> None:
        self._store = open_store(table)

    def of(self, shown: Machine | Octopus) -> Face:
        kind: Kind = "machine" if isinstance(shown, Machine) else "octopus"
        found = identities.look(self._store, Entry(kind, shown.name, shown.identity))
        if found.identity:
            return Face(f"{found.identity.thumbprint} ({found.file})")
        if found.problem:
            return Face(f"nothing: {found.problem}", usable=False)
        return Face(f"what `relay-tentacle run` will make ({found.file})")


def _print(found: Explanation) -> None:
    rows = [(step.topic, step.text, _place(step.place)) for step in found.steps]
    print_table(("STEP", "WHAT IS DECIDED", "DECLARED AT"), rows)
    click.echo(f"\nVerdict: {found.verdict}{f', {found.reason}' if found.reason else ''}.")
    if found.settings:
        click.echo()
        values = [(each.name, each.value, each.source, _place(each.place)) for each in found.settings]
        print_table(("SETTING", "VALUE", "FROM", "DECLARED AT"), values)


def _place(place: Place | None) -> str:
    return str(place) if place and place.line else "-"


def _as_dict(found: Explanation) -> dict[str, object]:
    return {
        "verdict": found.verdict,
        "reason": found.reason or None,
        "machine": found.machine.name if found.machine else None,
        "octopus": found.octopus.name if found.octopus else None,
        "steps": [{"topic": step.topic, "text": step.text, "place": _place_dict(step.place)} for step in found.steps],
        "settings": [
            {"name": each.name, "value": each.value, "from": each.source, "place": _place_dict(each.place)}
            for each in found.settings
        ],
    }


def _place_dict(place: Place | None) -> dict[str, object] | None:
    return {"file": str(place.file), "line": place.line} if place and place.line else None
