"""ClientHellos as OpenSSL makes them."""

import contextlib
import ssl

from tls_peer import client_side


def spoken(version: str = "TLSv1.3", name: str | None = None) -> bytes:
    """All that a caller sends first: one record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_side(version).wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
