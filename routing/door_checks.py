"""The doors of a configuration among each other: nobody at a door, or with a name, may mean two machines.

And no Tentacle may stand at a door of the relay: it would call itself. Each check yields its mistakes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from routing.addresses import FRONT, WILDCARDS, Address, overlap, own_hosts
from routing.connect_checks import is_on, is_reached
from routing.entries import Declaration, Entry
from routing.mistakes import Mistake
from routing.schema import ADMIN, MachineSection


@dataclass(frozen=True, slots=True)
class _Door:
    """A door, and the key that declares it. A machine's is told by the machine, others by the key ("front.listen")."""

    entry: Entry[Any]
    key: str
    address: Address

    def seen_from(self, other: Entry[Any]) -> str:
        if self.entry.has(self.key):
            return self.entry.seen_from(other, self.key, dotted=self.key == "listen")
        return f"admin.listen (not given, so {ADMIN})"


def check(declared: Declaration) -> Iterator[Mistake]:
    """All mistakes about doors, names at the shared door, and the relay's own addresses."""
    doors = list(_doors(declared))
    yield from _overlaps(doors)
    yield from _ways_in(declared)
    yield from _hosts(declared.machines)
    yield from _loops(declared, doors)


def _doors(declared: Declaration) -> Iterator[_Door]:
    front, admin = declared.entry("front", declared.main.front), declared.entry("admin", declared.main.admin)
    if front.has("listen"):
        yield _Door(front, "listen", front.section.listen)
    back = declared.entry("back", declared.main.back)
    if back.has("listen"):
        yield _Door(back, "listen", back.section.listen)
    # A section with mistakes may mean another address than the one where none is written.
    right = (admin.is_mapping or not declared.gives("admin")) and all(map(admin.has, admin.written))
    if admin.section.listen and right:
        yield _Door(admin, "listen", admin.section.listen)
    for machine in declared.machines:
        if machine.section.port:
            yield _Door(machine, "port", machine.section.port)


def _overlaps(doors: list[_Door]) -> Iterator[Mistake]:
    ports: dict[int, dict[str, int]] = {}
    for index, door in enumerate(doors):
        taken = ports.setdefault(door.address.port, {})
        own = door.address.host
        # Thousands of machines may share a port, each on an address of its own: only a wildcard is compared with all.
        hosts = [*taken] if own in WILDCARDS else [own, *WILDCARDS]
        first = min((taken[host] for host in hosts if host in taken and overlap(host, own)), default=None)
        if first is not None:
            yield _taken(door, doors[first])
        taken.setdefault(own, index)


def _taken(door: _Door, first: _Door) -> Mistake:
    if not door.entry.has(door.key):  # the built-in address of admin.listen
        door, first = first, door
    problem, remedy = "a caller there could mean either", "Give each its own port, or its own IP address."
    if door.key == first.key == "port":
        remedy = "Give each machine its own port, or its own IP address."
    elif not first.entry.has(first.key):
        problem, remedy = "it cannot serve both", "Write another port, or another one in admin.listen; none switches that off."
    elif {"admin", "back"} & {door.entry.key[0], first.entry.key[0]}:
        problem = "it cannot serve both"
    value = str(door.address).removeprefix(":")
    return door.entry.mistake(door.key, f"{first.seen_from(door.entry)} has this door: {problem}", remedy, value)


def _ways_in(declared: Declaration) -> Iterator[Mistake]:
    """Each machine has a door or a name, and a name has the shared door to be asked for at."""
    front = declared.gives("front")
    for machine in declared.machines:
        if machine.has("host") and not front:
            yield machine.mistake(
                "host",
                f"there is no {FRONT}, the door where callers name it",
                "Add front: {listen: 10933}, or give the machine a port.",
                machine.section.host,
            )
        elif machine.is_mapping and not ({"port", "host", "front"} & set(machine.written) or is_reached(declared, machine)):
            problem, more = "missing, and so are host and front", ""
            if is_on(declared):
                problem, more = "missing, and so are host, front and a CONNECT target", "connect: web01.internal:10933, or "
            remedy = f"Add {more}port: 11001, or host: with a name at {FRONT}, or front: polling."
            yield machine.mistake("port", problem, remedy)


def _hosts(machines: list[Entry[MachineSection]]) -> Iterator[Mistake]:
    owners: dict[str, Entry[MachineSection]] = {}
    for machine in machines:
        host = machine.section.host
        if host is None:
            continue
        first = owners.setdefault(host, machine)
        if first is not machine:
            problem = f"{first.seen_from(machine, 'host')} has this name: a caller with it could mean either"
            yield machine.mistake("host", problem, "Give each machine its own name.", host)


def _loops(declared: Declaration, doors: list[_Door]) -> Iterator[Mistake]:
    own = {(door.address.host, door.address.port): door for door in reversed(doors)}

    def at(address: Address) -> _Door | None:
        hosts = own_hosts(address.host)
        return next((own[host, address.port] for host in hosts if (host, address.port) in own), None)

    for machine in declared.machines:
        tentacle = machine.section.tentacle if machine.has("tentacle") else ""
        if not isinstance(tentacle, str) and (door := at(tentacle)):
            whose = f"the relay's own door, {door.seen_from(machine)}: it would call itself"
            yield machine.mistake("tentacle", whose, "Write the address of the Tentacle.", f"https://{tentacle}")
    for octopus in declared.octopus:
        for position, node in enumerate(octopus.section.nodes):
            if door := at(node):
                key = octopus.document.known((*octopus.key, "nodes", position))
                whose = f"the relay's own door, {door.seen_from(octopus)}: it would poll itself"
                yield octopus.document.mistake(key, whose, "Write the address of the Octopus node.", f"https://{node}")
