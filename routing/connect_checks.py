"""The CONNECT door in a configuration: no target may mean two machines, and nothing may be said about a door that is not there.

Each check yields its mistakes.
"""

from collections.abc import Iterator
from typing import Final

from routing import targets
from routing.addresses import Address
from routing.entries import Declaration, Entry
from routing.mistakes import Mistake
from routing.schema import MachineSection

FRONT_CONNECT: Final = "front.connect"


def check(declared: Declaration) -> Iterator[Mistake]:
    """All mistakes about it that take more than one value to see."""
    yield from _without_door(declared)
    yield from _same_target(declared)


def is_on(declared: Declaration) -> bool:
    """Whether there is such a door; one whose switch is a mistake may be meant to be there."""
    front = declared.entry("front", declared.main.front)
    return front.section.connect or ("connect" in front.written and not front.has("connect"))


def is_reached(declared: Declaration, machine: Entry[MachineSection]) -> bool:
    """Whether callers can come for it by a target. One that is a mistake may be right, and so may the Tentacle's address."""
    if not is_on(declared):
        return False
    if "connect" in machine.written:
        return not machine.has("connect") or machine.section.connect is not None
    return not (machine.has("tentacle") and isinstance(machine.section.tentacle, str))


def _without_door(declared: Declaration) -> Iterator[Mistake]:
    if is_on(declared):
        return
    front = declared.entry("front", declared.main.front)
    if front.has("credentials"):
        remedy = "Add connect: true to front, or leave it out."
        yield front.mistake("credentials", f"given without {FRONT_CONNECT}: true", remedy, str(front.section.credentials))
    for machine in declared.machines:
        if machine.has("connect") and machine.section.connect:
            problem = f"there is no {FRONT_CONNECT}, the door where callers ask for it"
            remedy = "Add front: {listen: 10933, connect: true}, or leave it out."
            yield machine.mistake("connect", problem, remedy, str(machine.section.connect))


def _same_target(declared: Declaration) -> Iterator[Mistake]:
    if not is_on(declared):
        return
    owners: dict[Address, tuple[Entry[MachineSection], str]] = {}
    for machine in declared.machines:
        key, target = _target(machine)
        if target is None:
            continue
        first, first_key = owners.setdefault(target, (machine, key))
        if first is not machine:
            problem = f"{first.seen_from(machine, first_key)} has the CONNECT target {target}: it could mean either"
            remedy = "Write another host and port in connect, which Octopus then has for this machine; or connect: none."
            yield machine.mistake(key, problem, remedy, str(machine.written[key]))


def _target(machine: Entry[MachineSection]) -> tuple[str, Address | None]:
    """The key that says it, and the target; None where there is none, or where it is a mistake."""
    if "connect" in machine.written:
        return "connect", machine.section.connect
    if not machine.has("tentacle") or isinstance(machine.section.tentacle, str):
        return "tentacle", None
    return "tentacle", targets.of_tentacle(machine.section.tentacle)
