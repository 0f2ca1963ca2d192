"""What status prints and returns, of the answers that a relay gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_controls import NOW, FakeChanges, FakeControls, FakeFailure, FakeOutcome, FakeReloads
from json_docs import parsed

from relay.admin.status import Status
from relay.cli import control
from relay.cli.main import main
from relay.cli.status import ago
from relay.load import Load, NodePolls
from relay.outcomes import NodeTrouble, Outcome, Refusal
from relay.passed import Passed
from routing.addresses import Address
from routing.table import ConnectDoor


class Relay:
    """One that answers in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.controls, self.reloads = FakeControls(folder), FakeReloads(folder)
        self._status = Status(self.controls, self.reloads, self.controls.metrics, lambda: NOW)
        monkeypatch.setattr(control, "ask", self._ask)

    def _ask(self, path: Path, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        if "machine" in request:
            return self._status.of_machine(request["machine"])
        found: dict[str, Any] = json.loads("".join(self._status.of_all()))
        return found

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["status", *arguments, "--socket", "control.sock"])


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Relay:
    return Relay(monkeypatch, tmp_path)


def lines(done: Result) -> dict[str, str]:
    """What stands behind each name."""
    return {name: text for name, _, text in (line.partition("  ") for line in done.stdout.splitlines())}


def test_a_relay_at_rest(relay: Relay, tmp_path: Path) -> None:
    done = relay.run()
    assert (done.exit_code, done.stderr) == (0, "")
    head, table = done.stdout.split("\n\n")
    assert head.splitlines()[1] == f"up for 1 h; configuration {tmp_path}/relay.yaml"
    assert head.splitlines()[2] == "not reloaded since its start"
    first, second = table.splitlines()[1:]
    assert first.split() == ["web01", "127.0.0.1:0", "127.0.0.1:10933", "open", "0", "0", "0", "0", "-", "-", "-"]
    assert second.startswith("web02")


def test_json_is_all_of_it_as_described(relay: Relay) -> None:
    relay.controls.failures["web01"] = FakeFailure(NOW - 5, Outcome.REFUSED)
    relay.controls.successes["web02"] = NOW - 7
    for relay.reloads.last in (None, FakeOutcome(), FakeOutcome(ok=False, lines=("one",), changes=None)):
        parsed(relay.run("--json").stdout, "status")
    found = parsed(relay.run("web01", "--json").stdout, "status")
    assert found["machine"]["last_failure"]["word"] == "refused"


def test_machines_that_fail_are_in_the_table_and_the_relay_is_fine(relay: Relay) -> None:
    relay.controls.failures["web01"] = FakeFailure(NOW - 150, Outcome.REFUSED)
    relay.controls.drained = frozenset({"web02"})
    done = relay.run()
    assert done.exit_code == 0
    assert "drained: 1, last call failed: 1, Tentacle away: 0;" in done.stdout
    first, second = done.stdout.splitlines()[-2:]
    assert "  failing  " in first
    assert "2 min ago: the Tentacle's host refuses the connection" in first
    assert "  drained  " in second


def test_a_machine_that_was_removed_is_in_the_table_until_its_calls_have_ended(relay: Relay) -> None:
    relay.controls.gone = [(replace(relay.controls.table.machines[0], name="old"), Load(4, 3, 2, 1, 6, 5))]
    said = relay.run().stdout
    assert " ".join(said.splitlines()[-1].split()) == "old - 127.0.0.1:10933 removed, ending 4 3 2 1 5 - -"
    counts = "connections to Tentacles: 1, pollers among them: 6, polls of Octopus: 5"
    assert f"callers: 4, calls in flight: 3, waiting: 2, {counts}\n" in said
    parsed(relay.run("--json").stdout, "status")


def test_no_machine_is_open_while_the_relay_drains(relay: Relay) -> None:
    relay.controls.draining = True
    said = relay.run().stdout
    assert [line.split()[3] for line in said.splitlines()[-2:]] == ["draining", "draining"]
    said = relay.run("web01").stdout
    assert "\nstate                        draining\n" in said


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_relay_that_drains_is_not_fine(relay: Relay, more: list[str]) -> None:
    relay.controls.draining = True
    assert relay.run(*more).exit_code == 1


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nor_is_one_that_runs_on_by_an_old_configuration(relay: Relay, more: list[str]) -> None:
    relay.reloads.last = FakeOutcome(ok=False, lines=("relay.yaml:3: one", "relay.yaml:4: two"), changes=None)
    done = relay.run(*more)
    assert done.exit_code == 1
    if not more:
        assert "FAILED, the relay runs on as it was:\nrelay.yaml:3: one\nrelay.yaml:4: two\n" in done.stdout
    relay.reloads.last = FakeOutcome(changes=FakeChanges(added=("a",)))
    done = relay.run(*more)
    assert done.exit_code == 0
    if not more:
        assert "last reload 2023-11-14T22:13:20Z: done; added: 1, changed: 0, removed: 0\n" in done.stdout


def test_one_machine(relay: Relay) -> None:
    relay.controls.successes["web01"] = NOW - 60
    done = relay.run("web01")
    assert done.exit_code == 0
    said = {name.strip(): text.strip() for name, text in lines(done).items()}
    assert said["state"] == "open"
    assert said["octopus"] == "production, staging"
    assert said["last call carried"] == "2023-11-14T22:12:20Z"
    assert said["last failure"] == "none since the start"
    assert "what to do" not in said


def test_one_that_fails_has_its_cause_and_remedy(relay: Relay) -> None:
    relay.controls.failures["web01"] = FakeFailure(NOW - 30, Outcome.WRONG_CERTIFICATE, "it showed ABC")
    done = relay.run("web01")
    assert done.exit_code == 1
    said = {name.strip(): text.strip() for name, text in lines(done).items()}
    assert said["state"] == "failing"
    assert said["last failure"] == (
        "2023-11-14T22:12:50Z, 30 s ago: the Tentacle shows a certificate that is not pinned (wrong-certificate)"
    )
    assert (said["detail"], said["caller"]) == ("it showed ABC", "192.0.2.1:50000")
    assert said["what to do"].startswith("If its certificate was replaced")


def test_a_refused_caller_is_told_and_no_failure_of_the_machine(relay: Relay) -> None:
    relay.controls.failures["web01"] = FakeFailure(NOW - 30, Refusal.UNTRUSTED)
    done = relay.run("web01")
    assert done.exit_code == 0
    assert "(untrusted)" in done.stdout


def test_one_that_is_drained_is_not_fine(relay: Relay) -> None:
    relay.controls.drained = frozenset({"web01"})
    assert relay.run("web01").exit_code == 1
    assert relay.run("web02").exit_code == 0


def test_polls_and_what_keeps_a_node_from_being_polled_are_shown(relay: Relay) -> None:
    relay.controls.polled["web01"] = [
        NodePolls("production", "octopus-1:10943", 2, 2),
        NodePolls("production", "octopus-2:10943", 1, 2, NodeTrouble.REFUSED, "connection refused"),
    ]
    relay.controls.there["web01"] = True
    relay.controls.numbers.update({("web01", "polls"): 3, ("web01", "pollers"): 4, ("web01", "back_connections"): 4})
    said = relay.run().stdout
    assert [line.split()[8] for line in said.splitlines() if line.startswith("web0")][:2] == ["3/4", "-"]
    trouble = "1 of 2; the Octopus node refuses the connection: nothing listens on that port: connection refused"
    assert said.splitlines()[-1] == f"web01: octopus-2:10943 (production): {trouble}"
    done = relay.run("web01")
    assert done.exit_code == 0
    found = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "connections to the Tentacle 4, which poll the relay" in found
    assert "polls octopus-1:10943 (production): 2 of 2" in found
    assert f"polls octopus-2:10943 (production): {trouble}" in found
    parsed(relay.run("--json").stdout, "status")
    parsed(relay.run("web01", "--json").stdout, "status")


def test_not_every_node_in_trouble_is_listed(relay: Relay) -> None:
    troubled = NodePolls("production", "octopus-1:10943", 0, 1, NodeTrouble.REFUSED)
    relay.controls.polled["web01"] = [troubled] * 25
    said = relay.run().stdout.splitlines()
    assert said[-1] == "and 5 more nodes that are not polled as they should be"
    assert len([line for line in said if line.startswith("web01: ")]) == 20


def test_a_machine_whose_tentacle_is_away_is_not_fine(relay: Relay) -> None:
    relay.controls.there["web01"] = False
    said = relay.run().stdout
    assert "Tentacle away: 1;" in said
    assert "  Tentacle away  " in said.splitlines()[-2]
    done = relay.run("web01")
    assert done.exit_code == 1
    assert "0; the Tentacle is away" in done.stdout


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (86400, "1 d"), (86400 * 30, "30 d")]
)
def test_times_are_in_the_largest_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_a_machine_that_is_passed_through(relay: Relay) -> None:
    controls = relay.controls
    vault = replace(controls.table.machines[0], name="vault01", passthrough=True, octopus=(), thumbprints=())
    controls.table = replace(controls.table, machines=(vault,))
    controls.metrics.declare(["vault01"], ["vault01"])
    controls.metrics.passed(Passed("vault01", "", "", 0.0, outcome=Outcome.OK, request_bytes=12, reply_bytes=34))
    done = relay.run("vault01")
    assert done.exit_code == 0
    said = {name.strip(): text.strip() for name, text in lines(done).items()}
    assert said["tentacle"] == "127.0.0.1:10933, passed through"
    assert said["octopus"] == "whoever the Tentacle trusts"
    assert said["connections ended"] == "ok: 1; 12 bytes there, 34 back"
    assert "calls in flight" not in said
    assert parsed(relay.run("vault01", "--json").stdout, "status")["machine"]["passthrough_connections"] == {"ok": 1}
    parsed(relay.run("--json").stdout, "status")


def test_a_machine_s_target_is_a_door_too(relay: Relay) -> None:
    table = relay.controls.table
    web01, web02 = table.machines
    machines = (replace(web01, target=Address("web01.internal", 10933)), web02)
    relay.controls.table = replace(table, machines=machines, front=Address("", 10933), connect=ConnectDoor())
    assert lines(relay.run("web01"))["door"].strip() == "127.0.0.1:0, CONNECT web01.internal:10933"
    assert "connect door :10933: open" in relay.run().stdout.splitlines()
    assert parsed(relay.run("--json").stdout, "status")["machines"][0]["connect"] == "web01.internal:10933"
