"""Backups of the state folder, whose loss would change every thumbprint.

A backup is a tar.gz: first manifest.json, then the files as they are in the state folder. With a password it is sealed as a
whole (certs.sealing). What is read is believed of nobody: every size and count is bounded, each file has to be a plain one
with the name and the hash of the manifest, and has to hold a whole identity or a subscription id.
"""

import datetime as dt
import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from certs.errors import CertificateError
from certs.files import check_folder, read_private, unusable
from certs.identity import Identity
from certs.lock import locked
from certs.rotation import NEXT, OLD
from certs.store import subscription_in

Kind = Literal["machine", "octopus", "subscription"]
Turn = Literal["current", "next", "old"]

MAX_FILE: Final = 256 * 1024 * 1024  # bytes of a backup
_MAX_ITEMS: Final = 100_000
_MAX_ITEM: Final = 64 * 1024  # bytes of one identity's file
_MAX_MANIFEST: Final = 64 * 1024 * 1024
_MAX_TOTAL: Final = 512 * 1024 * 1024  # bytes of it all, decompressed
FOLDERS: Final[dict[str, Kind]] = {"machines": "machine", "octopus": "octopus", "subscriptions": "subscription"}
_SHOWN_AS: Final = {True: "thumbprint", False: "id"}  # in a manifest: of an identity, of a subscription
_TURNS: Final[dict[str, Turn]] = {"": "current", NEXT: "next", OLD: "old"}
_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_PATH: Final = re.compile(
    rf"(?P<folder>machines|octopus)/(?P<name>{_NAME})\.pem(?P<turn>|{re.escape(NEXT)}|{re.escape(OLD)})"
    rf"|(?P<ids>subscriptions)/(?P<machine>{_NAME})"
)
_MANIFEST: Final = "manifest.json"
_FORMAT: Final = "relay-tentacle backup"
_VERSION: Final = 2
# What each version is a backup of: of a folder that it does not know, it says nothing.
_FOLDERS_OF: Final = {1: ("machines", "octopus"), _VERSION: tuple(FOLDERS)}
_BROKEN: Final = (
    tarfile.TarError, zlib.error, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError,
    RecursionError,
)  # fmt: skip


class BackupError(Exception):
    """A backup cannot be made or used. The text says why, and what to do; it never holds key bytes."""


@dataclass(frozen=True, slots=True, repr=False)
class Item:
    """One file of the state folder. path: in it, such as machines/web01.pem. identity: None where it is a subscription id."""

    path: str
    data: bytes
    identity: Identity | None

    @property
    def kind(self) -> Kind:
        return FOLDERS[self.path.partition("/")[0]]

    @property
    def name(self) -> str:
        """Of the machine or the octopus entry."""
        return _name(self.path)

    @property
    def turn(self) -> Turn:
        """Which of the identities that take turns it is."""
        return _TURNS[_parts(self.path)["turn"] or ""]

    @property
    def shown(self) -> str:
        """What other sides know of it: the thumbprint, or the id."""
        return str(self.identity.thumbprint) if self.identity else self.data.decode("ascii").strip()

    def __repr__(self) -> str:
        return f"Item({self.path}, {self.shown})"


@dataclass(frozen=True, slots=True)
class Backup:
    """What is in one. made: UTC; relay: its name, where it was known. folders: those of the state folder that it has whole."""

    made: dt.datetime
    relay: str | None
    items: tuple[Item, ...]
    folders: tuple[str, ...] = tuple(FOLDERS)

    @property
    def identities(self) -> list[tuple[Item, Identity]]:
        """Those that are identities."""
        return [(item, item.identity) for item in self.items if item.identity]

    @property
    def subscriptions(self) -> list[Item]:
        """Those that are subscription ids."""
        return [item for item in self.items if item.identity is None]

    @property
    def knows_subscriptions(self) -> bool:
        """False: an older relay made it, and left them out."""
        return "subscriptions" in self.folders


# ---- making one ---------------------------------------------------------------------------------------------------------


def collect(state: Path, relay: str | None, made: dt.datetime) -> Backup:
    """All identities and subscription ids in the state folder.

    Raises CertificateError where one cannot be used, BackupError where none is there.
    """
    items: list[Item] = []
    with locked(state):
        for folder in FOLDERS:
            items += _items(state, folder)
    if not items:
        raise BackupError(f"{state}: no identity and no subscription id is in this folder, so there is nothing to back up.")
    return Backup(made, relay, tuple(items))


def pack(backup: Backup) -> bytes:
    """The tar.gz."""
    out = io.BytesIO()
    seconds = int(backup.made.timestamp())
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "made": f"{backup.made:%Y-%m-%dT%H:%M:%SZ}",
        "relay": backup.relay,
        "files": [_entry(item) for item in backup.items],
    }
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.USTAR_FORMAT) as archive:
        files = [(_MANIFEST, json.dumps(manifest, indent=1).encode()), *((item.path, item.data) for item in backup.items)]
        for path, data in files:
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(data), 0o600, seconds
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _entry(item: Item) -> dict[str, str]:
    """An item in the manifest."""
    return {
        "path": item.path,
        "kind": item.kind,
        "name": item.name,
        "turn": item.turn,
        _SHOWN_AS[item.identity is not None]: item.shown,
        "sha256": hashlib.sha256(item.data).hexdigest(),
    }


def items_in(state: Path, folders: tuple[str, ...] = tuple(FOLDERS)) -> dict[str, bytes]:
    """The files of items in these of its folders, by their path in it, whatever they hold. Raises CertificateError."""
    found = {}
    for folder in folders:
        for path in _files(state / folder):
            data = read_private(path)
            if data is not None:
                found[f"{folder}/{path.name}"] = data
    return found


def _items(state: Path, folder: str) -> Iterator[Item]:
    for path in _files(state / folder):
        data = read_private(path)
        if data is None:
            continue  # deleted in this moment
        try:
            yield _read_item(f"{folder}/{path.name}", data)
        except CertificateError as error:
            raise CertificateError(
                f"{path}: {error} Mend or delete this file, and back up again: nothing was written."
            ) from error


def _read_item(path: str, data: bytes) -> Item:
    """Raises CertificateError."""
    if FOLDERS[path.partition("/")[0]] == "subscription":
        subscription_in(data, _name(path), path)
        return Item(path, data, None)
    # An RSA key's numbers are not checked anew: that takes 60 ms for each. In a backup, the hash says that they are ours.
    return Item(path, data, Identity.from_pem(_name(path), data, known_good=True))


def _files(folder: Path) -> list[Path]:
    try:
        check_folder(folder)
    except CertificateError:
        if not folder.exists():
            return []
        raise
    try:
        return sorted(path for path in folder.iterdir() if _PATH.fullmatch(f"{folder.name}/{path.name}"))
    except OSError as error:
        raise unusable(folder, "list", error) from error


def _name(path: str) -> str:
    parts = _parts(path)
    return parts["name"] or parts["machine"]


def _parts(path: str) -> re.Match[str]:
    match = _PATH.fullmatch(path)
    assert match is not None
    return match


# ---- reading one --------------------------------------------------------------------------------------------------------


def unpack(data: bytes) -> Backup:
    """What is in a backup that is not sealed. Raises BackupError where anything in it is not as it should be."""
    try:
        return _unpack(data)
    except CertificateError as error:
        raise BackupError(f"a file in it cannot be used: {error}") from error
    except _BROKEN as error:
        raise BackupError(
            f"not a backup, or damaged ({type(error).__name__}: {str(error)[:200]}). Use another copy."
        ) from error


def _unpack(data: bytes) -> Backup:
    source = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(data)))
    with tarfile.open(fileobj=source, mode="r|") as archive:  # type: ignore[call-overload]  # all that it takes is read()
        members = iter(archive)
        manifest = _manifest(archive, next(members, None))
        listed = {entry["path"]: entry for entry in manifest["files"]}
        if not 0 < len(listed) == len(manifest["files"]) <= _MAX_ITEMS:
            raise BackupError(f"its manifest lists {len(manifest['files'])} files, or one twice. Use another copy.")
        folders = _FOLDERS_OF[manifest["version"]]
        items = [_item(archive, member, listed, folders) for member in members]
    while source.read(_MAX_ITEM):
        pass  # to the end, where gzip has its check sum
    if listed:
        missing = str(next(iter(listed)))[:200]
        raise BackupError(f"{len(listed)} files of its manifest are not in it, {missing!r} among them. Use another copy.")
    made = dt.datetime.strptime(manifest["made"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
    return Backup(made, manifest["relay"], tuple(items), folders)


def _manifest(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> dict[str, Any]:
    if member is None or member.name != _MANIFEST:
        raise BackupError("not a backup: no manifest.json comes first in it. Name a file that `relay-tentacle backup` wrote.")
    found: dict[str, Any] = json.loads(_read(archive, member, _MAX_MANIFEST))
    if found["format"] != _FORMAT:
        raise BackupError("not a backup of a relay's. Name a file that `relay-tentacle backup` wrote.")
    if found["version"] not in _FOLDERS_OF:
        raise BackupError(f"of version {found['version']}, and this relay knows {_VERSION}. Restore it with a newer relay.")
    if not (found["relay"] is None or isinstance(found["relay"], str)):
        raise BackupError("the name of the relay in its manifest is no text. Use another copy.")
    return found


def _item(archive: tarfile.TarFile, member: tarfile.TarInfo, listed: dict[str, Any], folders: tuple[str, ...]) -> Item:
    """Takes it from `listed`: what is left there is missing."""
    entry = listed.pop(member.name, None)
    if entry is None or not _PATH.fullmatch(member.name) or member.name.partition("/")[0] not in folders:
        raise BackupError(f"{member.name[:200]!r} is in it, and not as a file of its manifest. Use another copy.")
    data = _read(archive, member, _MAX_ITEM)
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise BackupError(f"{member.name} in it has another hash than its manifest says. Use another copy.")
    item = _read_item(member.name, data)
    known_by = _SHOWN_AS[item.identity is not None]
    if item.shown != entry[known_by]:
        raise BackupError(f"{member.name} in it has another {known_by} than its manifest says. Use another copy.")
    return item


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    """Only plain files: no link, no folder, no device, nothing sparse."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise BackupError(f"{member.name[:200]!r} in it is not a plain file. Use another copy.")
    if member.size > most:
        raise BackupError(f"{member.name[:200]!r} in it has {member.size} bytes, more than {most}. Use another copy.")
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


class _Bounded:
    """Reads no more than a backup ever has, however small what it was compressed to."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._left = _MAX_TOTAL

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise BackupError(f"more than {_MAX_TOTAL} bytes when decompressed. Use another copy.")
        return data
