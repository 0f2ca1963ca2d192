"""A way through an HTTP proxy: CONNECT, as Halibut sends it (wire.md 8.1), and an answer of bounded length.

The answer's header is taken out of the socket to its last byte and no further: what follows belongs to TLS.
"""

import base64
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.transport.errors import DialError
from relay.transport.loop import Loop

HEADER: Final = 16 * 1024  # bytes of an answer's header
_END: Final = b"\r\n\r\n"
_SHOWN: Final = 80  # characters of the status line that an error shows


@dataclass(frozen=True, slots=True)
class Proxy:
    """host, port: where it listens. credentials: ``user:password``, empty for none."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def request(self, host: str, port: int) -> bytes:
        """What asks for a tunnel to this host and port."""
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.0", f"Host: {target}"]
        if self.credentials:
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(self.credentials.encode()).decode('ascii')}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


@implementer(IReadDescriptor)
class Tunnel:
    """Asks a proxy on a connected, nonblocking socket. Calls back once: done(sock), the tunnel standing, or failed(error), the
    socket being closed. There is no timer here: the dial has one.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        request: bytes,
        done: Callable[[socket.socket], None],
        failed: Callable[[DialError], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._done = done
        self._failed = failed
        self._header = b""
        self._stopped = False
        loop.reactor.addReader(self)
        try:
            sent = sock.send(request)  # the first bytes of a connection: its buffer is empty, and larger than these
        except OSError as error:
            self._fail_later(error.strerror or str(error))
            return
        if sent < len(request):
            self._fail_later("it did not take the whole request")

    def fileno(self) -> int:
        return -1 if self._stopped else self._socket.fileno()

    def logPrefix(self) -> str:
        return "proxy"

    def stop(self) -> None:
        """Gives it up, without calling back."""
        if not self._stopped:
            self._end()
            self._socket.close()

    def doRead(self) -> None:
        try:
            seen = self._socket.recv(HEADER, socket.MSG_PEEK)
            if not seen:
                self._fail(
                    f"closed after {len(self._header)} bytes of its answer" if self._header else "closed without an answer"
                )
                return
            end = (self._header + seen).find(_END)
            take = len(seen) if end < 0 else end + len(_END) - len(self._header)
            self._header += self._socket.recv(take)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        if end >= 0:
            self._judge()
        elif len(self._header) >= HEADER:
            self._fail(f"a header of more than {HEADER} bytes")

    def connectionLost(self, reason: Failure) -> None:
        """From the reactor: it has gone."""
        self._fail("closed without an answer")

    def _judge(self) -> None:
        line = self._header.partition(b"\r\n")[0]
        words = line.split(None, 2)
        if not line.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit() or len(words[1]) != 3:
            self._fail(f"no HTTP: {_shown(line)}")
        elif not words[1].startswith(b"2"):
            self._fail(f"answered {_shown(line.partition(b' ')[2])}")
        else:
            self._end()
            self._done(self._socket)

    def _end(self) -> None:
        self._stopped = True
        self._loop.reactor.removeReader(self)

    def _fail_later(self, why: str) -> None:
        self._loop.reactor.callLater(0, self._fail, why)

    def _fail(self, why: str) -> None:
        if not self._stopped:
            self._end()
            self._socket.close()
            self._failed(DialError("proxy", f"the proxy: {why}"))


def _shown(line: bytes) -> str:
    """A proxy's words in an error, however odd they are."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in line[:_SHOWN])
