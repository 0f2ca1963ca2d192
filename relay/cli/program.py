"""The program around the commands: it loads the one that is asked for, and ends well one that did not come to its own end."""

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

import click

from relay.cli.exits import MISUSE, PIPE_CLOSED, interrupted
from relay.collector import collector_off

# What writing may give. Of any other error nobody can say that it is the output's.
_OF_WRITING: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN}


class Families(MutableMapping[str, click.Command]):
    """Commands by name, each loaded when it is asked for: loading all of them takes longer than most of them run.

    places: for each name ``module:attribute``, the module in this package.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            self._loaded[name] = getattr(importlib.import_module(f"relay.cli.{module}"), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places.setdefault(name, "")
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places


class Program(click.Group):
    """A group of commands that ends with one line on standard error where click would show a traceback, or say "Aborted!"."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        with _in_one_line(), collector_off():
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
