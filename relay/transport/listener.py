"""Listening sockets that stop accepting while there are no descriptors."""

import errno
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.clock import Reactor, Timer
from relay.transport.poller import READ, Poller

ACCEPTS_PER_TURN: Final = 8  # of all lanes together, but one of each at least: whoever was accepted before waits for them
PAUSE: Final = 0.2  # seconds without accepting, where no descriptor was free
_NO_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_log = Logger()


class Listener:
    """Calls ``accepted(sock, peer)`` for each caller, peer being its address as text.

    starved: called each time that there was no descriptor for a caller; accepting goes on by itself.
    """

    def __init__(
        self,
        reactor: Reactor,
        sockets: Sequence[socket.socket],
        accepted: Callable[[socket.socket, str], None],
        starved: Callable[[OSError], None],
        poller: Poller | None = None,
    ) -> None:
        """sockets: the lanes of one address. poller: what looks for callers, if it is not to be the reactor."""
        self._reactor = reactor
        self._poller = poller
        self._lanes = [_Lane(self, sock) for sock in sockets]
        self._per_lane = max(1, ACCEPTS_PER_TURN // len(sockets))
        # Many sources, in all lanes, may not take all turns either.
        self._sharing = f"door {self.address[1]}" if len(sockets) > 1 else ""
        self._accepted = accepted
        self._starved = starved
        self._timer: Timer | None = None
        self._stopped = False
        self._look()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host, port."""
        name = self._lanes[0].sock.getsockname()
        return name[0], name[1]

    def stop(self) -> None:
        """Closes it. Callers that were not accepted are refused by the kernel."""
        if not self._stopped:
            self._stopped = True
            self._look_away()
            if self._timer:
                self._timer.cancel()
            for lane in self._lanes:
                lane.sock.close()

    def accept_from(self, sock: socket.socket) -> None:
        """A lane's turn. sock: of this lane."""
        for _ in range(self._per_lane):
            if self._stopped or self._timer:
                return
            try:
                caller, address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._pause()
                    self._starved(error)
                    return
                continue  # that caller has gone already; the next may wait
            try:
                self._accepted(caller, address_text(address))
            except Exception:  # a bug of ours costs this caller, and not the door
                _log.failure("a caller could not be let in")
                caller.close()
            if self._poller is not None:
                self._poller.give_way()

    def _look(self) -> None:
        for lane in self._lanes:
            if self._poller is not None:
                self._poller.ask(lane.descriptor, lane, READ, self._sharing)
            else:
                self._reactor.addReader(lane)

    def _look_away(self) -> None:
        for lane in self._lanes:
            if self._poller is not None:
                self._poller.ask(lane.descriptor, lane, 0)
            else:
                self._reactor.removeReader(lane)

    def _pause(self) -> None:
        self._look_away()
        self._timer = self._reactor.callLater(PAUSE, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._look()


@implementer(IReadDescriptor)
class _Lane:
    """A listening socket of a Listener, as reactors and pollers know it."""

    __slots__ = ("_listener", "descriptor", "sock")

    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self._listener = listener
        self.sock = sock
        self.descriptor = sock.fileno()

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "listener"

    def connectionLost(self, reason: Failure) -> None:
        """Required of a descriptor. A listening socket has no peer that it could lose."""

    def doRead(self) -> None:
        self._listener.accept_from(self.sock)

    def readable(self) -> None:
        self._listener.accept_from(self.sock)

    def writable(self) -> None:
        """Never asked for."""

    def peer_closed(self) -> None:
        """Never asked for: there is no peer."""

    def failed(self, error: Exception) -> None:
        """A bug of ours, which is logged. The door goes on."""


def address_text(address: tuple[str | int, ...] | str) -> str:
    """An address as operators write it: IPv4 also where it came in over IPv6, brackets around IPv6."""
    if isinstance(address, str):  # of a Unix socket, and mostly empty
        return address
    host = str(address[0]).removeprefix("::ffff:") if "." in str(address[0]) else str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def descriptor_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one; how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
