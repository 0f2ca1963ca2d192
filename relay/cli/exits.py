"""Exit codes (design, section 7): 0 fine, 1 the thing asked about is not fine, 2 usage or configuration.

Two more are those of a shell for what a signal ended: 130 Ctrl-C, 141 nobody reads the output any more.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

NOT_FINE: Final = 1
MISUSE: Final = 2
INTERRUPTED: Final = 130  # 128 + SIGINT
PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


def fail(message: str, code: int = MISUSE) -> NoReturn:
    """Says what is wrong, with --json on standard output too, and ends."""
    click.echo(f"relay-tentacle: {message}", err=True)
    print_error(message)
    sys.exit(code)


def print_error(message: str, mistakes: Sequence[str] = ()) -> None:
    """Where the command has --json, the object that docs/json/error.json describes; otherwise nothing."""
    context = click.get_current_context(silent=True)
    if context is None or not context.params.get("as_json"):
        return
    answer: dict[str, Any] = {"ok": False, "error": message}
    if mistakes:
        answer["mistakes"] = list(mistakes)
    click.echo(json.dumps(answer, indent=2))


def interrupted() -> NoReturn:
    """The end of a command that Ctrl-C ended."""
    click.echo("relay-tentacle: interrupted", err=True)
    sys.exit(INTERRUPTED)
