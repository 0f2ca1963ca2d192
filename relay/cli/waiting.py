"""Commands that wait for the network: they run the reactor until their work is done."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.clock import Reactor, keep_monotonic
from relay.collector import collect

T = TypeVar("T")


def wait_for(work: Callable[[Reactor], Coroutine[Any, Any, T]]) -> T:
    """What the work returns, or its error. Once in a process: a reactor runs once. Ctrl-C ends it: click.Abort."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    keep_monotonic(reactor)
    ends: list[T | Failure] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(work(reactor))
        done.addBoth(ends.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    collect()
    reactor.run()
    if not ends:
        raise click.Abort
    [end] = ends
    if isinstance(end, Failure):
        end.raiseException()
    return end
