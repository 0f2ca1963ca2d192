"""Waiting for something to be true, on the real reactor and without sleeping."""

from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred


class Changes:
    """Whoever records something calls changed(); whoever waits is called back as soon as the condition holds."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def changed(self) -> None:
        for entry in list(self._waiting):
            condition, deferred = entry
            if entry in self._waiting and condition():
                self._waiting.remove(entry)
                reactor.callLater(0, deferred.callback, None)

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Returns when the condition holds; raises AssertionError where it does not in time, which is a failed test."""
        if condition():
            return
        deferred: Deferred[None] = Deferred()
        entry = (condition, deferred)
        self._waiting.append(entry)

        def late() -> None:
            if entry in self._waiting:
                self._waiting.remove(entry)
                deferred.errback(AssertionError(f"still not true after {seconds} s"))

        timer = reactor.callLater(seconds, late)
        try:
            await deferred
        finally:
            if timer.active():
                timer.cancel()


async def turns(count: int = 3) -> None:
    """Lets the reactor go round so many times: what it had to do at once is done."""
    for _ in range(count):
        deferred: Deferred[None] = Deferred()
        reactor.callLater(0, deferred.callback, None)
        await deferred
