"""The identities of a routing table: which there are, which side each one faces, and what its file holds.

A machine's identity faces Octopus, which takes it for the Tentacle's. An octopus entry's identity faces the Tentacles, which
take it for the Octopus server's.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from certs.errors import CertificateError
from certs.files import private_folder
from certs.identity import Identity
from certs.lock import locked
from certs.rotation import Rotation
from certs.store import COMMON_NAMES, Folder, IdentityStore, Provisioned, check_state
from relay.owners import check_owner
from relay.program import command
from relay.shown import shown_at
from routing.table import Machine, Table

Kind = Literal["machine", "octopus"]

FACES: Final[dict[Kind, str]] = {"machine": "Octopus", "octopus": "Tentacles"}
_FOLDERS: Final[dict[Kind, Folder]] = {"machine": "machines", "octopus": "octopus"}
SOON: Final = dt.timedelta(days=90)  # a certificate that ends within this time is worth a warning


@dataclass(frozen=True, slots=True)
class Entry:
    """An identity that the configuration calls for. provisioned: the file that it names for it, if it names one."""

    kind: Kind
    name: str
    provisioned: Provisioned | None

    @property
    def common_name(self) -> str:
        """What a new certificate says in its subject, like those of real ones."""
        return COMMON_NAMES[_FOLDERS[self.kind]]

    @property
    def faces(self) -> str:
        """Who is shown this identity."""
        return FACES[self.kind]

    def __str__(self) -> str:
        return f"machine {self.name}" if self.kind == "machine" else f"octopus entry {self.name}"


class NoSuchEntryError(Exception):
    """The configuration has no such entry. The text says so, and which there are."""


class AmbiguousNameError(Exception):
    """Both a machine and an octopus entry have this name."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is for an entry. identity: None where it was not made yet, or where problem says why it cannot be used.

    next: the one that waits while it is rotated; old: the one before, to which `identity rotate --back` goes.
    """

    entry: Entry
    file: Path
    identity: Identity | None
    problem: str = ""
    next: Identity | None = None
    old: Identity | None = None


def entries(table: Table) -> list[Entry]:
    """All of them: machines first, each kind in the order of the file. Machines that are passed through have none."""
    machines = [Entry("machine", each.name, each.identity) for each in table.machines if not each.passthrough]
    return machines + [Entry("octopus", octopus.name, octopus.identity) for octopus in table.octopus]


def entry(table: Table, name: str, kind: Kind | None = None) -> Entry:
    """The one of this name. Raises NoSuchEntryError; AmbiguousNameError where no kind is given and both have it."""
    named = [entry for entry in entries(table) if entry.name == name and kind in (None, entry.kind)]
    if not named:
        machine = table.machine(name) if kind != "octopus" else None
        if machine and machine.passthrough:
            raise NoSuchEntryError(
                f"{table.source}: machine {name} is passed through, so it has no identity of the relay's: Octopus sees the "
                "certificate of the Tentacle itself."
            )
        known = [entry.name for entry in entries(table) if kind in (None, entry.kind)]
        what = {"machine": "machine", "octopus": "octopus entry", None: "machine or octopus entry"}[kind]
        raise NoSuchEntryError(f"{table.source}: no {what} is named {name}. There are: {_some(known)}.")
    if len(named) > 1:
        raise AmbiguousNameError(f"{table.source}: a machine and an octopus entry are named {name}. Say which one is meant.")
    return named[0]


def machine(table: Table, name: str) -> Machine:
    """The one of this name, whether it has an identity or not. Raises NoSuchEntryError."""
    found = table.machine(name)
    if found is None:
        known = _some([each.name for each in table.machines])
        raise NoSuchEntryError(f"{table.source}: no machine is named {name}. There are: {known}.")
    return found


def look(store: IdentityStore, entry: Entry) -> Found:
    """What the files say; makes nothing."""
    file = own_file(store, entry)
    try:
        if entry.provisioned:
            return Found(entry, entry.provisioned.file, _get(store, entry))
        taking_turns = rotation(store, entry)
        found = Found(entry, file, taking_turns.current)
    except CertificateError as error:
        return Found(entry, entry.provisioned.file if entry.provisioned else file, None, str(error))
    try:
        return Found(entry, file, found.identity, "", taking_turns.next, taking_turns.old)
    except CertificateError as error:
        return Found(entry, file, found.identity, str(error))


def warnings(table: Table, found: Found, now: dt.datetime, doors: bool) -> list[str]:
    """What to see to before long. doors: whether to look, too, what a running relay shows at the machine's door."""
    identity = found.identity
    if identity is None:
        return []
    texts = []
    if identity.expires - now <= SOON:
        what = f"{'expires' if identity.expires > now else 'expired'} on {identity.expires:%Y-%m-%d}"
        texts.append(f"its certificate {what}. Octopus and Tentacles do not look at that; whatever inspects TLS may.")
    machine = table.machine(found.entry.name) if found.entry.kind == "machine" and doors else None
    shown = shown_at(table, machine) if machine else None
    if shown and shown[1] != identity.thumbprint:
        reload = command("reload", table.source)
        texts.append(f"{shown[0]} still shows {shown[1]}. The running relay shows this one after: {reload}")
    return texts


def check_folder(table: Table, asked: Iterable[Entry], writing: bool) -> None:
    """Once for all entries whose identities the relay keeps. Raises CertificateError where the state folder cannot be used.

    writing: another user's is not, either.
    """
    if all(entry.provisioned for entry in asked):
        return
    if writing:
        check_owner(table.relay.state)
    check_state(table.relay.state)


def own_file(store: IdentityStore, entry: Entry) -> Path:
    """Where the relay's own identity for it is, or will be. Raises CertificateError for a name that is none."""
    return (store.machine_file if entry.kind == "machine" else store.octopus_file)(entry.name)


def rotation(store: IdentityStore, entry: Entry) -> Rotation:
    """The identities of this entry that take turns. Raises CertificateError where the operator provides it."""
    if entry.provisioned:
        raise CertificateError(
            f"{entry}: the configuration names a file for its identity, {entry.provisioned}, and the relay never writes it. "
            "Put the new key and certificate there yourself, and reload the relay."
        )
    return Rotation(own_file(store, entry), entry.name, entry.common_name)


def make(table: Table, store: IdentityStore, entry: Entry) -> tuple[Identity, bool]:
    """The identity of this entry, and whether it was made now. Raises CertificateError."""
    if not entry.provisioned:
        check_owner(table.relay.state)
    there = look(store, entry)
    if there.problem:
        raise CertificateError(f"{entry}: {there.problem}")
    return _get(store, entry), there.identity is None


def keep(table: Table, store: IdentityStore, entry: Entry, identity: Identity, replace: bool) -> Path:
    """Puts an identity, which has the entry's name, into the relay's own file for it; returns the file.

    Raises CertificateError: where the configuration names another file, where another certificate is there and `replace` is
    not set, and where the state folder belongs to another user.
    """
    if entry.provisioned:
        raise CertificateError(
            f"{entry}: the configuration names a file for its identity, {entry.provisioned}, and the relay uses that one. "
            "Replace that file, or take the key identity out of the configuration."
        )
    check_owner(table.relay.state)
    private_folder(table.relay.state)
    with locked(table.relay.state):
        return (store.import_machine if entry.kind == "machine" else store.import_octopus)(identity, replace)


def _get(store: IdentityStore, entry: Entry) -> Identity:
    return (store.machine if entry.kind == "machine" else store.octopus)(entry.name, entry.provisioned)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
