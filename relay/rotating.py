"""Rotating an identity, step by step, with whoever must know of it: the Tentacles before, the running relay behind.

The files are certs.rotation's. Octopus trusts one thumbprint of a machine, so a machine's identity changes at one moment; a
Tentacle trusts several, so an octopus entry's changes when all its Tentacles trust the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from certs.identity import Identity
from certs.lock import locked
from certs.rotation import Rotation
from certs.store import IdentityStore
from relay import identities, running
from relay.identities import Entry
from relay.running import Reloaded
from relay.trust import Trust, machines_of
from routing.table import Machine, Table

Action = Literal["prepare", "activate", "cancel", "back"]
Result = Literal["prepared", "waits", "refused", "activated", "cancelled", "went-back"]
Ask = Callable[[list[Machine], Identity, Identity], list[Trust]]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done. rotation: what there is now; trusts: of the machines, where they were asked; reloaded: the relay."""

    entry: Entry
    result: Result
    rotation: Rotation
    trusts: list[Trust] | None = None
    reloaded: Reloaded | None = None

    @property
    def fine(self) -> bool:
        """Whether what was asked for is done, and a running relay shows it."""
        return self.result != "refused" and not (self.reloaded and self.reloaded.problem)


def rotate(table: Table, store: IdentityStore, entry: Entry, action: Action, force: bool, ask: Ask) -> Step:
    """Does one step. ask: which of these machines' Tentacles trust the first identity, where they trust the second.

    force: activate an octopus entry's without asking. Raises CertificateError.
    """
    rotation = identities.rotation(store, entry)
    state = table.relay.state
    identities.check_owner(state)
    if action == "prepare":
        with locked(state):
            _, made = rotation.prepare()
        return Step(entry, "prepared" if made else "waits", rotation, _trusts(table, entry, rotation, ask))
    if action == "cancel":
        with locked(state):
            rotation.cancel()
        return Step(entry, "cancelled", rotation)
    trusts = None
    if action == "activate" and not force:
        trusts = _trusts(table, entry, rotation, ask)
        if trusts and not all(trust.trusts for trust in trusts):
            return Step(entry, "refused", rotation, trusts)
    with locked(state):
        if action == "activate":
            rotation.activate()
        else:
            rotation.back()
    return Step(entry, "activated" if action == "activate" else "went-back", rotation, trusts, running.reload(state))


def _trusts(table: Table, entry: Entry, rotation: Rotation, ask: Ask) -> list[Trust] | None:
    """None where Octopus sees the identity, which cannot be asked, or where there is no next one."""
    new, current = rotation.next, rotation.current
    if entry.kind == "machine" or new is None or current is None:
        return None
    machines = machines_of(table, entry.name)
    return ask(machines, new, current) if machines else []
