"""What the rules say of a call, and where they are written: a part of explain.py. The decisions are those of rules.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from routing.rules import NotAllowed, Rule, Rules
from routing.table import Place

Verdict = Literal["allowed", "denied", "unknown"]
ASK_FROM = "ask with an address (--from)"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about. source: the caller's IP address. service, method: of the call; both or none. None: not said.

    nowhere: it is a node that the relay polls, so that there is no address.
    """

    source: str | None = None
    service: str | None = None
    method: str | None = None
    nowhere: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One decision. topic: what it is about, one word. place: where it is declared, if it is."""

    topic: str
    text: str
    place: Place | None = None


def elsewhere(rules: Rules, octopus: str, asked: Asked) -> tuple[Rule, ...]:
    """Where nobody says from which address: the items that are for this Octopus from some addresses only."""
    if asked.source is not None or asked.nowhere:
        return ()
    return tuple(item for item in rules.items if item.networks and (not item.octopus or octopus in item.octopus))


def judged(rules: Rules, octopus: str, asked: Asked) -> tuple[Verdict, list[Step]]:
    """What this Octopus may call, or whether it may make the one call that is asked about."""
    if not rules.items:
        return "allowed", [Step("rules", "there are no allow rules: every service and method")]
    if asked.service is not None and asked.method is not None:
        verdict, step = _call(rules, octopus, asked, asked.service, asked.method)
        return verdict, [step]
    return "allowed", list(_items(rules, octopus, asked))


def passed_through(rules: Rules, asked: Asked) -> tuple[Verdict, Step]:
    """Whether somebody may connect of whom only the address is known."""
    if not rules.items:
        return "allowed", Step("rules", "there are no allow rules: from everywhere")
    place = rules.items[0].place
    if asked.source is None:
        if rules.takes("", None):
            return "allowed", Step("rules", "allowed from everywhere", place)
        return "unknown", Step("rules", f"allowed from {', '.join(map(_from, rules.items))} only: {ASK_FROM}", place)
    if rules.takes("", asked.source):
        return "allowed", Step("rules", f"allowed from {asked.source}", place)
    return "denied", Step("rules", f"no item of allow is for {asked.source}: closed, and logged as not-allowed", place)


def _call(rules: Rules, octopus: str, asked: Asked, service: str, method: str) -> tuple[Verdict, Step]:
    found = rules.permits(octopus, asked.source, service, method)
    if not isinstance(found, NotAllowed):
        return "allowed", Step("rules", f"{service}.{method} is allowed", found.place)
    for item in elsewhere(rules, octopus, asked):
        if not isinstance(Rules((Rule(item.words),)).permits(octopus, None, service, method), NotAllowed):
            return "unknown", Step("rules", f"{service}.{method} is allowed from {_from(item)} only: {ASK_FROM}", item.place)
    text = f"{found.detail}: answered with an error, and logged as denied; the connection stays"
    return "denied", Step("rules", text, found.place)


def _items(rules: Rules, octopus: str, asked: Asked) -> Iterator[Step]:
    for item in rules.grant(octopus, asked.source).items:
        yield Step("rules", f"allowed: {', '.join(item.words)}", item.place)
    for item in elsewhere(rules, octopus, asked):
        yield Step("rules", f"allowed from {_from(item)} only: {', '.join(item.words)}", item.place)


def _from(item: Rule) -> str:
    return " or ".join(map(str, item.networks))
