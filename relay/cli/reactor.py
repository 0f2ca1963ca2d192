"""For commands that do one thing on the reactor and end."""

import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.clock import keep_monotonic
from relay.collector import collect

T = TypeVar("T")


def finish(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """What work(reactor) gives, or raises. Ctrl-C cancels it: click.Abort. Once in a process: a reactor runs but once."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    keep_monotonic(reactor)
    ends: list[T | Failure] = []
    interrupted: list[int] = []

    def begin() -> None:
        ending = Deferred.fromCoroutine(work(reactor))

        def interrupt(number: int, frame: FrameType | None) -> None:
            interrupted.append(number)
            reactor.callFromThread(ending.cancel)

        signal.signal(signal.SIGINT, interrupt)
        ending.addBoth(ends.append)
        ending.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    collect()
    reactor.run(installSignalHandlers=False)
    if interrupted:
        raise click.Abort
    [end] = ends
    if isinstance(end, Failure):
        end.raiseException()
    return end
