"""Metrics of the relay. The registry is passed in; label children are looked up once and kept (design, section 9)."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from relay.call import Call
from relay.outcomes import Outcome, Refusal


class Metrics:
    """What is counted. Machines and outcomes are labels; nothing that a caller chooses is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._exchanges = Counter(
            "relay_exchanges", "Exchanges that have ended, by machine and outcome.", ("machine", "outcome"), registry=registry
        )
        self._bytes = Counter(
            "relay_bytes", "Bytes forwarded, by machine and direction.", ("machine", "direction"), registry=registry
        )
        self._refusals = Counter(
            "relay_refusals", "Callers turned away or lost early, by reason.", ("reason",), registry=registry
        )
        self.connections = Gauge("relay_connections", "Callers' connections that are open.", registry=registry)
        self.starved = Counter("relay_accept_pauses", "Times that accepting paused for want of descriptors.", registry=registry)
        self.lost_lines = Gauge("relay_lost_log_lines", "Log lines that could not be written.", ("log",), registry=registry)
        self.delayed = Gauge("relay_handshakes_delayed", "Times that a handshake had to wait its turn.", registry=registry)
        self._by_outcome: dict[tuple[str, Outcome | None], Counter] = {}
        self._by_direction: dict[str, tuple[Counter, Counter]] = {}
        self._by_reason: dict[Refusal, Counter] = {}

    def ended(self, call: Call) -> None:
        """An exchange is over."""
        machine, outcome = call.machine, call.outcome
        counter = self._by_outcome.get((machine, outcome))
        if counter is None:
            counter = self._exchanges.labels(machine, outcome.value if outcome else "")
            self._by_outcome[machine, outcome] = counter
        counter.inc()
        pair = self._by_direction.get(machine)
        if pair is None:
            pair = (self._bytes.labels(machine, "request"), self._bytes.labels(machine, "reply"))
            self._by_direction[machine] = pair
        pair[0].inc(call.request_bytes)
        pair[1].inc(call.reply_bytes)

    def refused(self, refusal: Refusal) -> None:
        """A caller was turned away, or left."""
        counter = self._by_reason.get(refusal)
        if counter is None:
            counter = self._by_reason[refusal] = self._refusals.labels(refusal.value)
        counter.inc()
