"""What polling takes, on both sides: doors and nodes to poll at, and subscription ids that mean one machine each.

Each check yields its mistakes.
"""

from collections.abc import Iterator

from routing.addresses import BACK, Address
from routing.checks import nearest
from routing.connect_checks import is_reached
from routing.entries import Declaration, Entry
from routing.mistakes import Mistake
from routing.schema import MachineSection, OctopusSection

_ONLY_WITH_NODES = ("node_connections", "proxy", "proxy_credentials")
_OF_DIALLING = ("connect", "prove", "back_idle")  # timeouts


def check(declared: Declaration) -> Iterator[Mistake]:
    """All mistakes about polling that take more than one value to see."""
    yield from _back_door(declared)
    yield from _back_octopus(declared)
    yield from _timeouts(declared.machines)
    yield from _subscription_keys(declared.machines)
    yield from _subscriptions(declared.machines)
    yield from _node_keys(declared.octopus)
    yield from _nodes(declared.octopus)
    yield from _fronts(declared)


def _back_door(declared: Declaration) -> Iterator[Mistake]:
    if declared.gives("back"):
        return
    for machine in declared.machines:
        if machine.has("tentacle") and isinstance(machine.section.tentacle, str):
            problem = f"there is no {BACK}, the door where polling Tentacles come in"
            yield machine.mistake("tentacle", problem, "Add back: {listen: 10943}.", str(machine.written["tentacle"]))


def _back_octopus(declared: Declaration) -> Iterator[Mistake]:
    """The Tentacles at the one door see one identity."""
    back = declared.entry("back", declared.main.back)
    known = [entry.section.name for entry in declared.octopus if entry.has("name")]
    if not back.is_mapping or len(known) < len(declared.octopus):
        return
    name = back.section.octopus
    if name is not None and name not in known:
        yield back.mistake("octopus", "no entry of the section octopus has this name", nearest(name, known), name)
    elif len(known) > 1 and "octopus" not in back.written:
        problem = "missing, and there are several entries whose identity polling Tentacles could see"
        yield back.mistake("octopus", problem, f"Add octopus: with one of {', '.join(known[:5])}.")


def _timeouts(machines: list[Entry[MachineSection]]) -> Iterator[Mistake]:
    """In defaults they are for the other machines; at one whose Tentacle polls they would do nothing."""
    for machine in machines:
        written = machine.written.get("timeouts")
        if machine.has("tentacle") and isinstance(machine.section.tentacle, str) and isinstance(written, dict):
            for key in _OF_DIALLING:
                if key in written:
                    problem = "given for a polling Tentacle: it dials the relay, so this does not hold"
                    yield machine.mistake(
                        ("timeouts", key), problem, "Leave it out, or write the https:// address of a Tentacle that listens."
                    )


def _subscription_keys(machines: list[Entry[MachineSection]]) -> Iterator[Mistake]:
    for machine in machines:
        if not machine.has("subscription"):
            continue
        value = str(machine.written["subscription"])
        if "front" not in machine.written:
            remedy = "Add front: polling, or leave it out."
            yield machine.mistake("subscription", "given without front: polling, which is what it is for", remedy, value)
        elif machine.has("tentacle") and isinstance(machine.section.tentacle, str):
            remedy = "Leave it out: Octopus has the same id for this machine as the Tentacle itself."
            yield machine.mistake("subscription", "given for a polling Tentacle, which has one of its own", remedy, value)


def _subscriptions(machines: list[Entry[MachineSection]]) -> Iterator[Mistake]:
    owners: dict[str, Entry[MachineSection]] = {}
    for machine in machines:
        section = machine.section
        polls = machine.has("tentacle") and isinstance(section.tentacle, str)
        key = "tentacle" if polls else "subscription"
        value = section.tentacle if polls else section.subscription
        if not isinstance(value, str):
            continue
        first = owners.setdefault(value, machine)
        if first is not machine:
            problem = f"{first.seen_from(machine, key)} has this subscription id: a poll with it could be for either"
            remedy = "Give each machine its own; upper and lower case do not make two ids."
            yield machine.mistake(key, problem, remedy, str(machine.written[key]))


def _node_keys(entries: list[Entry[OctopusSection]]) -> Iterator[Mistake]:
    for entry in entries:
        if "nodes" not in entry.written:
            for key in _ONLY_WITH_NODES:
                if key in entry.written:
                    remedy = "Add nodes: with the polling ports of this Octopus, or leave it out."
                    yield entry.mistake(key, "given without nodes, to which it belongs", remedy)
        elif "proxy_credentials" in entry.written and "proxy" not in entry.written:
            yield entry.mistake("proxy_credentials", "given without proxy", "Add proxy: http://HOST:PORT, or leave it out.")


def _nodes(entries: list[Entry[OctopusSection]]) -> Iterator[Mistake]:
    """A node shows one certificate, and belongs to the one Octopus that has it."""
    owners: dict[Address, Entry[OctopusSection]] = {}
    for entry in entries:
        for position, node in enumerate(entry.section.nodes):
            first = owners.setdefault(node, entry)
            if first is not entry:
                key = entry.document.known((*entry.key, "nodes", position))
                problem = f"{first.seen_from(entry, 'nodes')} has this node: it is of one Octopus"
                yield entry.document.mistake(key, problem, "Write each node in its own entry only.", f"https://{node}")


def _fronts(declared: Declaration) -> Iterator[Mistake]:
    """Whoever is polled for has nodes; an entry without them needs another way in."""
    octopus = {entry.section.name: entry for entry in declared.octopus if entry.has("name")}
    for machine in declared.machines:
        if not machine.has("front"):
            continue
        names = machine.section.octopus or (tuple(octopus) if len(declared.octopus) == 1 else ())
        entries = [octopus[name] for name in names if name in octopus]
        without = [entry for entry in entries if "nodes" not in entry.written]
        dialled = {"port", "host"} & set(machine.written) or is_reached(declared, machine)
        if without and (len(without) == len(entries) or not dialled):
            first = without[0]
            problem = f"{first.seen_from(machine, 'name')} has no nodes that could be polled"
            remedy = "Add nodes: [https://octopus-1:10943] there, or give this machine a port or host instead."
            yield machine.mistake("front", problem, remedy, machine.section.front)
