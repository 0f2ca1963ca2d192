"""A listening Tentacle's back for fronts that poll: one connection to it is kept ready, so that a request which is picked up
can be delivered (wire.md 6.8).

Rules:
1. While somebody watches, one connection is parked: dialled, identified, proved. A request takes it, and the next is acquired
   at once. Requests beyond it wait, in order, each for a connection of its own.
2. The Tentacle is live from the first connection that is ready until one cannot be had and none is parked or in use.
3. A parked one that ends, or is 9 minutes old, is replaced; in between, the Tentacle is live. A Tentacle that takes connections
   and drops them again is not.
4. After a failure the next attempt waits as a polling Tentacle would (wire.md 6.5), 1 minute at most.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

from relay.backoff import BackOff
from relay.call import Call
from relay.clock import Clock, Timer
from relay.halibut.events import Part
from relay.lease import Back as AnyBack
from relay.lease import Close, Lease, LeaseHolder
from relay.outcomes import Outcome
from relay.transport.interface import Link

PARKED: Final = 540.0  # seconds; a Tentacle closes a connection that gets no request within 600 (wire.md 3.2 row 2)
HELD: Final = 5.0  # seconds that a parked connection has to last, or its end counts as a failure
MOST_PAUSE: Final = 60.0  # seconds between two attempts


class _Held:
    """A lease of the pool's, and its holder: on its way, parked, or some claim's."""

    __slots__ = ("_back", "call", "claim", "lease", "since")

    def __init__(self, back: "ParkedBack", call: Call, pool: AnyBack, deadline: float) -> None:
        self._back = back
        self.call = call
        self.claim: Claim | None = None
        self.since = 0.0
        self.lease: Lease = pool.acquire(call, deadline, self)

    def lease_ready(self) -> None:
        self._back.held_ready(self)

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        self._back.held_failed(self, outcome, detail)

    def reply_part(self, part: Part) -> None:
        assert self.claim is not None
        self.claim.holder.reply_part(part)

    def reply_body(self, count: int, done: Callable[[], None]) -> None:
        assert self.claim is not None
        self.claim.holder.reply_body(count, done)

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        self._back.held_lost(self, outcome, detail)

    def back_closing(self) -> None:
        if self.claim:
            self.claim.holder.back_closing()


class Claim:
    """What a front has (see exchange.Lease). held: None while it waits. told: its holder knows that it is ready."""

    __slots__ = ("_back", "call", "deadline", "held", "holder", "sent", "timer", "told")

    def __init__(self, back: "ParkedBack", call: Call, deadline: float, holder: LeaseHolder) -> None:
        self._back = back
        self.call = call
        self.deadline = deadline
        self.holder = holder
        self.held: _Held | None = None
        self.timer: Timer | None = None
        self.told = False
        self.sent = False

    @property
    def link(self) -> Link:
        assert self.held is not None
        return self.held.lease.link

    @property
    def more_frames(self) -> bool:
        return self.held is not None and self.held.lease.more_frames

    def send(self, part: Part) -> None:
        assert self.held is not None
        self.sent = True
        self.held.lease.send(part)

    def abort(self, close: Close) -> None:
        self._back.aborted(self, close)

    def release(self) -> None:
        self._back.released(self)


class ParkedBack:
    """See above. pool: the machine's, for one Octopus."""

    def __init__(
        self,
        clock: Clock,
        pool: AnyBack,
        machine: str,
        octopus: str,
        ready: float,
        random: Random,
        failed: Callable[[Outcome, str], None],
    ) -> None:
        """machine, octopus: names; ready: seconds in which a connection has to be had; failed: hears why one was not."""
        self._clock = clock
        self._pool = pool
        self._names = machine, octopus
        self._ready = ready
        self._failed = failed
        self._back_off = BackOff(clock, random, MOST_PAUSE)
        self._watchers: list[Callable[[], None]] = []
        self._claims: deque[Claim] = deque()
        self._coming: list[_Held] = []
        self._parked: _Held | None = None
        self._busy: set[_Held] = set()
        self._retry: Timer | None = None
        self._renewal: Timer | None = None
        self._live_since = 0.0
        self.live = False

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._claims)

    @property
    def parked(self) -> int:
        """How many connections are ready, and in no call."""
        return int(self._parked is not None)

    # ---- who watches ------------------------------------------------------------------------------------------------

    def watch(self, changed: Callable[[], None]) -> None:
        """Keeps a connection ready from now on, and calls ``changed`` each time that `live` has changed."""
        self._watchers.append(changed)
        self._top_up()

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Where nobody is left, nothing is kept."""
        self._watchers.remove(changed)
        if not self._watchers:
            self.live = False
            self._forget_retry()
            parked = self._unpark()
            if parked:
                parked.lease.abort(Close.FIN)
            self._top_up()

    def _set_live(self, live: bool) -> None:
        if live is not self.live and (self._watchers or not live):
            self.live = live
            self._live_since = self._clock.seconds()
            for changed in list(self._watchers):
                changed()

    # ---- claims -----------------------------------------------------------------------------------------------------

    def acquire(self, call: Call, deadline: float, holder: LeaseHolder, again: bool = False) -> Claim:
        claim = Claim(self, call, deadline, holder)
        parked = None if self._claims and not again else self._unpark()
        if parked:
            self._give(claim, parked)
        else:
            (self._claims.appendleft if again else self._claims.append)(claim)
            self._watch_deadline(claim)
        self._top_up()
        return claim

    def _watch_deadline(self, claim: Claim) -> None:
        left = claim.deadline - self._clock.seconds()
        claim.timer = self._clock.callLater(max(0.0, left), self._late, claim)

    def _give(self, claim: Claim, held: _Held) -> None:
        """It is told in a later turn: never from within its own call."""
        self._forget_timer(claim)
        claim.timer = self._clock.callLater(0, self._tell, claim)
        claim.held, held.claim = held, claim
        claim.call.served = self._clock.seconds()
        claim.call.reused = held.call.reused
        self._busy.add(held)

    def _tell(self, claim: Claim) -> None:
        claim.timer = None
        claim.told = True
        claim.holder.lease_ready()

    def _late(self, claim: Claim) -> None:
        claim.timer = None
        self._claims.remove(claim)
        self._top_up()
        claim.holder.lease_failed(Outcome.QUEUE_TIMEOUT, "no connection to the Tentacle became free in time")

    def aborted(self, claim: Claim, close: Close) -> None:
        """Its holder gives it up, in whatever state it is."""
        self._forget_timer(claim)
        held = claim.held
        if held is None:
            if claim in self._claims:
                self._claims.remove(claim)
        elif held in self._busy:
            self._busy.discard(held)
            held.claim = None
            if claim.sent or not self._watchers or self._parked:
                held.lease.abort(close)
            elif self._claims:  # its Tentacle has noticed nothing
                self._give(self._claims.popleft(), held)
            else:
                self._park(held)
        self._top_up()

    def released(self, claim: Claim) -> None:
        """Its exchange is over."""
        held = claim.held
        assert held is not None
        self._busy.discard(held)
        held.claim = None
        held.lease.release()
        self._top_up()

    @staticmethod
    def _forget_timer(claim: Claim) -> None:
        if claim.timer:
            claim.timer.cancel()
            claim.timer = None

    # ---- connections ------------------------------------------------------------------------------------------------

    def _top_up(self) -> None:
        """As many are on their way as there are claims, and one more if none is parked."""
        reserve = bool(self._watchers) and self._parked is None and self._retry is None
        wanted = len(self._claims) + reserve
        while len(self._coming) > wanted:
            self._coming.pop().lease.abort(Close.FIN)
        while len(self._coming) < wanted:
            now = self._clock.seconds()
            self._coming.append(_Held(self, Call(*self._names, "", now), self._pool, now + self._ready))

    def held_ready(self, held: _Held) -> None:
        """It is identified, or proved."""
        self._coming.remove(held)
        held.since = self._clock.seconds()
        if self._claims:
            self._give(self._claims.popleft(), held)
        else:
            self._park(held)
        self._forget_retry()
        self._set_live(True)
        self._top_up()

    def held_failed(self, held: _Held, outcome: Outcome, detail: str) -> None:
        """It could not be had."""
        self._coming.remove(held)
        if outcome is Outcome.QUEUE_TIMEOUT:  # all were busy: the Tentacle is there
            self._top_up()
            return
        claim = self._claims.popleft() if self._claims else None
        self._down(outcome, detail)
        self._top_up()
        if claim:
            self._forget_timer(claim)
            claim.holder.lease_failed(outcome, detail)

    def _down(self, outcome: Outcome, detail: str) -> None:
        """The next attempt waits, and without another connection the Tentacle is not live."""
        if self.live and self._clock.seconds() - self._live_since >= HELD:
            self._back_off.reset()
        if self._watchers and self._retry is None:
            self._retry = self._clock.callLater(self._back_off.pause(), self._try_again)
            self._failed(outcome, detail)
        if not self._parked and not self._busy:
            self._set_live(False)

    def _try_again(self) -> None:
        self._retry = None
        self._top_up()

    def _forget_retry(self) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None

    def held_lost(self, held: _Held, outcome: Outcome, detail: str) -> None:
        """It ended while it was parked, or in some claim's hands."""
        claim, held.claim = held.claim, None
        self._busy.discard(held)
        if held is self._parked:
            self._unpark()
            if self._clock.seconds() - held.since < HELD:
                self._down(outcome, detail)
        elif claim and not claim.told:  # nobody knows of it yet: another, before anybody who came later
            claim.held = None
            claim.call.served, claim.call.reused = 0.0, False
            self._forget_timer(claim)
            self._claims.appendleft(claim)
            self._watch_deadline(claim)
            claim = None
        self._top_up()
        if claim:
            claim.holder.back_lost(outcome, detail)

    # ---- the parked one ---------------------------------------------------------------------------------------------

    def _park(self, held: _Held) -> None:
        self._parked = held
        left = held.since + PARKED - self._clock.seconds()
        self._renewal = self._clock.callLater(max(0.0, left), self._renew)

    def _unpark(self) -> _Held | None:
        parked, self._parked = self._parked, None
        if self._renewal:
            self._renewal.cancel()
            self._renewal = None
        return parked

    def _renew(self) -> None:
        """Its Tentacle would close it soon. It goes first: there may be no room for two."""
        self._renewal = None
        parked = self._unpark()
        assert parked is not None
        parked.lease.abort(Close.FIN)
        self._top_up()
