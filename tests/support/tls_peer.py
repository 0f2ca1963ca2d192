"""The other end of a connection: TLS of the standard library in memory, on a raw socket of which every record is seen."""

import contextlib
import functools
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from changes import Changes
from clocked_reactor import real
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from certs.identity import Identity

VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
ALERT: Final = 21
HANDSHAKE: Final = 22
DATA: Final = 23
FIN: Final = "fin"
RST: Final = "rst"
_RESET: Final = struct.pack("ii", 1, 0)


@functools.cache
def client_side(version: str, identity: Identity | None = None) -> ssl.SSLContext:
    """Of a caller that accepts any listener, and shows this certificate or none."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, version, identity)


@functools.cache
def server_side(version: str, identity: Identity) -> ssl.SSLContext:
    """Of a listener that asks for no certificate."""
    return _context(ssl.PROTOCOL_TLS_SERVER, version, identity)


def _context(protocol: int, version: str, identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if identity:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "identity.pem")
            path.write_bytes(identity.pem())
            context.load_cert_chain(path)
    return context


def socket_pair(buffers: int = 0, family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback, both nonblocking. buffers: bytes of each socket buffer; 0: the system's."""
    with socket.socket(family) as door, contextlib.ExitStack() as stack:
        one = stack.enter_context(socket.socket(family))
        if buffers:
            for sock in (door, one):  # an accepted socket inherits them
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        door.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        door.listen(1)
        one.connect(door.getsockname())
        other, _ = door.accept()
        stack.pop_all()
    one.setblocking(False)
    other.setblocking(False)
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


@dataclass(frozen=True)
class Record:
    """One TLS record that came. type: as it says outside (in TLS 1.3 nearly always DATA); data: what was in it for us."""

    type: int
    data: bytes


@implementer(IReadDescriptor, IWriteDescriptor)
class TlsPeer:
    """A peer that does what a test says. It reads from the start, until told otherwise.

    records: all that came; end: None, FIN or RST; close_notify: whether it came; failure: what TLS refused.
    """

    def __init__(
        self,
        changes: Changes,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        listens: bool = False,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._changes = changes
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=listens, server_hostname=name, session=session)
        self._raw = b""
        self._unsent = b""
        self._reading = self._writing = False
        self._fin_due = False
        self.closed = False
        self.records: list[Record] = []
        self.shaken = False
        self.on_shaken: Callable[[], None] = lambda: None
        self.close_notify = False
        self.failure: ssl.SSLError | None = None
        self.end: str | None = None
        self.read()
        self._advance()

    # ---- what came --------------------------------------------------------------------------------------------------

    @property
    def data(self) -> bytes:
        return b"".join(record.data for record in self.records)

    @property
    def sizes(self) -> list[int]:
        """How many bytes each record brought, those with none left out."""
        return [len(record.data) for record in self.records if record.data]

    # ---- what the test does -----------------------------------------------------------------------------------------

    def read(self) -> None:
        if not self._reading:
            self._reading = True
            real.addReader(self)

    def stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            real.removeReader(self)

    def acknowledge(self) -> None:
        """The kernel says now that all has come, and not 40 ms later."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def write(self, data: bytes) -> None:
        """As one record for each 16 KiB."""
        self.tls.write(data)
        self._flush()

    def write_raw(self, data: bytes) -> None:
        """As it is, without TLS."""
        self._unsent += data
        self._flush()

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def fin(self) -> None:
        """Bare, as Halibut does it, behind all that was written; it goes on reading."""
        self._fin_due = True
        self._flush()

    def notify_and_fin(self) -> None:
        """As a polite TLS peer does it: close_notify, and then FIN."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.fin()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.stop_reading()
            self._stop_writing()
            self.closed = True
            self._socket.close()

    # ---- the reactor's side -----------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "peer"

    def doRead(self) -> None:
        try:
            data = self._socket.recv(256 * 1024)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._ended(RST)
            return
        if not data:
            self._ended(FIN)
            return
        self._raw += data
        while len(self._raw) >= 5 and len(self._raw) >= (size := 5 + int.from_bytes(self._raw[3:5], "big")):
            record, self._raw = self._raw[:size], self._raw[size:]
            self._incoming.write(record)
            self.records.append(Record(record[0], self._advance()))
        self._changes.changed()

    def doWrite(self) -> None:
        self._flush()

    def connectionLost(self, reason: Failure) -> None:
        self._reading = self._writing = False
        self._ended(RST)

    def _ended(self, how: str) -> None:
        self.end = self.end or how
        self.stop_reading()
        self._stop_writing()
        self._changes.changed()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            real.removeWriter(self)

    def _advance(self) -> bytes:
        """Handshake or plaintext out of what has come."""
        found = b""
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
                self.on_shaken()
            else:
                while True:
                    found += self.tls.read(64 * 1024)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.close_notify = True
        except ssl.SSLError as error:
            self.failure = error
        self._flush()
        return found

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                real.addWriter(self)
            return
        except OSError:  # the reset is seen where it is read
            self._unsent = b""
        self._stop_writing()
        if self._fin_due:
            self._fin_due = False
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        self._changes.changed()
