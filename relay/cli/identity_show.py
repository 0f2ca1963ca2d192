"""``relay-tentacle identity show`` and ``new``."""

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Final

import click

from certs.errors import CertificateError
from relay import identities
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import (
    asked,
    described,
    json_option,
    machine_option,
    name_argument,
    octopus_option,
    open_store,
    warn,
)
from relay.cli.tables import print_table
from relay.identities import Found

_DOORS: Final = 100  # identities, up to which each machine's door is looked at too


@click.command()
@name_argument
@machine_option
@octopus_option
@click.option("--thumbprint-only", is_flag=True, help="Print nothing but thumbprints, one on a line: for scripts.")
@json_option
@config_option
def show(
    name: str | None, machine: str | None, octopus: str | None, thumbprint_only: bool, as_json: bool, config: Path
) -> None:
    """Show the identities: of all machines and octopus entries, or of the one NAME.

    The thumbprint of a machine goes into Octopus, the one of an octopus entry into its Tentacles. Exit code 1: the one asked
    about is not there, or one cannot be used.
    """
    if thumbprint_only and as_json:
        fail("--thumbprint-only and --json are given. Give one of them.")
    table = load_or_exit(config)
    one = asked(table, name, machine, octopus)
    store = open_store(table)
    found = [identities.look(store, entry) for entry in ([one] if one else identities.entries(table))]
    warnings = {
        each.entry: identities.warnings(table, each, dt.datetime.now(dt.UTC), doors=len(found) <= _DOORS) for each in found
    }
    if as_json:
        click.echo(json.dumps([_as_dict(each, warnings[each.entry]) for each in found], indent=2))
    elif thumbprint_only:
        _print_thumbprints(found)
    else:
        _print(found)
    for each in found:
        if each.problem:
            click.echo(f"relay-tentacle: {each.entry}: {each.problem}", err=True)
        for text in warnings[each.entry]:
            warn(f"{each.entry}: {text}")
    if any(each.problem or (one and each.identity is None) for each in found):
        sys.exit(NOT_FINE)


@click.command()
@name_argument
@machine_option
@octopus_option
@click.option("--all", "all_", is_flag=True, help="All that are missing, as without a name.")
@json_option
@config_option
def new(name: str | None, machine: str | None, octopus: str | None, all_: bool, as_json: bool, config: Path) -> None:
    """Make the identity of NAME now, or all that are missing, where `run` would make them at its start.

    One that is there stays as it is: `identity rotate` replaces it.
    """
    table = load_or_exit(config)
    one = asked(table, name, machine, octopus)
    if one and all_:
        fail("a name and --all are given. Give one of them.")
    if one and one.provisioned:
        fail(f"{one}: the configuration names a file for its identity, {one.provisioned}: put one there yourself.", NOT_FINE)
    store = open_store(table)
    done = []
    mistakes = []
    for entry in [one] if one else [entry for entry in identities.entries(table) if not entry.provisioned]:
        try:
            done.append((entry, *identities.make(table, store, entry)))
        except CertificateError as error:
            mistakes.append(str(error))
    files = [str(identities.own_file(store, entry)) for entry, _, _ in done]
    if as_json:
        rows = [
            {"kind": entry.kind, "name": entry.name, "shown_to": entry.faces, **described(made), "file": file, "made": is_new}
            for (entry, made, is_new), file in zip(done, files, strict=True)
        ]
        click.echo(json.dumps(rows, indent=2))
    elif done:
        print_table(
            ("KIND", "NAME", "SHOWN TO", "THUMBPRINT", "MADE", "FILE"),
            [
                (entry.kind, entry.name, entry.faces, str(made.thumbprint), "now" if is_new else "before", file)
                for (entry, made, is_new), file in zip(done, files, strict=True)
            ],
        )
    for mistake in mistakes:
        click.echo(f"relay-tentacle: {mistake}", err=True)
    if mistakes:
        sys.exit(NOT_FINE)


def _print(found: list[Found]) -> None:
    columns = ("KIND", "NAME", "SHOWN TO", "THUMBPRINT", "EXPIRES", "FILE")
    print_table(columns, [_as_row(each) for each in found])
    for each in found:
        if each.next:
            click.echo(f"\n{each.entry}: a new identity waits, {each.next.thumbprint}. `identity rotate` says what to do.")


def _print_thumbprints(found: list[Found]) -> None:
    for each in found:
        if each.identity:
            click.echo(str(each.identity.thumbprint))
        elif not each.problem:
            click.echo(f"relay-tentacle: {each.entry}: not made yet. `relay-tentacle identity new` makes it.", err=True)


def _as_row(found: Found) -> tuple[str, ...]:
    entry, identity = found.entry, found.identity
    if identity:
        thumbprint, expires = str(identity.thumbprint), f"{identity.expires:%Y-%m-%d}"
    else:
        thumbprint, expires = "cannot be used" if found.problem else "not made yet: `run` makes it", "-"
    return entry.kind, entry.name, entry.faces, thumbprint, expires, str(found.file)


def _as_dict(found: Found, warnings: list[str]) -> dict[str, object]:
    identity = found.identity
    return {
        "kind": found.entry.kind,
        "name": found.entry.name,
        "shown_to": found.entry.faces,
        **(described(identity) if identity else {"thumbprint": None, "sha256": None, "expires": None}),
        "file": str(found.file),
        "provisioned": found.entry.provisioned is not None,
        "next": described(found.next) if found.next else None,
        "old": described(found.old) if found.old else None,
        "warnings": warnings,
        "problem": found.problem or None,
    }
