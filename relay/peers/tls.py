"""TLS as Halibut peers use it (wire.md 1.2 to 1.8), over Twisted's stock wrapper in its unbuffered form.

The buffering form joins the writes of one reactor turn into one record, which breaks old peers (2.7). With this one each write
of up to 16384 bytes is one record, and each dataReceived is one record of the other side.
"""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from relay.peers.times import Clock

_DIGITS = 40


def thumbprint_of(certificate: x509.Certificate) -> str:
    """SHA-1 of the certificate's DER as 40 upper-case hex digits (wire.md 1.5)."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 -- the protocol's own choice


def parse_thumbprint(text: str) -> str:
    """The thumbprint in upper case. Raises ValueError for anything but 40 hex digits."""
    if len(text) != _DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise ValueError(f"a thumbprint has 40 hex digits, not {text!r}")
    return text.upper()


class Identity:
    """A private key and its self-signed certificate.

    Raises ValueError where the PEM holds no RSA or EC key, no certificate, or two that do not belong together.
    """

    def __init__(self, pem: bytes) -> None:
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
            raise ValueError("an identity needs an RSA or EC key")
        self.thumbprint = thumbprint_of(certificate)
        self._contexts = (_context(SSL.TLS_SERVER_METHOD), _context(SSL.TLS_CLIENT_METHOD))
        for context in self._contexts:
            context.use_certificate(certificate)
            try:
                context.use_privatekey(key)
                context.check_privatekey()
            except SSL.Error as error:
                raise ValueError(f"key and certificate {self.thumbprint} do not belong together: {error}") from error

    def __repr__(self) -> str:
        return f"<Identity {self.thumbprint}>"

    def listener(self) -> "Listener":
        """Asks for a certificate, does not require one, accepts any (wire.md 1.4)."""
        return Listener(self._contexts[0])

    def dialler(self, host: str) -> "Dialler":
        """Shows the certificate; the pin is checked by whoever dials, when the handshake is done (wire.md 1.5)."""
        return Dialler(partial(SSL.Connection, self._contexts[1]), host)


def anonymous(host: str) -> "Dialler":
    """A dialler that shows no certificate: discovery (wire.md 2.6)."""
    return Dialler(partial(SSL.Connection, _context(SSL.TLS_CLIENT_METHOD)), host)


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # Nothing is resumed: a resumed session carries the certificate of an earlier connection (wire.md 1.8).
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_verify(SSL.VERIFY_PEER, _accept_any)
    return context


def _accept_any(connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:
    return True


@implementer(IOpenSSLServerConnectionCreator)
class Listener:
    """Makes the TLS side of accepted connections."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted's hook: one connection object per accepted connection."""
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLClientConnectionCreator)
class Dialler:
    """Makes the TLS side of dialled connections; SNI is the host, none for an IP literal (wire.md 1.6)."""

    def __init__(self, make: Callable[[], SSL.Connection], host: str) -> None:
        """make: gives a connection of its own to each."""
        self._make = make
        self._host = host

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted's hook: one connection object per dialled connection."""
        connection = self._make()
        if not is_ip(self._host):
            connection.set_tlsext_host_name(self._host.lower().encode("ascii"))
        return connection


def is_ip(host: str) -> bool:
    """Whether host is an IPv4 or IPv6 literal."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class RecordTls(TLSMemoryBIOProtocol):
    """Stock TLS without write aggregation, and with the end that Halibut peers use: a bare FIN (wire.md 1.10)."""

    transport: Any

    def finish(self) -> None:
        """Close the TCP connection when everything written has gone out; no close_notify."""
        self.transport.loseConnection()

    def certificate(self) -> x509.Certificate | None:
        """The other side's certificate, or None where it showed none; after the handshake only."""
        connection: SSL.Connection = cast("Any", self).getHandle()
        return connection.get_peer_certificate(as_cryptography=True)

    def tune(self) -> None:
        """Socket options as in wire.md 1.9: whole units at once, and keep-alive."""
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)


class RecordTlsFactory(TLSMemoryBIOFactory):
    """Wraps a protocol factory in RecordTls."""

    protocol = RecordTls

    def __init__(self, side: Listener | Dialler, wrapped: Factory[Any], clock: Clock) -> None:
        super().__init__(cast("Any", side), isinstance(side, Dialler), cast("Any", wrapped), cast("Any", clock))
