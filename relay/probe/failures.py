"""From what a step of a probe ran into, to its cause."""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Final

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004 (Twisted's)
    TCPTimedOutError,
    TimeoutError,  # noqa: A004 (Twisted's)
)

from relay.peers.errors import PeerError, ServerError, TransferError, TruncatedError
from relay.probe.connecting import ProbingTls
from relay.probe.page import Page
from relay.probe.result import Cause, StageName
from relay.probe.shown import Kind, Shown
from relay.transport.errors import cause as words_of

_UNKNOWN_NAMES: Final = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)}
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
# TLS: the types of records, and of the handshake's message that only a client sends.
_RECORD_TYPES: Final = (20, 21, 22, 23)
_TLS_MAJOR: Final = 3
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
# What OpenSSL says where the other side has no TLS as new as 1.2.
_OLD_TLS: Final = ("unsupported protocol", "protocol version")
# How a reply says that there is no such service (wire.md 9.3).
_UNKNOWN_SERVICE: Final = (
    "Octopus.Tentacle.Communications.UnknownServiceNameException", "CreateService(", "NotRegistered", "ICapabilitiesServiceV2",
)  # fmt: skip
_PINNED_WEB_SERVER: Final = "it shows the pinned certificate, and answers like a web server"
_UNKNOWN_TYPES: Final = "NoMatchingServiceOrMethod"


class FailedError(Exception):
    """A step has failed."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail


def of_time(at: StageName, tls: ProbingTls | None, seconds: float) -> FailedError:
    """The time was over in this step."""
    within = f"within {seconds:g} s"
    if at is StageName.LOOKUP:
        return FailedError(Cause.RESOLVER, f"no answer about its name {within}")
    if at is StageName.CONNECT:
        return FailedError(Cause.CONNECT_TIMEOUT, f"no connection {within}: what is sent is dropped")
    if at is StageName.TLS:
        if tls and tls.first and not _is_tls(tls.first):
            return FailedError(Cause.NOT_A_TENTACLE, f"it does not speak TLS; it says {tls.first!r}")
        return FailedError(Cause.SILENT, f"it accepts the connection, and there is no TLS {within}")
    if at is StageName.IDENTIFY:
        return FailedError(Cause.MUTE, f"TLS stands, and it has not said who it is {within}")
    return FailedError(Cause.SLOW, f"it took the call, and has not answered {within}")


def of_lookup(error: OSError) -> FailedError:
    """error: of the system's resolver."""
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAMES:
        return FailedError(Cause.RESOLVE, f"its name is not known ({error.strerror})")
    return FailedError(Cause.RESOLVER, f"its name cannot be looked up ({error.strerror or error})")


def of_connects(refusals: Sequence[tuple[str, ConnectError]]) -> FailedError:
    """All addresses, and why each of them could not be had."""
    causes = [_of_connect(error) for _, error in refusals]
    each = ", ".join(f"{address}: {_said(error)}" for address, error in refusals)
    return FailedError(causes[-1] if causes else Cause.RESOLVE, each or "its name has no address")


def _of_connect(error: ConnectError) -> Cause:
    if isinstance(error, ConnectionRefusedError):
        return Cause.REFUSED
    if isinstance(error, TimeoutError | TCPTimedOutError):
        return Cause.CONNECT_TIMEOUT
    return Cause.DESCRIPTORS if _number(error) in _NO_DESCRIPTORS else Cause.UNREACHABLE


def _number(error: ConnectError) -> int:
    number = error.osError
    return number if isinstance(number, int) else 0


def _said(error: ConnectError) -> str:
    number = _number(error)
    return os.strerror(number) if number else "no answer" if isinstance(error, TimeoutError) else str(error)


def of_handshake(error: Exception, first: bytes) -> FailedError:
    """error: its cause is the transport's. first: the first bytes that came."""
    if not first:
        return FailedError(Cause.CLOSED, f"it accepted the connection, and {_ended(error)} without a byte")
    if first.startswith(b"HTTP/"):
        line = first.split(b"\r\n")[0].decode("ascii", "backslashreplace")
        return FailedError(Cause.NOT_A_TENTACLE, f"a web server without TLS answers: {line!r}")
    if not _is_tls(first):
        return FailedError(Cause.NOT_A_TENTACLE, f"it does not speak TLS; it says {first!r}")
    if first[0] == _HANDSHAKE and first[5:6] == bytes((_CLIENT_HELLO,)):
        return FailedError(Cause.NOT_A_TENTACLE, "it sends back what it is sent, and does not speak TLS")
    why = _why(error)
    return FailedError(
        Cause.OLD_TLS if any(text in why for text in _OLD_TLS) else Cause.TLS, f"the TLS handshake failed: {why}"
    )


def _is_tls(first: bytes) -> bool:
    return first[0] in _RECORD_TYPES and first[1:2] in (b"", bytes((_TLS_MAJOR,)))


def _ended(error: BaseException) -> str:
    """How it ended the connection: what it did."""
    under = error.__cause__ or error
    if isinstance(under, ConnectionDone | SSL.ZeroReturnError):
        return "closed"
    if isinstance(under, ConnectionLost):
        return "reset the connection"
    return f"ended TLS ({_why(error)})" if isinstance(under, SSL.Error) else f"ended the connection ({under})"


def _why(error: BaseException) -> str:
    """What the transport said, without the words around it."""
    under = error.__cause__
    if isinstance(under, SSL.Error):
        return words_of(under)
    return str(under or error)


def of_identity(error: Exception) -> FailedError:
    """It showed the pinned certificate, and then?"""
    if isinstance(error, PeerError) and not isinstance(error, TruncatedError):
        if error.data.startswith(b"HTTP/"):
            return FailedError(Cause.NOT_A_TENTACLE, _PINNED_WEB_SERVER)
        return FailedError(Cause.BROKE_PROTOCOL, str(error))
    return FailedError(Cause.NOT_TRUSTED, f"it {_ended(error)} before it said who it is")


def is_of_old_tentacle(error: ServerError) -> bool:
    """It answers that it has no such service: Tentacles from before it do (wire.md 9.3)."""
    text = f"{error.message}\n{error.details}"
    return _UNKNOWN_TYPES in (error.halibut_error_type or "") or any(mark in text for mark in _UNKNOWN_SERVICE)


def of_reply(error: ServerError) -> FailedError:
    """It answers with another error."""
    return FailedError(Cause.ERROR_REPLY, f"it answered with an error: {error.message}")


def of_call(error: Exception) -> FailedError:
    """The call was not answered as it should be."""
    if isinstance(error, TransferError):
        return FailedError(Cause.GONE, f"it {_ended(error.__cause__ or error)} in the call")
    return FailedError(Cause.BROKE_PROTOCOL, str(error))


def of_shown(shown: Shown | None, known: str, page: Page, server: str) -> str:
    """What is worth saying of a certificate to which there is no pin. known: whose it is, if that is known.

    Raises FailedError where it is no Tentacle's own.
    """
    if shown is None:
        raise FailedError(Cause.NOT_A_TENTACLE, "it showed no certificate")
    if shown.kind is Kind.INTERCEPTED:
        raise FailedError(Cause.INTERCEPTED, f"it showed {shown}: made by a box that intercepts TLS")
    if page is Page.WEB:
        raise FailedError(Cause.NOT_A_TENTACLE, f"it showed {shown}; a web server answers{f' ({server})' if server else ''}")
    answers = "a Tentacle's page answers there" if page is Page.TENTACLE else "nothing there answers as a Tentacle does"
    whose = f", {known}" if known else ""
    return f"{answers}; it is passed through, so Octopus has to have the thumbprint {shown.thumbprint}{whose}"


def after_page(failed: FailedError, shown: Shown | None, known: str, page: Page, server: str) -> FailedError:
    """The same, knowing what it answers to a browser. known: whose certificate it showed, if that is known."""
    if failed.cause is Cause.NOT_TRUSTED:
        if page is Page.WEB:
            return FailedError(Cause.NOT_A_TENTACLE, _PINNED_WEB_SERVER)
        if page is Page.TENTACLE:
            return FailedError(failed.cause, f"{failed.detail}; to a browser it answers, so it runs and turns us away")
        return FailedError(failed.cause, f"{failed.detail}; nor does it answer a browser, so it may be stopping or overloaded")
    if shown is None:
        return FailedError(Cause.NOT_A_TENTACLE, f"{failed.detail}, and showed no certificate")
    detail = f"{failed.detail}, and showed {shown}"
    if known:
        return FailedError(failed.cause, f"{detail}: {known}")
    if shown.kind is Kind.INTERCEPTED:
        return FailedError(Cause.INTERCEPTED, f"{detail}: made by a box that intercepts TLS")
    if page is Page.TENTACLE and shown.kind is Kind.ISSUED:
        return FailedError(Cause.INTERCEPTED, f"{detail}, and a Tentacle answers behind it")
    if page is Page.WEB:
        return FailedError(Cause.NOT_A_TENTACLE, f"{detail}; a web server answers{f' ({server})' if server else ''}")
    if shown.kind is Kind.ISSUED:
        return FailedError(Cause.NOT_A_TENTACLE, f"{detail}; another TLS service, or a box that intercepts TLS")
    return FailedError(failed.cause, detail)
