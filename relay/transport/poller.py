"""One epoll for all connections, which is a single readable descriptor to the reactor. It buys three things:

- an event costs a dictionary lookup, where the reactor's own way around a handler costs as much as reading a record;
- a paused connection is still asked for its peer's close (EPOLLRDHUP), of which a reactor says nothing where it does not read.
  Octopus cancels a call by closing, and cancels most when a Tentacle has stalled and the caller is paused for it;
- whose turn it is, is ours to say. Connections that share their turns have SHARE of them, and then there is another look at
  who is ready: so many calls of one machine keep another one's waiting for those, and not for all. And whoever is ready at
  the poller that goes before has its turn between two events of this one;
- small records are gathered while it goes through those that are ready, and go out one behind the other, first all to those
  whom we dialled, then all to our callers. Whoever has to be woken for one is awake for the next: that takes a fourteenth off
  the CPU of a small call.
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
SHARE: Final = 2  # events of connections that share their turns, before another look at who is ready
FEW: Final = 8  # that are ready: all of them have a turn, and the next look is soon enough for whoever becomes ready meanwhile
ALONE: Final = 1000  # looks in which nobody else was ready, after which those that share need not: it costs a third of a call
STRANGERS: Final = 4  # the same of callers of one source that are not identified
_BATCH: Final = 64  # connections that a look shows: many that wait for their share are looked at in vain each time
SMALL: Final = 4096  # bytes of a record that may be gathered
GATHER: Final = 16  # such records, and then they go out: the first waits no longer
_LOOKS: Final = 2  # in a turn of the reactor, where some have to share

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


class Gathered(Protocol):
    """Whoever has a small record that waits for the others' ones."""

    def flush(self) -> None:
        """Writes it, if it is still there."""

    def failed(self, error: Exception) -> None:
        """flush() has raised what it should not have: the connection is to be ended."""


@implementer(IReadDescriptor)
class Poller:
    """See above. before: given, everybody here is a stranger, and whoever is polled there goes before them."""

    def __init__(self, reactor: Reactor, before: "Poller | None" = None) -> None:
        self._before = before
        self._share, self._most_looks = (SHARE, _LOOKS) if before is None else (STRANGERS, 1)
        self._reactor = reactor
        self._epoll = select.epoll()
        self._polled: dict[int, tuple[Polled, int, str]] = {}
        self._passed_over: dict[
            int, int
        ] = {}  # descriptors that were ready and had no turn since, and in which look that began
        self._looks = 0
        self.gathers = False  # it goes through those that are ready
        self.dialled: list[Gathered] = []
        self.accepted: list[Gathered] = []
        self._last = ""  # who had the last turn of those that share
        self._mixed = 0  # the look in which somebody else had
        reactor.addReader(self)

    def __len__(self) -> int:
        """How many connections are registered."""
        return len(self._polled)

    def ask(self, descriptor: int, polled: Polled, events: int, sharing: str = "") -> None:
        """From now on these events are wanted: READ, CLOSED or FAILED, and WRITE; or none at all (0).

        sharing: those with the same word share their turns; empty: with nobody.
        """
        known = self._polled.get(descriptor)
        if not events:
            if known:
                del self._polled[descriptor]
                self._passed_over.pop(descriptor, None)
                self._epoll.unregister(descriptor)
            return
        if known is None:
            self._epoll.register(descriptor, events)
        elif known[1] != events:
            self._epoll.modify(descriptor, events)
        self._polled[descriptor] = polled, events, sharing

    def stop(self) -> None:
        """Forgets all connections; they are closed by their owners."""
        self._reactor.removeReader(self)
        self._polled.clear()
        self._passed_over.clear()
        self._epoll.close()

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "connections"

    def give_way(self) -> None:
        """Whoever goes before, and is ready, has its turn now."""
        if self._before is not None:
            self._before._look()

    def doRead(self) -> None:
        for _ in range(self._most_looks):
            if not self._look():
                return

    def _look(self) -> bool:
        """Handles what is ready, and of those that share so many at most. Whether some were passed over."""
        if self._epoll.closed:
            return False
        events = self._epoll.poll(0, _BATCH)
        waits, look = self._passed_over, self._looks
        if waits:  # who was passed over first goes first, or the kernel's order would choose the same ones time and again
            events.sort(key=lambda ready: waits.get(ready[0], look))
        polled_here, first = self._polled, self._before
        crowded, shares = len(events) > FEW and look - self._mixed < ALONE, dict[str, int]()
        some_wait, dialled, accepted = False, self.dialled, self.accepted
        self.gathers = first is None
        for descriptor, event in events:
            known = polled_here.get(descriptor)
            if known is None:  # closed by an event before this one
                continue
            polled, asked, sharing = known
            if sharing != self._last:
                self._last, self._mixed = sharing, look
            if crowded and sharing:
                taken = shares.get(sharing, 0)
                if taken >= self._share:
                    waits.setdefault(descriptor, look)
                    some_wait = True
                    continue
                shares[sharing] = taken + 1
            if waits:
                waits.pop(descriptor, None)
            try:
                if event == READ == asked:  # nearly always
                    polled.readable()
                elif asked & CLOSED and event & (CLOSED | _ENDED):
                    polled.peer_closed()
                else:
                    if event & WRITE:
                        polled.writable()
                    if event & (READ | _ENDED) and polled_here.get(descriptor, (None,))[0] is polled:
                        polled.readable()
            except Exception as error:  # a bug of ours ends the connection that showed it, and no other
                _log.failure("a connection's event failed")
                if not self._end(polled, error):
                    self.ask(descriptor, polled, 0)
            if len(dialled) + len(accepted) >= GATHER:
                self.flush()
            if first is not None:
                first._look()
        self.gathers = False
        self.flush()
        self._looks += 1
        return some_wait

    def flush(self) -> None:
        """Lets what was gathered go out."""
        for gathered in (self.dialled, self.accepted):
            waiting = gathered.copy()
            gathered.clear()  # now: the end of one may write to others, and come here again
            for connection in waiting:
                try:
                    connection.flush()
                except Exception as error:
                    _log.failure("a connection's record could not be written")
                    self._end(connection, error)

    def _end(self, polled: Polled | Gathered, error: Exception) -> bool:
        try:
            polled.failed(error)
        except Exception:  # or this would end the poller, and with it all connections
            _log.failure("a connection could not be ended")
            return False
        return True

    def connectionLost(self, reason: Failure) -> None:
        """Required of a descriptor. An epoll has no peer that it could lose; whatever happened, the others need it."""
        if not self._epoll.closed:
            self._reactor.addReader(self)
