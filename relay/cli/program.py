"""How a command ends that did not come to its own end: Ctrl-C, and an output that takes no more."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from relay.cli.exits import MISUSE, PIPE_CLOSED, interrupted

# What writing may give. Of any other error nobody can say that it is the output's.
_OF_WRITING: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}


class Program(click.Group):
    """A group of commands that ends with one line on standard error where click would show a traceback, or say "Aborted!"."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        with _in_one_line():
            return super().main(*arguments, **options)

    # click's own main takes a closed pipe and Ctrl-C for "not fine": these two have to be before it.

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _in_one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_one_line():
            return super().invoke(ctx)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
        _flush()
    except SystemExit as end:
        if not end.code:
            with _in_one_line():
                _flush()
        _forsake()
        raise
    except BrokenPipeError:
        _forsake()
        sys.exit(PIPE_CLOSED)
    except OSError as error:
        if error.filename is not None or error.errno not in _OF_WRITING:
            raise
        _forsake()
        with contextlib.suppress(OSError):  # standard error may be full as well
            click.echo(f"relay-tentacle: the output cannot be written: {error.strerror}.", err=True)
        _forsake()
        sys.exit(MISUSE)
    except (KeyboardInterrupt, click.Abort):
        interrupted()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed when the process began
            stream.flush()


def _forsake() -> None:
    """Lets go of what cannot be written: Python would try again at its end, and show a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
