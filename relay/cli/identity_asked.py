"""What the identity commands share: which identity is meant, and where the identities are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from certs.identity import Identity
from certs.store import IdentityStore
from relay import identities
from relay.cli.completion import entry_names, machine_names, octopus_names
from relay.cli.exits import MISUSE, NOT_FINE, fail
from relay.identities import AmbiguousNameError, Entry, Kind, NoSuchEntryError
from routing.table import Table

F = TypeVar("F", bound=Callable[..., Any])

name_argument = click.argument("name", required=False, shell_complete=entry_names)
machine_option = click.option(
    "--machine", metavar="NAME", shell_complete=machine_names, help="The machine of this name: what Octopus sees."
)
octopus_option = click.option(
    "--octopus", metavar="NAME", shell_complete=octopus_names, help="The octopus entry of this name: what its Tentacles see."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def asked(table: Table, name: str | None, machine: str | None, octopus: str | None) -> Entry | None:
    """The entry that the arguments name, if they name one; ends with an exit code where they cannot."""
    arguments: list[tuple[str | None, Kind | None]] = [(name, None), (machine, "machine"), (octopus, "octopus")]
    named = [(name, kind) for name, kind in arguments if name is not None]
    if len(named) > 1:
        fail("more than one identity is named. Give one NAME, one --machine or one --octopus.")
    try:
        return identities.entry(table, *named[0]) if named else None
    except NoSuchEntryError as error:
        fail(str(error), NOT_FINE)
    except AmbiguousNameError as error:
        fail(f"{error} Give --machine {name} or --octopus {name}.", MISUSE)


def asked_one(table: Table, name: str | None, machine: str | None, octopus: str | None) -> Entry:
    """The one entry that the arguments name; ends with an exit code where they name none."""
    entry = asked(table, name, machine, octopus)
    if entry is None:
        fail("for whom? Give --machine NAME or --octopus NAME.")
    return entry


def open_store(table: Table) -> IdentityStore:
    """The store of this configuration. Whoever makes an identity through it says so itself."""

    def made(new: Identity, path: Path) -> None:
        """Commands print what they made in their own way."""

    return IdentityStore(table.relay.state, made, warn)


def warn(text: str) -> None:
    click.echo(f"relay-tentacle: warning: {text}", err=True)


def described(identity: Identity) -> dict[str, object]:
    """What JSON says of an identity."""
    return {
        "thumbprint": str(identity.thumbprint),
        "sha256": str(identity.sha256),
        "expires": f"{identity.expires:%Y-%m-%dT%H:%M:%SZ}",
    }
