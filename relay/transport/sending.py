"""What a TLS connection (connection.py) writes: sent at once, or waiting here.

Rules:
1. One write is one record, or as few as 16 KiB each allow; writes never share a record (wire.md 2.7).
2. Write through: what the socket does not take at once waits here, and whoever reads for us pauses; nothing else is buffered.
   One small record of a connection may wait until the poller has been through all that are ready (poller.py, gathering).
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from OpenSSL import SSL

from relay.transport.errors import PeerClosedError, cause
from relay.transport.loop import Loop
from relay.transport.openssl import inside, send
from relay.transport.poller import SMALL
from relay.transport.states import State
from relay.transport.tcp import unacknowledged

_HANDSHAKE, _OPEN, _FLUSHING, _, _BROKEN, _CLOSED = State


class Sending(ABC):
    """The half of a TLSConnection that sends; its methods are those of a Link (see interface.py)."""

    def __init__(self, loop: Loop, sock: socket.socket, tls: SSL.Connection) -> None:
        """tls: on this socket."""
        self._loop = loop
        self._socket = sock
        self._fileno = sock.fileno()
        self._tls = tls
        self._inside = inside(tls)
        self._state = _HANDSHAKE
        self._corked = False
        self._gathering = loop.poller.accepted
        self._gathered = b""  # the record that waits there
        self._unsent: list[bytes | memoryview] = []  # an empty deque takes 0.6 KB of every leg
        self._drained: Callable[[], None] | None = None
        self.backlogged = False

    @abstractmethod
    def failed(self, error: Exception) -> None:
        """Something of ours has failed: the connection ends."""

    @abstractmethod
    def _lose(self, error: Exception) -> None:
        """The peer, or an error, has ended it."""

    @abstractmethod
    def _set_writing(self, on: bool) -> None:
        """Whether to be called when the socket takes more."""

    # ---- written ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._state is not _OPEN or not data:
            return
        if self._gathered:
            self.flush()
        poller = self._loop.poller
        if poller.gathers and not self._unsent:
            if len(data) < SMALL:
                self._gathered = data
                self._gathering.append(self)
                return
            poller.flush()  # or a call would wait for a stream
            if self._state is not _OPEN:  # one of them could not be written, and its end was ours
                return
        self._write_through(data)

    def flush(self) -> None:
        data, self._gathered = self._gathered, b""
        if data:
            self._write_through(data)

    def _write_through(self, data: bytes) -> None:
        if self._unsent:
            self._unsent.append(data)
            self._loop.buffered += len(data)
            return
        try:
            sent = send(self._tls, self._inside, data)
        except SSL.Error:
            sent = 0  # what it is shows when _send tries again
        if self._corked:
            self._cork(False)
        if sent == len(data):  # nearly always: asking here, and not in _send, buys a tenth of a stream's CPU
            return
        rest = self._send(memoryview(data)[sent:] if sent else data)
        if rest is not None:
            self._unsent.append(rest)
            self._loop.buffered += len(rest)
            self.backlogged = True
            self._set_writing(True)

    def _send(self, data: bytes | memoryview) -> bytes | memoryview | None:
        """Sends what the socket takes; what is left, None where nothing is."""
        while True:
            try:
                sent = self._tls.send(data)
            except (SSL.WantWriteError, SSL.WantReadError):
                return data
            except (SSL.Error, OSError) as error:
                self._loop.reactor.callLater(0, self._lose, PeerClosedError(cause(error)))  # never from within a write
                self._state = _BROKEN
                return None
            if sent == len(data):
                return None
            data = memoryview(data)[sent:]

    def _cork(self, on: bool) -> None:
        """On: what is sent waits, in our kernel and for 0.2 s, for what follows."""
        self._corked = on
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    # ---- waiting ----------------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        return len(self._gathered) + sum(len(data) for data in self._unsent)

    @property
    def unread(self) -> int:
        if self._state is _CLOSED:
            return 0
        return self.unsent + unacknowledged(self._fileno)

    def notify_drained(self, callback: Callable[[], None]) -> None:
        self._drained = callback

    def _send_unsent(self) -> bool:
        """The socket takes more. Whether all has gone out, and the connection goes on."""
        while self._unsent and self._state in (_OPEN, _FLUSHING):
            first = self._unsent[0]
            rest = self._send(first)
            if rest is not None:
                self._unsent[0] = rest
                self._loop.buffered -= len(first) - len(rest)
                return False
            del self._unsent[0]
            self._loop.buffered -= len(first)
        if self._state not in (_OPEN, _FLUSHING):
            return False
        self.backlogged = False
        return True

    def _tell_drained(self) -> None:
        if self._drained:
            drained, self._drained = self._drained, None
            drained()

    def _drop_unsent(self) -> None:
        self._gathered = b""
        if self._unsent:
            self._loop.buffered -= self.unsent
            self._unsent.clear()
        self.backlogged = False
        self._drained = None
