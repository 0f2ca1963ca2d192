"""The relay's families of metrics: name, kind, what it is, labels, and the samples, which are made one by one when read.

Metrics.machines is replaced and never changed: samples under way go on with the machines that there were.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from relay.admin.metrics import BUCKETS, Histogram, MachineCounts, MethodTimes, Metrics, Reading, Value
from relay.outcomes import Outcome
from relay.version import VERSION

_ESCAPED: Final = {"\\": r"\\", "\n": r"\n", '"': r"\""}
_TO_ESCAPE: Final = re.compile(r'[\\\n"]')
_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")


@dataclass(frozen=True, slots=True)
class Family:
    """name: without the ``_total`` of counters. samples: a series, as text, and its value; each series once."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    documentation: str
    labels: tuple[str, ...]
    samples: Callable[[], Iterator[tuple[str, Value]]]

    @property
    def exposed(self) -> str:
        """The name as queries have it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def families(metrics: Metrics) -> list[Family]:
    """All of them. Each tells all series from the start, with 0: ``rate()`` and ``absent()`` of Prometheus need that."""
    found = [_build_info(), _exchanges(metrics), _passed_through(metrics), _bytes(metrics)]
    found += [
        _per_machine(
            metrics, "relay_mismatched_replies", "Replies whose id was not their request's.", lambda counts: counts.mismatched
        ),
        _per_machine(
            metrics, "relay_unknown_members", "Exchanges with members that no known Halibut has.", lambda counts: counts.unknown
        ),
        _refusals(metrics),
        _accept_pauses(metrics),
        _times(
            metrics,
            "relay_exchange_duration_seconds",
            "From the caller's wish to call to the end of the exchange.",
            lambda times: times.whole,
        ),
        _times(
            metrics,
            "relay_exchange_ready_seconds",
            "From the caller's wish to call until the Tentacle was ready: queue, dial or proof.",
            lambda times: times.ready,
        ),
        _times(
            metrics,
            "relay_exchange_first_byte_seconds",
            "From the request's last byte to the reply's first: the Tentacle's own time.",
            lambda times: times.first_byte,
        ),
    ]
    return found + [_reading(reading) for reading in metrics.readings.values()]


def series(name: str, labels: tuple[str, ...] = (), values: tuple[str, ...] = ()) -> str:
    """A series as the text formats write it."""
    if not labels:
        return name
    pairs = ",".join([f'{label}="{escaped(value)}"' for label, value in zip(labels, values, strict=True)])
    return f"{name}{{{pairs}}}"


def escaped(value: str) -> str:
    """A label's value, without its quotes."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPED[match[0]], value)


def _build_info() -> Family:
    name, labels = "relay_build_info", ("version",)
    one = (series(name, labels, (VERSION,)), 1)
    return Family(name, "gauge", "The version of the relay; always 1.", labels, lambda: iter([one]))


def _outcomes(name: str, read: Callable[[], Iterator[tuple[str, list[int]]]]) -> Callable[[], Iterator[tuple[str, Value]]]:
    """The samples of a counter of each outcome, of the machines that are read."""
    ends = [f'",outcome="{outcome.value}"}}' for outcome in Outcome]

    def samples() -> Iterator[tuple[str, Value]]:
        for machine, counts in read():
            start = f'{name}_total{{machine="{escaped(machine)}'
            for end, count in zip(ends, counts, strict=True):
                yield start + end, count

    return samples


def _passed_through(metrics: Metrics) -> Family:
    name, text = "relay_passthrough_connections", "Connections of machines with `passthrough: true` that have ended."
    samples = _outcomes(name, lambda: iter(metrics.passed_through.items()))
    return Family(name, "counter", text, ("machine", "outcome"), samples)


def _exchanges(metrics: Metrics) -> Family:
    samples = _outcomes("relay_exchanges", lambda: ((name, each.outcomes) for name, each in metrics.machines.items()))
    return Family("relay_exchanges", "counter", "Exchanges that have ended.", ("machine", "outcome"), samples)


def _bytes(metrics: Metrics) -> Family:
    def samples() -> Iterator[tuple[str, Value]]:
        for name, machine in metrics.machines.items():
            start = f'relay_bytes_total{{machine="{escaped(name)}",direction='
            yield f'{start}"request"}}', machine.request_bytes
            yield f'{start}"reply"}}', machine.reply_bytes

    return Family("relay_bytes", "counter", "Bytes forwarded, by their direction.", ("machine", "direction"), samples)


def _per_machine(metrics: Metrics, name: str, documentation: str, read: Callable[[MachineCounts], int]) -> Family:
    def samples() -> Iterator[tuple[str, Value]]:
        for machine, counts in metrics.machines.items():
            yield f'{name}_total{{machine="{escaped(machine)}"}}', read(counts)

    return Family(name, "counter", documentation, ("machine",), samples)


def _refusals(metrics: Metrics) -> Family:
    def samples() -> Iterator[tuple[str, Value]]:
        for refusal, count in metrics.refusals.items():
            yield series("relay_refusals_total", ("reason",), (refusal.value,)), count

    return Family("relay_refusals", "counter", "Callers turned away, or lost early.", ("reason",), samples)


def _accept_pauses(metrics: Metrics) -> Family:
    text = "Times that accepting paused for want of descriptors."
    return Family(
        "relay_accept_pauses", "counter", text, (), lambda: iter([("relay_accept_pauses_total", metrics.accept_pauses)])
    )


def _times(metrics: Metrics, name: str, documentation: str, of: Callable[[MethodTimes], Histogram]) -> Family:
    def samples() -> Iterator[tuple[str, Value]]:
        for (service, method), times in metrics.methods.items():
            labels = f'service="{escaped(service)}",method="{escaped(method)}"'
            histogram = of(times)
            counts = list(accumulate(histogram.counts))  # at once, so that they agree with each other
            total = histogram.total
            for bound, count in zip(_BOUNDS, counts, strict=True):
                yield f'{name}_bucket{{{labels},le="{bound}"}}', count
            yield f"{name}_sum{{{labels}}}", total
            yield f"{name}_count{{{labels}}}", counts[-1]

    return Family(name, "histogram", documentation, ("service", "method"), samples)


def _reading(reading: Reading) -> Family:
    name = f"{reading.name}_total" if reading.kind == "counter" else reading.name

    def samples() -> Iterator[tuple[str, Value]]:
        for values, number in reading.read():
            yield series(name, reading.labels, values), number

    return Family(reading.name, reading.kind, reading.documentation, reading.labels, samples)
