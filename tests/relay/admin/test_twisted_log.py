from collections.abc import Iterator
from typing import Any

import pytest
from json_lines import JsonLines
from twisted.internet.task import Clock
from twisted.logger import Logger, globalLogPublisher

from relay.admin.log import make_log
from relay.admin.twisted_log import observe_twisted
from relay.admin.writer import FLUSH_AFTER, LineWriter


class Lines:
    """A log, and what it says."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._sink = JsonLines()
        self.log = make_log(LineWriter(self._clock, self._sink), "debug")

    def take(self) -> list[dict[str, Any]]:
        self._clock.advance(FLUSH_AFTER)
        return self._sink.found


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines()
    observer: Any = observe_twisted(made.log)
    yield made
    globalLogPublisher.removeObserver(observer)


def test_an_error_that_nobody_expected_is_written_with_its_traceback(lines: Lines) -> None:
    try:
        raise ValueError("as told")
    except ValueError:
        Logger().failure("an event failed")
    [line] = lines.take()
    assert (line["level"], line["event"], line["message"]) == ("error", "an error that nobody expected", "an event failed")
    assert "ValueError: as told" in line["traceback"]


def test_an_error_without_a_traceback(lines: Lines) -> None:
    Logger().error("{what} failed", what="it")
    [line] = lines.take()
    assert (line["message"], line["traceback"]) == ("it failed", None)


def test_other_news_of_twisted_stay_out(lines: Lines) -> None:
    Logger().info("a port opens")
    Logger().warn("something is odd")
    assert lines.take() == []
