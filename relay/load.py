"""How much goes on: in the whole relay, or at one machine."""

from typing import NamedTuple


class Load(NamedTuple):
    """connections: callers'. waiting: calls that wait for a connection to a Tentacle. back_connections: those to Tentacles."""

    connections: int
    exchanges_in_flight: int
    waiting: int
    back_connections: int
