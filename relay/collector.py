"""Python's collector of cyclic garbage: it finds nothing in what is loaded and read, and looks at all of it time and again."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Until its end, or until collect(): thousands of machines are read in two thirds of the time.

    For work that ends soon: the garbage of everybody else stays meanwhile, too.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def settle() -> None:
    """What has just been made stays: it is looked at once, now, in place of three times. Each time stops the calls."""
    gc.collect(1)


def collect() -> None:
    """From now on, for a reactor is about to run. What there is by now stays: no collection need look at it again."""
    gc.freeze()
    gc.enable()
