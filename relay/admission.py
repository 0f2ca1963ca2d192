"""Who may come in, and how much everybody may have at once.

A caller is a stranger until it has said who it is, or, passed through, has answered its Tentacle. Strangers are bounded in
all, and by source address, so that whoever is identified has the rest: its connections are bounded by its machine and its
Octopus, and so are its exchanges.

Rules:
1. Where strangers fill the relay, the next caller takes the place of the oldest stranger of the source that has most of them,
   and has more than the caller's own. Who holds many connections loses them; who comes with one gets in.
2. A source from which somebody was identified is known: nobody takes its strangers' places, and its handshakes have no pace
   of their own (transport/gate.py).
3. No more is remembered of sources than of PAST strange and KNOWN known ones, and of those who are there.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from math import inf
from typing import Final

from relay.load import InUse
from relay.outcomes import Outcome, Refusal, SentAway
from relay.transport.gate import Turns
from routing.table import Machine, Octopus, OctopusLimits, RelayLimits, Table

KNOWN: Final = 4096
PAST: Final = 4096
CALLING: Final = 1.0  # seconds behind a call in which its source is one that calls
_SITE: Final = 64  # bits of an IPv6 address that say whose network it is


class Source(Turns):
    """An address that callers come from, or an IPv6 network. strangers: in the order in which they came."""

    __slots__ = ("_admission", "name", "strangers")

    def __init__(self, name: str, admission: "Admission") -> None:
        super().__init__()
        self._admission = admission
        self.name = name
        self.strangers: dict[Visit, None] = {}

    def others_call(self, now: float) -> bool:
        return self._admission.others_call(self.name, now)


def _has_left(why: SentAway) -> None:
    """What a visit is told to do whose connection nobody holds: nothing."""


def _stays() -> None:
    """The same."""


class Visit:
    """One caller's connection. peer: its address; opened: when it came (the reactor's clock).

    leave: closes it, while it is a stranger, at once, and then calls departed(). stays: is called when it is no stranger any
    more. Both belong to whoever holds the connection.
    """

    __slots__ = ("_admission", "_machine", "_octopus", "leave", "opened", "peer", "source", "stays")

    def __init__(self, admission: "Admission", peer: str, source: Source, opened: float) -> None:
        self._admission = admission
        self._octopus = ""
        self._machine = ""
        self.peer = peer
        self.source = source
        self.opened = opened
        self.leave: Callable[[SentAway], None] = _has_left
        self.stays: Callable[[], None] = _stays

    def identified(self, octopus: Octopus, machine: Machine) -> SentAway | None:
        """It is this Octopus, and wants this machine. Why it may not stay, if it may not."""
        if refused := self._admission.take(octopus.name, machine):
            return refused
        self._octopus, self._machine = octopus.name, machine.name
        self.trusted()
        return None

    def trusted(self) -> None:
        """It is no stranger from now on: it is bounded by somebody else."""
        self._admission.trusted(self)
        self.stays()

    def bounded(self) -> None:
        """Nobody will know who it is: it is passed through, has answered its Tentacle, and counts for its machine from now on.
        Its source stays as it is."""
        self._admission.no_stranger(self)

    def departed(self) -> None:
        """It is closed, and its descriptor is free."""
        self.leave, self.stays = _has_left, _stays  # what they were holds us: in a storm all of it would wait for the collector
        self._admission.departed(self, self._octopus, self._machine)


class Admission:
    """See above. departed: is called for each caller that has gone."""

    def __init__(self, table: Table, buffered: Callable[[], int], departed: Callable[[], None]) -> None:
        """buffered: bytes that wait for their peers now."""
        self._buffered = buffered
        self._departed = departed
        self._sources: dict[str, Source] = {}
        self._known: dict[Source, None] = {}  # the one that was identified last at the end
        self._past: dict[Source, None] = {}  # not known, and nobody of it is there
        self._crowds: dict[int, dict[Source, None]] = {}  # not known, by how many strangers it has
        self._of_octopus: dict[str, int] = {}
        self._of_machine: dict[str, int] = {}
        self._exchanges: dict[str, int] = {}  # by octopus entry
        self._last_call = "", -inf  # its source, and when it ended; and that of the last one of another source
        self._other_call = "", -inf
        self.connections = 0
        self.strangers = 0
        self.exchanges = 0
        self.follow(table)

    def follow(self, table: Table) -> None:
        """Goes by the limits of this table from now on. Nobody goes who is in."""
        self.limits: RelayLimits = table.relay.limits
        self.of_octopus: Mapping[str, OctopusLimits] = {octopus.name: octopus.limits for octopus in table.octopus}

    # ---- how it is --------------------------------------------------------------------------------------------------

    def in_use(self) -> Iterator[InUse]:
        """What there is of everything that is limited."""
        limits = self.limits
        yield InUse("relay.limits.connections", self.connections, limits.connections)
        yield InUse("relay.limits.exchanges", self.exchanges, limits.exchanges)
        yield InUse("relay.limits.strangers", self.strangers, limits.strangers)
        yield InUse("relay.limits.source_strangers", self.most_strangers, limits.source_strangers)
        yield InUse("relay.limits.buffered", self.buffered, limits.buffered)
        for name, held in self.of_octopus.items():
            yield InUse(f"octopus[{name}].limits.callers", self.callers(name), held.callers)
            yield InUse(f"octopus[{name}].limits.exchanges", self.exchanges_of(name), held.exchanges)

    @property
    def most_strangers(self) -> int:
        """Of one source."""
        known = max((len(source.strangers) for source in self._known), default=0)
        return max(known, max(self._crowds, default=0))

    @property
    def buffered(self) -> int:
        """Bytes that wait for their peers."""
        return self._buffered()

    @property
    def known(self) -> int:
        """Sources from which somebody was identified."""
        return len(self._known)

    def callers(self, octopus: str) -> int:
        """Identified connections of this octopus entry."""
        return self._of_octopus.get(octopus, 0)

    def exchanges_of(self, octopus: str) -> int:
        """Its exchanges, of those where it dials the relay."""
        return self._exchanges.get(octopus, 0)

    # ---- coming in --------------------------------------------------------------------------------------------------

    def admit(self, peer: str, opened: float) -> Visit | SentAway:
        """Counts one more caller's connection; why it is to be closed, if it is."""
        name, limits = source_of(peer), self.limits
        source = self._sources.get(name) or Source(name, self)
        if len(source.strangers) >= limits.source_strangers:
            detail = f"{len(source.strangers)} callers of {name} are not identified yet (relay.limits.source_strangers)"
            return SentAway(Refusal.SOURCE_STRANGERS, detail)
        if self.strangers >= limits.strangers and not self._make_room(source):
            detail = f"{self.strangers} callers are not identified yet (relay.limits.strangers)"
            return SentAway(Refusal.STRANGERS, detail)
        if self.connections >= limits.connections and not self._make_room(source):
            return SentAway(Refusal.CONNECTIONS, f"{self.connections} callers are there (relay.limits.connections)")
        visit = Visit(self, peer, source, opened)
        self._sources[name] = source
        self._past.pop(source, None)
        self.connections += 1
        self.strangers += 1
        source.strangers[visit] = None
        self._recount(source, len(source.strangers) - 1)
        return visit

    def _make_room(self, newcomer: Source) -> bool:
        """Sends a stranger away, if there is one of a source that has more of them than the newcomer's."""
        most = max(self._crowds, default=0)
        if most <= (0 if newcomer.free else len(newcomer.strangers)):
            return False
        source = next(iter(self._crowds[most]))
        before = self.connections
        next(iter(source.strangers)).leave(
            SentAway(Refusal.STRANGERS, f"it made room: {most} callers of {source.name} were not identified, the most of all")
        )
        return self.connections < before

    def _recount(self, source: Source, before: int) -> None:
        """It had so many strangers before."""
        if source.free:
            return
        if before:
            crowd = self._crowds[before]
            del crowd[source]
            if not crowd:
                del self._crowds[before]
        if source.strangers:
            self._crowds.setdefault(len(source.strangers), {})[source] = None

    def take(self, octopus: str, machine: Machine) -> SentAway | None:
        """Counts one more identified caller; why it may not stay, if it may not."""
        of_octopus, of_machine = self._of_octopus.get(octopus, 0), self._of_machine.get(machine.name, 0)
        limits = self.of_octopus.get(octopus)
        if limits and of_octopus >= limits.callers:
            detail = f"{of_octopus} connections of {octopus} are there (octopus[].limits.callers)"
            return SentAway(Refusal.OCTOPUS_CALLERS, detail)
        if of_machine >= machine.limits.callers:
            return SentAway(Refusal.CALLERS, f"{of_machine} callers of the machine are there (limits.callers)")
        self._of_octopus[octopus] = of_octopus + 1
        self._of_machine[machine.name] = of_machine + 1
        return None

    def trusted(self, visit: Visit) -> None:
        """It is no stranger, and its source is known from now on."""
        self.no_stranger(visit)
        source = visit.source
        if not source.free:
            self._past.pop(source, None)
            self._uncrowd(source)
            source.free = True
        self._sources[source.name] = source
        self._known.pop(source, None)
        self._known[source] = None
        if len(self._known) > KNOWN:
            self._forget(next(iter(self._known)))

    def _uncrowd(self, source: Source) -> None:
        strangers, source.strangers = source.strangers, {}
        self._recount(source, len(strangers))
        source.strangers = strangers

    def _forget(self, source: Source) -> None:
        """It is known no more."""
        del self._known[source]
        source.free = False
        self._recount(source, 0)
        self._rest(source)

    def no_stranger(self, visit: Visit) -> None:
        """It is none any more; nothing is said of its source."""
        source = visit.source
        if visit in source.strangers:
            self.strangers -= 1
            del source.strangers[visit]
            self._recount(source, len(source.strangers) + 1)
            self._rest(source)

    def _rest(self, source: Source) -> None:
        """Remembers for a while a source that nobody is there of, and its pace."""
        if not source.strangers and not source.free:
            self._past[source] = None
            if len(self._past) > PAST:
                oldest = next(iter(self._past))
                del self._past[oldest], self._sources[oldest.name]

    def departed(self, visit: Visit, octopus: str, machine: str) -> None:
        """Its connection is closed. octopus, machine: empty where it was never identified as a caller of theirs."""
        self.no_stranger(visit)
        self.connections -= 1
        if octopus:
            _less(self._of_octopus, octopus)
            _less(self._of_machine, machine)
        self._departed()

    # ---- exchanges --------------------------------------------------------------------------------------------------

    def begin(self, octopus: str) -> tuple[Outcome, str] | None:
        """Counts one more exchange of a caller; what becomes of it instead, if it may not begin."""
        own, limits = self._exchanges.get(octopus, 0), self.of_octopus.get(octopus)
        if self.exchanges >= self.limits.exchanges:
            return Outcome.EXCHANGES, f"{self.exchanges} calls were under way (relay.limits.exchanges)"
        if limits and own >= limits.exchanges:
            return Outcome.OCTOPUS_EXCHANGES, f"{own} calls of {octopus} were under way (octopus[].limits.exchanges)"
        if self._buffered() >= self.limits.buffered:
            return Outcome.BUFFERED, f"{self._buffered()} bytes waited for their peers (relay.limits.buffered)"
        self.exchanges += 1
        self._exchanges[octopus] = own + 1
        return None

    def end(self, octopus: str) -> None:
        """One that has begun is over."""
        self.exchanges -= 1
        _less(self._exchanges, octopus)

    def called(self, peer: str, now: float) -> None:
        """A call of whoever has this address is over; a node that was polled for it has one, too."""
        name = source_of(peer)
        if name != self._last_call[0]:
            self._other_call = self._last_call
        self._last_call = name, now

    def others_call(self, source: str, now: float) -> bool:
        """Whether a call of another source has ended within the last CALLING seconds."""
        _, at = self._last_call if self._last_call[0] != source else self._other_call
        return now - at < CALLING


@lru_cache(maxsize=KNOWN)  # each call asks, and an IPv6 address takes 3 us to parse
def source_of(peer: str) -> str:
    """Whose address this is, HOST:PORT or [HOST]:PORT: of IPv6, a whole network, since one host has as many as it likes."""
    host = peer.rpartition(":")[0]
    if not host.startswith("["):
        return host
    try:
        address = IPv6Address(host[1:-1])
    except AddressValueError:  # none that a listener of ours has
        return host
    network = int(address) >> (128 - _SITE) << (128 - _SITE)
    return f"{IPv6Address(network)}/{_SITE}"


def _less(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
