"""What the items of an `allow` must be together: no two of them allow the same call (design, rule 7; rules.py).

Two items overlap where some octopus entry, some address and some service are in both. Which of the two it is that allows the
call would then be a choice, and whoever reads the one could be wrong about the other.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, Final

from routing.checks import nearest
from routing.entries import Declaration, Entry
from routing.mistakes import Mistake
from routing.rule_merging import allow_of, items_of, rule
from routing.rules import Network, Rule
from routing.schema import MachineSection
from routing.services import ALL, EVERY_METHOD, SETS, calls

_KEPT: Final = 1024  # pairs of items that were compared: the machines of a site have few different ones
_ONE_OF_THE_TWO = "Every call has one item that allows it: take it out of one of the two."


def check(declared: Declaration) -> Iterator[Mistake]:
    """All mistakes of the allow keys."""
    known = [entry.section.name for entry in declared.octopus if entry.has("name")]
    complete = len(known) == len(declared.octopus)
    defaults = declared.entry("defaults", declared.main.defaults)
    yield from _items(defaults)
    shared = items_of(defaults.section)
    for position, item in enumerate(shared):
        for index, name in enumerate(item.octopus):
            if name not in known and complete:
                problem = "no entry of the section octopus has this name"
                yield _at(defaults, position, ("octopus", index), problem, nearest(name, known), name)
    for machine in declared.machines:
        yield from _items(machine)
        if machine.section.passthrough:
            yield from _passed_through(defaults, machine)
            continue
        own = machine.section.octopus or (known if complete else ())
        if own and machine.is_mapping:
            yield from _names(machine, own)
            if complete and (machine.section.allow or all(set(item.octopus) <= {*known} for item in shared)):
                yield from _nobody(defaults, machine, own)


def _passed_through(defaults: Entry[Any], machine: Entry[MachineSection]) -> Iterator[Mistake]:
    """Only addresses are seen of whoever is passed through: an item that says more would not hold."""
    if any(item.octopus or not rule(item).allows_all for item in allow_of(defaults.section, machine.section)):
        problem = (
            "an allow with octopus entries or services holds here, and in TLS that the relay does not open it sees neither"
        )
        remedy = "Give the machine an allow of its own: all, or a mapping with from alone."
        yield machine.mistake("allow" if machine.has("allow") else "passthrough", problem, remedy)


def _at(
    entry: Entry[Any], position: int, key: tuple[str | int, ...], problem: str, remedy: str, value: str | None = None
) -> Mistake:
    return entry.mistake(entry.document.known((*entry.key, "allow", position, *key))[len(entry.key) :], problem, remedy, value)


def _items(entry: Entry[Any]) -> Iterator[Mistake]:
    """No two words of an item, no two networks of it, and no two items say the same."""
    rules = [rule(item) for item in items_of(entry.section)]
    for position, each in enumerate(rules):
        for (_, before), (index, word) in combinations(enumerate(each.words), 2):
            if _common_call((before,), (word,)):
                problem = f"it and {before}, in the same item, have calls in common"
                yield _at(entry, position, ("services", index), problem, "Keep the wider one.", word)
        for (_, network), (index, other) in combinations(enumerate(each.networks), 2):
            if _common_network((network,), (other,)):
                problem = f"it and {network}, in the same item, have addresses in common"
                yield _at(entry, position, ("from", index), problem, "Keep the wider one.", str(other))
    for (first, earlier), (second, later) in combinations(enumerate(rules), 2):
        common = _common(earlier, later)
        if common:
            line = entry.document.line((*entry.key, "allow", first))
            yield _at(entry, second, (), f"allow[{first}] on line {line} allows {common} too", _ONE_OF_THE_TWO)


def _common(one: Rule, other: Rule) -> str:
    """A call that both allow, in words; empty where there is none."""
    call = _common_call(one.words, other.words)
    if not call or (one.octopus and other.octopus and not set(one.octopus) & set(other.octopus)):
        return ""
    octopus = next((name for name in one.octopus or other.octopus if not other.octopus or name in other.octopus), "")
    network = _common_network(one.networks, other.networks) if one.networks and other.networks else None
    if one.networks and other.networks and network is None:
        return ""
    source = network or next(iter(one.networks or other.networks), None)
    return call + (f" by octopus {octopus}" if octopus else "") + (f" from {source}" if source else "")


@lru_cache(_KEPT)
def _common_call(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    """What both have, in the narrower words of the two; empty for nothing."""
    for first in one:
        for second in other:
            if ALL in (first, second):
                return second if first == ALL else first
            mine, theirs = set(calls(first)), set(calls(second))
            if _within(mine, theirs) or _within(theirs, mine):
                return min(first, second, key=_width)
    return ""


def _width(word: str) -> int:
    """A method is narrower than a service, and that than a set."""
    return 2 if word in SETS else "." not in word


def _within(some: set[tuple[str, str]], others: set[tuple[str, str]]) -> bool:
    """Whether a call of the ones is among the others."""
    return any(call in others or (call[0], EVERY_METHOD) in others for call in some)


def _common_network(some: Sequence[Network], others: Sequence[Network]) -> Network | None:
    """The smaller of two networks that have addresses in common."""
    for one in some:
        for other in others:
            if one.version == other.version and one.overlaps(other):
                return max(one, other, key=lambda network: network.prefixlen)
    return None


def _names(machine: Entry[MachineSection], own: Sequence[str]) -> Iterator[Mistake]:
    """An item of its own is for octopus entries of its own."""
    for position, item in enumerate(items_of(machine.section)):
        for index, name in enumerate(item.octopus):
            if name not in own:
                problem = "not among the octopus entries of this machine"
                yield _at(machine, position, ("octopus", index), problem, nearest(name, [*own]), name)


def _nobody(defaults: Entry[Any], machine: Entry[MachineSection], own: Sequence[str]) -> Iterator[Mistake]:
    """Somebody has to be let in, and from somewhere that there is."""
    section = machine.section
    if "allow" in machine.written and not machine.has("allow"):
        return
    items = [rule(item) for item in allow_of(defaults.section, section)]
    if not items:
        return
    place = "its allow" if machine.has("allow") else f"the allow of {defaults.seen_from(machine, 'allow')}"
    for_it = [item for item in items if not item.octopus or set(item.octopus) & set(own)]
    if not for_it:
        problem = f"{place} has no item for any of its octopus entries: nobody could call it"
        yield machine.mistake("allow" if machine.has("allow") else "name", problem, "Add one.", section.name)
    elif section.front and not (section.port or section.host) and all(item.networks for item in for_it):
        problem = f"{place} has items with `from` only, and Octopus nodes that the relay polls come from nowhere"
        yield machine.mistake("allow" if machine.has("allow") else "front", problem, "Add an item without from.", section.name)
