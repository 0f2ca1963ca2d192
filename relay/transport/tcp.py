"""What the kernel knows of a peer's system, beside its bytes."""

import socket
import struct
from typing import Final

CUT_OFF: Final = 65.0  # seconds without an ACK: what keep-alive takes (wire.md 1.9), which stands still while one is due
ANSWER: Final = 4.0  # seconds in which a system that lives answers a segment, wherever it is
_INFO: Final = struct.Struct("=24xI16xI8xI")  # linux/tcp.h, tcp_info: tcpi_unacked, last_data_sent and last_ack_recv in ms
_MS: Final = 1000


def without_an_ack(sock: socket.socket) -> float:
    """Seconds since the peer's system answered anything, where segments are under way that it does not answer; else 0.

    One that lives answers each time that they are sent again, also where nobody reads them and it has no room. The kernel then
    may take two minutes to the next time, so it counts whether the last time was answered, and not only how long ago that was.
    """
    unacknowledged, sent, answered = _INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    waits = unacknowledged and answered > sent >= ANSWER * _MS
    return answered / _MS if waits else 0.0
