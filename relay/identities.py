"""The identities of a routing table: which there are, which side each one faces, and what its file holds.

A machine's identity faces Octopus, which takes it for the Tentacle's. An octopus entry's identity faces the Tentacles, which
take it for the Octopus server's.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from certs.errors import CertificateError
from certs.files import unusable
from certs.identity import Identity
from certs.store import IdentityStore, Provisioned
from routing.table import Table

Kind = Literal["machine", "octopus"]

FACES: Final[dict[Kind, str]] = {"machine": "Octopus", "octopus": "Tentacles"}


@dataclass(frozen=True, slots=True)
class Entry:
    """An identity that the configuration calls for. provisioned: the file that it names for it, if it names one."""

    kind: Kind
    name: str
    provisioned: Provisioned | None

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
    """What there is for an entry. identity: None where it was not made yet, or where problem says why it cannot be used."""

    entry: Entry
    file: Path
    identity: Identity | None
    problem: str = ""


def entries(table: Table) -> list[Entry]:
    """All of them: machines first, each kind in the order of the file."""
    machines = [Entry("machine", machine.name, machine.identity) for machine in table.machines]
    return machines + [Entry("octopus", octopus.name, octopus.identity) for octopus in table.octopus]


def entry(table: Table, name: str, kind: Kind | None = None) -> Entry:
    """The one of this name. Raises NoSuchEntryError; AmbiguousNameError where no kind is given and both have it."""
    named = [entry for entry in entries(table) if entry.name == name and kind in (None, entry.kind)]
    if not named:
        known = [entry.name for entry in entries(table) if kind in (None, entry.kind)]
        what = {"machine": "machine", "octopus": "octopus entry", None: "machine or octopus entry"}[kind]
        raise NoSuchEntryError(f"{table.source}: no {what} is named {name}. There are: {_some(known)}.")
    if len(named) > 1:
        raise AmbiguousNameError(f"{table.source}: a machine and an octopus entry are named {name}. Say which one is meant.")
    return named[0]


def look(store: IdentityStore, entry: Entry) -> Found:
    """What the files say; makes nothing."""
    machine = entry.kind == "machine"
    own = (store.machine_file if machine else store.octopus_file)(entry.name)
    file = entry.provisioned.file if entry.provisioned else own
    try:
        if entry.provisioned:
            return Found(entry, file, store.machine(entry.name, entry.provisioned))
        return Found(entry, file, (store.find_machine if machine else store.find_octopus)(entry.name))
    except CertificateError as error:
        return Found(entry, file, None, str(error))


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
    _check_owner(table.relay.state)
    return (store.import_machine if entry.kind == "machine" else store.import_octopus)(identity, replace)


def _check_owner(folder: Path) -> None:
    """What another user writes, with mode 0600, the relay could not read."""
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable(folder, "look at this folder", error) from error
    if owner != os.geteuid():
        user = _user(owner)
        raise CertificateError(
            f"{folder}: belongs to {user}, who could not read what {_user(os.geteuid())} puts there. "
            f"Run this as {user}: sudo -u {user} relay-tentacle identity import ..."
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
