"""Favours established calls over new callers: a handshake costs as much CPU as ten calls, and a storm of them would stall all.

Rules:
1. One handshake begins per turn of the reactor, so whatever else is ready gets its turn between two.
2. No more begin per second than configured; and of one source, unless it is free, no more than configured for it.
3. Sources take turns, whatever number of callers waits of each: a flood keeps nobody waiting but those who share its address.
4. While others call, a source of which more than FEW wait rests behind each handshake REST times as long as that took, free or
   not: a call has to wait for one of them now and then, and not for one at each of its steps.

Callers that wait here wait before ServerHello, under their own deadline, and are bounded where they are let in (admission.py).
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Final

from relay.clock import Clock, Timer

BURST: Final = 0.1  # seconds' worth of handshakes that may begin without waiting
REST: Final = 16
LONGEST_REST: Final = 10.0  # seconds; what takes a second or more is no handshake, but a machine that was suspended in one
FEW: Final = 4
_ONE: Final = 1 - 1e-9  # a wait for one token may come out a rounding error short of it


class _Bucket:
    """Tokens that come with time, a burst of them at most, one for each handshake."""

    __slots__ = ("_filled", "_tokens")

    def __init__(self) -> None:
        self._tokens = inf
        self._filled = 0.0

    def wait(self, now: float, per_second: int) -> float:
        """Seconds until there is one; 0 where there is."""
        most = max(1.0, per_second * BURST)
        self._tokens = min(most, self._tokens + (now - self._filled) * per_second)
        self._filled = now
        return 0.0 if self._tokens >= _ONE else (1 - self._tokens) / per_second

    def take(self) -> None:
        self._tokens -= 1


class Turns:
    """The handshakes of one source: those that wait, in order, and its pace. free: it has no pace of its own.

    queued: the gate knows of it. rested: when it will be, if others call (the reactor's clock).
    """

    __slots__ = ("bucket", "free", "queued", "rested", "waiting")

    def __init__(self) -> None:
        self.bucket = _Bucket()
        self.free = False
        self.queued = False
        self.rested = 0.0
        self.waiting: dict[Callable[[], None], None] = {}

    def others_call(self, now: float) -> bool:
        """Whether other sources make calls these days."""
        return False


class HandshakeGate:
    """begun: so far. delayed: how often the gate had to wait for the next moment."""

    def __init__(self, clock: Clock, per_second: int, per_source: int) -> None:
        self._clock = clock
        self.pace(per_second, per_source)
        self._bucket = _Bucket()
        self._ready: deque[Turns] = deque()  # whose next one may begin, as far as is known
        self._resting: list[tuple[float, int, Turns]] = []  # a heap, by when that is
        self._order = count()  # of entries at the same time
        self._waiting = 0
        self._call: Timer | None = None
        self._all_rest = False
        self.delayed = 0
        self.begun = 0

    def pace(self, per_second: int, per_source: int) -> None:
        """So many handshakes from now on, of all, and of a source that is not free."""
        self._per_second = per_second
        self._per_source = per_source

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def enter(self, turns: Turns, begin: Callable[[], None]) -> None:
        """Calls ``begin`` in a later turn of the reactor, in order of arrival among those of the same source."""
        turns.waiting[begin] = None
        self._waiting += 1
        if turns.queued:
            return
        turns.queued = True
        self._ready.append(turns)
        if self._all_rest and self._call:
            self._call.cancel()
            self._call = None
        if self._call is None:
            self._arm(0)

    def leave(self, turns: Turns, begin: Callable[[], None]) -> None:
        """It does not wait any more, and costs nobody a turn."""
        if begin in turns.waiting:
            del turns.waiting[begin]
            self._waiting -= 1

    def stop(self) -> None:
        self._forget_all()
        self._waiting = 0
        if self._call:
            self._call.cancel()
            self._call = None

    def _arm(self, seconds: float, all_rest: bool = False) -> None:
        self._all_rest = all_rest
        self._call = self._clock.callLater(seconds, self._next)

    def _forget_all(self) -> None:
        for turns in [*self._ready, *(resting[-1] for resting in self._resting)]:
            turns.waiting.clear()
            turns.queued = False
        self._ready.clear()
        self._resting.clear()

    def _next(self) -> None:
        self._call = None
        if not self._waiting:  # all of them have left
            self._forget_all()
            return
        now = self._clock.seconds()
        wait = self._bucket.wait(now, self._per_second)
        if wait:
            self.delayed += 1
            self._arm(wait)
            return
        turns = self._whose(now)
        if turns is None:
            self.delayed += 1
            self._arm(max(0.0, self._resting[0][0] - now), all_rest=True)
            return
        self._bucket.take()
        turns.bucket.take()
        self.begun += 1
        self._waiting -= 1
        begin = next(iter(turns.waiting))
        del turns.waiting[begin]
        if turns.waiting:
            self._ready.append(turns)
        else:
            turns.queued = False
        if self._waiting:
            self._arm(0)
        begin()
        ended = self._clock.seconds()
        turns.rested = ended + min(REST * (ended - now), LONGEST_REST)

    def _whose(self, now: float) -> Turns | None:
        """The source whose turn it is; None where all of them have to rest."""
        while self._resting and self._resting[0][0] <= now:
            self._ready.append(heappop(self._resting)[-1])
        while self._ready:
            turns = self._ready.popleft()
            if not turns.waiting:
                turns.queued = False
                continue
            wait = 0.0 if turns.free else turns.bucket.wait(now, self._per_source)
            if turns.rested - now > wait and len(turns.waiting) > FEW and turns.others_call(now):
                wait = turns.rested - now
            if not wait:
                return turns
            heappush(self._resting, (now + wait, next(self._order), turns))
        return None
