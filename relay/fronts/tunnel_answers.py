"""What the CONNECT door answers: each a complete header with a reason phrase, as Halibut needs them (wire.md 8.2, 8.3).

One to a CONNECT has no body, for old Halibuts take what one burst of reads gives for the whole answer.
"""

from dataclasses import dataclass
from typing import Final

_PAGE: Final = b"""\
This port belongs to a relay between Octopus Deploy and its Tentacles.

Octopus may use it as an HTTP proxy: with CONNECT it gets through to the machines that the relay knows, and to nothing else.
It is no web server, and forwards no other request.
"""
_CONNECTION: Final = "Connection: close"


@dataclass(frozen=True, slots=True)
class Answer:
    """status: number and reason phrase. headers: more lines. page: whether one goes with it, which says what this port is."""

    status: str
    headers: tuple[str, ...] = ()
    page: bool = True

    @property
    def data(self) -> bytes:
        """All of it."""
        return self.head + (_PAGE if self.page else b"")

    @property
    def head(self) -> bytes:
        """The header."""
        about = ("Content-Type: text/plain; charset=utf-8",) if self.page else ()
        length = f"Content-Length: {len(_PAGE) if self.page else 0}"
        return "\r\n".join((f"HTTP/1.1 {self.status}", *self.headers, *about, length, _CONNECTION, "", "")).encode("ascii")


ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

PAGE: Final = Answer("200 OK")
NO_HTTP: Final = Answer("400 Bad Request")
NO_SUCH_PAGE: Final = Answer("404 Not Found")
NO_TUNNEL: Final = Answer("405 Method Not Allowed", ("Allow: CONNECT",))
TOO_LARGE: Final = Answer("431 Request Header Fields Too Large")
VERSION: Final = Answer("505 HTTP Version Not Supported")

# To a CONNECT, or to what may become one.
LATE: Final = Answer("408 Request Timeout", page=False)
HALF: Final = Answer("400 Bad Request", page=False)
FORBIDDEN: Final = Answer("403 Forbidden", page=False)
CREDENTIALS: Final = Answer("407 Proxy Authentication Required", ('Proxy-Authenticate: Basic realm="relay"',), page=False)
UNAVAILABLE: Final = Answer("503 Service Unavailable", page=False)
