"""What the log says of doors: where Octopus reaches which machine.

A machine with a door of its own has a line of its own, and so has one that the relay polls for. Those that are reached at the
shared door only may be thousands: they are counted there, and `relay-tentacle machines` lists them.
"""

from collections.abc import Sequence
from typing import Any, Final

from relay.admin.log import Log
from relay.faces import Faces
from routing.table import Machine, Table

MOST: Final = 500  # lines at once: they are written within one turn of the reactor


def with_line(table: Table) -> list[str]:
    """The machines that have a line of their own."""
    return [machine.name for machine in table.machines if machine.door or machine.polled_for]


def with_other_line(before: Table, faces_before: Faces, after: Table, faces: Faces) -> list[str]:
    """Those of whom something else has to be said than before."""
    names = with_line(after)
    return [name for name in names if _said(before, faces_before, name) != _said(after, faces, name)]


def say(log: Log, table: Table, faces: Faces, machines: Sequence[str]) -> None:
    """The lines of these machines; of very many, how many more there are."""
    for name in machines[:MOST]:
        machine = table.machine(name)
        assert machine
        log.info("door open", **_line(machine, faces))
    if len(machines) > MOST:
        log.info("more doors open", machines=len(machines) - MOST)


def say_shared(log: Log, table: Table, before: Table | None = None) -> None:
    """The line of the shared door, where there is one. before: given, only where it is another one than of this table."""
    line = _shared(table)
    if line and (before is None or line != _shared(before)):
        log.info("shared door open", **line)


def _shared(table: Table) -> dict[str, Any]:
    """hosts, targets: how many machines have them."""
    if table.front is None:
        return {}
    return {
        "door": str(table.front),
        "hosts": len(table.hosts),
        **({"targets": len(table.targets)} if table.connect else {}),
    }


def _line(machine: Machine, faces: Faces) -> dict[str, Any]:
    return {
        "machine": machine.name,
        "door": str(machine.door) if machine.door else None,
        "host": machine.host,
        **({"connect": str(machine.target)} if machine.target else {}),
        **({"subscription": _subscription(machine, faces)} if machine.polled_for else {}),
        "tentacle": str(machine.tentacle or machine.uri),
        **(
            {"passthrough": True}
            if machine.passthrough
            else {"thumbprint_for_octopus": str(faces.of_machine(machine.name).thumbprint)}
        ),
    }


def _said(table: Table, faces: Faces, name: str) -> tuple[object, ...] | None:
    """What its line is made from; None of a machine that has none."""
    machine = table.machine(name)
    if machine is None or not (machine.door or machine.polled_for):
        return None
    identity = None if machine.passthrough else faces.of_machine(name)
    return machine.door, machine.host, machine.target, machine.uri, identity, _subscription(machine, faces)


def _subscription(machine: Machine, faces: Faces) -> str | None:
    """What Octopus has to have for it, where the relay polls."""
    return (machine.subscription or faces.subscription(machine.name)) if machine.polled_for else None
