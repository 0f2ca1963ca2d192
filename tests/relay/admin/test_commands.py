from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_controls import FakeChanges, FakeControls, FakeOutcome, FakeReloads
from json_lines import JsonLines
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.admin.commands import COMMANDS, Commands, Reply
from relay.admin.log import make_log
from relay.admin.status import Status
from relay.admin.writer import FLUSH_AFTER, LineWriter


def answered(asked: "Deferred[Any]") -> Any:
    """The answer, which has to be there."""
    found: list[Any] = []
    asked.addCallback(found.append)
    return found[0]


class Desk:
    """Where commands are given; pid and uid of the asker: 7 and 8."""

    def __init__(self, folder: Path) -> None:
        self.controls, self.reloads = FakeControls(folder), FakeReloads(folder)
        self._clock, self._lines = Clock(), JsonLines()
        status = Status(self.controls, self.reloads, self.controls.metrics)
        log = make_log(LineWriter(self._clock, self._lines), "debug")
        self._commands = Commands(self.controls, self.reloads, status, log)

    def begin(self, request: object) -> "Deferred[Any]":
        asked = Deferred.fromCoroutine(self._commands.answer(request, pid=7, uid=8))
        return asked.addCallback(self._sent)

    def _sent(self, reply: Reply) -> Any:
        self.then = reply.then
        return reply.answer

    def ask(self, command: str, **fields: object) -> Any:
        return answered(self.begin({"command": command, **fields}))

    def logged(self) -> list[dict[str, Any]]:
        self._clock.advance(FLUSH_AFTER)
        return [{key: value for key, value in line.items() if key != "timestamp"} for line in self._lines.found]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ---- requests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [None, [], "status", 7, [{"command": "status"}]])
def test_what_is_no_request(desk: Desk, request_: object) -> None:
    answer = answered(desk.begin(request_))
    assert answer == {"ok": False, "error": "a request is a JSON object with a command"}


@pytest.mark.parametrize("command", [None, 7, [], {}, "explode", "_drain", "answer", "x" * 10_000])
def test_an_unknown_command_is_answered_with_those_that_there_are(desk: Desk, command: object) -> None:
    answer = answered(desk.begin({"command": command}))
    assert not answer["ok"]
    assert "it knows: status, reload, drain, resume, close" in answer["error"]
    assert "after an upgrade" in answer["error"]
    assert len(answer["error"]) < 300
    assert desk.controls.told == desk.logged() == []


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_field_is_never_ignored(desk: Desk, command: str) -> None:
    answer = desk.ask(command, gently=True)
    assert not answer["ok"]
    assert f"does not know gently of {command}" in answer["error"]
    assert desk.controls.told == desk.reloads.asked == []


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        ("drain", "machine", 7),
        ("drain", "machine", None),
        ("reload", "now", 1),
        ("reload", "now", "yes"),
        ("close", "octopus", []),
    ],
)
def test_a_field_of_another_type(desk: Desk, command: str, field: str, value: object) -> None:
    answer = desk.ask(command, **{field: value})
    kind = "true or false" if field == "now" else "text"
    assert answer == {"ok": False, "error": f"{field} of {command} is not {kind}"}
    assert desk.controls.told == desk.reloads.asked == []


@pytest.mark.parametrize("command", ["status", "drain", "resume", "close"])
def test_a_machine_that_is_not_there(desk: Desk, command: str) -> None:
    assert desk.ask(command, machine="web99") == {"ok": False, "error": "no machine is named web99"}


# ---- what they do -------------------------------------------------------------------------------------------------------


def test_status_is_given_in_pieces(desk: Desk) -> None:
    answer = desk.ask("status")
    assert isinstance(answer, Iterator)
    assert "".join(answer).startswith('{"ok":true,')
    assert desk.ask("status", machine="web01")["machine"]["name"] == "web01"


@pytest.mark.parametrize(("fields", "now"), [({}, False), ({"now": False}, False), ({"now": True}, True)])
def test_reload_waits_for_the_outcome(desk: Desk, fields: dict[str, bool], now: bool) -> None:
    asked = desk.begin({"command": "reload", **fields})
    assert desk.reloads.asked == [now]
    assert not asked.called
    desk.reloads.pending[0].callback(FakeOutcome(changes=FakeChanges(("a",), ("b",), ("c", "d"), ("e",), 3)))
    assert answered(asked) == {
        "ok": True, "added": ["a"], "changed": ["b"], "removed": ["c", "d"], "unchanged": 1, "closed": 3,
    }  # fmt: skip


def test_a_failed_reload_says_all_mistakes(desk: Desk) -> None:
    asked = desk.begin({"command": "reload"})
    desk.reloads.pending[0].callback(FakeOutcome(ok=False, lines=("one", "two"), changes=None))
    assert answered(asked) == {
        "ok": False,
        "error": "the configuration has 2 mistakes; the relay runs on as it was",
        "mistakes": ["one", "two"],
    }


def test_drain_of_a_machine(desk: Desk) -> None:
    desk.controls.numbers["web01", "in_flight"] = 2
    for already in (False, True):
        assert desk.ask("drain", machine="web01") == {
            "ok": True, "machine": "web01", "already": already, "exchanges_in_flight": 2,
        }  # fmt: skip
    assert desk.controls.told == [("drain", "web01")]


def test_the_relay_drains_when_the_answer_has_gone_out(desk: Desk) -> None:
    """One without calls is gone then at once."""
    desk.controls.numbers["web01", "in_flight"] = 2
    desk.controls.numbers["web02", "in_flight"] = 1
    for already in (False, True):
        told = list(desk.controls.told)
        assert desk.ask("drain") == {
            "ok": True, "machine": None, "already": already, "exchanges_in_flight": 3, "drain_seconds": 30.0,
        }  # fmt: skip
        assert desk.controls.told == told
        desk.then()
        assert desk.controls.told == [*told, ("start_drain",)]


def test_resume_of_one_or_of_all(desk: Desk) -> None:
    assert desk.ask("resume", machine="web01") == {"ok": True, "resumed": []}
    desk.controls.drained = frozenset({"web01", "web02"})
    assert desk.ask("resume", machine="web02") == {"ok": True, "resumed": ["web02"]}
    assert desk.ask("resume") == {"ok": True, "resumed": ["web01"]}
    assert desk.ask("resume") == {"ok": True, "resumed": []}
    assert desk.controls.told == [("resume", "web02"), ("resume", "web01")]


def test_a_relay_that_drains_cannot_be_resumed(desk: Desk) -> None:
    desk.controls.draining = True
    for fields in ({}, {"machine": "web01"}):
        answer = desk.ask("resume", **fields)
        assert not answer["ok"]
        assert "cannot be taken back" in answer["error"]


def test_close(desk: Desk) -> None:
    assert desk.ask("close", machine="web01") == {"ok": True, "machine": "web01", "octopus": None, "closed": 3}
    assert desk.ask("close", octopus="staging") == {"ok": True, "machine": None, "octopus": "staging", "closed": 5}
    assert desk.ask("close", octopus="nobody") == {"ok": False, "error": "no octopus entry is named nobody"}
    assert desk.controls.told == [("close machine", "web01"), ("close octopus", "staging")]


@pytest.mark.parametrize("fields", [{}, {"machine": "web01", "octopus": "production"}])
def test_close_of_nothing_or_of_two(desk: Desk, fields: dict[str, str]) -> None:
    assert desk.ask("close", **fields) == {"ok": False, "error": "close needs either a machine or an octopus"}
    assert desk.controls.told == []


# ---- the log ------------------------------------------------------------------------------------------------------------


def test_what_changes_something_is_logged_with_who_asked(desk: Desk) -> None:
    desk.ask("drain", machine="web01")
    desk.begin({"command": "reload", "now": True})
    event = {"event": "an operator's command", "level": "info", "pid": 7, "uid": 8}
    assert desk.logged() == [{**event, "command": "drain", "machine": "web01"}, {**event, "command": "reload", "now": True}]


def test_status_is_logged_for_debugging_only(desk: Desk) -> None:
    desk.ask("status")
    assert [line["level"] for line in desk.logged()] == ["debug"]
