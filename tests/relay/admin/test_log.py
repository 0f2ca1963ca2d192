from datetime import datetime
from typing import Any

import pytest
from json_lines import JsonLines
from twisted.internet.task import Clock

from relay.admin.log import SUMMARY, Log, Repeats, Threshold, make_log
from relay.admin.writer import FLUSH_AFTER, LineWriter
from routing.values import LOG_LEVELS


class Lines:
    """A log, and what it says."""

    def __init__(self, level: str | Threshold = "debug") -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self._sink = JsonLines()
        self._taken = 0
        self.log: Log = make_log(LineWriter(self.clock, self._sink), level, relay="dc-east")

    def take(self) -> list[dict[str, Any]]:
        """The lines since this was asked last."""
        self.clock.advance(FLUSH_AFTER)
        found = self._sink.found[self._taken :]
        self._taken += len(found)
        return found


@pytest.fixture
def lines() -> Lines:
    return Lines()


# ---- lines --------------------------------------------------------------------------------------------------------------


def test_a_line_has_its_event_its_fields_and_those_of_all_lines(lines: Lines) -> None:
    lines.log.info("door open", machine="web01", port=11001)
    [line] = lines.take()
    datetime.fromisoformat(line.pop("timestamp"))
    assert line == {"event": "door open", "level": "info", "relay": "dc-east", "machine": "web01", "port": 11001}


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_only_lines_of_the_level_and_above_are_written(level: str) -> None:
    lines = Lines(level)
    for each in LOG_LEVELS:
        getattr(lines.log, each)("said")
    assert [line["level"] for line in lines.take()] == list(LOG_LEVELS[LOG_LEVELS.index(level) :])


def test_the_level_may_change() -> None:
    lines = Lines(threshold := Threshold("warning"))
    lines.log.info("quiet")
    threshold.level = "info"
    lines.log.info("told")
    assert threshold.level == "info"
    assert [line["event"] for line in lines.take()] == ["told"]


@pytest.mark.parametrize("value", ['" }\n{"event": "forged', "\x1b[2J", "\ud800", "é", "\u2028"])
def test_whatever_a_stranger_sends_stays_inside_its_string(lines: Lines, value: str) -> None:
    lines.log.warning("caller refused", detail=value)
    [line] = lines.take()
    assert line["detail"] == value


def test_what_json_does_not_know_is_written_too(lines: Lines) -> None:
    lines.log.info("said", value=object(), path=b"\xff")
    [line] = lines.take()
    assert line["value"].startswith("<object object")


def test_an_exception_is_written_with_its_traceback(lines: Lines) -> None:
    try:
        raise ValueError("as told")
    except ValueError:
        lines.log.exception("failed")
    [line] = lines.take()
    assert line["exception"][0]["exc_value"] == "as told"


# ---- repeats ------------------------------------------------------------------------------------------------------------


class Flood:
    """Repeats, into lines."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.repeats = Repeats(self.lines.clock, self.lines.log)

    def say(self, *kind: str) -> None:
        self.repeats.say(kind, "caller refused", reason=kind[0])

    def take(self) -> list[tuple[str, str, int]]:
        return [(line["event"], line.get("reason") or line["kind"], line.get("count", 0)) for line in self.lines.take()]


@pytest.fixture
def flood() -> Flood:
    return Flood()


def test_the_first_of_a_kind_is_written_and_the_others_are_summed_up(flood: Flood) -> None:
    for _ in range(1000):
        flood.say("untrusted", "192.0.2.1")
    flood.say("tls", "192.0.2.1")
    assert flood.take() == [("caller refused", "untrusted", 0), ("caller refused", "tls", 0)]
    flood.lines.clock.advance(SUMMARY)
    flood.repeats.tick()
    assert flood.take() == [("more of the same", "untrusted/192.0.2.1", 999)]


def test_behind_the_summary_a_kind_is_new_again(flood: Flood) -> None:
    flood.say("untrusted")
    flood.lines.clock.advance(SUMMARY)
    flood.say("untrusted")
    assert flood.take() == [("caller refused", "untrusted", 0)] * 2


def test_it_is_not_summed_up_before_its_time(flood: Flood) -> None:
    flood.say("untrusted")
    flood.say("untrusted")
    flood.take()
    flood.lines.clock.advance(SUMMARY - 2 * FLUSH_AFTER)
    flood.repeats.tick()
    assert flood.take() == []


def test_at_the_end_all_is_summed_up(flood: Flood) -> None:
    for _ in range(3):
        flood.say("untrusted")
    flood.take()
    flood.repeats.summarise()
    assert flood.take() == [("more of the same", "untrusted", 2)]
    flood.repeats.summarise()
    assert flood.take() == []


def test_a_flood_from_everywhere_costs_a_bounded_number_of_lines(flood: Flood) -> None:
    for number in range(50_000):
        flood.say("untrusted", f"host {number}")
    first = flood.take()
    assert len(first) == 1001
    flood.lines.clock.advance(SUMMARY)
    flood.repeats.tick()
    assert flood.take() == [("more of the same", "others", 50_000 - 1001)]
