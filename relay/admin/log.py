"""The operational log: JSON lines by structlog, through a writer that never blocks."""

import json
import logging
from typing import Any, Final

import structlog

from relay.admin.writer import LineWriter
from relay.clock import Clock

SUMMARY: Final = 10.0  # seconds between two lines about the same kind of refusal
_KINDS: Final = 1000  # kinds that are told apart in that time
_NUMBERS: Final = logging.getLevelNamesMapping()

Log = structlog.typing.FilteringBoundLogger


class _Logger:
    """What structlog hands a finished line to."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, message: bytes) -> None:
        self._writer.write_line(message)

    debug = info = warning = error = critical = exception = msg


class Threshold:
    """The level (debug, info, warning, error) from which on lines are written. It may change at any time."""

    def __init__(self, level: str) -> None:
        self.level = level

    @property
    def level(self) -> str:
        return self._level

    @level.setter
    def level(self, level: str) -> None:
        self._level, self._least = level, _NUMBERS[level.upper()]

    def __call__(self, logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """A processor of structlog's."""
        if _NUMBERS[method.upper()] < self._least:
            raise structlog.DropEvent
        return event


def make_log(writer: LineWriter, level: str | Threshold, **fields: Any) -> Log:
    """A logger whose lines all carry these fields."""
    return structlog.wrap_logger(  # type: ignore[no-any-return]  # structlog types it by the class that it is given
        _Logger(writer),
        processors=[
            Threshold(level) if isinstance(level, str) else level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        **fields,
    )


def _dump(event: Any, **options: Any) -> bytes:
    return json.dumps(event, **options).encode("utf-8", "backslashreplace")


class Repeats:
    """Lets the first of a kind through, and then says how many more there were: a flood of strangers cannot fill the disk."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._counts: dict[tuple[str, ...], int] = {}
        self._until = 0.0

    def say(self, kind: tuple[str, ...], event: str, **fields: Any) -> None:
        """Logs the event, or counts it where its kind has been logged a short while ago."""
        self.tick()
        if len(self._counts) >= _KINDS and kind not in self._counts:
            kind = ("others",)
        seen = self._counts.get(kind)
        self._counts[kind] = (seen or 0) + 1
        if seen is None:
            self._log.warning(event, **fields)

    def tick(self) -> None:
        """Sums up where it is time to; to be called now and then."""
        if self._clock.seconds() >= self._until:
            self.summarise()
            self._until = self._clock.seconds() + SUMMARY

    def summarise(self) -> None:
        """Says how many of each kind were not logged, and forgets them."""
        counts, self._counts = self._counts, {}
        for kind, count in counts.items():
            if count > 1:
                self._log.warning("more of the same", kind="/".join(kind), count=count - 1)
