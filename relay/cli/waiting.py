"""Commands that wait for the network: they run the reactor until their work is done."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.cli.exits import NOT_FINE, fail
from relay.clock import Reactor, keep_monotonic

T = TypeVar("T")


def wait_for(work: Callable[[Reactor], Coroutine[Any, Any, T]]) -> T:
    """What the work returns, or its error. Once in a process: a reactor runs once. Ctrl-C ends the command."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    keep_monotonic(reactor)
    ends: list[T | Failure] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(work(reactor))
        done.addBoth(ends.append)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not ends:
        fail("interrupted", NOT_FINE)
    [end] = ends
    if isinstance(end, Failure):
        end.raiseException()
    return end
