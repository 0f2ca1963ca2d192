"""What a probe found."""

from dataclasses import dataclass

from certs.thumbprint import Thumbprint
from relay.halibut.words import Word
from relay.probe.shown import Shown
from routing.addresses import Address


class StageName(Word):
    """The steps of a probe, in order."""

    LOOKUP = "lookup"  # the name's addresses; not for an IP address
    CONNECT = "connect"  # TCP
    TLS = "tls"  # handshake, and the pin
    IDENTIFY = "identify"  # preamble and identities of both sides
    CALL = "call"  # GetCapabilities


class Cause(Word):
    """Why a probe failed. Each value is the word that operators see; those that an exchange can end with are the same there."""

    RESOLVE = "resolve"  # the name is not known
    RESOLVER = "resolver"  # nobody could be asked for the name
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"  # what is sent is dropped
    CLOSED = "closed"  # a TCP connection, closed without a byte
    SILENT = "silent"  # a TCP connection, and nothing else
    NOT_A_TENTACLE = "not-a-tentacle"  # something else answers
    OLD_TLS = "old-tls"
    TLS = "tls"  # the handshake failed in another way
    WRONG_CERTIFICATE = "wrong-certificate"
    INTERCEPTED = "intercepted"  # a box on the way shows a certificate of its own making
    NOT_TRUSTED = "not-trusted"
    MUTE = "mute"  # TLS, and no identity in time
    SLOW = "slow"  # no reply in time
    GONE = "tentacle-gone"  # closed in the call
    ERROR_REPLY = "error-reply"
    BROKE_PROTOCOL = "tentacle-broke"
    DESCRIPTORS = "descriptors"  # of this process


@dataclass(frozen=True, slots=True)
class Stage:
    """One step that was begun. seconds: how long it took. done: whether it succeeded."""

    name: StageName
    seconds: float
    done: bool


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """octopus, thumbprint: of the identity that was shown to the Tentacle; "" and None where it was looked at only.

    address: where TCP went, empty where it got nowhere.
    tls: the version, empty likewise. shown: the Tentacle's certificate, if one came.

    cause: None where all went well; otherwise detail says what happened and remedy what to do. note: what else is worth saying.
    """

    machine: str
    octopus: str
    tentacle: Address
    thumbprint: Thumbprint | None
    stages: tuple[Stage, ...]
    address: str = ""
    tls: str = ""
    shown: Shown | None = None
    capabilities: tuple[str, ...] = ()
    cause: Cause | None = None
    detail: str = ""
    remedy: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        """The Tentacle took the call and answered it, or has shown a certificate that may be its own."""
        return self.cause is None

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(stage.seconds for stage in self.stages)
