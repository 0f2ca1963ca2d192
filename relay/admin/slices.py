"""Long work of the admin side, in slices: between two, the calls have their turn."""

import time
from collections.abc import Callable
from typing import Final

from twisted.internet.task import Cooperator

from relay.clock import Clock

SLICE: Final = 0.004  # seconds of work in one turn of the reactor
PAUSE: Final = 0.004  # seconds from one slice to the next: half of the processor's time stays with the calls


def cooperator(clock: Clock, now: Callable[[], float] = time.perf_counter) -> Cooperator:
    """One for all such work of a process: however much there is at once, a turn has one slice. now: a clock of seconds."""

    def over() -> Callable[[], bool]:
        end = now() + SLICE
        return lambda: now() >= end

    def schedule(work: Callable[[], None]) -> object:
        return clock.callLater(PAUSE, work)

    return Cooperator(over, schedule)  # type: ignore[arg-type]  # a delayed call that it only cancels
