"""One TLS connection: OpenSSL on the nonblocking socket, itself a descriptor of the reactor (no memory BIO between).

Its states are in states.py; what it writes, and what of that waits, in sending.py. The rest is here: handshake, reading, end.

We close with a bare FIN, never close_notify, and take FIN, RST and close_notify as the same end (wire.md 1.10). After our
FIN we read on for a while: a close with unread bytes would be a reset, and could destroy what the peer has not read yet.
"""

import socket
from collections.abc import Callable
from typing import Final

from OpenSSL import SSL, crypto

from certs.sharing import Context
from relay.clock import Timer
from relay.transport.errors import HandshakeError, PeerClosedError, cause
from relay.transport.interface import Link, Receiver
from relay.transport.loop import Loop
from relay.transport.openssl import RECORD, receive
from relay.transport.poller import CLOSED, READ, WRITE
from relay.transport.sending import Sending
from relay.transport.states import State
from relay.transport.tcp import CUT_OFF, reset_on_close, without_an_ack

_HANDSHAKE, _OPEN, _FLUSHING, _LINGERING, _BROKEN, _CLOSED = State

READS_PER_TURN: Final = 16  # records read from one connection before the others get their turn
STALL: Final = 10.0  # seconds without progress, after which what is left to send is given up
LINGER: Final = 2.0  # seconds, and
LINGER_BYTES: Final = 256 * 1024  # bytes that are read and thrown away behind our FIN
_BACKLOG: Final = "backlog"
_NO_REASON: Final[frozenset[str]] = frozenset()  # one for all: an empty set takes 0.2 KB of every leg


class TLSConnection(Sending):
    """A Link on a socket (see interface.py), polled by the loop's poller.

    closed, if set, is called once, when the descriptor is free again; it is for whoever counts.
    """

    def __init__(self, loop: Loop, sock: socket.socket, context: Context, receiver: Receiver) -> None:
        """sock: connected and prepared; belongs to the connection from now on."""
        super().__init__(loop, sock, context.connection(sock))
        self._poller = loop.poller
        self._machine = ""
        self._stranger = ""  # the source that it is a stranger of
        self._receiver = receiver
        self._paused = _NO_REASON
        self._reading = False
        self._writing = False
        self._watching = False  # paused: only the peer's close is asked for
        self._read_wants_write = False
        self._timer: Timer | None = None
        self._pump_to: Link | None = None
        self._pump_done: Callable[[], None] | None = None
        self._let_go = False  # closed by the receiver, which hears no more of it
        self._reset_after = False
        self._lingered = 0
        self.pump_left = 0
        self.closed: Callable[[], None] | None = None

    @property
    def gone(self) -> bool:
        """Whether the descriptor is free again."""
        return self._state is _CLOSED

    def belongs_to(self, receiver: Receiver) -> None:
        """Hands it over to another receiver."""
        self._receiver = receiver

    def shares(self, machine: str) -> None:
        self._machine = machine
        if self._state is not _CLOSED:
            self._ask()

    # ---- handshake --------------------------------------------------------------------------------------------------

    def accept(self, source: str = "") -> None:
        """Begins the handshake as the listener. Until trusted() is called it has its turns among strangers.

        source: it shares them with others of this one.
        """
        self._poller = self._loop.strangers
        self._stranger = source
        self._tls.set_accept_state()
        self._handshake()
        if self._state is _HANDSHAKE:
            # TLS 1.3 ends with tickets, which OpenSSL sends one by one: now they go with our first write, or 0.2 s later. That
            # takes two packets, of which each costs as much as the write, off a connection.
            self._cork(True)

    def trusted(self) -> None:
        """The peer is identified: from now on it has its turns among those who are."""
        if self._state is not _CLOSED and self._poller is not self._loop.poller:
            self._poller.ask(self._fileno, self, 0)
            self._poller, self._stranger = self._loop.poller, ""
            self._ask()

    def connect(self, server_name: str) -> None:
        """Begins it as the dialler. server_name: empty where an address was dialled (wire.md 1.6)."""
        self._gathering = self._loop.poller.dialled
        self._tls.set_connect_state()
        if server_name:
            self._tls.set_tlsext_host_name(server_name.encode("ascii"))
        self._handshake()

    def _handshake(self) -> None:
        try:
            self._shake_hands()
        except SSL.WantReadError:
            self._set_writing(False)
            self._set_reading(True)
            return
        except SSL.WantWriteError:
            self._set_writing(True)
            return
        except (SSL.Error, OSError) as error:
            self._lose(HandshakeError(cause(error)))
            return
        self._state = _OPEN
        self._set_writing(False)
        self._watching = bool(self._paused)
        self._set_reading(not self._paused)
        self._receiver.connectionMade()

    def _shake_hands(self) -> None:
        """Does what is possible now. What the peer waits for has gone out behind that."""
        waited_for = True
        try:
            self._tls.do_handshake()
            waited_for = self._tls.get_protocol_version() != SSL.TLS1_3_VERSION
        finally:
            if self._corked and waited_for:
                self._cork(False)

    @property
    def peer_certificate(self) -> bytes | None:
        certificate = self._tls.get_peer_certificate()
        return None if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)

    @property
    def version(self) -> str:
        """Of TLS, such as ``TLSv1.3``."""
        return self._tls.get_protocol_version_name()

    # ---- reading ----------------------------------------------------------------------------------------------------

    def readable(self) -> None:
        if self._state is not _OPEN:
            self._readable_closing()
            return
        if self._paused:  # the event was there before the pause
            return
        tls, within, wanted = self._tls, self._inside, RECORD
        for _ in range(READS_PER_TURN):
            left = self.pump_left
            wanted = left if 0 < left < RECORD else RECORD
            try:
                data = receive(tls, within, wanted)
            except SSL.WantReadError:
                return
            except SSL.WantWriteError:  # the answer to a key update has to go out first; until then, reading is no use
                self._read_wants_write = True
                self._set_writing(True)
                self._set_reading(False)
                return
            except (SSL.Error, OSError) as error:
                self._lose(PeerClosedError(cause(error)))
                return
            if left:
                self._pumped(data, left)
            else:
                self._receiver.dataReceived(data)
            if self._state is not _OPEN or self._paused:
                return
            if len(data) < wanted:  # the end of a record: another that came meanwhile makes the socket readable
                return
        if wanted < RECORD and self._tls.pending():
            self._loop.reactor.callLater(0, self._read_pending)

    def _readable_closing(self) -> None:
        if self._state is _HANDSHAKE:
            self._handshake()
        elif self._state is _LINGERING:
            self._discard()
        else:  # flushing, which asks for no reading: the peer has reset it
            self._lose(PeerClosedError("closed"))

    def _read_pending(self) -> None:
        """What OpenSSL has decrypted already makes no socket readable: the reactor would not call."""
        if self._state is _OPEN and not self._paused:
            self.readable()

    def pause(self, reason: str) -> None:
        if not self._paused and self._state is _OPEN:
            self._watching = True
            self._set_reading(False)
        self._paused |= {reason}

    def resume(self, reason: str) -> None:
        if reason not in self._paused:
            return
        self._paused -= {reason}
        if not self._paused and self._state is _OPEN:
            self._watching = False
            self._set_reading(True)
            if self._tls.pending():
                self._loop.reactor.callLater(0, self._read_pending)

    # ---- pumping ----------------------------------------------------------------------------------------------------

    def pump(self, destination: Link, count: int, done: Callable[[], None]) -> None:
        self._pump_to, self._pump_done, self.pump_left = destination, done, count

    def _pumped(self, data: bytes, left: int) -> None:
        destination = self._pump_to
        assert destination is not None
        self.pump_left = left = left - len(data)
        destination.write(data)
        if destination.backlogged:
            self.pause(_BACKLOG)
            destination.notify_drained(self._pump_drained)
        if not left:
            done, self._pump_to, self._pump_done = self._pump_done, None, None
            assert done is not None
            done()

    def _pump_drained(self) -> None:
        self.resume(_BACKLOG)

    # ---- writing (sending.py) ---------------------------------------------------------------------------------------

    def writable(self) -> None:
        if self._state is _HANDSHAKE:
            self._handshake()
            return
        if self._read_wants_write:
            self._read_wants_write = False
            if self._state is _OPEN and not self._paused:
                self._set_reading(True)
                self.readable()
        if not self._send_unsent():
            return
        self._set_writing(self._read_wants_write)
        if self._state is _FLUSHING:
            self._finish()
        else:
            self._tell_drained()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def end_if_cut_off(self) -> None:
        if self._state is _OPEN and without_an_ack(self._socket) >= CUT_OFF:
            error = PeerClosedError(f"its system acknowledged nothing for {CUT_OFF:.0f} s")
            self._loop.reactor.callLater(0, self.failed, error)

    def loseConnection(self, reset: bool = False) -> None:
        self.flush()
        if self._state is _OPEN:
            self._watching = False
            self._set_reading(False)
            self._state = _FLUSHING
            self._let_go = True
            self._reset_after = reset
            if self._unsent:
                self._watch_progress()
            else:
                self._finish()
        elif self._state in (_HANDSHAKE, _BROKEN):
            self._close()

    def abortConnection(self) -> None:
        if self._state is not _CLOSED:
            self.flush()
            reset_on_close(self._socket)
            self._close()

    def peer_closed(self) -> None:
        self._watching = False
        self._ask()
        self._receiver.peerClosed()

    def failed(self, error: Exception) -> None:
        if self._state is not _CLOSED:
            reset_on_close(self._socket)
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if self._state is _CLOSED:
            return
        receiver = self._receiver
        self._close()
        if not self._let_go:
            receiver.connectionLost(error)

    def _watch_progress(self, before: int = 0) -> None:
        """While what is left shrinks, it may go on; a peer that takes nothing for STALL seconds is reset."""
        left = self.unread
        if left == before:
            self.abortConnection()
            return
        self._timer = self._loop.reactor.callLater(STALL, self._watch_progress, left)

    def _finish(self) -> None:
        """All is sent: FIN, and then a bounded wait for the peer's."""
        self._cancel_timer()
        if self._reset_after:
            self.abortConnection()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer has reset it already
            self._close()
            return
        self._state = _LINGERING
        self._set_writing(False)
        self._timer = self._loop.reactor.callLater(LINGER, self._close)
        self._set_reading(True)

    def _discard(self) -> None:
        try:
            data = self._socket.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._lingered += len(data)
        if not data or self._lingered > LINGER_BYTES:
            self._close()

    def _close(self) -> None:
        if self._state is _CLOSED:
            return
        self._poller.ask(self._fileno, self, 0)
        self._cancel_timer()
        self._state = _CLOSED
        self._drop_unsent()
        self._pump_to = self._pump_done = None
        del self._receiver  # it holds us: in a storm, 30 KB of each would wait for the collector
        self._socket.close()
        closed, self.closed = self.closed, None
        if closed:
            closed()

    def _cancel_timer(self) -> None:
        if self._timer and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # ---- the poller's side ------------------------------------------------------------------------------------------

    def _set_reading(self, on: bool) -> None:
        self._reading = on
        self._ask()

    def _set_writing(self, on: bool) -> None:
        if on is not self._writing:
            self._writing = on
            self._ask()

    def _ask(self) -> None:
        events = READ if self._reading else CLOSED if self._watching else 0
        self._poller.ask(self._fileno, self, events | WRITE if self._writing else events, self._stranger or self._machine)
