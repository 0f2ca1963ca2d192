"""Pipes for bytes on their way from one socket to another: the kernel moves them there without a copy (splice).

A pipe is in use only while bytes are in it, so one serves all connections that do not stall. With chunks of a pipe, moving
bytes so takes a third to a half of the CPU of reading and writing them.
"""

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import Final

PIPE: Final = 128 * 1024  # bytes that one holds
KEPT: Final = 16  # empty ones that are kept


@dataclass(frozen=True, slots=True)
class Pipe:
    """Its two descriptors, nonblocking."""

    reader: int
    writer: int

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """Gives pipes away, and takes them back. While nobody uses them, none is open."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []
        self._users = 0

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._free)

    def enter(self) -> None:
        """One more may take pipes, until it leaves."""
        self._users += 1

    def leave(self) -> None:
        """One less; it has given back what it took."""
        self._users -= 1
        while self._free and not self._users:
            self._free.pop().close()

    def take(self) -> Pipe:
        """An empty one. Raises OSError where no descriptors are left."""
        if self._free:
            return self._free.pop()
        pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        with contextlib.suppress(OSError):  # beyond fs.pipe-user-pages-soft; a smaller one serves, too
            fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, PIPE)
        return pipe

    def give_back(self, pipe: Pipe, empty: bool) -> None:
        """One that somebody took. Where bytes were left in it, it is closed."""
        if empty and len(self._free) < KEPT:
            self._free.append(pipe)
        else:
            pipe.close()
