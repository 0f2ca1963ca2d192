"""What a record costs: OpenSSL's own read and write, without the questions that pyOpenSSL asks behind each of them.

A positive result says itself that there was no error; of any other, pyOpenSSL judges as it always does. That takes a tenth off
the CPU of a small call, and another hundredth that what is inside of a connection, OpenSSL's own, is asked for once: pyOpenSSL
passes on to the socket what it does not have, so each look at it is a slow one. It needs names that pyOpenSSL does not promise:
where they are gone, its own methods serve.
"""

from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL

RECORD: Final = 16 * 1024  # bytes; the most plaintext that one TLS record holds

Inside = Callable[[SSL.Connection], object]
Receive = Callable[[SSL.Connection, Any, int], bytes]  # the connection, what is inside of it, and how much at most
Send = Callable[[SSL.Connection, Any, bytes], int]


def slow() -> tuple[Inside, Receive, Send]:
    """pyOpenSSL's own."""
    return lambda tls: None, lambda tls, _, size: tls.recv(size), lambda tls, _, data: tls.send(data)


def fast() -> tuple[Inside, Receive, Send]:
    """The same, faster: at most RECORD bytes of one read, and nothing but bytes.

    Raises AttributeError, KeyError where pyOpenSSL has changed.
    """
    library, ffi = vars(SSL)["_lib"], vars(SSL)["_ffi"]
    ssl_read, ssl_write = library.SSL_read, library.SSL_write
    for name in ("_ssl", "_raise_ssl_error"):
        getattr(SSL.Connection(SSL.Context(SSL.TLS_METHOD), None), name)
    piece = ffi.new("char[]", RECORD)
    view = ffi.buffer(piece)  # one for all connections: what is read there is copied out before the next read

    def inside(tls: Any) -> object:
        return tls._ssl

    def receive(tls: Any, ssl: Any, size: int) -> bytes:
        count = ssl_read(ssl, piece, size if size < RECORD else RECORD)
        if count <= 0:
            tls._raise_ssl_error(ssl, count)
        read: bytes = view[:count]
        return read

    def send(tls: Any, ssl: Any, data: bytes) -> int:
        count: int = ssl_write(ssl, data, len(data))
        if count <= 0:
            tls._raise_ssl_error(ssl, count)
        return count

    return inside, receive, send


try:
    inside, receive, send = fast()
except (AttributeError, KeyError):  # pragma: no cover (a pyOpenSSL that is not there yet)
    inside, receive, send = slow()
