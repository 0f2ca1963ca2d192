"""What the relay would decide about a call, step by step, and where each step is declared.

The decisions are those of routing.decide, which the running relay makes too; here is only the telling.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

from certs.thumbprint import Thumbprint
from routing.addresses import Address, overlap
from routing.decide import Denied, judge, machine_at, machine_for
from routing.explain_rules import ASK_FROM, Asked, Step, Verdict, elsewhere, judged, passed_through
from routing.table import Limits, Machine, Octopus, OctopusLimits, Place, Places, RelayLimits, RelayTimeouts, Table, Timeouts
from routing.units import show_duration, show_size

_SEVERAL: Final = "several"
_SIZES: Final = ("envelope", "buffered")  # the other limits are plain numbers
_OF_PASSTHROUGH: Final = ("limits.connections", "timeouts.connect")  # a machine's settings that hold where it is passed through
_OF_DIALLING: Final = ("timeouts.connect", "timeouts.prove", "timeouts.back_idle")  # those that do not where its Tentacle polls

Source = Literal["machine", "defaults", "octopus", "relay", "built-in", "derived"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A limit or timeout that holds for the call. value: as it is written in a file. source: who says so.

    "derived": not written anywhere, and less than the built-in value because of another one.
    """

    name: str
    value: str
    source: Source
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """machine, octopus: as far as they are known. reason: of a denial, the word that the relay logs; else empty."""

    verdict: Verdict
    reason: str
    machine: Machine | None
    octopus: Octopus | None
    steps: tuple[Step, ...]
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A caller that is known by a thumbprint only."""

    thumbprint: Thumbprint

    def has(self, pin: Thumbprint) -> bool:
        return pin == self.thumbprint

    def __str__(self) -> str:
        return str(self.thumbprint)


@dataclass(frozen=True, slots=True)
class Face:
    """What the relay shows, in words. usable: whether a relay could start with it, as far as can be told here."""

    text: str
    usable: bool = True


NOT_SAID: Final = Asked()
Identity = Callable[[Machine | Octopus], Face]
"""What the relay shows for a machine (to Octopus) or an octopus entry (to Tentacles)."""


def explain(table: Table, arrival: "Arrival", caller: Shown | None, identity: Identity, asked: Asked = NOT_SAID) -> Explanation:
    """A call of this caller, None being somebody without a certificate, who has arrived there."""
    found = arrival.find(table)
    steps = [found.step]
    machine = found.machine
    if machine is None:
        if found.reason == _SEVERAL:
            return Explanation("unknown", "", None, None, tuple(steps))
        return Explanation("denied", found.reason, None, None, tuple(steps))
    if _only_polled_for(machine):
        asked = replace(asked, source=None, nowhere=True)
    if machine.passthrough:
        by_rules, rule = passed_through(machine.rules, asked)
        steps += [*_passed_through(machine), rule]
        if by_rules != "allowed":
            return Explanation(by_rules, "not-allowed" if by_rules == "denied" else "", machine, None, tuple(steps))
        steps.append(Step("tentacle", f"the connection goes to https://{machine.tentacle}/", _place(machine, "tentacle")))
        return Explanation("allowed", "", machine, None, tuple(steps), tuple(settings(table, machine, None)))
    to_caller = identity(machine)
    steps.append(Step("identity", f"the caller sees {to_caller.text}", _place(machine, "identity")))
    verdict = judge(machine, caller, asked.source)
    if isinstance(verdict, Denied) and verdict.reason == "not-allowed":
        return _not_allowed(machine, caller, verdict, asked, steps)
    if isinstance(verdict, Denied):
        if caller and _may_be_another(machine, caller):
            text = (
                f"{caller} is none of the thumbprints of its octopus entries, and some of those are of another kind (SHA-1 and "
                "SHA-256): only the certificate itself could tell"
            )
            return Explanation("unknown", "", machine, None, (*steps, Step("caller", text, _place(machine, "octopus"))))
        text = f"{verdict.detail}: closed without a byte, and logged as {verdict.reason}"
        return Explanation("denied", verdict.reason, machine, None, (*steps, Step("caller", text, _place(machine, "octopus"))))
    shown = verdict if machine.tentacle else table.back_octopus or verdict  # those that poll see one, whoever calls
    to_tentacle = identity(shown)
    steps += _let_in(machine, verdict, caller)
    by_rules, rules = judged(machine.rules, verdict.name, asked)
    steps += rules
    if by_rules != "allowed":
        return Explanation(by_rules, "denied" if by_rules == "denied" else "", machine, verdict, tuple(steps))
    steps += _carried(machine, shown, to_tentacle)
    if not (to_caller.usable and to_tentacle.usable):
        return Explanation("unknown", "", machine, verdict, tuple(steps))
    return Explanation("allowed", "", machine, verdict, tuple(steps), tuple(settings(table, machine, verdict)))


def _passed_through(machine: Machine) -> Iterator[Step]:
    text = (
        "TLS is not opened: the caller sees the Tentacle's own certificate, and the Tentacle the caller's; each judges itself"
    )
    yield Step("passthrough", text, _place(machine, "passthrough"))


def _only_polled_for(machine: Machine) -> bool:
    """So that its callers are the nodes alone, who come from nowhere."""
    return machine.polled_for and not (machine.door or machine.host or machine.target)


def _may_be_another(machine: Machine, caller: Shown) -> bool:
    pins = [pin for octopus in machine.octopus for pin in octopus.thumbprints]
    return any(pin.algorithm != caller.thumbprint.algorithm for pin in pins)


def _not_allowed(machine: Machine, caller: Shown | None, denied: Denied, asked: Asked, steps: list[Step]) -> Explanation:
    """It is one of the machine's octopus entries, and no item of `allow` is for it, unless it comes from somewhere else."""
    assert caller
    octopus = machine.octopus_with(caller.has)
    assert octopus
    steps += _let_in(machine, octopus, caller)
    others = elsewhere(machine.rules, octopus.name, asked)
    if others:
        text = f"every item of allow for octopus {octopus.name} is for some addresses only: {ASK_FROM}"
        return Explanation("unknown", "", machine, octopus, (*steps, Step("rules", text, machine.rules.place)))
    text = "its nodes are not polled" if asked.nowhere else f"closed without a byte, and logged as {denied.reason}"
    step = Step("rules", f"{denied.detail}: {text}", machine.rules.place)
    return Explanation("denied", denied.reason, machine, octopus, (*steps, step))


def _let_in(machine: Machine, octopus: Octopus, caller: Shown | None) -> Iterator[Step]:
    yield Step("caller", f"{caller} is octopus {octopus.name}", octopus.places.of("thumbprint", "thumbprints"))
    yield Step("entries", f"machine {machine.name} lets octopus {octopus.name} call", _place(machine, "octopus"))


def _carried(machine: Machine, octopus: Octopus, face: Face) -> Iterator[Step]:
    """octopus, face: whose identity the Tentacle sees."""
    pins = " or ".join(map(str, machine.thumbprints))
    where = (
        f"to https://{machine.tentacle}/"
        if machine.tentacle
        else f"by a connection of the Tentacle that polls as {machine.uri}"
    )
    yield Step("tentacle", f"the call goes {where}", _place(machine, "tentacle"))
    yield Step("shows", f"the Tentacle sees {face.text}", octopus.places.of("identity"))
    yield Step("pin", f"the Tentacle must show {pins}", _place(machine, "thumbprint", "thumbprints"))


def _place(machine: Machine, *keys: str) -> Place:
    return machine.places.of(*keys)


# ---- where somebody arrives -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Which machine that is, or why none.

    reason: the word that the relay logs; "refused" where nobody listens; "several" where it may be one of several machines.
    """

    machine: Machine | None
    step: Step
    reason: str = ""


class Arrival:
    """Where a caller arrives: at a machine, whichever of its doors; at a door; or at the shared one, by a name or a target."""

    def find(self, table: Table) -> Found:
        """Which machine that is."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class AtMachine(Arrival):
    """Somebody who came for this machine."""

    machine: Machine

    def find(self, table: Table) -> Found:
        doors = []
        if self.machine.door:
            doors.append(f"port {_written(self.machine.door)}")
        if self.machine.host and table.front:
            doors.append(f"host {self.machine.host} at the shared door {_written(table.front)}")
        if self.machine.target and table.front:
            doors.append(f"target {self.machine.target} at the CONNECT door {_written(table.front)}")
        text = f"the door{'s' if len(doors) > 1 else ''} {' and '.join(doors)}" if doors else "no door where Octopus dials"
        if self.machine.polled_for:
            nodes = ", ".join(f"https://{node}/" for entry in self.machine.octopus for node in entry.nodes)
            text += f", and the relay polls Octopus for it at {nodes}"
        place = _place(self.machine, "port", "host", "connect") if doors else _place(self.machine, "front")
        return Found(self.machine, Step("door", f"machine {self.machine.name} has {text}", place))


@dataclass(frozen=True, slots=True)
class AtName(Arrival):
    """Somebody at the shared door who asks for this name by SNI; empty: for none."""

    name: str

    def find(self, table: Table) -> Found:
        if table.front is None:
            return Found(None, Step("door", "there is no shared door (front.listen)"), "refused")
        door = f"the shared door {_written(table.front)}"
        found = machine_at(table.hosts, self.name.lower())
        if isinstance(found, Denied):
            text = f"{door}: {found.detail}: closed before a ServerHello, and logged as {found.reason}"
            return Found(None, Step("door", text), found.reason)
        return Found(found, Step("door", f"{door}: host {found.host} is machine {found.name}", _place(found, "host")))


@dataclass(frozen=True, slots=True)
class AtTarget(Arrival):
    """Somebody at the CONNECT door, with right credentials if it wants any, who asks for this target."""

    target: str

    def find(self, table: Table) -> Found:
        if table.front is None or table.connect is None:
            return Found(None, Step("door", "there is no CONNECT door (front.connect)"), "refused")
        door = f"the CONNECT door {_written(table.front)}"
        if table.connect.credentials:
            door += f", for the users in {table.connect.credentials}"
        found = machine_for(table.targets, self.target)
        if isinstance(found, Denied):
            return Found(
                None, Step("door", f"{door}: {found.detail}: answered 403, and logged as {found.reason}"), found.reason
            )
        text = f"{door}: target {found.target} is machine {found.name}"
        return Found(found, Step("door", text, _place(found, "connect", "tentacle")))


@dataclass(frozen=True, slots=True)
class AtDoor(Arrival):
    """Somebody who connects to this address of the relay; the host "" is any of its addresses."""

    address: Address

    def find(self, table: Table) -> Found:
        machines = [machine for machine in table.machines if machine.door and self._is(machine.door)]
        if len(machines) > 1:
            names = ", ".join(f"{_written(machine.door)} ({machine.name})" for machine in machines if machine.door)
            text = f"several machines have this port: {names}. Ask for one of these doors"
            return Found(None, Step("door", text), _SEVERAL)
        for machine in machines:
            assert machine.door
            return Found(machine, Step("door", f"{_written(machine.door)} is machine {machine.name}", _place(machine, "port")))
        if table.front and self._is(table.front):
            return AtName("").find(table)
        if table.back and self._is(table.back):
            door = f"{_written(table.back)} is the door of polling Tentacles (back.listen)"
            text = f"{door}: whoever calls there as Octopus is closed without a byte, and logged as broke-protocol"
            return Found(None, Step("door", text), "broke-protocol")
        return Found(None, Step("door", f"no door is at {_written(self.address)}: refused"), "refused")

    def _is(self, door: Address) -> bool:
        return door.port == self.address.port and (not self.address.host or overlap(door.host, self.address.host))


def _written(door: Address) -> str:
    """As it is written in a file."""
    return str(door).removeprefix(":")


# ---- limits and timeouts --------------------------------------------------------------------------------------------------


def settings(table: Table, machine: Machine, octopus: Octopus | None) -> Iterator[Setting]:
    """What holds for the machine's calls of this Octopus, and where each of it comes from. None: it is passed through."""
    relay, defaults = (table.sections.get(name) for name in ("relay", "defaults"))
    own: list[tuple[Source, Places | None]] = [("machine", machine.places), ("defaults", defaults)]
    for setting in (
        *_group("limits", machine.limits, Limits(), own),
        *_group("timeouts", machine.timeouts, Timeouts(), own),
    ):
        if setting.name in _OF_PASSTHROUGH if machine.passthrough else machine.tentacle or setting.name not in _OF_DIALLING:
            yield setting
    if octopus:
        yield from _group("limits", octopus.limits, OctopusLimits(), [("octopus", octopus.places)], "octopus.")
    whole: list[tuple[Source, Places | None]] = [("relay", relay)]
    yield from _group("limits", table.relay.limits, RelayLimits(), whole, "relay.")
    yield from _group("timeouts", table.relay.timeouts, RelayTimeouts(), whole, "relay.")


def _group(
    group: str, held: Any, built_in: Any, sections: list[tuple[Source, Places | None]], prefix: str = ""
) -> Iterator[Setting]:
    for each in fields(built_in):
        name, value = f"{group}.{each.name}", getattr(held, each.name)
        source: Source = "built-in" if value == getattr(built_in, each.name) else "derived"
        place = None
        for section, places in sections:
            if places and name in places.keys:
                source, place = section, places.of(name)
                break
        shown = show_duration(value) if group == "timeouts" else show_size(value) if each.name in _SIZES else str(value)
        yield Setting(prefix + name, shown, source, place)
