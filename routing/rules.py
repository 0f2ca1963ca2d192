"""Who may call what: the rules of `allow`, compiled (design, rule 7). The running relay and `explain` ask the same ones.

1. Each item allows something, and nothing takes away; the order of items means nothing. What no item allows is denied.
2. An item is for the callers that it names: by octopus entry, by source network, or by both. What it leaves out is any.
3. A machine's `allow` takes the place of that in `defaults`, as a whole.
4. No two items allow the same call: rule_checks.py proves it, so that every call that is allowed has one item to show for it.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from routing.services import ALL, EVERY_METHOD, Call, calls, compared

if TYPE_CHECKING:
    from routing.table import Place

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_SHOWN = 80  # characters of a name that a caller has chosen


@dataclass(frozen=True, slots=True)
class Rule:
    """One item. words: what it allows. octopus, networks: whom; none: any. place: where it is written."""

    words: tuple[str, ...] = (ALL,)
    octopus: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    place: "Place | None" = field(default=None, compare=False)

    @property
    def allows_all(self) -> bool:
        """Every service, known or not."""
        return ALL in self.words

    def is_for(self, octopus: str, source: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
        """Whether it is for this caller. source: None where it has none, and no network has that in it."""
        if self.octopus and octopus not in self.octopus:
            return False
        return not self.networks or (source is not None and any(source in network for network in self.networks))


@dataclass(frozen=True, slots=True)
class Permitted:
    """The call may be made. place: of the item that says so; None where there is no `allow`."""

    place: "Place | None" = None


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """The call may not be made. detail: in words for the log. place: of the `allow` that has no item for it."""

    detail: str
    place: "Place | None" = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What one caller may do. items: those that are for it. everything: no call of it needs a look at its request."""

    rules: "Rules"
    items: tuple[Rule, ...]
    everything: bool = field(init=False)
    _calls: Mapping[Call, "Place | None"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "everything", not self.rules.items or any(item.allows_all for item in self.items))
        found = {call: item.place for item in self.items if not item.allows_all for word in item.words for call in calls(word)}
        object.__setattr__(self, "_calls", found)

    def permits(self, service: str, method: str) -> Permitted | NotAllowed:
        """Whether this caller may make the call."""
        call = compared(service, method)
        if call is not None:
            for key in (call, (call[0], EVERY_METHOD)):
                if key in self._calls:
                    return Permitted(self._calls[key])
        if self.everything:
            return Permitted(next((item.place for item in self.items if item.allows_all), None))
        return NotAllowed(
            f"no item of allow lets this caller call {service[:_SHOWN]}.{method[:_SHOWN]}{self.rules.where}", self.rules.place
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """An `allow`; without items: none is written, and every call of the machine's own octopus entries is allowed.

    place: where it is written. relay, contact: who speaks to a caller that is denied, and whom to ask; contact may be empty.
    """

    items: tuple[Rule, ...] = ()
    place: "Place | None" = field(default=None, compare=False)
    relay: str = ""
    contact: str = ""
    restricts_methods: bool = field(init=False, compare=False)
    restricts_sources: bool = field(init=False, compare=False)
    _grants: dict[tuple[int, ...], Grant] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "restricts_methods", any(not item.allows_all for item in self.items))
        object.__setattr__(self, "restricts_sources", any(item.networks for item in self.items))
        object.__setattr__(self, "_grants", {})

    @property
    def where(self) -> str:
        """The place, behind what is said of it."""
        return f" ({self.place})" if self.place else ""

    def grant(self, octopus: str, source: str | None) -> Grant:
        """What this caller may do. source: its IP address; None for one that the relay polls, which comes from nowhere."""
        address = _address(source) if self.restricts_sources else None
        which = tuple(index for index, item in enumerate(self.items) if item.is_for(octopus, address))
        found = self._grants.get(which)
        if found is None:
            found = self._grants[which] = Grant(self, tuple(self.items[index] for index in which))
        return found

    def takes(self, octopus: str, source: str | None) -> bool:
        """Whether this caller may call anything at all: asked when it has said who it is."""
        return not self.items or bool(self.grant(octopus, source).items)

    def permits(self, octopus: str, source: str | None, service: str, method: str) -> Permitted | NotAllowed:
        """Whether this caller may make this call."""
        return self.grant(octopus, source).permits(service, method)


def host_of(peer: str) -> str:
    """The IP address in a caller's address with its port, as transport.listener writes it."""
    return peer.rpartition(":")[0].strip("[]")


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address in IPv6 clothes is what it is."""
    try:
        found = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
