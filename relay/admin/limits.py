"""The metrics of limits: how much of each is in use, and what it is."""

from collections.abc import Iterator

from relay.admin.metrics import Metrics, Reading, Value
from relay.admission import Admission


def read_limits(metrics: Metrics, admission: Admission) -> None:
    """Adds them."""
    metrics.gauge("relay_strangers", "Callers who have not been identified yet.", lambda: admission.strangers)
    metrics.gauge("relay_source_strangers", "The same, of the source with most of them.", lambda: admission.most_strangers)
    metrics.gauge("relay_known_sources", "Source addresses from which somebody was identified.", lambda: admission.known)
    metrics.gauge("relay_buffered_bytes", "Bytes that wait for a peer to take them.", lambda: admission.buffered)

    def limits() -> Iterator[tuple[tuple[str, ...], Value]]:
        for name in type(admission.limits).__slots__:
            yield (name,), getattr(admission.limits, name)

    def callers() -> Iterator[tuple[tuple[str, ...], Value]]:
        for octopus in admission.of_octopus:
            yield (octopus,), admission.callers(octopus)

    def exchanges() -> Iterator[tuple[tuple[str, ...], Value]]:
        for octopus in admission.of_octopus:
            yield (octopus,), admission.exchanges_of(octopus)

    def of_octopus() -> Iterator[tuple[tuple[str, ...], Value]]:
        for octopus, held in admission.of_octopus.items():
            yield (octopus, "callers"), held.callers
            yield (octopus, "exchanges"), held.exchanges

    metrics.add(Reading("relay_limit", "gauge", "What `relay.limits` allows.", ("limit",), limits))
    text = "Connections of an octopus entry, identified."
    metrics.add(Reading("relay_octopus_connections", "gauge", text, ("octopus",), callers))
    text = "Exchanges of an octopus entry that dials the relay."
    metrics.add(Reading("relay_octopus_exchanges_in_flight", "gauge", text, ("octopus",), exchanges))
    text = "What `octopus[].limits` allows."
    metrics.add(Reading("relay_octopus_limit", "gauge", text, ("octopus", "limit"), of_octopus))
