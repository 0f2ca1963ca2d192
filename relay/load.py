"""How much goes on: in the whole relay, or at one machine."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from relay.outcomes import NodeTrouble

# Whose trouble it was: of a call, a caller, an Octopus node that is polled, or a Tentacle that is kept ready for polls.
FailureKind = Literal["call", "refusal", "node", "tentacle"]


class Load(NamedTuple):
    """connections: callers'. waiting: calls that wait for a connection to a Tentacle. back_connections: those to Tentacles.

    pollers: those of polling Tentacles, which are among them. polls: connections with which the relay polls Octopus.
    """

    connections: int
    exchanges_in_flight: int
    waiting: int
    back_connections: int
    pollers: int = 0
    polls: int = 0


@dataclass(frozen=True, slots=True)
class NodePolls:
    """How one Octopus node is polled for one machine. octopus: its entry.

    standing: connections that the node has accepted; wanted: how many there should be now, 0 while the Tentacle is away.
    trouble, detail: why one could not be had, or has ended, since the last one was accepted.
    """

    octopus: str
    node: str
    standing: int
    wanted: int
    trouble: NodeTrouble | None = None
    detail: str = ""
