"""What can go wrong between two peers.

Exception
├── PeerError           the other side broke a rule
│   └── TruncatedError  it ended in the middle of a unit or a message
├── EndedError          the connection ended, or stayed silent too long, where it may
├── ServiceError        raised by a Tentacle's service: becomes an error reply
└── CallError           what an Octopus's caller sees, PeerError aside
    ├── ConnectingError     before the request began: nothing ran
    │   ├── UnexpectedCertificateError
    │   └── ProxyError
    ├── TransferError       after the request began: it may have run
    ├── ServerError         the Tentacle's error reply
    ├── StreamLengthError   our own data stream gave another number of bytes than it announced
    └── ScriptTimeoutError  a script that took too long, and was cancelled
"""

_SHOWN = 64


class PeerError(Exception):
    """The other side broke a rule. what: in words; rule: the section of wire.md; data: the bytes in question."""

    def __init__(self, what: str, rule: str, data: bytes = b"") -> None:
        super().__init__(what, rule, data)
        self.what = what
        self.rule = rule
        self.data = data

    def __str__(self) -> str:
        return f"{self.what}{_shown(self.data)} (wire.md {self.rule})"


class TruncatedError(PeerError):
    """The other side ended in the middle of a unit or a message."""


class EndedError(Exception):
    """The connection ended, or nothing came in time, at a point where no unit was under way."""


class ServiceError(Exception):
    """A service's refusal, told to the caller as an error reply (wire.md 4.5).

    dotnet_type: the exception's type as .NET names it. In an error reply of Halibut's own, halibut says so: then the type is
    also the reply's HalibutErrorType (4.7). invoked: whether the method was running, so that .NET would have wrapped it.
    """

    def __init__(self, dotnet_type: str, message: str, *, halibut: bool = False, invoked: bool = True) -> None:
        super().__init__(message)
        self.dotnet_type = dotnet_type
        self.message = message
        self.halibut = halibut
        self.invoked = invoked


class CallError(Exception):
    """A call that did not succeed."""


class ConnectingError(CallError):
    """The call failed before its request began (wire.md 7.3). retry: whether Octopus would make another attempt."""

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class UnexpectedCertificateError(ConnectingError):
    """The listener's certificate is not the pinned one (wire.md 1.5, 9.6-A). expected, presented: thumbprints."""

    def __init__(self, uri: str, expected: str, presented: str) -> None:
        super().__init__(
            f"The server at {uri} presented an unexpected security certificate. We expected the thumbprint '{expected}'. "
            f"Instead, it presented the thumbprint '{presented}'.",
            retry=False,
        )
        self.expected = expected
        self.presented = presented


class ProxyError(ConnectingError):
    """The proxy answered something else than 200 (wire.md 8.2): another attempt is made, but it is no error of the network."""

    def __init__(self, uri: str, proxy: str, status: int, reason: str) -> None:
        cause = f"Proxy destination {proxy} responded with a {status} code - {reason}"
        super().__init__(f"An error occurred when sending a request to '{uri}', before the request could begin: {cause}")
        self.status = status
        self.reason = reason


class TransferError(CallError):
    """The call failed after its request began: it may have run (wire.md 7.3)."""


class ServerError(CallError):
    """The Tentacle answered with an error (wire.md 4.5). halibut_error_type: None where it names no type."""

    def __init__(self, message: str, details: str, halibut_error_type: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.halibut_error_type = halibut_error_type


class StreamLengthError(CallError):
    """A data stream of ours gave more or fewer bytes than it announced."""


class ScriptTimeoutError(CallError):
    """A script did not finish in time, and was cancelled."""


def _shown(data: bytes) -> str:
    if not data:
        return ""
    more = f" and {len(data) - _SHOWN} more bytes" if len(data) > _SHOWN else ""
    return f": {data[:_SHOWN]!r}{more}"
