"""Favours established calls over new callers: a handshake costs as much CPU as ten calls, and a storm of them would stall all.

One handshake begins per turn of the reactor, so whatever else is ready gets its turn between two; and no more per second than
configured. Callers that wait here wait before ServerHello, under their own deadline.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from relay.clock import Clock, Timer

BURST: Final = 0.1  # seconds' worth of handshakes that may begin without waiting
_ONE: Final = 1 - 1e-9  # a wait for one token may come out a rounding error short of it


class HandshakeGate:
    """per_second: handshakes. begun: so far. delayed: how often one had to wait for the next moment."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self.pace(per_second)
        self._tokens = self._most
        self._filled = clock.seconds()
        self._queue: deque[Callable[[], None]] = deque()
        self._call: Timer | None = None
        self.delayed = 0
        self.begun = 0

    def pace(self, per_second: int) -> None:
        """So many handshakes from now on."""
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def enter(self, begin: Callable[[], None]) -> None:
        """Calls ``begin`` in a later turn, in order of arrival."""
        self._queue.append(begin)
        if self._call is None:
            self._call = self._clock.callLater(0, self._next)

    def stop(self) -> None:
        self._queue.clear()
        if self._call:
            self._call.cancel()
            self._call = None

    def _next(self) -> None:
        self._call = None
        now = self._clock.seconds()
        self._tokens = min(self._most, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        if self._tokens < _ONE:
            self.delayed += 1
            self._call = self._clock.callLater((1 - self._tokens) / self._per_second, self._next)
            return
        self._tokens -= 1
        self.begun += 1
        begin = self._queue.popleft()
        if self._queue:
            self._call = self._clock.callLater(0, self._next)
        begin()
