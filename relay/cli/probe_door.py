"""``relay-tentacle probe --connect``: does the relay's CONNECT door let Octopus through to this machine?"""

import json
import sys
from collections.abc import Sequence

import click

from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import open_store
from relay.cli.reactor import finish
from relay.cli.tables import print_table
from relay.identities import NoSuchEntryError
from relay.probe.doorway import DoorResult
from relay.probe.doorways import knock_many, visits
from relay.probe.many import NotReadyError
from routing.table import Table


def knock_at_door(
    table: Table, names: Sequence[str], address: str | None, seconds: float, parallel: int, as_json: bool
) -> None:
    """Asks for these machines, or all, and prints what came of it. Exit code 1: one of them was not let through."""
    try:
        work = visits(table, open_store(table), names, address)
    except (NoSuchEntryError, NotReadyError) as error:
        fail(str(error), NOT_FINE)
    results = finish(lambda reactor: knock_many(reactor, work, seconds, parallel))
    if as_json:
        click.echo(json.dumps([_as_dict(result) for result in results], indent=2))
    else:
        rows = [
            (each.machine, str(each.target), str(each.door), each.knock.value, f"{each.seconds * 1000:.1f}") for each in results
        ]
        print_table(("MACHINE", "TARGET", "DOOR", "RESULT", "MS"), rows)
        for each in results:
            if not each.ok:
                click.echo(f"\n{each.machine}:\n  What happened: {each.detail}.\n  What to do: {each.remedy}")
    if not all(result.ok for result in results):
        sys.exit(NOT_FINE)


def _as_dict(result: DoorResult) -> dict[str, object]:
    return {
        "machine": result.machine,
        "target": str(result.target),
        "door": str(result.door),
        "ok": result.ok,
        "result": result.knock.value,
        "detail": result.detail or None,
        "remedy": result.remedy or None,
        "ms": round(result.seconds * 1000, 3),
        "expected": str(result.expected) if result.expected else None,
        "shown": result.shown,
    }
