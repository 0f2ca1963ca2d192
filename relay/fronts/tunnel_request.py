"""The header of a request at the CONNECT door (wire.md 8.1; RFC 9110 9.3.6, RFC 9112 3 and 5), of bounded length.

It ends with its empty line, and not a byte behind that is taken: TLS begins there, in the same read if the caller does not
wait.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Final

from relay.fronts.tunnel_answers import NO_HTTP, NO_SUCH_PAGE, NO_TUNNEL, PAGE, TOO_LARGE, VERSION, Answer

LARGEST: Final = 8 * 1024  # bytes of a header; Octopus sends some hundred
MOST_LINES: Final = 100
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([^ ]+) HTTP/([0-9])\.[0-9]")
_FIELD: Final = re.compile(rb"(" + _TOKEN + rb"):(.*)", re.DOTALL)
_ODD: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # control characters that no header has
_CONNECT: Final = b"CONNECT"
_AUTHORIZATION: Final = b"proxy-authorization"
_SHOWN: Final = 60  # characters of a request line that an error shows


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """target: as it was written. authorization: the value of Proxy-Authorization, empty for none; never to be shown."""

    target: str
    authorization: bytes = field(default=b"", repr=False)


class NoTunnelError(Exception):
    """What was sent asks for no tunnel. answer: what it gets; detail: why, in words for the log."""

    def __init__(self, answer: bytes, detail: str) -> None:
        super().__init__(detail)
        self.answer = answer
        self.detail = detail


class HeaderReader:
    """Takes a header as it comes. request: what it asked for, when it is complete."""

    def __init__(self) -> None:
        self.request: TunnelRequest | None = None
        self._line = b""
        self._size = 0
        self._lines = 0
        self._method = b""
        self._target = ""
        self._authorization: bytes | None = None

    def take(self, data: bytes) -> int:
        """How many of these bytes belong to the header: all of them until it is complete. Raises NoTunnelError."""
        taken = 0
        while taken < len(data) and self.request is None:
            end = data.find(b"\n", taken) + 1 or len(data)
            piece = data[taken : min(end, taken + LARGEST - self._size)]
            odd = _ODD.search(piece)
            if odd:
                raise self._error(NO_HTTP, f"a byte that no HTTP has: {odd[0]!r}")
            self._line += piece
            self._size += len(piece)
            taken += len(piece)
            if self._line.endswith(b"\n"):
                self._end_of_line()
            if self.request is None and self._size >= LARGEST:
                raise self._error(TOO_LARGE, f"a header of more than {LARGEST} bytes")
        return taken

    def _end_of_line(self) -> None:
        line, self._line = self._line[:-1].removesuffix(b"\r"), b""
        self._lines += 1
        if self._lines > MOST_LINES:
            raise self._error(TOO_LARGE, f"a header of more than {MOST_LINES} lines")
        if not self._method:
            self._begin(line)
        elif line:
            self._field(line)
        else:
            self._complete()

    def _begin(self, line: bytes) -> None:
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise self._error(NO_HTTP, f"not HTTP: {_shown(line)}")
        if found[3] != b"1":
            raise self._error(VERSION, f"another version of HTTP: {_shown(line)}")
        self._method, self._target = found[1], found[2].decode("utf-8", "replace")

    def _field(self, line: bytes) -> None:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise self._error(NO_HTTP, "a header line without a name and a colon")
        if found[1].lower() == _AUTHORIZATION:
            if self._authorization is not None:
                raise self._error(NO_HTTP, "Proxy-Authorization given twice")
            self._authorization = found[2].strip()

    def _complete(self) -> None:
        if self._method == _CONNECT:
            self.request = TunnelRequest(self._target, self._authorization or b"")
            return
        asked = _shown(self._method + b" " + self._target.encode())
        if self._method not in (b"GET", b"HEAD") or not self._target.startswith("/"):
            raise self._error(NO_TUNNEL, f"it asked for {asked}")
        raise self._error(PAGE if self._target == "/" else NO_SUCH_PAGE, f"it asked for {asked}")

    def _error(self, answer: Answer, detail: str) -> NoTunnelError:
        if self._method == _CONNECT:
            return NoTunnelError(replace(answer, page=False).data, detail)
        return NoTunnelError(answer.head if self._method == b"HEAD" else answer.data, detail)


def _shown(text: bytes) -> str:
    """What a caller wrote, in a line of the log, however odd it is. A query may hold a secret."""
    plain = "".join(chr(byte) if 0x20 <= byte < 0x7F else "?" for byte in text.partition(b"?")[0][:_SHOWN])
    return plain or "an empty line"
