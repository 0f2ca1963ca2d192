import json

from json_lines import JsonLines
from twisted.internet.task import Clock

from relay.admin.log import make_log
from relay.admin.writer import LineWriter
from relay.outcomes import Refusal
from relay.refusals import MACHINES, OTHERS, SOURCES, SUMMARY, RefusalLog


class Logged:
    """The log of refusals, and what it has said."""

    def __init__(self) -> None:
        self.clock, self._lines = Clock(), JsonLines()
        self._taken = 0
        self.refusals = RefusalLog(self.clock, make_log(LineWriter(self.clock, self._lines), "info"))

    def take(self) -> list[dict[str, object]]:
        """What was said since this was asked last."""
        self.clock.advance(1)
        found = self._lines.found[self._taken :]
        self._taken += len(found)
        return found

    def minute(self) -> list[dict[str, object]]:
        self.clock.advance(SUMMARY)
        self.refusals.tick()
        return self.take()


def test_the_first_is_told_at_once_and_the_rest_once_a_minute_while_any_come() -> None:
    log = Logged()
    for port in range(1000):
        log.refusals.say(Refusal.UNTRUSTED, "web0", f"192.0.2.1:{port}", "it showed X")
    [first] = log.take()
    assert (first["event"], first["reason"], first["machine"], first["peer"]) == (
        "caller refused", "untrusted", "web0", "192.0.2.1:0",
    )  # fmt: skip
    [summary] = log.minute()
    assert (summary["event"], summary["source"], summary["count"]) == ("callers refused", "192.0.2.1", 999)
    assert (summary["last_peer"], summary["last_detail"]) == ("192.0.2.1:999", "it showed X")
    assert summary["machines"] == ["web0"]
    log.refusals.say(Refusal.UNTRUSTED, "web0", "192.0.2.1:5", "it showed X")
    assert log.take() == []  # it goes on, which is no news
    [summary] = log.minute()
    assert (summary["count"], summary["machines"]) == (1, ["web0"])
    assert log.minute() == []
    log.refusals.say(Refusal.UNTRUSTED, "web0", "192.0.2.1:6", "it showed X")
    assert [line["event"] for line in log.take()] == ["caller refused"]


def test_the_first_at_each_machine_is_told_at_once_for_some_machines() -> None:
    log = Logged()
    for port in range(1000):
        log.refusals.say(Refusal.UNTRUSTED, f"web{port % 100}", f"192.0.2.1:{port}", "it showed X")
    assert [line["machine"] for line in log.take()] == [f"web{number}" for number in range(MACHINES)]
    [summary] = log.minute()
    assert summary["count"] == 1000 - MACHINES
    assert summary["machines"] == [*(f"web{MACHINES + number}" for number in range(5)), "and more"]
    log.refusals.say(Refusal.UNTRUSTED, "web0", "192.0.2.1:1", "it showed X")
    assert log.take() == []


def test_another_source_and_another_reason_are_told_of_their_own() -> None:
    log = Logged()
    for refusal, peer in [
        (Refusal.NOT_TLS, "192.0.2.1:1"),
        (Refusal.NOT_TLS, "192.0.2.2:1"),
        (Refusal.TLS, "192.0.2.1:1"),
        (Refusal.TLS, "[2001:db8::1]:1"),
        (Refusal.TLS, "[2001:db8::2]:1"),  # the same network
    ]:
        log.refusals.say(refusal, "", peer, "")
    assert len(log.take()) == 4


def test_a_scan_from_anywhere_writes_no_more_than_a_few_lines() -> None:
    log = Logged()
    for minute in range(3):
        for number in range(5000):
            log.refusals.say(Refusal.NOT_TLS, "", f"10.{minute}.{number >> 8}.{number & 255}:1", "")
        lines = log.take() + log.minute()
        others = [line for line in lines if line.get("source") == OTHERS]
        assert len(lines) <= 2 * SOURCES + 2
        assert [line["count"] >= 5000 - SOURCES - 1 for line in others] == [True]
    assert sum(len(json.dumps(line)) for line in lines) < 50_000
