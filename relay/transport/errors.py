"""How a connection can fail, for the rooms above to tell apart.

TransportError
+-- DialError              no connection: reason says which (resolve, refused, unreachable, timeout, descriptors, proxy)
+-- HandshakeError         no TLS
+-- WrongCertificateError  TLS, with a certificate that no pin matches (wire.md 1.5)
+-- PeerClosedError        FIN, close_notify or RST of the peer, or an error of the socket
"""

import os

from OpenSSL import SSL


class TransportError(Exception):
    """Base of all. The text says what happened, without addresses: who reports it knows them."""


class DialError(TransportError):
    """reason: ``resolve``, ``refused``, ``unreachable``, ``timeout``, ``descriptors`` or ``proxy``."""

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


def cause(error: Exception) -> str:
    """What happened, in a few words, whatever OpenSSL or the system called it."""
    if isinstance(error, SSL.ZeroReturnError):
        return "closed"
    if isinstance(error, SSL.SysCallError):
        number = error.args[0] if error.args else -1
        return "closed" if number == -1 else os.strerror(number)
    if isinstance(error, SSL.Error):
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return "; ".join(reason[-1] for reason in reasons) or "closed"
    return str(error) or type(error).__name__
