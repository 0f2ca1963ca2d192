"""Notices that the peer of a paused link has gone. A link that is not read gets no event of a close from the reactor.

Octopus cancels a call by closing, and cancels most when a Tentacle has stalled and the caller's link is paused for it.
"""

import select
from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.clock import Reactor


@implementer(IReadDescriptor)
class CloseWatcher:
    """An epoll of its own, which is one readable descriptor to the reactor; it asks for closes only, never for data."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        reactor.addReader(self)

    def watch(self, descriptor: int, closed: Callable[[], None]) -> None:
        """Calls back at most once, when the peer closes or resets. Already closed counts."""
        self._watched[descriptor] = closed
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET)

    def unwatch(self, descriptor: int) -> None:
        """Has to be called before the descriptor is closed; does nothing where it is not watched."""
        if self._watched.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def stop(self) -> None:
        self._reactor.removeReader(self)
        self._watched.clear()
        self._epoll.close()

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "watcher"

    def doRead(self) -> None:
        for descriptor, _ in self._epoll.poll(0, 64):
            closed = self._watched.get(descriptor)
            if closed:
                self.unwatch(descriptor)
                closed()

    def connectionLost(self, reason: Failure) -> None:
        """Required of a descriptor. An epoll has no peer that it could lose."""
