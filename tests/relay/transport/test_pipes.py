import errno
import os

import pytest
from descriptors import no_descriptor_free

from relay.transport.pipes import KEPT, PIPE, Pipe, Pipes


def is_open(pipe: Pipe) -> bool:
    found = []
    for descriptor in (pipe.reader, pipe.writer):
        try:
            os.fstat(descriptor)
            found.append(True)
        except OSError:
            found.append(False)
    assert len(set(found)) == 1
    return found[0]


def test_a_pipe_is_used_again() -> None:
    pipes = Pipes()
    pipes.enter()
    pipe = pipes.take()
    assert os.write(pipe.writer, bytes(PIPE + 1)) == PIPE
    with pytest.raises(BlockingIOError):
        os.write(pipe.writer, b"x")
    assert len(os.read(pipe.reader, PIPE)) == PIPE
    with pytest.raises(BlockingIOError):
        os.read(pipe.reader, 1)
    pipes.give_back(pipe, empty=True)
    assert pipes.take() is pipe
    pipes.give_back(pipe, empty=True)
    pipes.leave()
    assert not is_open(pipe)


def test_one_with_bytes_in_it_is_closed() -> None:
    pipes = Pipes()
    pipes.enter()
    pipe = pipes.take()
    pipes.give_back(pipe, empty=False)
    assert len(pipes) == 0
    assert not is_open(pipe)


def test_no_more_than_a_few_are_kept() -> None:
    pipes = Pipes()
    pipes.enter()
    taken = [pipes.take() for _ in range(KEPT + 3)]
    for pipe in taken:
        pipes.give_back(pipe, empty=True)
    assert len(pipes) == sum(map(is_open, taken)) == KEPT
    pipes.leave()
    assert not any(map(is_open, taken))


def test_they_are_kept_while_somebody_may_need_them() -> None:
    pipes = Pipes()
    pipes.enter()
    pipes.enter()
    pipe = pipes.take()
    pipes.give_back(pipe, empty=True)
    pipes.leave()
    assert is_open(pipe)
    pipes.leave()
    assert not is_open(pipe)


def test_no_descriptor_is_free() -> None:
    pipes = Pipes()
    pipes.enter()
    with no_descriptor_free(), pytest.raises(OSError, match="Too many open files") as raised:
        pipes.take()
    assert raised.value.errno == errno.EMFILE
