"""What the metrics read of the running relay when somebody scrapes, instead of counting along."""

from collections.abc import Callable, Iterator

from relay.admin.controls import Controls
from relay.admin.metrics import Metrics, Reading, Value
from relay.load import NodePolls
from routing.table import Machine


def read_from(metrics: Metrics, controls: Controls) -> None:
    """Adds these numbers."""
    metrics.gauge(
        "relay_start_timestamp_seconds", "When the relay was started; 0 until all doors are open.", lambda: controls.started
    )
    metrics.gauge("relay_draining", "1 while the whole relay drains, and then stops.", lambda: int(controls.draining))
    metrics.machine_gauge("relay_machine_connections", "Callers' connections that are open.", controls.connections)
    metrics.machine_gauge("relay_machine_exchanges_in_flight", "Exchanges that have begun and not ended.", controls.in_flight)
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

    def pollers() -> Iterator[tuple[tuple[str, ...], Value]]:
        for machine in _there(metrics, controls):
            if machine.tentacle is None:
                yield (machine.name,), controls.pollers(machine.name)

    def live() -> Iterator[tuple[tuple[str, ...], Value]]:
        for machine in _there(metrics, controls):
            there = controls.live(machine.name)
            if there is not None:
                yield (machine.name,), int(there)

    def polls(number: Callable[[NodePolls], int]) -> Callable[[], Iterator[tuple[tuple[str, ...], Value]]]:
        def read() -> Iterator[tuple[tuple[str, ...], Value]]:
            for machine in _there(metrics, controls):
                if machine.polled_for:
                    for node in controls.nodes(machine.name):
                        yield (machine.name, node.octopus, node.node), number(node)

        return read

    def expiries() -> Iterator[tuple[tuple[str, ...], Value]]:
        for kind, name, time in controls.expiries():
            yield (kind, name), int(time)

    text = "When the certificate expires that the relay shows for a machine (to Octopus) or an octopus entry (to Tentacles)."
    metrics.add(Reading("relay_identity_expiry_timestamp_seconds", "gauge", text, ("kind", "name"), expiries))
    text = "Connections to the Tentacle: idle (parked ones, too), or leased by an exchange (dialling, proving, in use)."
    metrics.add(Reading("relay_machine_back_connections", "gauge", text, ("machine", "state"), backs))
    text = "Connections of the machine's Tentacle. Of machines whose Tentacle polls the relay."
    metrics.add(Reading("relay_machine_pollers", "gauge", text, ("machine",), pollers))
    text = "1 where the Tentacle is there. Of machines whose Tentacle polls, or for which the relay polls Octopus."
    metrics.add(Reading("relay_machine_live", "gauge", text, ("machine",), live))
    labels = ("machine", "octopus", "node")
    text = "Connections that poll this Octopus node for the machine."
    metrics.add(Reading("relay_machine_polls", "gauge", text, labels, polls(lambda node: node.standing)))
    text = "How many there should be now: none while the Tentacle is away."
    metrics.add(Reading("relay_machine_polls_wanted", "gauge", text, labels, polls(lambda node: node.wanted)))


def _there(metrics: Metrics, controls: Controls) -> Iterator[Machine]:
    """The machines, without those that a reload between two of them has removed."""
    for name in list(metrics.machines):
        machine = controls.table.machine(name) if name in metrics.machines else None
        if machine is not None:
            yield machine
