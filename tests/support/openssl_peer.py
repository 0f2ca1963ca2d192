"""A caller that can change its keys and ask for another handshake, as nothing of the standard library can: OpenSSL itself."""

import ctypes
import ctypes.util
import socket
from collections.abc import Callable
from typing import Final

import pytest
from changes import turns

KEY_UPDATE_REQUESTED: Final = 1
VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CTRL_SET_MIN_VERSION: Final = 123
_CTRL_SET_MAX_VERSION: Final = 124
_WANT_READ: Final = 2
_WANT_WRITE: Final = 3
_TURNS: Final = 2000


def library() -> ctypes.CDLL:
    """The system's OpenSSL; skips the test where there is none."""
    name = ctypes.util.find_library("ssl")
    if not name:
        pytest.skip("this test needs the system's OpenSSL")
    lib = ctypes.CDLL(name)
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(lib, function).restype = ctypes.c_void_p
    return lib


class OpenSslPeer:
    """sock: connected and nonblocking; closed by close()."""

    def __init__(self, sock: socket.socket, version: str) -> None:
        self._lib = library()
        self._socket = sock
        self._context = ctypes.c_void_p(self._lib.SSL_CTX_new(ctypes.c_void_p(self._lib.TLS_client_method())))
        for control in (_CTRL_SET_MIN_VERSION, _CTRL_SET_MAX_VERSION):
            self._lib.SSL_CTX_ctrl(self._context, control, ctypes.c_long(VERSIONS[version]), None)
        self._tls = ctypes.c_void_p(self._lib.SSL_new(self._context))
        self._lib.SSL_set_fd(self._tls, sock.fileno())
        self.data = b""

    async def shake(self) -> None:
        assert await self._call(self._lib.SSL_connect) == 1

    async def shake_again(self) -> bool:
        """Asks for another handshake; whether it was granted."""
        assert self._lib.SSL_renegotiate(self._tls) == 1
        return await self._call(self._lib.SSL_do_handshake) == 1

    async def update_keys(self, times: int = 1) -> None:
        """Changes our keys, and asks the other side to change its own, so many times; reads nothing."""
        for _ in range(times):
            assert self._lib.SSL_key_update(self._tls, KEY_UPDATE_REQUESTED) == 1
            assert await self._call(self._lib.SSL_do_handshake) == 1

    async def write(self, data: bytes) -> None:
        assert await self._call(self._lib.SSL_write, data, len(data)) == len(data)

    async def read(self, count: int) -> None:
        """Until so much has been read in all."""
        buffer = ctypes.create_string_buffer(16 * 1024)
        while len(self.data) < count:
            read = await self._call(self._lib.SSL_read, buffer, len(buffer))
            assert read > 0
            self.data += buffer.raw[:read]

    def close(self) -> None:
        if self._tls:
            self._lib.SSL_free(self._tls)
            self._lib.SSL_CTX_free(self._context)
            self._tls = ctypes.c_void_p()
            self._socket.close()

    async def _call(self, function: Callable[..., int], *arguments: object) -> int:
        """Again in each turn, as long as it wants to read or to write."""
        for _ in range(_TURNS):
            result = function(self._tls, *arguments)
            if result > 0 or self._lib.SSL_get_error(self._tls, result) not in (_WANT_READ, _WANT_WRITE):
                return result
            await turns(1)
        raise AssertionError("OpenSSL still waits")
