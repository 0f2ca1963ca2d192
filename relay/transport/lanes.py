"""Listening sockets: for each address one, or several, its lanes, so that one source's callers fill no queue but their own.

Callers wait in the kernel until they are accepted, all of a socket in one queue, in their order: of thousands that one source
connects in a second, each newcomer would wait for all. So an address has several sockets, which the kernel allows by
SO_REUSEPORT, and a classic BPF program chooses the one by the caller's address, whatever its port. Where the system has no such
thing, one socket does.

SO_REUSEPORT is also what would let another process of the same user in. So it is there while we need it, and then is left only
to the one socket of an address that the kernel finds first: that one leads to all of its lanes, and all others forbid the port.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

BACKLOG: Final = 1024  # of each lane
_ANY: Final = ""
_SO_ATTACH_REUSEPORT_CBPF: Final = 51  # asm-generic/socket.h; Python has no name for it
_ELSEWHERE: Final = ((socket.AF_INET, "127.255.255.254"), (socket.AF_INET6, "::1"))  # where hardly anything listens

# Of linux/bpf_common.h.
_LOAD_BYTE, _LOAD, _TO_X, _JUMP, _JUMP_EQUAL, _RETURN = 0x30, 0x20, 0x07, 0x05, 0x15, 0x16
_MULTIPLY, _SHIFT_RIGHT, _MODULO, _XOR, _XOR_X, _ADD_X = 0x24, 0x74, 0x94, 0xA4, 0xAC, 0x0C
_IP_HEADER: Final = 0xFFF00000  # SKF_NET_OFF
_INSTRUCTION: Final = struct.Struct("=HBBI")


def listening_socket(host: str, port: int, beside: Collection[socket.socket] = ()) -> socket.socket:
    """The same as listening_sockets(), without lanes."""
    return listening_sockets(host, port, beside)[0]


def listening_sockets(
    host: str, port: int, beside: Collection[socket.socket] = (), lanes: int = 1
) -> tuple[socket.socket, ...]:
    """Bound, listening, nonblocking TCP sockets: so many lanes of one address, or one socket where the system has no lanes.

    host: an address, or empty for every one, of both families if there are two. beside: our own that listen on an address which
    overlaps with this one, and will be closed soon: they need not be closed first, so that nobody is refused in between. Raises
    OSError.
    """
    family, address, dual = _address(host, port)
    first = _socket(family, dual)
    sockets: tuple[socket.socket, ...] = (first,)
    try:
        with _sharing(beside):
            _share(first, int(bool(beside)))
            first.bind(address)
            _share(first, int(bool(beside) or lanes > 1))
            first.listen(BACKLOG)
            if lanes > 1:
                sockets = first, *_more_lanes(first, dual, lanes - 1)
        leads = first if family == socket.AF_INET6 else sockets[-1]  # the kernel finds this one first
        for sock in sockets:
            _share(sock, int(sock is leads and len(sockets) > 1))
        if beside or lanes > 1:
            _forget_sharing(first.getsockname()[1])
    except BaseException:
        _close(sockets)
        raise
    return sockets


def _address(host: str, port: int) -> tuple[socket.AddressFamily, Any, bool]:
    """Its family, what to bind to, and whether that is both families at once."""
    if host == _ANY:
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ("::", port), True
        return socket.AF_INET, ("0.0.0.0", port), False  # noqa: S104 (every address is what was asked for)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, address, False


def _socket(family: socket.AddressFamily, dual: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _more_lanes(first: socket.socket, dual: bool, count: int) -> tuple[socket.socket, ...]:
    """As many beside it, at its address; none where the system has no lanes, or no descriptors for them."""
    lanes: list[socket.socket] = []
    try:
        _choose_by_source(first, count + 1)
        for _ in range(count):
            lanes.append(sock := _socket(first.family, dual))
            _share(sock, 1)
            sock.bind(first.getsockname())
            sock.listen(BACKLOG)
    except OSError:
        _close(lanes)
        return ()
    return tuple(lanes)


# ---- SO_REUSEPORT -------------------------------------------------------------------------------------------------------


def _share(sock: socket.socket, on: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, on)


@contextmanager
def _sharing(sockets: Collection[socket.socket]) -> Iterator[None]:
    """They let others in meanwhile."""
    before = [(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)) for sock in sockets]
    try:
        for sock in sockets:
            _share(sock, 1)
        yield
    finally:
        for sock, on in before:
            _share(sock, on)


def _forget_sharing(port: int) -> None:
    """The kernel remembers of a port that its last socket came in by SO_REUSEPORT, and lets the next one of the same user in
    that has it, though ours have it no more. One that comes without it, to another address, makes it forget.

    Where ours have every address of both families there is no other, and it remembers.
    """
    for family, host in _ELSEWHERE:
        with suppress(OSError), _socket(family, dual=False) as sock:
            sock.bind((host, port))
            return


# ---- the choice ---------------------------------------------------------------------------------------------------------


def _choose_by_source(sock: socket.socket, lanes: int) -> None:
    """Its lane is a hash of the caller's address, of IPv6 of its network (admission.source_of). Raises OSError.

    The hash (the end of MurmurHash3) begins with something random, or whoever has many addresses could choose those that share
    somebody else's lane.
    """
    program = [
        (_LOAD_BYTE, 0, 0, _IP_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_EQUAL, 2, 0, 6),
        (_LOAD, 0, 0, _IP_HEADER + 12),  # IPv4, also at a socket of both families: the source
        (_JUMP, 0, 0, 5),
        (_LOAD, 0, 0, _IP_HEADER + 8),  # IPv6: its upper half
        (_MULTIPLY, 0, 0, 0x9E3779B1),
        (_TO_X, 0, 0, 0),
        (_LOAD, 0, 0, _IP_HEADER + 12),
        (_ADD_X, 0, 0, 0),
        (_XOR, 0, 0, int.from_bytes(os.urandom(4))),
        *_mixed(16),
        (_MULTIPLY, 0, 0, 0x85EBCA6B),
        *_mixed(13),
        (_MULTIPLY, 0, 0, 0xC2B2AE35),
        *_mixed(16),
        (_MODULO, 0, 0, lanes),
        (_RETURN, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in program))
    described = struct.pack("HP", len(program), ctypes.addressof(code))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, described)


def _mixed(bits: int) -> tuple[tuple[int, int, int, int], ...]:
    """Its upper bits into its lower ones."""
    return (_TO_X, 0, 0, 0), (_SHIFT_RIGHT, 0, 0, bits), (_XOR_X, 0, 0, 0)


def _close(sockets: Collection[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
