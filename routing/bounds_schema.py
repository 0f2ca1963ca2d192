"""What a configuration file may say of limits and timeouts: the part of schema.py that most sections share."""

from typing import Annotated

from routing import values
from routing.sections import Section, about
from routing.table import Limits, RelayLimits, RelayTimeouts, Timeouts
from routing.units import show_duration, show_size
from routing.values import HOUR, MILLISECOND, MINUTE, duration

_LATE_BACK = ": a Tentacle drops a connection that is idle for 1 minute, and a call may be lost to it"
_LATE_FRONT = ": Octopus drops a connection that is idle for 9 minutes"
_MAX_ENVELOPE = 2**31 - 1


class LimitsSection(Section):
    connections: Annotated[
        int | None,
        values.count(10_000),
        about(
            "Connections to its Tentacle at once, for each octopus entry; of a polling Tentacle, those that it may have at the "
            "relay: refusal `pollers`. Where all are busy a caller waits for one to become free, in order; after "
            "`timeouts.ready` its connection is closed before the call: outcome `queue-timeout`, metric "
            "`relay_back_connections`. With `passthrough`, callers at once; the next one is closed: refusal "
            "`machine-connections`.",
            default=Limits().connections,
        ),
    ] = None
    envelope: Annotated[
        int | None,
        values.size(_MAX_ENVELOPE),
        about(
            "The size of one message when inflated, counted while inflating. Beyond it the connection ends: outcome "
            "`caller-broke` or `tentacle-broke`, with the size in `detail`.",
            default=show_size(Limits().envelope),
        ),
    ] = None
    waiting: Annotated[
        int | None,
        values.count(10_000),
        about(
            "Calls that wait at once for a connection to its Tentacle, for each octopus entry; for a polling Tentacle's, those "
            "of all of them. The next one is closed before "
            "the call: outcome `queue-full`, metric `relay_machine_waiting`.",
            default=Limits().waiting,
        ),
    ] = None
    callers: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Octopus's connections for this machine at once: those that are identified. The next one is closed before the "
            "call: refusal `callers`, metric `relay_machine_connections`.",
            default=Limits().callers,
        ),
    ] = None


def _default(section: Timeouts | RelayTimeouts, name: str) -> str:
    return show_duration(getattr(section, name))


class TimeoutsSection(Section):
    ready: Annotated[
        values.Ready,
        about(
            "From Octopus's wish to call until the Tentacle is ready: waiting for a connection, proving or dialling it, TLS, "
            "identity. Octopus itself gives up after 60s. Outcomes `ready-timeout`, `queue-timeout`.",
            default=_default(Timeouts(), "ready"),
        ),
    ] = None
    connect: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "Dialling a Tentacle: its name, TCP and TLS. Less than `ready`. With `passthrough`, its name and TCP, and `ready` "
            "does not matter. Outcome `connect-timeout`.",
            default=_default(Timeouts(), "connect"),
        ),
    ] = None
    prove: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "The answer of a connection that has been idle, before it is used again. Less than `ready`. Where no answer "
            "comes, the same call gets another connection, or a new one.",
            default=_default(Timeouts(), "prove"),
        ),
    ] = None
    back_idle: Annotated[
        float | None,
        duration(MILLISECOND, 55.0, _LATE_BACK),
        about(
            "How long a connection to a Tentacle is kept between calls. Tentacles drop theirs after a minute.",
            default=_default(Timeouts(), "back_idle"),
        ),
    ] = None
    front_idle: Annotated[
        float | None,
        duration(1.0, HOUR, _LATE_FRONT),
        about(
            "How long Octopus may be silent between calls, or after the Tentacle is ready. Octopus drops its own after 9 "
            "minutes. Where a Tentacle was ready: outcome `caller-silent`.",
            default=_default(Timeouts(), "front_idle"),
        ),
    ] = None


class RelayLimitsSection(Section):
    connections: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Callers at once, polling Tentacles among them. The next one takes the place of a stranger (see `strangers`), or "
            "is closed before TLS, and at the CONNECT door answered before that: refusal `connections`, metric "
            "`relay_connections`.",
            default=RelayLimits().connections,
        ),
    ] = None
    exchanges: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Calls of Octopus servers that dial the relay, at once, those that wait for a Tentacle among them. The next one is "
            "closed before the call: outcome `exchanges`, metric `relay_exchanges_in_flight`.",
            default=RelayLimits().exchanges,
        ),
    ] = None
    strangers: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Callers at once who have not been identified yet; the rest of `connections` is for those who have. The next one "
            "takes the place of the oldest of the source address with most of them, unless that is its own: refusal "
            "`strangers`, metric `relay_strangers`.",
            default=RelayLimits().strangers,
        ),
    ] = None
    source_strangers: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "The same of one source address (of IPv6: one /64). The next one is closed before TLS: refusal `source-strangers`.",
            default=RelayLimits().source_strangers,
        ),
    ] = None
    handshakes: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "TLS handshakes with callers that are started per second, no more than a tenth of a second's worth at once. The "
            "next caller waits; source addresses take turns: metrics `relay_handshakes_delayed_total`, "
            "`relay_handshakes_waiting`.",
            default=RelayLimits().handshakes,
        ),
    ] = None
    source_handshakes: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "The same of one source address from which nobody has been identified since the start. The next caller waits: "
            "the same metrics.",
            default=RelayLimits().source_handshakes,
        ),
    ] = None
    buffered: Annotated[
        int | None,
        values.size(2**36),
        about(
            "Bytes that wait for a slow peer, of all connections together; one has some 32 KiB at most. Beyond it no call "
            "begins, and Octopus is closed before it: outcome `buffered`, metric `relay_buffered_bytes`.",
            default=show_size(RelayLimits().buffered),
        ),
    ] = None


class RelayTimeoutsSection(Section):
    client_hello: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "From a caller's connect to its whole ClientHello, with a CONNECT before it. At most `identify`. Refusal "
            "`hello-timeout`.",
            default=_default(RelayTimeouts(), "client_hello"),
        ),
    ] = None
    identify: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "From connect until the caller has said who it is: TLS, preamble, identity. With `passthrough`, from when its "
            "Tentacle's host has taken the connection until it has answered the Tentacle. Refusal `identify-timeout`.",
            default=_default(RelayTimeouts(), "identify"),
        ),
    ] = None
    drain: Annotated[
        float | None,
        duration(0.0, HOUR),
        about(
            "How long a stopping relay waits for the calls in flight: outcome `stopped`. Callers meanwhile: refusal "
            "`draining`. Where one machine is drained or removed, so long for its connections that are passed through, and "
            "for those that its `allow` refuses after a reload: outcome `cut`.",
            default=_default(RelayTimeouts(), "drain"),
        ),
    ] = None


class OctopusLimitsSection(Section):
    callers: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Its connections at once, of all machines: those that are identified. The next one is closed before the call: "
            "refusal `octopus-callers`, metric `relay_octopus_connections`. Left out: `relay.limits.connections`, or nine "
            "tenths of it where there are several entries.",
            8000,
        ),
    ] = None
    exchanges: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Its calls at once, where it dials the relay, those that wait for a Tentacle among them. The next one is closed "
            "before the call: outcome `octopus-exchanges`, metric `relay_octopus_exchanges_in_flight`. Left out: "
            "`relay.limits.exchanges`, or nine tenths of it where there are several entries.",
            2000,
        ),
    ] = None
