"""``relay-tentacle backup`` and ``restore``: the identities and subscription ids in one file."""

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from certs.errors import CertificateError
from certs.files import Reading, read_private
from certs.sealing import is_sealed, seal, unseal
from relay.backup import MAX_FILE, Backup, BackupError, collect, pack, unpack
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import json_option, warn
from relay.cli.passwords import ask, for_writing, given, new_password_options, password_options
from relay.cli.tables import print_table
from relay.export import put, put_on_standard_output
from relay.owners import check_owner
from relay.restore import Fate, plan, put_back
from relay.running import is_running

F = TypeVar("F", bound=Callable[..., Any])

_DASH: Final = Path("-")
_BACKUP: Final = Reading("backup", "Name a file that `relay-tentacle backup` wrote.")
_FATES: Final[dict[Fate, str]] = {"new": "new", "same": "there already", "replaces": "replaces another"}

_OLD: Final = """\
An older relay made it, without subscription ids: those in the state folder stay as they are. A machine with `front: polling`
that has none there, or in `subscription`, gets another one at the start, which Octopus has to be told (`machines NAME`)."""

_state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The state folder, where there is no configuration to name it.",
)
_file_argument = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))


@click.command()
@_file_argument
@_state_option
@new_password_options
@click.option("--replace", is_flag=True, help="Overwrite FILE where it is there.")
@json_option
@config_option
def backup(
    file: Path,
    state: Path | None,
    password_file: Path | None,
    password_credential: str | None,
    no_password: bool,
    replace: bool,
    as_json: bool,
    config: Path,
) -> None:
    """Write all identities of the relay's own to FILE: losing them changes every thumbprint.

    The subscription ids that the relay made, to poll Octopus with, are in it, too. FILE has mode 0600, and is encrypted with a
    password, which is asked for where no option gives it. FILE - is standard output, but never a terminal. Identities that the
    configuration provides (`identity:`) are not in it: they are yours to keep.
    """
    if file == _DASH and (sys.stdout.isatty() or as_json):
        fail("standard output takes the backup, and neither --json nor a terminal. Name a file, or a pipe behind this command.")
    folder, relay = _where(config, state)
    now = dt.datetime.now(dt.UTC)
    try:
        check_owner(folder)
        made = collect(folder, relay, now)
        password = for_writing(password_file, password_credential, no_password, "the backup" if file == _DASH else str(file))
        data = pack(made)
        sealed = seal(data, password) if password else data
        if file == _DASH:
            put_on_standard_output(sealed)
            return
        put(file, sealed, public=False, replace=replace)
    except (CertificateError, BackupError) as error:
        fail(str(error), NOT_FINE)
    if as_json:
        click.echo(json.dumps({"file": str(file), "encrypted": password is not None, **_as_dict(made)}, indent=2))
    else:
        _print(made)
        how = "encrypted" if password else "not encrypted: keep it like the keys that are in it"
        click.echo(f"\n{file}: {_count(made)}, {how}")


@click.command()
@_file_argument
@_state_option
@password_options
@click.option("--list", "only_list", is_flag=True, help="Say what is in FILE, and do nothing else.")
@click.option("--dry-run", is_flag=True, help="Check everything, and say what would be done.")
@click.option("--replace", is_flag=True, help="Move away what is there and not in FILE.")
@click.option(
    "--while-running", is_flag=True, help="Also where a relay runs with this state folder. It needs a reload afterwards."
)
@json_option
@config_option
def restore(
    file: Path,
    state: Path | None,
    password_file: Path | None,
    password_credential: str | None,
    only_list: bool,
    dry_run: bool,
    replace: bool,
    while_running: bool,
    as_json: bool,
    config: Path,
) -> None:
    """Put the identities and subscription ids in FILE back into the state folder, all of them or none.

    FILE is checked whole before anything is written. Where others are in the folder, --replace moves them to a folder of their
    own. Exit code 1: FILE cannot be used, or was not restored.
    """
    try:
        found = _read(file, given(password_file, password_credential))
        if only_list:
            _say(found, file, as_json)
            return
        folder, _ = _where(config, state)
        if not dry_run and not while_running and is_running(folder):
            fail(f"{folder}: a relay runs with this folder. Stop it first, or give --while-running.", NOT_FINE)
        check_owner(folder)
        planned = plan(folder, found)
        aside = None if dry_run else put_back(folder, found, replace, dt.datetime.now(dt.UTC))
    except (CertificateError, BackupError) as error:
        fail(str(error).replace("Restore with --replace", "Give --replace"), NOT_FINE)
    if as_json:
        done = {"state": str(folder), "fates": planned.fates, "moved_away": list(planned.moved_away), "restored": not dry_run}
        click.echo(json.dumps({**_listed(found, file), **done, "replaced": str(aside) if aside else None}, indent=2))
    else:
        _print(found, planned.fates)
        for path in planned.moved_away:
            click.echo(f"not in the backup, and moved away: {path}")
        click.echo(f"\n{folder}: {'nothing was done (--dry-run)' if dry_run else 'restored'}")
        if aside:
            click.echo(f"What was there before: {aside}")
    if dry_run and planned.others and not replace:
        lost = f"{folder}: {len(planned.others)} files would be lost to it. A restore needs --replace."
        click.echo(f"relay-tentacle: {lost}", err=True)  # and no fail(): with --json, the answer is printed already
        sys.exit(NOT_FINE)


def _where(config: Path, state: Path | None) -> tuple[Path, str | None]:
    """The state folder, and the relay's name where a configuration has it."""
    if state is not None:
        source = click.get_current_context().get_parameter_source("config")
        if source is click.core.ParameterSource.COMMANDLINE:
            fail("--state and --config are given. Give one of them.")
        return state, None
    table = load_or_exit(config)
    return table.relay.state, table.relay.name


def _read(file: Path, password: str | None) -> Backup:
    """Raises CertificateError, BackupError."""
    data = _unsealed(file, password)
    try:
        return unpack(data)
    except BackupError as error:
        raise BackupError(f"{file}: {error}") from error


def _unsealed(file: Path, password: str | None) -> bytes:
    """Raises CertificateError, BackupError."""
    if file == _DASH:
        data = sys.stdin.buffer.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise BackupError(f"standard input: more than {MAX_FILE} bytes. {_BACKUP.remedy}")
    else:
        read = read_private(file, warn, _BACKUP, MAX_FILE)
        if read is None:
            raise BackupError(f"{file}: no such file. {_BACKUP.remedy}")
        data = read
    if not is_sealed(data):
        return data
    try:
        return unseal(data, password if password is not None else ask(str(file)))
    except CertificateError as error:
        raise type(error)(f"{file}: {error}") from error


def _say(found: Backup, file: Path, as_json: bool) -> None:
    if as_json:
        empty: dict[str, Any] = {"state": None, "fates": None, "moved_away": [], "restored": False, "replaced": None}
        click.echo(json.dumps({**_listed(found, file), **empty}, indent=2))
    else:
        _print(found)


def _print(found: Backup, fates: dict[str, Fate] | None = None) -> None:
    click.echo(
        f"Backup of {f'the relay {found.relay}' if found.relay else 'a relay'}, made {found.made:%Y-%m-%d %H:%M:%S} UTC\n"
    )
    columns = ("KIND", "NAME", "TURN", "THUMBPRINT OR ID", *(("HERE",) if fates else ()))
    print_table(
        columns,
        [
            (item.kind, item.name, item.turn, item.shown, *((_FATES[fates[item.path]],) if fates else ()))
            for item in found.items
        ],
    )
    if not found.knows_subscriptions:
        click.echo(f"\n{_OLD}")


def _count(found: Backup) -> str:
    ids = len(found.subscriptions)
    return f"{len(found.identities)} identities" + (f", {ids} subscription ids" if ids else "")


def _listed(found: Backup, file: Path) -> dict[str, Any]:
    return {"file": str(file), **_as_dict(found)}


def _as_dict(found: Backup) -> dict[str, Any]:
    return {
        "relay": found.relay,
        "made": f"{found.made:%Y-%m-%dT%H:%M:%SZ}",
        "identities": [
            {
                "path": item.path,
                "kind": item.kind,
                "name": item.name,
                "turn": item.turn,
                "thumbprint": str(identity.thumbprint),
                "sha256": str(identity.sha256),
            }
            for item, identity in found.identities
        ],
        "subscriptions": [{"path": item.path, "name": item.name, "uri": item.shown} for item in found.subscriptions]
        if found.knows_subscriptions
        else None,
    }
