from dataclasses import replace
from pathlib import Path

from fake_controls import NOW, FakeControls
from scraped import sample

from relay.admin.readings import read_from
from relay.load import NodePolls


def test_numbers_are_read_of_the_running_relay(tmp_path: Path) -> None:
    controls = FakeControls(tmp_path)
    read_from(controls.metrics, controls)

    def value(series: str, /, **labels: str) -> float | None:
        return sample(controls.metrics, series, **labels)

    names = ("relay_machine_connections", "relay_machine_exchanges_in_flight", "relay_machine_waiting", "relay_machine_drained")
    stamp = "relay_machine_last_success_timestamp_seconds"
    for machine in ("web01", "web02"):
        assert [value(name, machine=machine) for name in (*names, stamp)] == [0] * 5
        assert [value("relay_machine_back_connections", machine=machine, state=state) for state in ("idle", "leased")] == [0, 0]
    assert value("relay_draining") == 0
    assert value("relay_start_timestamp_seconds") == NOW - 3600

    expiry = "relay_identity_expiry_timestamp_seconds"
    assert value(expiry, kind="machine", name="web02") == NOW + 1000
    assert value(expiry, kind="octopus", name="production") == NOW + 2000

    kinds = {"connections": 5, "in_flight": 4, "waiting": 3, "back_connections": 7, "idle_back_connections": 2}
    for kind, number in kinds.items():
        controls.numbers["web02", kind] = number
    controls.drained, controls.draining = frozenset({"web02"}), True
    controls.successes["web02"] = NOW + 0.5
    assert [value(name, machine="web02") for name in names] == [5, 4, 3, 1]
    assert [value("relay_machine_back_connections", machine="web02", state=state) for state in ("idle", "leased")] == [2, 5]
    assert value(stamp, machine="web02") == NOW + 0.5
    assert value("relay_draining") == 1


def test_polling_is_read_of_machines_that_have_it_only(tmp_path: Path) -> None:
    controls = FakeControls(tmp_path)
    web, kiosk = controls.table.machines
    kiosk = replace(kiosk, tentacle=None, subscription="poll://kiosk/", polled_for=True)
    controls.table = replace(controls.table, machines=(web, kiosk))
    controls.numbers["web02", "pollers"] = 3
    controls.there["web02"] = False
    controls.polled["web02"] = [NodePolls("production", "octopus-1:10943", 1, 2)]
    read_from(controls.metrics, controls)
    node = {"machine": "web02", "octopus": "production", "node": "octopus-1:10943"}
    assert sample(controls.metrics, "relay_machine_pollers", machine="web02") == 3
    assert sample(controls.metrics, "relay_machine_live", machine="web02") == 0
    assert sample(controls.metrics, "relay_machine_polls", **node) == 1
    assert sample(controls.metrics, "relay_machine_polls_wanted", **node) == 2
    for series in ("relay_machine_pollers", "relay_machine_live"):
        assert sample(controls.metrics, series, machine="web01") is None
