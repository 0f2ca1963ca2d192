"""TCP itself, below the bytes: how sockets are set and closed, and what the kernel knows of a peer's system."""

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import Final

CUT_OFF: Final = 65.0  # seconds without an ACK: what keep-alive takes (wire.md 1.9), which stands still while one is due
ANSWER: Final = 4.0  # seconds in which a system that lives answers a segment, wherever it is
_INFO: Final = struct.Struct("=24xI16xI8xI")  # linux/tcp.h, tcp_info: tcpi_unacked, last_data_sent and last_ack_recv in ms
_MS: Final = 1000
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_CHUNK: Final = 64 * 1024


def prepare_socket(sock: socket.socket) -> None:
    """Nonblocking, no Nagle, keep-alive as Halibut's own (wire.md 1.9: 15 s, 5 s, 10 probes)."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 10)


def reset_on_close(sock: socket.socket) -> None:
    """Its close will be a reset, and what it has not sent is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def close_unread(sock: socket.socket) -> None:
    """Closes a nonblocking socket in which a peer's first bytes are unread, which alone would make the close a reset."""
    with contextlib.suppress(OSError):
        sock.recv(_CHUNK)
    sock.close()


def unacknowledged(descriptor: int) -> int:
    """Bytes in the kernel that the peer's system has not taken."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def without_an_ack(sock: socket.socket) -> float:
    """Seconds since the peer's system answered anything, where segments are under way that it does not answer; else 0.

    One that lives answers each time that they are sent again, also where nobody reads them and it has no room. The kernel then
    may take two minutes to the next time, so it counts whether the last time was answered, and not only how long ago that was.
    """
    unacknowledged, sent, answered = _INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    waits = unacknowledged and answered > sent >= ANSWER * _MS
    return answered / _MS if waits else 0.0
