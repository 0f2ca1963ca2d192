import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_controls import NOW, FakeChanges, FakeControls, FakeFailure, FakeOutcome, FakeReloads

from relay.admin.status import MACHINES, Status
from relay.errors import NoSuchNameError
from relay.load import Load, NodePolls
from relay.outcomes import NodeTrouble, Outcome, Refusal
from relay.passed import Passed
from relay.version import VERSION
from routing.addresses import Address
from routing.table import ConnectDoor


class Asked:
    """A status, and what it says."""

    def __init__(self, folder: Path, *names: str, **options: Any) -> None:
        self.controls = FakeControls(folder, *names, **options)
        self.reloads = FakeReloads(folder)
        self.status = Status(self.controls, self.reloads, self.controls.metrics, lambda: NOW)

    def all(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads("".join(self.status.of_all()))
        return found


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_the_relay_says_who_it_is(asked: Asked, tmp_path: Path) -> None:
    relay = asked.all()["relay"]
    assert {key: relay[key] for key in ("name", "version", "config", "draining", "last_reload")} == {
        "name": "dc-east", "version": VERSION, "config": str(tmp_path / "relay.yaml"), "draining": False, "last_reload": None,
    }  # fmt: skip
    assert (relay["started"], relay["uptime_seconds"]) == ("2023-11-14T21:13:20Z", 3600)


def test_its_configuration_is_shown_with_its_folder(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked.reloads.path = Path("relay.yaml")
    assert asked.all()["relay"]["config"] == str(tmp_path / "relay.yaml")


def test_the_last_reload_is_told(asked: Asked) -> None:
    asked.reloads.last = FakeOutcome(changes=FakeChanges(added=("a", "b"), changed=("c",)))
    reload = asked.all()["relay"]["last_reload"]
    assert reload == {
        "time": "2023-11-14T22:13:20Z", "ok": True, "mistakes": [], "added": 2, "changed": 1, "removed": 0,
    }  # fmt: skip
    asked.reloads.last = FakeOutcome(ok=False, lines=("relay.yaml:3: a mistake",), changes=None)
    reload = asked.all()["relay"]["last_reload"]
    assert (reload["ok"], reload["mistakes"]) == (False, ["relay.yaml:3: a mistake"])


def test_doors_are_open_drained_or_draining(asked: Asked) -> None:
    controls = asked.controls
    controls.table = replace(
        controls.table,
        front=Address("", 10933),
        connect=ConnectDoor(),
        back=Address("", 10943),
        admin=Address("127.0.0.1", 9933),
    )
    controls.drained = frozenset({"web02"})
    found = {(door["kind"], door["machine"]): (door["address"], door["state"]) for door in asked.all()["doors"]}
    assert found == {
        ("shared", None): (":10933", "open"),
        ("connect", None): (":10933", "open"),
        ("back", None): (":10943", "open"),
        ("admin", None): ("127.0.0.1:9933", "open"),
        ("port", "web01"): ("127.0.0.1:0", "open"),
        ("port", "web02"): ("127.0.0.1:0", "drained"),
    }
    controls.draining = True
    assert [door["state"] for door in asked.all()["doors"]] == ["draining"] * 3 + ["open", "draining", "drained"]


def test_machines_and_totals(asked: Asked) -> None:
    kinds = {"connections": 5, "in_flight": 4, "waiting": 3, "back_connections": 7, "pollers": 6, "polls": 2}
    for kind, number in kinds.items():
        asked.controls.numbers["web01", kind] = number
        asked.controls.numbers["web02", kind] = 1
    found = asked.all()
    first, second = found["machines"]
    assert (first["name"], first["door"], first["host"], first["tentacle"]) == ("web01", "127.0.0.1:0", None, "127.0.0.1:10933")
    assert first["octopus"] == ["production", "staging"]
    keys = ("connections", "exchanges_in_flight", "waiting", "back_connections", "pollers", "polls")
    assert [first[key] for key in keys] == [5, 4, 3, 7, 6, 2]
    assert [second[key] for key in keys] == [1, 1, 1, 1, 1, 1]
    assert [found["totals"][key] for key in keys] == [6, 5, 4, 8, 7, 3]
    assert (found["totals"]["machines"], found["totals"]["drained"], found["totals"]["failing"]) == (2, 0, 0)


def test_machines_that_were_removed_are_told_and_counted_until_their_calls_have_ended(asked: Asked) -> None:
    asked.controls.numbers["web01", "in_flight"] = 1
    asked.controls.gone = [(replace(asked.controls.table.machines[0], name="old"), Load(4, 3, 2, 1, 6, 5))]
    found = asked.all()
    numbers = {"connections": 4, "exchanges_in_flight": 3, "waiting": 2, "back_connections": 1, "pollers": 6, "polls": 5}
    assert found["leaving"] == [{"name": "old", "tentacle": "127.0.0.1:10933", **numbers}]
    assert found["totals"] == {**numbers, "exchanges_in_flight": 4, "machines": 2, "drained": 0, "failing": 0, "away": 0}


def test_how_nodes_are_polled_is_told_with_the_trouble(asked: Asked) -> None:
    asked.controls.polled["web01"] = [
        NodePolls("production", "octopus-1:10943", 2, 2),
        NodePolls("production", "octopus-2:10943", 0, 2, NodeTrouble.REFUSED, "connection refused"),
    ]
    asked.controls.there = {"web01": True, "web02": False}
    found = asked.all()
    first, second = found["machines"]
    fine, troubled = first["nodes"]
    assert fine == {"octopus": "production", "node": "octopus-1:10943", "standing": 2, "wanted": 2, "trouble": None}
    assert (troubled["standing"], troubled["trouble"]["word"], troubled["trouble"]["detail"]) == (
        0,
        "refused",
        "connection refused",
    )
    assert "nothing listens" in troubled["trouble"]["cause"]
    assert "the node is up" in troubled["trouble"]["remedy"]
    assert (first["live"], second["live"], second["nodes"], found["totals"]["away"]) == (True, False, [], 1)


def test_a_tentacle_that_cannot_be_had_for_polls_is_no_call_that_failed(asked: Asked) -> None:
    asked.controls.failures["web01"] = FakeFailure(NOW, Outcome.REFUSED, of_tentacle=True)
    machine = asked.all()["machines"][0]
    assert (machine["last_failure"]["kind"], machine["last_call_failed"]) == ("tentacle", False)


def test_a_failure_is_told_in_words_with_its_remedy(asked: Asked) -> None:
    asked.controls.failures["web01"] = FakeFailure(NOW - 90, Outcome.REFUSED, "connection refused")
    found = asked.all()
    failure = found["machines"][0]["last_failure"]
    assert failure["seconds_ago"] == 90
    assert (failure["kind"], failure["word"], failure["detail"]) == ("call", "refused", "connection refused")
    assert "nothing listens" in failure["cause"]
    assert "Start the Tentacle service" in failure["remedy"]
    assert found["machines"][1]["last_failure"] is None
    assert found["totals"]["failing"] == 1


@pytest.mark.parametrize(
    ("word", "success", "failing"),
    [
        (Outcome.REFUSED, None, True),
        (Outcome.REFUSED, NOW - 100, True),
        (Outcome.REFUSED, NOW - 80, False),
        (Refusal.UNTRUSTED, None, False),  # anybody can be that
    ],
)
def test_the_last_call_failed_where_none_was_carried_since(
    asked: Asked, word: Outcome | Refusal, success: float | None, failing: bool
) -> None:
    asked.controls.failures["web01"] = FakeFailure(NOW - 90, word)
    if success:
        asked.controls.successes["web01"] = success
    assert asked.all()["machines"][0]["last_call_failed"] is failing


def test_words_that_are_both_an_end_and_a_refusal_are_told_apart(asked: Asked) -> None:
    asked.controls.failures["web01"] = FakeFailure(NOW, Outcome.TLS)
    asked.controls.failures["web02"] = FakeFailure(NOW, Refusal.TLS)
    of_call, of_caller = (machine["last_failure"] for machine in asked.all()["machines"])
    asked.controls.failures["web01"] = FakeFailure(NOW, NodeTrouble.TLS)
    of_node = asked.all()["machines"][0]["last_failure"]
    assert (of_node["word"], of_node["kind"]) == ("tls", "node")
    assert (of_call["word"], of_call["kind"]) == ("tls", "call")
    assert (of_caller["word"], of_caller["kind"]) == ("tls", "refusal")
    assert len({of_call["cause"], of_caller["cause"], of_node["cause"]}) == 3


# ---- one machine --------------------------------------------------------------------------------------------------------


def test_one_machine_says_more(asked: Asked) -> None:
    counts = asked.controls.metrics.machines["web01"]
    counts.outcomes[list(Outcome).index(Outcome.CANCELLED)] = 3
    counts.request_bytes, counts.reply_bytes = 100, 7
    found = asked.status.of_machine("web01")
    machine = found["machine"]
    assert machine["exchanges"] == {"cancelled": 3}
    assert (machine["request_bytes"], machine["reply_bytes"]) == (100, 7)
    assert len(machine["thumbprints"]) == 1
    assert found["relay"]["name"] == "dc-east"


def test_a_machine_that_is_not_there(asked: Asked) -> None:
    with pytest.raises(NoSuchNameError):
        asked.status.of_machine("web03")


# ---- in pieces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, MACHINES - 1, MACHINES, MACHINES + 1, 5 * MACHINES])
def test_no_piece_has_more_than_a_few_machines_and_together_they_are_json(tmp_path: Path, count: int) -> None:
    asked = Asked(tmp_path, *[f"web{number:05}" for number in range(count)])
    pieces = list(asked.status.of_all())
    assert max(piece.count('"tentacle"') for piece in pieces) <= MACHINES
    assert max(piece.count('"kind"') for piece in pieces) <= MACHINES
    found = json.loads("".join(pieces))
    assert (len(found["machines"]), len(found["doors"]), found["totals"]["machines"]) == (count, count, count)


def test_a_machine_that_goes_in_the_middle_is_left_out(tmp_path: Path) -> None:
    asked = Asked(tmp_path, *[f"web{number:02}" for number in range(60)])
    pieces = asked.status.of_all()
    first = ""
    while '"tentacle"' not in first:
        first += next(pieces)
    controls = asked.controls
    controls.table = replace(controls.table, machines=controls.table.machines[:30])
    found = json.loads(first + "".join(pieces))
    assert len(found["machines"]) == found["totals"]["machines"] == 30


def test_a_machine_that_is_passed_through(tmp_path: Path) -> None:
    asked = Asked(tmp_path, "vault01", passthrough=True, octopus=(), thumbprints=())
    asked.controls.metrics.declare(["vault01"], ["vault01"])
    asked.controls.metrics.passed(Passed("vault01", "", "", 0.0, outcome=Outcome.CANCELLED))
    found = asked.status.of_machine("vault01")["machine"]
    assert (found["passthrough"], found["octopus"], found["thumbprints"]) == (True, [], [])
    assert (found["exchanges"], found["passthrough_connections"]) == ({}, {"cancelled": 1})
    assert found["limits"] == {"connections": 10}  # the others do not matter there
