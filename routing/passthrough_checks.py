"""Machines that are passed through: TLS is not opened, so nothing that is decided or done inside it can be said of them.

Each check yields its mistakes.
"""

from collections.abc import Iterator
from typing import Final

from routing.entries import Declaration, Entry
from routing.mistakes import Mistake
from routing.schema import MachineSection

# Keys that mean nothing beside `passthrough: true`, each with the reason.
_OPENED: Final = "the relay does not open TLS, and"
_MEANINGLESS: Final = {
    "thumbprint": f"{_OPENED} sees no certificate of the Tentacle: Octopus checks it itself",
    "thumbprints": f"{_OPENED} sees no certificate of the Tentacle: Octopus checks it itself",
    "octopus": f"{_OPENED} cannot tell who calls: the Tentacle checks that itself",
    "identity": f"{_OPENED} shows no certificate: Octopus sees the Tentacle's own",
    "identity_password": f"{_OPENED} shows no certificate: Octopus sees the Tentacle's own",
    "front": f"{_OPENED} cannot poll in the place of the Tentacle",
    "subscription": f"{_OPENED} cannot poll in the place of the Tentacle",
}
_SETTINGS: Final = {"limits": ("connections",), "timeouts": ("connect",)}  # those that hold, in each section


def check(declared: Declaration) -> Iterator[Mistake]:
    """All mistakes about machines that are passed through."""
    machines = [machine for machine in declared.machines if machine.section.passthrough]
    for machine in machines:
        yield from _keys(machine)
        yield from _settings(machine)
        yield from _polling_tentacle(machine)
    yield from _same_tentacle(machines)


def _keys(machine: Entry[MachineSection]) -> Iterator[Mistake]:
    for key, why in _MEANINGLESS.items():
        if key in machine.written:
            yield machine.mistake(key, f"given beside passthrough: {why}", "Leave it out, or take passthrough out.")


def _settings(machine: Entry[MachineSection]) -> Iterator[Mistake]:
    for name, holding in _SETTINGS.items():
        written = machine.written.get(name)
        for key in written if isinstance(written, dict) else ():
            if key not in holding and key in type(getattr(machine.section, name)).model_fields:
                problem = "given beside passthrough: the relay carries bytes there and no calls, so it does not hold"
                remedy = f"Leave it out: of {name} there is {' and '.join(holding)} only."
                yield machine.mistake((name, key), problem, remedy)


def _polling_tentacle(machine: Entry[MachineSection]) -> Iterator[Mistake]:
    if machine.has("tentacle") and isinstance(machine.section.tentacle, str):
        problem = "a polling Tentacle beside passthrough: it dials the relay, which speaks to it by TLS of its own"
        remedy = "Write the https:// address of a Tentacle that listens, or take passthrough out."
        yield machine.mistake("tentacle", problem, remedy, str(machine.written["tentacle"]))


def _same_tentacle(machines: list[Entry[MachineSection]]) -> Iterator[Mistake]:
    """Two of them at one address are one Tentacle, which would do everything twice."""
    owners: dict[tuple[str, int], Entry[MachineSection]] = {}
    for machine in machines:
        address = machine.section.tentacle if machine.has("tentacle") else ""
        if isinstance(address, str):
            continue
        first = owners.setdefault((address.host.rstrip("."), address.port), machine)
        if first is not machine:
            problem = f"{first.seen_from(machine, 'tentacle')} has this address, and is passed through, too: one Tentacle"
            remedy = "Make one entry of the two: it may have both a port and a host."
            yield machine.mistake("tentacle", problem, remedy, f"https://{address}")
