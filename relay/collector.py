"""Python's collector of cyclic garbage: it finds nothing in what is loaded and read, and looks at all of it time and again."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

from relay.clock import Clock

SOON: Final = 5.0  # what takes longer than thousands of machines do waits for a disk


@contextlib.contextmanager
def collector_off(clock: Clock | None = None) -> Iterator[None]:
    """Until its end, or until collect(): thousands of machines are read in two thirds of the time.

    clock: given, for SOON seconds at most. The garbage of everybody else stays meanwhile, too: 30 KB of each connection.
    """
    was_on = gc.isenabled()
    gc.disable()
    soon = clock.callLater(SOON, gc.enable) if clock and was_on else None
    try:
        yield
    finally:
        if soon and soon.active():
            soon.cancel()
        if was_on:
            gc.enable()


def settle() -> None:
    """What has just been made stays: it is looked at once, now, in place of three times. Each time stops the calls."""
    gc.collect(1)


def collect() -> None:
    """From now on, for a reactor is about to run. What there is by now stays: no collection need look at it again."""
    gc.freeze()
    gc.enable()
