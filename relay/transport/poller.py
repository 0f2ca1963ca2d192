"""One epoll for all connections, which is a single readable descriptor to the reactor. It buys two things:

- an event costs a dictionary lookup, where the reactor's own way around a handler costs as much as reading a record;
- a paused connection is still asked for its peer's close (EPOLLRDHUP), of which a reactor says nothing where it does not read.
  Octopus cancels a call by closing, and cancels most when a Tentacle has stalled and the caller is paused for it.
"""

import select
from typing import Final, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.clock import Reactor

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
CLOSED: Final = select.EPOLLRDHUP
FAILED: Final = select.EPOLLERR  # of a connection that has closed already: only what every one is told, whatever was asked for
_ENDED: Final = select.EPOLLHUP | select.EPOLLERR
BATCH: Final = 256  # events before the rest of the reactor has its turn
STRANGERS: Final = 8  # the same of callers that are not identified, and of doors: they cost calls that are under way little

_log = Logger()


class Polled(Protocol):
    """What is registered. Each method is called for what was asked for, or for an end of the connection."""

    def readable(self) -> None:
        """There is something to read, or the connection has ended or failed."""

    def writable(self) -> None: ...

    def peer_closed(self) -> None:
        """The peer has closed or reset; asked for instead of READ."""

    def failed(self, error: Exception) -> None:
        """One of the other methods raised what it should not have: the connection is to be ended."""


@implementer(IReadDescriptor)
class Poller:
    """See above. batch: the most events that it handles in a turn of the reactor; those left go first in the next."""

    def __init__(self, reactor: Reactor, batch: int = BATCH) -> None:
        self._batch = batch
        self._reactor = reactor
        self._epoll = select.epoll()
        self._polled: dict[int, tuple[Polled, int]] = {}
        reactor.addReader(self)

    def __len__(self) -> int:
        """How many connections are registered."""
        return len(self._polled)

    def ask(self, descriptor: int, polled: Polled, events: int) -> None:
        """From now on these events are wanted: READ, CLOSED or FAILED, and WRITE; or none at all (0)."""
        known = self._polled.get(descriptor)
        if not events:
            if known:
                del self._polled[descriptor]
                self._epoll.unregister(descriptor)
            return
        if known is None:
            self._epoll.register(descriptor, events)
        elif known[1] != events:
            self._epoll.modify(descriptor, events)
        self._polled[descriptor] = polled, events

    def stop(self) -> None:
        """Forgets all connections; they are closed by their owners."""
        self._reactor.removeReader(self)
        self._polled.clear()
        self._epoll.close()

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "connections"

    def doRead(self) -> None:
        for descriptor, event in self._epoll.poll(0, self._batch):
            known = self._polled.get(descriptor)
            if known is None:  # closed by an event before this one
                continue
            polled, asked = known
            try:
                if asked & CLOSED and event & (CLOSED | _ENDED):
                    polled.peer_closed()
                    continue
                if event & WRITE:
                    polled.writable()
                if event & (READ | _ENDED) and self._polled.get(descriptor, (None,))[0] is polled:
                    polled.readable()
            except Exception as error:  # a bug of ours ends the connection that showed it, and no other
                _log.failure("a connection's event failed")
                self._end(descriptor, polled, error)

    def _end(self, descriptor: int, polled: Polled, error: Exception) -> None:
        try:
            polled.failed(error)
        except Exception:  # or this would end the poller, and with it all connections
            _log.failure("a connection could not be ended")
            self.ask(descriptor, polled, 0)

    def connectionLost(self, reason: Failure) -> None:
        """Required of a descriptor. An epoll has no peer that it could lose; whatever happened, the others need it."""
        if not self._epoll.closed:
            self._reactor.addReader(self)
