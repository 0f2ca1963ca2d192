"""The two logs, as the configuration has them: how much the operational one says, and where the access log goes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relay.admin.access_log import AccessLog
from relay.admin.log import Threshold, make_log
from relay.admin.writer import STANDARD_ERROR, STANDARD_OUTPUT, DescriptorSink, FileSink, LineWriter, Sink
from relay.clock import Clock
from relay.errors import StartError
from routing.table import Relay, Table


class Outputs:
    """Both. They follow a reload (reload.Follower)."""

    def __init__(self, clock: Clock, relay: Relay) -> None:
        """Raises StartError where the access log cannot be opened."""
        self._clock = clock
        self._path = relay.access_log
        sink = _open(relay.access_log)
        self._writer = LineWriter(clock, DescriptorSink(STANDARD_ERROR))
        self._threshold = Threshold(relay.log_level)
        self._left: list[LineWriter] = []  # access logs whose readers were slow when they were left
        self._lost = 0
        self.log = make_log(self._writer, self._threshold, relay=relay.name)
        self._access = self._access_writer(sink)
        self.access_log = AccessLog(relay.name, self._access)

    def _access_writer(self, sink: Sink) -> LineWriter:
        return LineWriter(self._clock, sink, trouble=self._trouble)

    def _trouble(self, error: OSError | None, lost: int) -> None:
        if error:
            self.log.error("the access log cannot be written", error=error.strerror or str(error), lost=lost)
        else:
            self.log.warning("the access log is written again", lost=lost)

    def flush(self) -> None:
        """Writes what the operational log has so far, as far as it is taken; else the reactor does so, once it runs."""
        self._writer.flush()

    @property
    def lost(self) -> int:
        """Lines of the operational log that could not be written."""
        return self._writer.lost

    @property
    def lost_access(self) -> int:
        """The same of the access log."""
        return self._lost + sum(writer.lost for writer in (self._access, *self._left))

    # ---- a reload ---------------------------------------------------------------------------------------------------

    def prepare(self, table: Table) -> "_Step":
        relay = table.relay
        sink = _open(relay.access_log) if relay.access_log != self._path else None

        def commit() -> None:
            self._threshold.level = relay.log_level
            if sink:
                self._path = relay.access_log
                self._move(sink)

        return _Step(commit, sink.close if sink else lambda: None)

    def _move(self, sink: Sink) -> None:
        self._access = self._access_writer(sink)
        before = self.access_log.write_to(self._access)
        if before.flush():
            before.close()
            self._lost += before.lost
        else:  # it goes on writing by itself; closing it now would wait for its reader
            self._left.append(before)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """In this order: the access log may have to say in the other that lines were lost."""
        for each in (*self._left, self._access, self._writer):
            each.close()


@dataclass(frozen=True)
class _Step:
    commit: Callable[[], None]
    abandon: Callable[[], None]


def _open(path: Path | None) -> Sink:
    try:
        return FileSink(path) if path else DescriptorSink(STANDARD_OUTPUT)
    except OSError as error:
        where = path or "on standard output"
        raise StartError(
            f"cannot write the access log {where}: {error.strerror}. Name another file in relay.access_log."
        ) from error
