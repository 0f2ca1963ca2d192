"""Exit codes (design, section 7): 0 fine, 1 the thing asked about is not fine, 2 usage or configuration."""

import sys
from typing import Final, NoReturn

import click

NOT_FINE: Final = 1
MISUSE: Final = 2


def fail(message: str, code: int = MISUSE) -> NoReturn:
    """Says what is wrong, and ends."""
    click.echo(f"relay-tentacle: {message}", err=True)
    sys.exit(code)
