"""The real reactor with a clock that stands still until a test moves it."""

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock

from relay.clock import Timer

real: Any = reactor


class ClockedReactor:
    """A Reactor. What is due later waits for clock.advance(); what is due at once, and every descriptor, is the real one's.

    asked: every descriptor that was given to addReader() or addWriter(), in order.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.nameResolver: Any = real.nameResolver
        self.asked: list[Any] = []

    def seconds(self) -> float:
        return self.clock.seconds()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer:  # noqa: A002 (Twisted's name)
        timer: Timer = (self.clock if delay else real).callLater(delay, callable, *args)
        return timer

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @property
    def timers(self) -> list[Timer]:
        """What waits for the clock."""
        return self.clock.getDelayedCalls()

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        return real.adoptStreamConnection(fileDescriptor, addressFamily, factory)

    def addReader(self, reader: Any) -> None:
        self.asked.append(reader)
        real.addReader(reader)

    def removeReader(self, reader: Any) -> None:
        real.removeReader(reader)

    def addWriter(self, writer: Any) -> None:
        self.asked.append(writer)
        real.addWriter(writer)

    def removeWriter(self, writer: Any) -> None:
        real.removeWriter(writer)
