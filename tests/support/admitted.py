"""Callers that were let in, where a test is not about that."""

from pathlib import Path
from typing import Any

from tables import table

from relay.admission import Admission, Visit
from routing.table import Octopus


def nothing() -> None:
    pass


def admission(*octopus: Octopus, departed: Any = nothing, **limits: int) -> Admission:
    """limits: of the relay, by their names."""
    return Admission(table(Path(), octopus=octopus, **limits), lambda: 0, departed)


def admitted(peer: str, opened: float, by: Admission | None = None) -> Visit:
    """A caller's visit."""
    visit = (by or admission()).admit(peer, opened)
    assert isinstance(visit, Visit)
    return visit
