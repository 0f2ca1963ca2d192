"""How much goes on: in the whole relay, or at one machine."""

from typing import NamedTuple


class InUse(NamedTuple):
    """A limit: its key in the configuration, how much of it is used, and what it is."""

    key: str
    used: int
    limit: int


class Load(NamedTuple):
    """connections: callers'. waiting: calls that wait for a connection to a Tentacle. back_connections: those to Tentacles."""

    connections: int
    exchanges_in_flight: int
    waiting: int
    back_connections: int
