"""A listening socket that stops accepting while there are no descriptors."""

import errno
import resource
import socket
from collections.abc import Callable, Collection
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.clock import Reactor, Timer
from relay.transport.poller import READ, Poller

ACCEPTS_PER_TURN: Final = 32
PAUSE: Final = 0.2  # seconds without accepting, where no descriptor was free
BACKLOG: Final = 1024
_NO_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ANY: Final = ""
_log = Logger()


def listening_socket(host: str, port: int, beside: Collection[socket.socket] = ()) -> socket.socket:
    """A bound, listening, nonblocking TCP socket. host: an address, or empty for every one, of both families if there are two.

    beside: our own that listen on an address which overlaps with this one, and will be closed soon: they need not be closed
    first, so that nobody is refused in between. Raises OSError.
    """
    if host == _ANY:
        if socket.has_dualstack_ipv6():
            return _listen(socket.AF_INET6, ("::", port), beside, dual=True)
        return _listen(socket.AF_INET, ("0.0.0.0", port), beside)  # noqa: S104 (every address is what was asked for)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return _listen(family, address, beside)


def _listen(family: socket.AddressFamily, address: Any, beside: Collection[socket.socket], dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    shared = (sock, *beside) if beside else ()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        _share(shared, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        _share(shared, 0)
        sock.close()
        raise
    _share(shared, 0)  # whoever comes later and asks for the port finds it in use, as ever
    return sock


def _share(sockets: Collection[socket.socket], on: int) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, on)


@implementer(IReadDescriptor)
class Listener:
    """Calls ``accepted(sock, peer)`` for each caller, peer being its address as text.

    starved: called each time that there was no descriptor for a caller; accepting goes on by itself.
    """

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        accepted: Callable[[socket.socket, str], None],
        starved: Callable[[OSError], None],
        poller: Poller | None = None,
    ) -> None:
        """poller: what looks for callers, if it is not to be the reactor itself."""
        self._reactor = reactor
        self._poller = poller
        self._fileno = sock.fileno()
        self._socket = sock
        self._accepted = accepted
        self._starved = starved
        self._timer: Timer | None = None
        self._stopped = False
        self._look()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host, port."""
        name = self._socket.getsockname()
        return name[0], name[1]

    def stop(self) -> None:
        """Closes it. Callers that were not accepted are refused by the kernel."""
        if not self._stopped:
            self._stopped = True
            self._look_away()
            if self._timer:
                self._timer.cancel()
            self._socket.close()

    def fileno(self) -> int:
        return -1 if self._stopped else self._socket.fileno()

    def logPrefix(self) -> str:
        return "listener"

    def connectionLost(self, reason: Failure) -> None:
        """Required of a descriptor. A listening socket has no peer that it could lose."""

    def readable(self) -> None:
        self.doRead()

    def writable(self) -> None:
        """Never asked for."""

    def peer_closed(self) -> None:
        """Never asked for: there is no peer."""

    def failed(self, error: Exception) -> None:
        """A bug of ours, which is logged. The door goes on."""

    def doRead(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if self._stopped:
                return
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._pause()
                    self._starved(error)
                    return
                continue  # that caller has gone already; the next may wait
            try:
                self._accepted(sock, address_text(address))
            except Exception:  # a bug of ours costs this caller, and not the door
                _log.failure("a caller could not be let in")
                sock.close()
            if self._poller is not None:
                self._poller.give_way()

    def _look(self) -> None:
        if self._poller is not None:
            self._poller.ask(self._fileno, self, READ)
        else:
            self._reactor.addReader(self)

    def _look_away(self) -> None:
        if self._poller is not None:
            self._poller.ask(self._fileno, self, 0)
        else:
            self._reactor.removeReader(self)

    def _pause(self) -> None:
        self._look_away()
        self._timer = self._reactor.callLater(PAUSE, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._look()


def address_text(address: tuple[str | int, ...] | str) -> str:
    """An address as operators write it: IPv4 also where it came in over IPv6, brackets around IPv6."""
    if isinstance(address, str):  # of a Unix socket, and mostly empty
        return address
    host = str(address[0]).removeprefix("::ffff:") if "." in str(address[0]) else str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one; how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
