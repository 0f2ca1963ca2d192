"""What the metrics read of the running relay when somebody scrapes, instead of counting along."""

from collections.abc import Iterator
from typing import Final

from relay.admin.controls import Controls
from relay.admin.metrics import Metrics, Reading, Value

IN_FLIGHT: Final = "Exchanges that have begun and not ended; a connection that is passed through counts as one."


def read_from(metrics: Metrics, controls: Controls) -> None:
    """Adds these numbers."""
    metrics.gauge(
        "relay_start_timestamp_seconds", "When the relay was started; 0 until all doors are open.", lambda: controls.started
    )
    metrics.gauge("relay_draining", "1 while the whole relay drains, and then stops.", lambda: int(controls.draining))
    metrics.machine_gauge("relay_machine_connections", "Callers' connections that are open.", controls.connections)
    metrics.machine_gauge("relay_machine_exchanges_in_flight", IN_FLIGHT, controls.in_flight)
    metrics.machine_gauge("relay_machine_waiting", "Calls that wait for a connection to the Tentacle.", controls.waiting)
    metrics.machine_gauge(
        "relay_machine_drained", "1 where an operator has drained the machine.", lambda name: int(controls.is_drained(name))
    )
    metrics.machine_gauge(
        "relay_machine_last_success_timestamp_seconds",
        "When a whole reply was last carried; 0 where none was since the start.",
        lambda name: round(controls.last_success(name) or 0, 3),
    )

    def backs() -> Iterator[tuple[tuple[str, ...], Value]]:
        for name in list(metrics.machines):
            if name in metrics.machines:  # as in Metrics.machine_gauge
                idle = controls.idle_back_connections(name)
                yield (name, "idle"), idle
                yield (name, "leased"), controls.back_connections(name) - idle

    def expiries() -> Iterator[tuple[tuple[str, ...], Value]]:
        for kind, name, time in controls.expiries():
            yield (kind, name), int(time)

    text = "When the certificate expires that the relay shows for a machine (to Octopus) or an octopus entry (to Tentacles)."
    metrics.add(Reading("relay_identity_expiry_timestamp_seconds", "gauge", text, ("kind", "name"), expiries))
    text = "Connections to the Tentacle: idle, or leased by an exchange (dialling, proving, in use)."
    metrics.add(Reading("relay_machine_back_connections", "gauge", text, ("machine", "state"), backs))
