"""What a listener answers to anything that does not begin with ``MX``, certificate or not (wire.md 2.5)."""

from typing import Final

_PAGE: Final = b"<html><body><p>Hello!</p></body></html>"

PAGE: Final = b"HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n" % (
    len(_PAGE),
    _PAGE,
)
"""Halibut's own default page, to the byte; it goes out as one record."""
