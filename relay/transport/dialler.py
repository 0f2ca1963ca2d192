"""Dials: name, TCP, a proxy if there is one, TLS. One dial tries each address of a name once, and never again by itself
(wire.md 11.4).
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from certs.sharing import Context
from relay.clock import Timer
from relay.transport.connection import TLSConnection
from relay.transport.errors import DialError, HandshakeError
from relay.transport.interface import Receiver
from relay.transport.lookups import Found
from relay.transport.loop import Loop
from relay.transport.proxy import Proxy, Tunnel
from relay.transport.tcp import prepare_socket

_REASONS: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
}


def is_address(host: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class TcpDial:
    """One dial without TLS. Ends in stands(sock), whose socket belongs to whoever is called, or in failed(error): DialError.

    seconds: for all of it. proxy: through which it goes; then that one's name is looked up here, and the other by the proxy.
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        seconds: float,
        stands: Callable[[socket.socket], None],
        failed: Callable[[Exception], None],
        proxy: Proxy | None = None,
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._proxy = proxy
        self._stands = stands
        self._failed = failed
        self._addresses: Found = []
        self._name: tuple[str, int] | None = None  # that is looked up
        self._attempt: _Attempt | Tunnel | None = None
        self._done = False
        self._timer: Timer = loop.reactor.callLater(seconds, self._late)
        if proxy:
            host, port = proxy.host, proxy.port
        self._error: Exception = DialError("resolve", f"the name {host} does not resolve")
        if is_address(host):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._addresses.append((family, (host, port)))
            self._next()
        else:
            self._name = host, port
            loop.lookups.want(self, host, port, self._found)

    def cancel(self) -> None:
        """Gives it up, without calling back."""
        self._end()

    def _end(self) -> bool:
        if self._done:
            return False
        self._done = True
        if self._timer.active():
            self._timer.cancel()
        if self._name:
            self._loop.lookups.forget(self, *self._name)
        if self._attempt:
            self._attempt.stop()
        return True

    def _fail(self, error: Exception) -> None:
        if self._end():
            self._failed(error)

    def _late(self) -> None:
        waiting = isinstance(self._attempt, Tunnel)
        text = "no answer of the proxy in time" if waiting else f"no {'connection' if self._attempt else 'name lookup'} in time"
        self._fail(DialError("proxy" if waiting else "timeout", text))

    def _found(self, addresses: Found) -> None:
        self._name = None
        self._addresses = addresses
        self._next()

    def _next(self) -> None:
        """The next address, or the end."""
        while not self._done:
            if not self._addresses:
                self._loop.reactor.callLater(0, self._fail, self._error)  # never from within the caller's own call
                return
            family, address = self._addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                self._error = _dial_error(error.errno or 0)
                continue
            prepare_socket(sock)
            try:
                code = sock.connect_ex(address)
            except OSError:  # an address that the system cannot even read, such as one with a zone that there is not
                code = errno.EADDRNOTAVAIL
            if code in (0, errno.EINPROGRESS):
                self._attempt = _Attempt(self._loop, sock, self._connected)
                return
            sock.close()
            self._error = _dial_error(code)

    def _connected(self, sock: socket.socket, code: int) -> None:
        self._attempt = None
        if code:
            sock.close()
            self._error = _dial_error(code)
            self._next()
        elif self._proxy:
            request = self._proxy.request(self._host, self._port)
            self._attempt = Tunnel(self._loop, sock, request, self._connection, self._fail)
        else:
            self._connection(sock)

    def _connection(self, sock: socket.socket) -> None:
        self._attempt = None
        if self._end():
            self._stands(sock)


class Dial(TcpDial):
    """One dial with TLS. Ends in receiver.connectionMade(), with ``link`` set, or in failed(error), HandshakeError among them.

    After connectionMade() the receiver owns the link.
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        context: Context,
        receiver: Receiver,
        seconds: float,
        failed: Callable[[Exception], None],
        proxy: Proxy | None = None,
        machine: str = "",
    ) -> None:
        """machine: with whose other connections the link shares its turns, if it does."""
        self._context = context
        self._receiver = receiver
        self._machine = machine
        self.link: TLSConnection | None = None
        super().__init__(loop, host, port, seconds, self._shake, failed, proxy)

    def cancel(self) -> None:
        if self._end() and self.link:
            self.link.abortConnection()

    def _fail(self, error: Exception) -> None:
        if self._end():
            if self.link:
                self.link.abortConnection()
            self._failed(error)

    def _late(self) -> None:
        if self.link:
            self._fail(HandshakeError("no TLS handshake in time"))
        else:
            super()._late()

    def _connection(self, sock: socket.socket) -> None:
        """The dial goes on: its time covers TLS, too."""
        self._attempt = None
        self._stands(sock)

    def _shake(self, sock: socket.socket) -> None:
        self.link = TLSConnection(self._loop, sock, self._context, _Handshake(self))
        self.link.shares(self._machine)
        self.link.connect("" if is_address(self._host) else self._host)

    def _made(self) -> None:
        link = self.link
        if link and self._end():
            link.belongs_to(self._receiver)
            self._receiver.connectionMade()


def _dial_error(code: int) -> DialError:
    return DialError(_REASONS.get(code, "unreachable"), os.strerror(code))


class _Handshake:
    """Receives for a link until its handshake is done."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    def connectionMade(self) -> None:
        self._dial._made()

    def dataReceived(self, data: bytes) -> None:
        raise AssertionError("no data comes before the handshake is done")

    def peerClosed(self) -> None:
        raise AssertionError("a link is not paused before its handshake is done")

    def connectionLost(self, reason: Exception) -> None:
        self._dial._fail(reason)


@implementer(IWriteDescriptor)
class _Attempt:
    """Waits for one TCP connection to stand or fail; calls back with the socket and an errno, 0 where it stands."""

    def __init__(self, loop: Loop, sock: socket.socket, done: Callable[[socket.socket, int], None]) -> None:
        self._loop = loop
        self._socket = sock
        self._done = done
        self._stopped = False
        loop.reactor.addWriter(self)

    def fileno(self) -> int:
        return -1 if self._stopped else self._socket.fileno()

    def logPrefix(self) -> str:
        return "dial"

    def doWrite(self) -> None:
        self._result()

    def connectionLost(self, reason: Failure) -> None:
        """From the reactor: it failed."""
        self._result()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._loop.reactor.removeWriter(self)
            self._socket.close()

    def _result(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._loop.reactor.removeWriter(self)
            self._done(self._socket, self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
