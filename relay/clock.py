"""What we use of Twisted's reactor, typed. Its own interfaces are zope's, which a type checker cannot read."""

import time
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None: ...

    def active(self) -> int | bool: ...

    def reset(self, secondsFromNow: float) -> None: ...


class Clock(Protocol):
    """The one clock (design, rule 12): the reactor, or ``task.Clock`` in tests."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer: ...  # noqa: A002 (Twisted's name)


def keep_monotonic(reactor: Any) -> None:
    """Makes a reactor's clock one that no change of the system's time moves.

    Twisted's own is the wall clock: a step of it, or a suspended machine, would end or hold up every wait at once.
    """
    reactor.seconds = time.monotonic


class Reactor(Clock, Protocol):
    """A clock, and descriptors."""

    nameResolver: Any

    def addReader(self, reader: Any) -> None: ...

    def removeReader(self, reader: Any) -> None: ...

    def addWriter(self, writer: Any) -> None: ...

    def removeWriter(self, writer: Any) -> None: ...
