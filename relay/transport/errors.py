"""How a connection can fail, for the rooms above to tell apart.

TransportError
+-- DialError              no connection: reason says which (resolve, refused, unreachable, timeout, descriptors)
+-- HandshakeError         no TLS
+-- WrongCertificateError  TLS, with a certificate that no pin matches (wire.md 1.5)
+-- PeerClosedError        FIN, close_notify or RST of the peer, or an error of the socket
"""


class TransportError(Exception):
    """Base of all. The text says what happened, without addresses: who reports it knows them."""


class DialError(TransportError):
    """reason: ``resolve``, ``refused``, ``unreachable``, ``timeout`` or ``descriptors``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class HandshakeError(TransportError):
    """The TLS handshake failed, or was not done in time."""


class WrongCertificateError(TransportError):
    """shown: the SHA-1 thumbprint that came instead, upper-case hex; empty where none came."""

    def __init__(self, shown: str) -> None:
        super().__init__(f"it presented the certificate {shown}" if shown else "it presented no certificate")
        self.shown = shown


class PeerClosedError(TransportError):
    """The peer has closed."""
