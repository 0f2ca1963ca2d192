"""Metrics of the relay: plain numbers that are counted on the way, and made into Prometheus's form when they are asked for.

A call costs a few additions here; prometheus_client's own counters would cost ten times that, for locks that nobody needs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from relay.call import Call
from relay.outcomes import Outcome, Refusal


class _OfMachine:
    """What is counted of one machine."""

    __slots__ = ("mismatched", "outcomes", "reply_bytes", "request_bytes", "unknown")

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = {}
        self.request_bytes = 0
        self.reply_bytes = 0
        self.mismatched = 0
        self.unknown = 0


class Metrics(Collector):
    """Everything that is counted. Machines and outcomes are labels; nothing that a caller chooses is.

    gauges: name, what it is, and how it is read; asked when somebody scrapes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._machines: dict[str, _OfMachine] = {}
        self._refusals = dict.fromkeys(Refusal, 0)
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._counters: list[tuple[str, str, str, Mapping[str, int]]] = []
        self.accept_pauses = 0
        registry.register(self)

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Adds a number that is read when it is asked for."""
        self._gauges.append((name, documentation, read))

    def counter(self, name: str, documentation: str, label: str, counts: Mapping[str, int]) -> None:
        """Adds numbers that are counted elsewhere, one for each value of a label."""
        self._counters.append((name, documentation, label, counts))

    def ended(self, call: Call) -> None:
        """An exchange is over."""
        machine = self._machines.get(call.machine)
        if machine is None:
            machine = self._machines[call.machine] = _OfMachine()
        outcome = call.outcome
        if outcome is not None:
            machine.outcomes[outcome] = machine.outcomes.get(outcome, 0) + 1
        machine.request_bytes += call.request_bytes
        machine.reply_bytes += call.reply_bytes
        if call.mismatched:
            machine.mismatched += 1
        if call.unknown:
            machine.unknown += 1

    def refused(self, refusal: Refusal) -> None:
        """A caller was turned away, or left."""
        self._refusals[refusal] += 1

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        return self._collect()

    def _collect(self) -> Iterator[Metric]:
        exchanges = CounterMetricFamily("relay_exchanges", "Exchanges that have ended.", labels=("machine", "outcome"))
        moved = CounterMetricFamily("relay_bytes", "Bytes forwarded.", labels=("machine", "direction"))
        mismatched = CounterMetricFamily(
            "relay_mismatched_replies", "Replies whose id was not their request's.", labels=("machine",)
        )
        unknown = CounterMetricFamily(
            "relay_unknown_members", "Exchanges with members that no known Halibut has.", labels=("machine",)
        )
        for name, machine in self._machines.items():
            mismatched.add_metric((name,), machine.mismatched)
            unknown.add_metric((name,), machine.unknown)
            for outcome, count in machine.outcomes.items():
                exchanges.add_metric((name, outcome.value), count)
            moved.add_metric((name, "request"), machine.request_bytes)
            moved.add_metric((name, "reply"), machine.reply_bytes)
        yield from (exchanges, moved, mismatched, unknown)
        refusals = CounterMetricFamily("relay_refusals", "Callers turned away, or lost early.", labels=("reason",))
        for refusal, count in self._refusals.items():
            refusals.add_metric((refusal.value,), count)
        yield refusals
        yield CounterMetricFamily(
            "relay_accept_pauses", "Times that accepting paused for want of descriptors.", value=self.accept_pauses
        )
        for name, documentation, read in self._gauges:
            yield GaugeMetricFamily(name, documentation, value=read())
        for name, documentation, label, counts in self._counters:
            counted = CounterMetricFamily(name, documentation, labels=(label,))
            for value, count in counts.items():
                counted.add_metric((value,), count)
            yield counted
