"""Pieces of a routing table, as short as a test wants them. Certificates are any bytes: only their hash is looked at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from certs.thumbprint import Thumbprint
from routing.addresses import Address
from routing.table import Limits, Machine, Octopus, Relay, RelayLimits, RelayTimeouts, Table, Timeouts

OCTOPUS = b"the certificate of Octopus"
OTHER_OCTOPUS = b"the certificate of another Octopus"
TENTACLE = b"the certificate of the Tentacle"
STRANGER = b"the certificate of a stranger"

PRODUCTION = Octopus("production", (Thumbprint.of(OCTOPUS),), None)
STAGING = Octopus("staging", (Thumbprint.of(OTHER_OCTOPUS),), None)


def machine(name: str = "web01", **changed: Any) -> Machine:
    """A machine of two Octopus servers; limits and timeouts by their names, everything else as in Machine."""
    limits = {key: changed.pop(key) for key in list(changed) if key in Limits.__dataclass_fields__}
    timeouts = {key: changed.pop(key) for key in list(changed) if key in Timeouts.__dataclass_fields__}
    made = Machine(
        name=name,
        tentacle=Address("127.0.0.1", 10933),
        thumbprints=(Thumbprint.of(TENTACLE),),
        octopus=(PRODUCTION, STAGING),
        door=Address("127.0.0.1", 0),
        identity=None,
        limits=Limits(**limits),
        timeouts=Timeouts(**timeouts),
    )
    return replace(made, **changed)


def table(folder: Path, *machines: Machine, **changed: Any) -> Table:
    """A table of these machines; limits and timeouts of the relay by their names, everything else as in Relay or Table."""
    entries = {octopus.name: octopus for machine in machines for octopus in machine.octopus}
    octopus = changed.pop("octopus", tuple(entries.values()))
    of_table = {key: changed.pop(key) for key in ("front", "connect", "back", "back_octopus", "admin") if key in changed}
    limits = {key: changed.pop(key) for key in list(changed) if key in RelayLimits.__dataclass_fields__}
    timeouts = {key: changed.pop(key) for key in list(changed) if key in RelayTimeouts.__dataclass_fields__}
    relay = Relay("dc-east", folder / "state", None, "info", RelayLimits(**limits), RelayTimeouts(**timeouts))
    relay = replace(relay, **changed)
    return Table(relay, octopus, machines, folder / "relay.yaml", **of_table)
