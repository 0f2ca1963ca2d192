"""One TLS context for all that show something of their own: it takes 15 KB, and 10,000 machines may have an identity each.

A connection that is made of it is given the identity's certificate and key. pyOpenSSL parses them anew for each connection, and
each keeps its copy: 6 KB. OpenSSL itself takes what was parsed once. That needs names that pyOpenSSL does not promise: where
they are gone, its own methods serve.
"""

import socket
from typing import Any, Final

from OpenSSL import SSL, crypto

from certs.identity import Identity


class Context:
    """Makes the TLS connections that show one identity."""

    __slots__ = ("_identity", "_parsed", "_shared")

    def __init__(self, shared: SSL.Context, identity: Identity) -> None:
        """shared: it shows nothing itself, and is not changed any more. Raises SSL.Error if OpenSSL refuses the identity."""
        self._shared: Final = shared
        self._identity: Final = identity
        self._parsed: tuple[Any, Any] | None = None
        try:
            self._parsed = _parsed(identity)
            self.connection()  # what is taken here is always taken
        except (AttributeError, KeyError):
            self._parsed = None
            self.connection()

    def connection(self, sock: socket.socket | None = None) -> SSL.Connection:
        """A new one. sock: connected; None: its bytes go through memory."""
        tls = SSL.Connection(self._shared, sock)
        if self._parsed is None or not _show(tls, *self._parsed):
            tls.use_certificate(self._identity.certificate)  # after a refusal this is refused as well, and says why
            tls.use_privatekey(self._identity.key)
        return tls


def _parsed(identity: Identity) -> tuple[Any, Any]:
    """Certificate and key, as OpenSSL takes them. Raises AttributeError where pyOpenSSL has changed."""
    certificate: Any = crypto.X509.from_cryptography(identity.certificate)
    key: Any = crypto.PKey.from_cryptography_key(identity.key)
    return certificate._x509, key._pkey


def _show(tls: Any, certificate: Any, key: Any) -> bool:
    """Whether OpenSSL takes them. Raises AttributeError, KeyError where pyOpenSSL has changed."""
    library = vars(SSL)["_lib"]
    ssl = tls._ssl
    return bool(library.SSL_use_certificate(ssl, certificate) == 1 and library.SSL_use_PrivateKey(ssl, key) == 1)
