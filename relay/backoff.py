"""How long whoever polls waits before it tries again (wire.md 6.5), spread so that a fleet does not knock at once."""

from random import Random
from typing import Final

from relay.clock import Clock

LEAST: Final = 5.0
MOST: Final = 120.0  # seconds
_SPREAD: Final = 1 / 3  # how much of a pause is left to chance


class BackOff:
    """Halibut's own: the time since the first failure, times a factor from 1 to 2 that is this client's own, 5 s at least
    and 2 min at most. Halibut's clients that fail together come back together in the first minutes; here a part of each
    pause is drawn anew.

    random: where chance comes from; most: seconds.
    """

    def __init__(self, clock: Clock, random: Random, most: float = MOST) -> None:
        self._clock = clock
        self._random = random
        self._most = most
        self._factor = 1 + random.random()
        self._failing_since: float | None = None

    def reset(self) -> None:
        """It has gone well: the next failure is a first one."""
        self._failing_since = None

    def pause(self) -> float:
        """It has failed: how many seconds to wait now."""
        now = self._clock.seconds()
        if self._failing_since is None:
            self._failing_since = now
        longest = min(max((now - self._failing_since) * self._factor, LEAST / (1 - _SPREAD)), self._most)
        return longest * (1 - _SPREAD * self._random.random())
