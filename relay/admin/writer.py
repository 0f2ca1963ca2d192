"""A writer of lines that can never block or stop a call: what cannot be written now waits, within bounds, and then is lost.

A pipe, a socket or a terminal is written without blocking, through a descriptor of its own where the system gives one. A file
is reopened when it was renamed or removed, as log rotation does. What is lost is counted, and said there once it can be;
meanwhile it is said elsewhere, by whoever asked to be told of trouble.
"""

import errno
import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from relay.clock import Clock, Timer

BUFFER: Final = 4 * 1024 * 1024  # bytes that wait at most
FLUSH_AFTER: Final = 0.2  # seconds
MORE_AFTER: Final = 0.01  # seconds, where a pipe was full and its reader reads: a pipe holds 64 KiB, some 150 lines
RETRY_AFTER: Final = 1.0  # seconds, where the reader is blocked or the disk is full
LAST: Final = 1.0  # seconds that the end waits for a reader that reads
_CHUNK: Final = 64 * 1024
STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2


class Sink(Protocol):
    """Somewhere to write to."""

    def write(self, data: bytes) -> int:
        """How many bytes were taken. Raises OSError, BlockingIOError among them."""

    def wait(self, seconds: float) -> bool:
        """Waits until it may take more; False where it does not."""

    def close(self) -> None:
        """Gives back its descriptor."""


class FileSink:
    """A file, appended to, 0640 where it is made."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be opened."""
        self._path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)

    def write(self, data: bytes) -> int:
        here = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path)
            moved = (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            descriptor = self._open()
            os.close(self._descriptor)
            self._descriptor = descriptor
        return os.write(self._descriptor, data)

    def wait(self, seconds: float) -> bool:
        return False

    def close(self) -> None:
        os.close(self._descriptor)


class DescriptorSink:
    """An inherited descriptor, such as standard output. Its own flags stay as they are: others may share them."""

    def __init__(self, descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        self._socket: socket.socket | None = None
        self._descriptor = -1
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif stat.S_ISREG(mode):
            self._descriptor = os.dup(descriptor)
        else:
            try:
                self._descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # no /proc, or not ours to open: then its flags have to change
                self._descriptor = os.dup(descriptor)
                os.set_blocking(self._descriptor, False)

    def write(self, data: bytes) -> int:
        if self._socket:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)

    def wait(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket or self._descriptor, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        else:
            os.close(self._descriptor)


class LineWriter:
    """See above. lost: lines that were, so far.

    trouble: called with an error and the lines lost to it so far, once when writing begins to fail, or when lines begin to be
    lost because nobody reads, and again at the end where more were lost; with None and all that were lost when what waited has
    been written after all. A reader that is only slow is no trouble.
    """

    def __init__(
        self, clock: Clock, sink: Sink, buffer: int = BUFFER, trouble: Callable[[OSError | None, int], None] | None = None
    ) -> None:
        self._trouble = trouble
        self._error: OSError | None = None  # why writing fails, since it does
        self._lost_before = 0  # lines, until it did
        self._told = 0  # of lost
        self._clock = clock
        self._sink = sink
        self._most = buffer
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._rest = b""  # of a line that was written in part
        self._timer: Timer | None = None
        self._unsaid = 0
        self.lost = 0

    def write_line(self, line: bytes) -> None:
        """Takes one line, without its end; it goes out soon."""
        if self._waiting + len(line) > self._most:
            self._lose(1, _blocked())
        else:
            self._waiting += len(line) + 1
            self._lines.append(line)
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self._flush_later)

    def flush(self) -> bool:
        """Writes what can be written now; whether that was all."""
        written = False
        while self._lines or self._rest:
            data = self._rest or self._gather()
            try:
                taken = self._sink.write(data)
            except BlockingIOError:
                self._rest = data
                return False
            except OSError as error:
                self._rest = data
                # Of a broken pipe nobody will ever read it.
                self._lose(self._drop() if error.errno in (errno.EPIPE, errno.EBADF) else 0, error)
                return False
            written = True
            self._waiting -= taken
            self._rest = data[taken:]
            if self._rest:
                return False
        if written and self._error:
            self._error = None
            self._tell()
        if self._unsaid and (self._error is None or isinstance(self._error, BlockingIOError)):  # a broken pipe takes no word
            lost, self._unsaid = self._unsaid, 0
            self.write_line(b'{"lost_lines": %d}' % lost)
        return True

    def close(self) -> None:
        """Writes what is taken, from a reader that goes on reading all of it, and ends."""
        before, end = -1, self._clock.seconds() + LAST
        while not self.flush() and self._waiting != before and self._clock.seconds() < end and self._sink.wait(LAST):
            before = self._waiting
        if not self.flush():
            self._lose(self._drop(), self._error or _blocked())
        if self.lost > self._told:
            self._tell()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._sink.close()

    def _gather(self) -> bytes:
        """Whole lines, about a chunk of them."""
        size, lines = 0, []
        while self._lines and size < _CHUNK:
            line = self._lines.popleft()
            lines.append(line)
            size += len(line) + 1
        return b"\n".join(lines) + b"\n"

    def _lose(self, count: int, error: OSError) -> None:
        """So many lines, or none yet, to this error."""
        begins, before = self._error is None, self.lost
        self.lost += count
        self._unsaid += count
        if begins:
            self._error, self._lost_before = error, before
            self._tell()

    def _tell(self) -> None:
        self._told = self.lost
        if self._trouble:
            self._trouble(self._error, self.lost - self._lost_before)

    def _drop(self) -> int:
        """Gives up all that waits; how many lines that were."""
        count = len(self._lines) + self._rest.count(b"\n")
        self._lines.clear()
        self._rest = b""
        self._waiting = 0
        return count

    def _flush_later(self) -> None:
        self._timer = None
        before = self._waiting
        self.flush()
        if (self._lines or self._rest) and self._timer is None:
            self._timer = self._clock.callLater(MORE_AFTER if self._waiting < before else RETRY_AFTER, self._flush_later)


def _blocked() -> OSError:
    return BlockingIOError(errno.EAGAIN, "its reader does not read, or too slowly")
