"""What reload, drain, resume and close ask, print and return. They are tried on a real relay in tests/system."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.admin.control_client import ControlError
from relay.cli import control
from relay.cli.main import main

RELOADED = {"ok": True, "added": ["a", "b"], "changed": ["c"], "removed": [], "unchanged": 7, "closed": 4}


class Relay:
    """What the commands take for the relay. asked: by which socket, for what, and how long they would wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.asked: list[tuple[Path, dict[str, Any], float]] = []
        self.answer: dict[str, Any] | ControlError = {"ok": True}
        self.config = folder / "relay.yaml"
        self.config.write_text("relay: {state: state}")
        monkeypatch.setattr(control, "ask", self._ask)

    def _ask(self, path: Path, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        self.asked.append((path, request, timeout))
        if isinstance(self.answer, ControlError):
            raise self.answer
        return self.answer

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--config", str(self.config)])

    def request(self, *arguments: str) -> dict[str, Any]:
        self.run(*arguments)
        return self.asked[-1][1]


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Relay:
    return Relay(monkeypatch, tmp_path)


# ---- which relay --------------------------------------------------------------------------------------------------------


def test_the_socket_is_in_the_state_folder_of_the_configuration(relay: Relay, tmp_path: Path) -> None:
    relay.run("resume")
    assert relay.asked[0][0] == tmp_path / "state" / "control.sock"


def test_or_where_the_operator_says(relay: Relay) -> None:
    relay.config.unlink()
    relay.run("resume", "--socket", "/run/other.sock")
    assert relay.asked[0][0] == Path("/run/other.sock")


def test_nobody_can_say_which_one(relay: Relay) -> None:
    relay.config.write_text("relay: {}")
    done = relay.run("resume")
    assert (done.exit_code, done.stdout, relay.asked) == (2, "", [])
    assert done.stderr == (
        f"relay-tentacle: {relay.config}: cannot find relay.state in this file. "
        "Name the configuration with --config, or --socket PATH.\n"
    )


@pytest.mark.parametrize("arguments", [["reload"], ["drain"], ["resume"], ["close", "--machine", "web01"], ["status"]])
def test_there_is_no_answer(relay: Relay, arguments: list[str]) -> None:
    relay.answer = ControlError("no relay runs here")
    for more in ([], ["--json"]):
        done = relay.run(*arguments, *more)
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", "relay-tentacle: no relay runs here\n")


@pytest.mark.parametrize("arguments", [["reload"], ["drain"], ["resume"], ["close", "--machine", "web01"], ["status"]])
def test_the_relay_says_no(relay: Relay, arguments: list[str]) -> None:
    relay.answer = {"ok": False, "error": "it does not know the command"}
    done = relay.run(*arguments)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "relay-tentacle: it does not know the command\n")
    done = relay.run(*arguments, "--json")
    assert (done.exit_code, json.loads(done.stdout), done.stderr) == (1, relay.answer, "")


# ---- what they ask ------------------------------------------------------------------------------------------------------


def test_requests(relay: Relay) -> None:
    assert relay.request("reload") == {"command": "reload", "now": False}
    assert relay.request("reload", "--now") == {"command": "reload", "now": True}
    assert relay.request("drain") == {"command": "drain"}
    assert relay.request("drain", "web01") == {"command": "drain", "machine": "web01"}
    assert relay.request("resume") == {"command": "resume"}
    assert relay.request("resume", "web01") == {"command": "resume", "machine": "web01"}
    assert relay.request("close", "--machine", "web01") == {"command": "close", "machine": "web01"}
    assert relay.request("close", "--octopus", "production") == {"command": "close", "octopus": "production"}


def test_a_reload_may_take_longer_than_others(relay: Relay) -> None:
    relay.run("resume")
    relay.run("reload")
    assert relay.asked[1][2] > 10 * relay.asked[0][2]


@pytest.mark.parametrize("arguments", [[], ["--machine", "web01", "--octopus", "production"]])
def test_close_of_nothing_or_of_two_is_misuse(relay: Relay, arguments: list[str]) -> None:
    done = relay.run("close", *arguments)
    assert (done.exit_code, relay.asked) == (2, [])
    assert "Give either --machine NAME or --octopus NAME." in done.stderr


# ---- what they print ----------------------------------------------------------------------------------------------------


def test_a_reload_tells_what_it_did(relay: Relay) -> None:
    relay.answer = RELOADED
    done = relay.run("reload")
    assert (done.exit_code, done.stdout) == (0, "reloaded; machines added: 2, changed: 1, removed: 0, unchanged: 7\n")
    assert relay.run("reload", "--now").stdout.endswith("unchanged: 7; connections cut: 4\n")
    assert json.loads(relay.run("reload", "--json").stdout) == RELOADED


def test_a_failed_reload_tells_all_mistakes_on_standard_error(relay: Relay) -> None:
    relay.answer = {"ok": False, "error": "the configuration has 2 mistakes", "mistakes": ["one", "two"]}
    done = relay.run("reload")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "one\ntwo\nrelay-tentacle: the configuration has 2 mistakes\n"
    done = relay.run("reload", "--json")
    assert (done.exit_code, json.loads(done.stdout), done.stderr) == (1, relay.answer, "")


def test_drain_tells_what_goes_on(relay: Relay) -> None:
    relay.answer = {"ok": True, "machine": "web01", "already": False, "exchanges_in_flight": 2}
    assert relay.run("drain", "web01").stdout == "machine web01: drained; exchanges in flight: 2\n"
    relay.answer = {"ok": True, "machine": None, "already": False, "exchanges_in_flight": 2, "drain_seconds": 30.0}
    assert relay.run("drain").stdout == (
        "the relay drains; exchanges in flight: 2; it stops when they have ended, at the latest after 30 s\n"
    )


@pytest.mark.parametrize(
    ("names", "text"), [([], "resumed: none was drained\n"), (["web01", "web02"], "resumed: web01, web02\n")]
)
def test_resume_tells_whom(relay: Relay, names: list[str], text: str) -> None:
    relay.answer = {"ok": True, "resumed": names}
    assert relay.run("resume").stdout == text


def test_close_tells_how_many(relay: Relay) -> None:
    relay.answer = {"ok": True, "machine": "web01", "octopus": None, "closed": 3}
    assert relay.run("close", "--machine", "web01").stdout == "connections cut: 3\n"
