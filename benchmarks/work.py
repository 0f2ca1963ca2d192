"""Where a measurement works, and how it ends: whatever it has started ends with it."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import say
from benchmarks.processes import stop_all


def end_in_order() -> None:
    """From now on, signals that end the process raise SystemExit, so that what it has begun is undone."""
    for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        signal.signal(number, lambda *_, status=status: sys.exit(status))


@contextmanager
def work_folder(keep: bool) -> Iterator[Path]:
    """A new one. keep: it stays; else it goes with what is in it."""
    work = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        yield work
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stop_all()
        if keep:
            say(f"kept {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
