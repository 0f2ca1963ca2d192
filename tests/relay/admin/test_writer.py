import errno
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from relay.admin.writer import FLUSH_AFTER, MORE_AFTER, RETRY_AFTER, DescriptorSink, FileSink, LineWriter, Sink

BUFFER = 1000


class FakeSink:
    """Takes what ``takes`` says: so many bytes, or an error. taken: what it took, write by write; reads: somebody reads it."""

    def __init__(self) -> None:
        self.reads = False
        self.taken: list[bytes] = []
        self.takes: list[int | OSError] = []
        self.closed = False

    def write(self, data: bytes) -> int:
        takes = self.takes.pop(0) if self.takes else len(data)
        if isinstance(takes, OSError):
            raise takes
        self.taken.append(data[:takes])
        return min(takes, len(data))

    def wait(self, seconds: float) -> bool:
        return self.reads

    def close(self) -> None:
        self.closed = True

    @property
    def data(self) -> bytes:
        return b"".join(self.taken)


class Written:
    """A writer on a clock, into a fake sink unless another is given."""

    def __init__(self, sink: Sink | None = None, buffer: int = BUFFER) -> None:
        self.clock = Clock()
        self.sink = FakeSink()
        self.told: list[tuple[int | None, int]] = []  # the number of the error, and how many lines were lost
        self.writer = LineWriter(self.clock, sink or self.sink, buffer, self.trouble)

    def trouble(self, error: OSError | None, lost: int) -> None:
        self.told.append((error and error.errno, lost))

    def line(self, *lines: bytes) -> None:
        for line in lines:
            self.writer.write_line(line)

    def pass_time(self, seconds: float = FLUSH_AFTER) -> None:
        self.clock.advance(seconds)


@pytest.fixture
def written() -> Written:
    return Written()


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


# ---- lines --------------------------------------------------------------------------------------------------------------


def test_lines_go_out_together_after_a_moment(written: Written) -> None:
    written.line(b"one", b"two")
    assert written.sink.taken == []
    written.pass_time()
    assert written.sink.taken == [b"one\ntwo\n"]
    assert written.clock.getDelayedCalls() == []


def test_without_lines_it_does_nothing(written: Written) -> None:
    assert written.clock.getDelayedCalls() == []
    assert written.writer.flush()
    assert written.sink.taken == []


def test_a_line_that_was_taken_in_part_is_ended_before_another_begins(written: Written) -> None:
    written.sink.takes = [2, error(errno.EAGAIN), 3]
    written.line(b"first", b"second")
    written.pass_time()
    written.line(b"third")
    for _ in range(4):
        written.pass_time(RETRY_AFTER)
    assert written.sink.data == b"first\nsecond\nthird\n"
    assert written.writer.lost == 0


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOSPC, errno.EIO, errno.EACCES])
def test_what_cannot_be_written_now_is_tried_again_and_in_order(written: Written, number: int) -> None:
    written.sink.takes = [error(number)] * 5
    written.line(b"one")
    written.pass_time()
    written.line(b"two")
    for _ in range(4):
        written.pass_time(RETRY_AFTER)
    assert written.sink.data == b""
    written.pass_time(RETRY_AFTER)
    assert written.sink.data == b"one\ntwo\n"
    assert written.writer.lost == 0


# ---- what is lost -------------------------------------------------------------------------------------------------------


def test_beyond_the_buffer_lines_are_lost_counted_and_said_later(written: Written) -> None:
    written.sink.takes = [error(errno.EAGAIN)] * 3
    written.line(*[b"x" * 99] * 15)
    assert written.writer.lost == 5
    written.pass_time(FLUSH_AFTER + 2 * RETRY_AFTER)
    written.line(b"one more")
    assert written.writer.lost == 6
    for _ in range(4):
        written.pass_time(RETRY_AFTER)
    lines = written.sink.data.split(b"\n")
    assert lines[:-2] == [b"x" * 99] * 10
    assert json.loads(lines[-2]) == {"lost_lines": 6}
    assert written.writer.lost == 6
    assert written.clock.getDelayedCalls() == []


def test_the_loss_is_said_once(written: Written) -> None:
    written.line(b"x" * 2000, b"kept")
    for _ in range(3):
        written.pass_time()
    assert written.sink.data == b'kept\n{"lost_lines": 1}\n'
    written.line(b"later")
    written.pass_time()
    assert written.sink.data.endswith(b'"lost_lines": 1}\nlater\n')


def test_a_loss_alone_is_said_too(written: Written) -> None:
    """Of a line that is longer than the buffer there may be no other to say it with."""
    written.line(b"x" * 2000)
    for _ in range(3):
        written.pass_time()
    assert written.sink.data == b'{"lost_lines": 1}\n'


def test_room_comes_back_with_what_was_taken(written: Written) -> None:
    for _ in range(100):
        written.line(*[b"x" * 99] * 10)
        written.pass_time()
    assert written.writer.lost == 0
    assert len(written.sink.data) == 100 * 1000


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EBADF])
def test_where_nobody_will_ever_read_it_it_is_lost_at_once(written: Written, number: int) -> None:
    written.sink.takes = [error(number)]
    written.line(b"one", b"two", b"three")
    written.pass_time()
    assert written.writer.lost == 3
    assert written.sink.data == b""
    written.line(b"four")  # and if somebody does again, as with a named pipe
    for _ in range(3):
        written.pass_time()
    assert written.sink.data == b'four\n{"lost_lines": 3}\n'


def test_a_part_of_a_line_that_is_lost_counts_as_one(written: Written) -> None:
    written.sink.takes = [2, error(errno.EPIPE)]
    written.line(b"one", b"two")
    written.pass_time(FLUSH_AFTER + RETRY_AFTER)
    written.pass_time(RETRY_AFTER)
    assert written.writer.lost == 2


# ---- trouble that is told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_that_nothing_can_be_written_is_told_once_and_its_end_too(written: Written, number: int) -> None:
    for times in (1, 2):
        written.sink.takes = [error(number), error(errno.EAGAIN), error(errno.EROFS), 2]
        written.line(b"one")
        written.pass_time()
        assert written.told == [(number, 0), (None, 0)] * (times - 1) + [(number, 0)]
        for _ in range(4):
            written.pass_time(RETRY_AFTER)
        assert written.told == [(number, 0), (None, 0)] * times


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EBADF])
def test_that_nobody_will_ever_read_it_is_told_with_what_was_lost(written: Written, number: int) -> None:
    written.sink.takes = [error(number), error(number)]
    written.line(b"one", b"two")
    written.pass_time()
    assert written.told == [(number, 2)]
    written.line(b"three")
    written.pass_time()
    assert written.told == [(number, 2)]
    written.line(b"four")
    written.pass_time()
    assert written.told == [(number, 2), (None, 3)]


def test_a_slow_reader_is_no_trouble(written: Written) -> None:
    written.sink.takes = [error(errno.EAGAIN), 2, error(errno.EAGAIN)]
    written.line(b"one")
    for _ in range(4):
        written.pass_time(RETRY_AFTER)
    assert written.sink.data == b"one\n"
    assert written.told == []


def test_that_a_blocked_reader_begins_to_cost_lines_is_told_once(written: Written) -> None:
    written.sink.takes = [error(errno.EAGAIN)]
    written.line(*[b"x" * 99] * 10)
    written.pass_time()
    assert written.told == []
    written.line(b"x" * 99, b"x" * 99)
    assert written.told == [(errno.EAGAIN, 1)]
    for _ in range(4):
        written.pass_time(RETRY_AFTER)
    assert written.told == [(errno.EAGAIN, 1), (None, 2)]


def test_what_is_lost_at_the_end_is_counted_and_told(written: Written) -> None:
    written.sink.takes = [error(errno.EAGAIN)] * 9
    written.line(b"one", b"two")
    written.writer.close()
    assert written.writer.lost == 2
    assert written.told == [(errno.EAGAIN, 2)]


@pytest.mark.parametrize(("number", "first"), [(errno.ENOSPC, 0), (errno.EPIPE, 1)])
def test_all_that_was_lost_is_told_at_the_end_where_it_fails_still(written: Written, number: int, first: int) -> None:
    written.sink.takes = [error(number)] * 9
    written.sink.reads = True  # as a broken pipe says too
    written.line(b"one")
    written.pass_time()
    written.line(b"two")
    written.writer.close()
    assert written.writer.lost == 2
    assert written.told == [(number, first), (number, 2)]


# ---- the end ------------------------------------------------------------------------------------------------------------


def test_closing_writes_what_is_left_and_leaves_no_timer(written: Written) -> None:
    written.line(b"one", b"x" * 2000)
    written.writer.close()
    assert written.sink.data == b'one\n{"lost_lines": 1}\n'
    assert written.sink.closed
    assert written.clock.getDelayedCalls() == []


def test_full_pipe_with_a_reader_is_written_on_soon(written: Written) -> None:
    written.sink.takes = [2, 1, error(errno.EAGAIN)]
    written.line(b"one")
    written.pass_time(FLUSH_AFTER)
    written.pass_time(MORE_AFTER)
    assert written.sink.data == b"one"
    written.pass_time(MORE_AFTER)
    written.pass_time(RETRY_AFTER - MORE_AFTER)
    assert written.sink.data == b"one"
    written.pass_time(MORE_AFTER)
    assert written.sink.data == b"one\n"


def test_closing_writes_all_to_a_reader_that_reads(written: Written) -> None:
    written.sink.takes = [2, 1]
    written.sink.reads = True
    written.line(b"one", b"two")
    written.writer.close()
    assert written.sink.data == b"one\ntwo\n"


def test_closing_gives_up_where_nothing_is_taken(written: Written) -> None:
    written.sink.takes = [2, *[error(errno.ENOSPC)] * 9]
    written.sink.reads = True
    written.line(b"one")
    written.writer.close()
    assert written.sink.data == b"on"
    assert written.sink.closed


def test_closing_does_not_wait_for_a_reader(written: Written) -> None:
    written.sink.takes = [error(errno.EAGAIN)] * 9
    written.line(b"one")
    written.writer.close()
    assert written.sink.closed
    assert written.clock.getDelayedCalls() == []


def test_closing_behind_a_loss_that_is_about_to_be_said_leaves_no_timer(written: Written) -> None:
    written.line(b"x" * 2000, b"kept")
    written.pass_time()
    written.writer.close()
    assert written.clock.getDelayedCalls() == []


# ---- real descriptors ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        with suppress(OSError):
            os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    """What can be read now."""
    os.set_blocking(descriptor, False)
    found = b""
    with suppress(BlockingIOError):
        while chunk := os.read(descriptor, 1 << 20):
            found += chunk
    return found


def test_a_pipe_that_nobody_reads_blocks_nothing_and_no_line_is_cut(pipe: tuple[int, int]) -> None:
    read, write = pipe
    written = Written(DescriptorSink(write), buffer=1 << 20)
    line = b"x" * 999
    written.line(*[line] * 2000)
    written.pass_time()  # would never return if it blocked
    assert 900 < written.writer.lost < 1100
    found = b""
    for _ in range(100):
        found += read_all(read)
        written.pass_time(RETRY_AFTER)
    lines = found.split(b"\n")
    assert set(lines[:-2]) == {line}
    assert json.loads(lines[-2]) == {"lost_lines": written.writer.lost}
    assert len(lines) - 2 == 2000 - written.writer.lost
    written.writer.close()


def test_the_flags_of_the_descriptor_that_was_inherited_stay(pipe: tuple[int, int]) -> None:
    _, write = pipe
    sink = DescriptorSink(write)
    assert os.get_blocking(write)
    sink.close()
    os.write(write, b"still open")


def test_a_pipe_whose_reader_has_gone(pipe: tuple[int, int]) -> None:
    read, write = pipe
    written = Written(DescriptorSink(write))
    os.close(read)
    written.line(b"one", b"two")
    written.pass_time()
    assert written.writer.lost == 2
    written.writer.close()


def test_a_full_disk_costs_lines_only() -> None:
    with open("/dev/full", "wb") as full:
        written = Written(DescriptorSink(full.fileno()))
        for _ in range(30):
            written.line(b"x" * 99)
            written.pass_time(RETRY_AFTER)
        assert written.writer.lost == 20
        written.writer.close()


def test_a_socket_that_nobody_reads_blocks_nothing_and_no_line_is_cut() -> None:
    """As a journal's standard output is."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        written = Written(DescriptorSink(ours.fileno()), buffer=1 << 20)
        line = b"x" * 999
        written.line(*[line] * 1000)
        written.pass_time()
        assert ours.getblocking()
        found = b""
        for _ in range(100):
            found += read_all(theirs.fileno())
            written.pass_time(RETRY_AFTER)
        assert found == (line + b"\n") * 1000
        theirs.close()
        written.line(b"one")
        written.pass_time()
        assert written.writer.lost == 1
        written.writer.close()


def test_a_regular_file_that_was_inherited(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        written = Written(DescriptorSink(file.fileno()))
        written.line(b"one")
        written.pass_time()
        written.writer.close()
    assert (tmp_path / "log").read_bytes() == b"one\n"


@pytest.mark.parametrize("make", [lambda path, pipe: FileSink(path), lambda path, pipe: DescriptorSink(pipe[1])])
def test_what_it_opens_it_closes(tmp_path: Path, pipe: tuple[int, int], make: Callable[[Path, tuple[int, int]], Sink]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    written = Written(make(tmp_path / "log", pipe))
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    written.writer.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---- files --------------------------------------------------------------------------------------------------------------


def test_a_file_is_made_for_its_owner_and_group_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    path.unlink()
    old = os.umask(0)
    try:
        written = Written(FileSink(path))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    written.line(b"one")
    written.writer.close()
    written = Written(FileSink(path))
    written.line(b"two")
    written.writer.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_file_that_was_renamed_is_made_anew(tmp_path: Path) -> None:
    """That is how logs are rotated; nobody has to be told."""
    path = tmp_path / "log"
    written = Written(FileSink(path))
    written.line(b"one")
    written.pass_time()
    path.rename(tmp_path / "log.1")
    written.line(b"two")
    written.pass_time()
    path.unlink()
    written.line(b"three")
    written.pass_time()
    path.unlink()
    path.write_bytes(b"somebody else's\n")
    written.line(b"four")
    written.writer.close()
    assert (tmp_path / "log.1").read_bytes() == b"one\n"
    assert path.read_bytes() == b"somebody else's\nfour\n"


def test_where_the_new_file_cannot_be_made_lines_wait_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    written = Written(FileSink(folder / "log"))
    folder.rename(tmp_path / "logs.1")
    written.line(b"one")
    written.pass_time()
    written.pass_time(RETRY_AFTER)
    assert (tmp_path / "logs.1" / "log").read_bytes() == b""
    folder.mkdir()
    written.pass_time(RETRY_AFTER)
    assert (folder / "log").read_bytes() == b"one\n"
    written.writer.close()


def test_a_file_that_cannot_be_opened_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSink(tmp_path / "no folder" / "log")
