"""The closed lists of words that logs and metrics use: how an exchange ends, why a caller is refused (wire.md section 11)."""

from dataclasses import dataclass
from typing import Final

from relay.halibut.words import Word


class Outcome(Word):
    """How an exchange ended, or a connection that was passed through. Each value is the word that operators see.

    The comments say who sees what, and why. Of connections, `ok` says that they were closed; see docs/passthrough.md.
    """

    # The reply has gone to the caller, whole.
    OK = "ok"
    ERROR_REPLY = "error-reply"  # and says that the call failed on the Tentacle

    # Nothing of the request has reached the Tentacle. Octopus sees an error, and does not try again.
    DENIED = "denied"  # no item of `allow` lets this caller make this call

    # Nothing of the request has reached the Tentacle. Octopus sees a close before MX-SERVER or PROCEED, and tries again.
    RESOLVE = "resolve"  # the Tentacle's name does not resolve
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"  # no connection within `connect`
    TLS = "tls"  # the handshake with the Tentacle failed
    WRONG_CERTIFICATE = "wrong-certificate"  # what it showed has no pin
    NOT_TRUSTED = "not-trusted"  # it closed before MX-SERVER: it does not trust the relay, or is stopping
    QUEUE_TIMEOUT = "queue-timeout"  # every connection to the Tentacle was busy for all of `ready`
    READY_TIMEOUT = "ready-timeout"  # it was not ready within `ready`; passed through, it sent nothing within `identify`
    NO_POLLER = "no-poller"  # the Tentacle polls the relay, and did not within `ready`
    QUEUE_FULL = "queue-full"  # `limits.waiting` calls wait already for this Tentacle
    EXCHANGES = "exchanges"  # relay.limits.exchanges are under way
    OCTOPUS_EXCHANGES = "octopus-exchanges"  # `limits.exchanges` of its octopus entry are
    BUFFERED = "buffered"  # relay.limits.buffered bytes wait for slow peers
    DESCRIPTORS = "descriptors"  # the relay has no file descriptor left
    CALLER_LEFT = "caller-left"  # the caller closed before it sent a request
    # The Tentacle was ready, and no request came within `front_idle`; passed through, no answer within `identify`.
    CALLER_SILENT = "caller-silent"

    # The request has begun. Octopus sees the connection close, and may not assume that nothing ran.
    CANCELLED = "cancelled"  # the caller closed: that is how Octopus cancels
    TENTACLE_GONE = "tentacle-gone"  # the Tentacle closed, or its machine died
    CALLER_BROKE = "caller-broke"  # the caller broke the protocol
    TENTACLE_BROKE = "tentacle-broke"  # the Tentacle broke it
    SILENT = "silent"  # nothing moved for 11 minutes
    STALLED = "stalled"  # the Tentacle closed, and the caller did not take what it had left
    STOPPED = "stopped"  # the relay was stopped, and the drain time was over
    CUT = "cut"  # an operator ended it: drain of its machine, close, reload --now; passed through, also to make room


# By the reason of a relay.transport.errors.DialError, of a dial to a Tentacle.
DIAL_OUTCOMES: Final = {
    "resolve": Outcome.RESOLVE,
    "refused": Outcome.REFUSED,
    "unreachable": Outcome.UNREACHABLE,
    "timeout": Outcome.CONNECT_TIMEOUT,
    "descriptors": Outcome.DESCRIPTORS,
}
SERVED: Final = frozenset((Outcome.OK, Outcome.ERROR_REPLY))
# Ends that are somebody's trouble or fault: these are logged, the others stand in the access log only.
TROUBLE: Final = frozenset(Outcome) - SERVED - {
    Outcome.CALLER_LEFT, Outcome.CANCELLED, Outcome.CALLER_SILENT, Outcome.STOPPED, Outcome.CUT,
}  # fmt: skip


class Refusal(Word):
    """Why a caller was turned away, or left, before it had an exchange. Each value is the word that operators see."""

    CONNECTIONS = "connections"  # relay.limits.connections are open, and no stranger's among them
    STRANGERS = "strangers"  # relay.limits.strangers are open: it was turned away, or made room
    SOURCE_STRANGERS = "source-strangers"  # relay.limits.source_strangers of its address are
    CALLERS = "callers"  # `limits.callers` of the machine are open
    OCTOPUS_CALLERS = "octopus-callers"  # `limits.callers` of its octopus entry are
    NOT_TLS = "not-tls"
    # `limits.connections` of a machine that is passed through are open: it was turned away, or, a stranger, made room.
    MACHINE_CONNECTIONS = "machine-connections"
    HELLO_TIMEOUT = "hello-timeout"  # no ClientHello within relay.timeouts.client_hello
    LEFT_EARLY = "left-early"  # closed before its ClientHello
    TLS = "tls"  # the handshake failed, or the machine's own key cannot be used
    CERTIFICATE_REFUSED = "certificate-refused"  # closed after the handshake without a byte: does not accept ours
    IDENTIFY_TIMEOUT = "identify-timeout"  # not identified within relay.timeouts.identify
    NO_CERTIFICATE = "no-certificate"
    UNTRUSTED = "untrusted"  # its certificate is of none of the machine's octopus entries, or of no Tentacle that polls
    NOT_ALLOWED = "not-allowed"  # no item of `allow` is for its octopus entry and its address
    BROKE_PROTOCOL = "broke-protocol"
    DRAINING = "draining"  # the relay is stopping, or a reload closes the door or takes the machine away
    MACHINE_DRAINED = "machine-drained"  # by an operator, until it is resumed
    NO_NAME = "no-name"  # at the shared door, without the SNI name that says which machine is meant
    UNKNOWN_NAME = "unknown-name"  # at the shared door, with a name that is no machine's host

    # At the CONNECT door, and answered in words of HTTP.
    NOT_CONNECT = "not-connect"  # HTTP that asks for no tunnel, or no HTTP and no TLS
    PROXY_CREDENTIALS = "proxy-credentials"  # none of the users of front.credentials
    UNKNOWN_TARGET = "unknown-target"  # a target that is no machine's

    # Of a polling Tentacle, and closed before MX-SERVER, so that it comes back ever more slowly (wire.md 6.5).
    UNKNOWN_SUBSCRIPTION = "unknown-subscription"  # no machine has it
    NOT_OWNER = "not-owner"  # its certificate is not the one of the machine that has the subscription
    POLLERS = "pollers"  # `limits.connections` of the machine are in


class NodeTrouble(Word):
    """Why the relay does not poll an Octopus node any more, or cannot. Each value is the word that operators see."""

    RESOLVE = "resolve"  # the node's name does not resolve, or that of its proxy
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect-timeout"
    DESCRIPTORS = "descriptors"  # the relay has no file descriptor left
    PROXY = "proxy"  # the proxy answered something else than 200, or nothing
    TLS = "tls"  # the handshake failed
    WRONG_CERTIFICATE = "wrong-certificate"  # what it showed has no pin
    NOT_TRUSTED = "not-trusted"  # it closed before MX-SERVER: it does not trust the relay, or limits connections
    SILENT = "silent"  # neither request nor null for 60 s
    CLOSED = "closed"  # it closed a connection that it had accepted
    BROKE_PROTOCOL = "broke-protocol"


# What strangers, port scanners and load balancers cause all day, and what operators do themselves: no news of a machine.
NOISE: Final = frozenset(
    (Refusal.NOT_TLS, Refusal.NOT_CONNECT, Refusal.HELLO_TIMEOUT, Refusal.LEFT_EARLY, Refusal.DRAINING, Refusal.MACHINE_DRAINED)
)


@dataclass(frozen=True, slots=True)
class SentAway:
    """Why a caller is sent away; outcome: of its call, where it waits for its Tentacle already."""

    refusal: Refusal
    detail: str
    outcome: Outcome = Outcome.CUT


RELAY_DRAINS: Final = SentAway(Refusal.DRAINING, "the relay is draining", Outcome.STOPPED)
CONNECT_CLOSES: Final = SentAway(Refusal.DRAINING, "a reload has closed the CONNECT door")
DOOR_CLOSES: Final = SentAway(Refusal.DRAINING, "a reload has closed the door")
MACHINE_GONE: Final = SentAway(Refusal.DRAINING, "a reload has removed the machine")
MACHINE_DRAINS: Final = SentAway(Refusal.MACHINE_DRAINED, "the machine is drained")
NOT_TRUSTED_NOW: Final = SentAway(Refusal.UNTRUSTED, "a reload has taken its thumbprint away")
NOT_ALLOWED_NOW: Final = SentAway(Refusal.NOT_ALLOWED, "a reload has changed the rules: no item of allow is for its address")
RULES_CHANGED: Final = SentAway(Refusal.NOT_ALLOWED, "a reload has changed what it may call, before its call had come")
