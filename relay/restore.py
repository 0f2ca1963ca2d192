"""Puts a backup back into a state folder, whole or not at all.

The files are written to folders beside the ones that are there, and then these are moved away, and the new ones into their
places. While they are moved there is a folder `restoring`, with which no relay uses anything of the state folder: where a
restore is cut off then, it has to be done again. What was there is never deleted: it is in replaced-TIME/ afterwards.

A backup of a relay that knew no subscription ids leaves those alone that are there.
"""

import contextlib
import datetime as dt
import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from certs.errors import CertificateError
from certs.files import private_folder, sync_folder, unusable, write_private
from certs.lock import locked
from certs.store import RESTORING
from relay.backup import Backup, BackupError, Item, items_in

Fate = Literal["new", "same", "replaces"]
_BUILDING: Final = ".restore-"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do. fates: of each item of the backup; moved_away: paths that are there and not in the backup."""

    fates: dict[str, Fate] = field(default_factory=dict)
    moved_away: tuple[str, ...] = ()

    @property
    def others(self) -> list[str]:
        """Paths of identities and subscription ids that are there, and would be there no more."""
        return [path for path, fate in self.fates.items() if fate == "replaces"] + list(self.moved_away)


def plan(state: Path, backup: Backup) -> Plan:
    """What a restore would do here. Raises CertificateError."""
    there = items_in(state, backup.folders) if state.exists() else {}
    fates: dict[str, Fate] = {item.path: _fate(item, there.pop(item.path, None)) for item in backup.items}
    return Plan(fates, tuple(there))


def put_back(state: Path, backup: Backup, replace: bool, now: dt.datetime) -> Path | None:
    """Restores it. Returns the folder that has what was there before, if something was.

    replace: whether identities and subscription ids that are there may go. Raises BackupError where they may not,
    CertificateError.
    """
    private_folder(state)
    with locked(state):
        found = plan(state, backup)
        if found.others and not replace:
            raise BackupError(
                f"{state}: {len(found.others)} files are there that the backup does not have, {found.others[0]} among "
                "them, and peers may know them. Restore with --replace to move them away."
            )
        try:
            for leftover in state.glob(f"{_BUILDING}*"):  # of a restore that was cut off; its backup has all of it
                shutil.rmtree(leftover)
            if set(found.fates.values()) == {"same"} and not found.moved_away:
                _whole(state)
                return None
            aside = state / f"replaced-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
            building = _build(state, backup)
            try:
                _swap(state, backup.folders, building, aside)
            finally:
                shutil.rmtree(building)
            return aside if aside.exists() else None
        except OSError as error:
            raise unusable(state, "restore into it", error) from error


def _fate(item: Item, there: bytes | None) -> Fate:
    if there is None:
        return "new"
    return "same" if there == item.data else "replaces"


def _build(state: Path, backup: Backup) -> Path:
    """All files in a folder of their own, synced."""
    building = state / f"{_BUILDING}{secrets.token_hex(8)}"
    try:
        for folder in (building, *(building / name for name in backup.folders)):
            private_folder(folder)
        for item in backup.items:
            write_private(building / item.path, item.data, replace=False)
    except CertificateError:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return building


def _swap(state: Path, folders: tuple[str, ...], building: Path, aside: Path) -> None:
    """Moves the folders. Where a move fails, those before it are taken back. Raises OSError."""
    marker = state / RESTORING
    was_whole = not marker.exists()
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        os.rename(source, target)
        done.append((source, target))

    try:
        marker.mkdir(0o700, exist_ok=True)
        sync_folder(state)
        for name in folders:
            if (state / name).exists():
                aside.mkdir(0o700, exist_ok=True)
                move(state / name, aside / name)
                sync_folder(aside)
            move(building / name, state / name)
        _whole(state)
    except BaseException:
        for source, target in reversed(done):
            os.rename(target, source)
        with contextlib.suppress(OSError):
            aside.rmdir()
        if was_whole:
            _whole(state)
        raise


def _whole(state: Path) -> None:
    """From now on relays use what is here. Raises OSError."""
    sync_folder(state)
    with contextlib.suppress(FileNotFoundError):
        (state / RESTORING).rmdir()
    sync_folder(state)
