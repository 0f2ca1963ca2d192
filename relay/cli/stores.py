"""The relay's identities, for commands that look at them and make none."""

from pathlib import Path

import click

from certs.store import IdentityStore
from routing.table import Table


def reading_store(table: Table) -> IdentityStore:
    """Says on standard error where others may read a provisioned identity."""
    return IdentityStore(table.relay.state, _made, _warn)


def _made(identity: object, path: Path) -> None:
    raise AssertionError(f"this command makes no identity, and made {path}")


def _warn(text: str) -> None:
    click.echo(f"relay-tentacle: warning: {text}", err=True)
