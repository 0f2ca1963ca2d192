"""Whose a certificate is, as far as the configuration and the state folder know."""

from certs.store import IdentityStore
from certs.thumbprint import Thumbprint
from relay import identities
from routing.table import Table


def whose(table: Table, store: IdentityStore, der: bytes) -> str:
    """In words; empty for a stranger's. Reads the relay's identities, those that can be read, and makes none."""
    for machine in table.machines:
        if _has(machine.thumbprints, der):
            return f"the one that machine {machine.name} has pinned ({machine.places.of('thumbprint', 'thumbprints')})"
    for octopus in table.octopus:
        if _has(octopus.thumbprints, der):
            place = octopus.places.of("thumbprint", "thumbprints")
            return f"the one of the Octopus server {octopus.name} ({place}), and no Tentacle's"
    for entry in identities.entries(table):
        found = identities.look(store, entry)
        if found.identity and found.identity.der == der:
            return f"this relay's own, which it shows to {entry.faces} for the {entry}"
    return ""


def _has(pins: tuple[Thumbprint, ...], der: bytes) -> bool:
    return any(pin.matches(der) for pin in pins)
