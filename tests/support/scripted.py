"""Peers that a test plays by hand, on blocking sockets: each TLS record as it was sent, each end as it came.

The TLS of a peer works in memory beside its socket. So a test sends several records in one write, which one read of the other
side may take together, and sees whether a connection ended with FIN, with RST, or with close_notify.
"""

import contextlib
import ctypes
import datetime as dt
import errno
import fcntl
import select
import socket
import struct
import termios
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from certs.identity import Identity

RECORD: Final = 16 * 1024
PATIENCE: Final = 20.0  # seconds, after which a test fails that waits for anything
SOON: Final = 1.0  # seconds within which an end has to reach the other side
_CHUNK: Final = 256 * 1024
_RESET: Final = struct.pack("ii", 1, 0)
_SO_ATTACH_FILTER: Final = 26  # Linux's asm-generic/socket.h
_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # the one instruction of a filter that takes nothing (linux/filter.h)
_CERTIFICATES: Final = Path(__file__).parents[1] / "captures" / "certs"

TLS12: Final = SSL.TLS1_2_VERSION
TLS13: Final = SSL.TLS1_3_VERSION

PREAMBLE: Final = b"MX\r\n\r\n"
CLIENT: Final = b"MX-CLIENT 1.0\r\n\r\n"
SERVER: Final = b"MX-SERVER 1.0\r\n\r\n"
NEXT: Final = b"NEXT\r\n"
PROCEED: Final = b"PROCEED\r\n"
END: Final = b"END\r\n"


@cache
def party(name: str) -> Identity:
    """An identity: octopus, tentacle and intruder as recorded, any other name a new one.

    New ones have keys on a curve: a relay reads a hundred of those in the time that it takes for one of RSA.
    """
    file = _CERTIFICATES / f"{name}.pem"
    if file.exists():
        return Identity.from_pem(name, file.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return Identity(name, certificate, key)


@cache
def _context(method: int, who: str, version: int) -> SSL.Context:
    """version: the only one that is offered; 0 for both."""
    context = SSL.Context(method)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if who:
        context.use_certificate(party(who).certificate)
        context.use_privatekey(party(who).key)
    return context


def vanish(sock: socket.socket) -> None:
    """Drops every packet that comes for the socket from now on, before TCP sees it."""
    instruction = ctypes.create_string_buffer(_DROP, len(_DROP))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def client_hello(name: str = "") -> bytes:
    """What a caller's TLS begins with. name: whom it asks for by SNI, if anyone."""
    tls = SSL.Connection(_context(SSL.TLS_CLIENT_METHOD, "", 0), None)
    if name:
        tls.set_tlsext_host_name(name.encode("ascii"))
    tls.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        tls.do_handshake()
    return tls.bio_read(_CHUNK)


class Peer:
    """One end of a connection, its handshake done. Whatever it waits for takes at most ``within`` seconds: TimeoutError."""

    def __init__(self, sock: socket.socket, tls: SSL.Connection) -> None:
        self._socket = sock
        self._tls = tls
        self._out = b""
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._handshake()

    @classmethod
    def dial(cls, address: tuple[str, int], who: str = "octopus", version: int = 0, name: str = "") -> "Peer":
        """A caller. who: the party whose certificate it shows; empty for none. name: whom it asks for by SNI, if anyone."""
        sock = socket.create_connection(address, PATIENCE)
        tls = SSL.Connection(_context(SSL.TLS_CLIENT_METHOD, who, version), None)
        if name:
            tls.set_tlsext_host_name(name.encode("ascii"))
        tls.set_connect_state()
        return cls._made(sock, tls)

    @classmethod
    def begin(cls, sock: socket.socket, who: str = "octopus") -> "Peer":
        """A caller on a connection that is there, such as a tunnel."""
        tls = SSL.Connection(_context(SSL.TLS_CLIENT_METHOD, who, 0), None)
        tls.set_connect_state()
        return cls._made(sock, tls)

    @classmethod
    def accept(cls, listener: socket.socket, who: str = "tentacle", version: int = 0) -> "Peer":
        """The next one that dials the listener."""
        listener.settimeout(PATIENCE)
        sock, _ = listener.accept()
        tls = SSL.Connection(_context(SSL.TLS_SERVER_METHOD, who, version), None)
        tls.set_accept_state()
        return cls._made(sock, tls)

    @classmethod
    def _made(cls, sock: socket.socket, tls: SSL.Connection) -> "Peer":
        try:
            return cls(sock, tls)
        except BaseException:
            sock.close()
            raise

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                self._flush()
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise ConnectionAbortedError("closed in the handshake") from None
                self._tls.bio_write(data)
            else:
                self._flush()
                return

    @property
    def port(self) -> int:
        """Its own end's."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The addresses of its own end, and of the other."""
        return self._socket.getsockname(), self._socket.getpeername()

    @property
    def certificate(self) -> bytes | None:
        """What the other side showed, DER."""
        shown = self._tls.get_peer_certificate()
        return None if shown is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, shown)

    @property
    def version(self) -> str:
        return self._tls.get_protocol_version_name()

    @property
    def server_name(self) -> bytes | None:
        """What a dialler asked for."""
        return self._tls.get_servername()

    # ---- what it sends ----------------------------------------------------------------------------------------------

    def send(self, *records: bytes) -> None:
        """Each in a TLS record of its own, in several where it is too long for one; all in one write to the socket."""
        for record in records:
            self._encrypt(record)
        self._flush()

    def send_all(self, body: Iterable[bytes]) -> int:
        """The same for a long body, record by record; how many bytes that was."""
        count = 0
        for record in body:
            self.send(record)
            count += len(record)
        return count

    def send_until_blocked(self, body: Iterator[bytes], still: float = 0.3) -> int:
        """Sends until the socket has taken nothing for so many seconds; how many bytes that was, the last record included."""
        count = 0
        self._socket.settimeout(0)
        try:
            for record in body:
                self._encrypt(record)
                count += len(record)
                while self._out:
                    if not select.select([], [self._socket], [], still)[1]:
                        return count
                    self._out = self._out[self._socket.send(self._out) :]
        finally:
            self._socket.settimeout(PATIENCE)
        raise AssertionError(f"{count} bytes went out, and nothing stopped them")

    def _encrypt(self, record: bytes) -> None:
        self._tls.sendall(record)
        self._out += self._encrypted()

    def _encrypted(self) -> bytes:
        found = []
        while True:
            try:
                found.append(self._tls.bio_read(_CHUNK))
            except SSL.WantReadError:
                return b"".join(found)

    def _flush(self) -> None:
        out, self._out = self._out + self._encrypted(), b""
        self._socket.sendall(out)

    # ---- what it receives -------------------------------------------------------------------------------------------

    def receive(self, within: float = PATIENCE) -> bytes:
        """The payload of the next TLS record; empty behind a bare FIN. Raises ConnectionResetError."""
        self._socket.settimeout(within)
        while True:
            try:
                return self._tls.recv(RECORD)
            except SSL.WantReadError:
                pass
            except SSL.ZeroReturnError:
                raise AssertionError("close_notify, which no Halibut peer sends") from None
            data = self._socket.recv(_CHUNK)
            if not data:
                return b""
            self._tls.bio_write(data)

    def receive_exactly(self, count: int) -> Iterator[bytes]:
        """Records, until so many bytes have come; never one that goes beyond them."""
        while count:
            record = self.receive()
            assert record, f"closed {count} bytes early"
            count -= len(record)
            assert count >= 0, "a record goes beyond the end of its unit"
            yield record

    def expect(self, *records: bytes) -> None:
        """These records come, with these boundaries."""
        for record in records:
            assert self.receive() == record

    def expect_fin(self, within: float = SOON) -> None:
        """The next that comes is a bare FIN."""
        assert self.receive(within) == b""

    def expect_reset(self, within: float = SOON) -> None:
        """The next that comes is RST."""
        try:
            received = self.receive(within)
        except ConnectionResetError:
            return
        raise AssertionError(f"{received!r} came in the place of RST")

    def receive_until_reset(self) -> Iterator[bytes]:
        """Records, until RST comes."""
        try:
            while record := self.receive():
                yield record
        except ConnectionResetError:
            return
        raise AssertionError("FIN in the place of RST")

    def expect_reset_ahead(self, within: float = SOON) -> None:
        """RST has come, whatever may stand before it and was not read."""
        poll = select.poll()
        poll.register(self._socket, 0)  # errors only
        assert poll.poll(within * 1000), "no RST"
        assert self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET

    def expect_end(self, within: float = SOON) -> None:
        """FIN or RST, and no byte before it."""
        try:
            self.expect_fin(within)
        except ConnectionResetError:
            return

    # ---- its own end ------------------------------------------------------------------------------------------------

    def half_close(self) -> None:
        """FIN, and goes on to listen: what a recorder does, and no real peer."""
        self._socket.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """Its link is cut: whatever packet comes for it is dropped, and never acknowledged, refused or read."""
        while any(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))):
            threading.Event().wait(0.005)  # for an ACK, without which its system would send again, and be heard
        vanish(self._socket)

    def close(self) -> None:
        """A bare FIN; or RST, as the kernel has it, where something was not read."""
        self._socket.close()

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()
