"""The ClientHello, read before OpenSSL sees the socket (RFC 8446 4.1.2, RFC 6066 3; RFC 5246 7.4.1.2).

It tells TLS from anything else and gives the name that the caller asks for, so that a caller without a route can be closed
without a ServerHello, an alert or a wrong certificate: each of those would end Octopus's attempts (wire.md 10.18).
"""

from dataclasses import dataclass
from typing import Final

LARGEST: Final = 16 * 1024  # bytes of records that a ClientHello may take
_RECORD_HEADER: Final = 5
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0
_NAME_SIZE: Final = 255


class NotClientHelloError(Exception):
    """What was sent cannot be the beginning of TLS. The text says why."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """server_name: as asked for, in lower case; empty where none was."""

    server_name: str


class _Bytes:
    """A cursor that never reads beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def __bool__(self) -> bool:
        return self._offset < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._offset + count
        if end > len(self._data):
            raise NotClientHelloError("a ClientHello whose lengths do not fit")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._offset)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> "_Bytes":
        """What a length of so many bytes announces."""
        return _Bytes(self.take(self.number(size)))

    def skip(self, size: int) -> None:
        """The same, where nobody looks at it."""
        self.take(self.number(size))


def read_client_hello(data: bytes) -> ClientHello | None:
    """The ClientHello at the start of what a caller has sent, or None where more has to come first.

    Raises NotClientHelloError for anything else, for one larger than LARGEST, and for one that cannot be read.
    """
    message = b""
    offset = 0
    while True:
        header = data[offset : offset + _RECORD_HEADER]
        if header and header[0] != _HANDSHAKE:
            raise NotClientHelloError("not TLS")
        if len(header) > 1 and header[1] != 3:
            raise NotClientHelloError("not TLS of a version that there is")
        if len(header) < _RECORD_HEADER:
            break
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= LARGEST:
            raise NotClientHelloError("a TLS record of an impossible length")
        message += data[offset + _RECORD_HEADER : offset + _RECORD_HEADER + length]
        if message[0:1] not in (b"", bytes((_CLIENT_HELLO,))):
            raise NotClientHelloError("a TLS handshake that does not begin with a ClientHello")
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big"):
            return _parse(_Bytes(message[4 : 4 + int.from_bytes(message[1:4], "big")]))
        offset += _RECORD_HEADER + length
        if offset > len(data):
            break
    if len(data) >= LARGEST:
        raise NotClientHelloError(f"a ClientHello of more than {LARGEST} bytes")
    return None


def at_least(data: bytes) -> int:
    """How many bytes there have to be before the ClientHello that begins with these can be whole; more than there are."""
    end = 0
    while end + _RECORD_HEADER <= len(data):
        end += _RECORD_HEADER + int.from_bytes(data[end + 3 : end + _RECORD_HEADER], "big")
    return min(max(end, len(data) + 1), LARGEST)


def _parse(hello: _Bytes) -> ClientHello:
    hello.take(2 + 32)  # version, random
    hello.skip(1)  # session id
    hello.skip(2)  # cipher suites
    hello.skip(1)  # compression methods
    if hello:
        extensions = hello.block(2)
        while extensions:
            if extensions.number(2) == _SERVER_NAME:
                return ClientHello(_server_name(extensions.block(2)))
            extensions.skip(2)
    return ClientHello("")


def _server_name(body: _Bytes) -> str:
    names = body.block(2)
    while names:
        type_, name = names.number(1), names.block(2)
        if type_ == _HOST_NAME:
            raw = name.rest()
            if not 0 < len(raw) <= _NAME_SIZE or not raw.isascii() or not raw.decode("ascii").isprintable():
                raise NotClientHelloError("a server name that is none")
            return raw.decode("ascii").lower()
    return ""
