"""The states of a TLS connection (connection.py), and of what it sends (sending.py).

    HANDSHAKE --done--> OPEN --loseConnection--> FLUSHING --all sent--> LINGERING --peer's FIN, or enough--> CLOSED
        any --abortConnection, peer's end, error--> CLOSED, by way of BROKEN where a write shows it

Whoever asks often gives the members names in its own module: Python 3.11 finds those for nothing, and a member of an Enum at
the price of a call.
"""

from enum import Enum


class State(Enum):
    HANDSHAKE = "handshake"
    OPEN = "open"
    FLUSHING = "flushing"
    LINGERING = "lingering"
    BROKEN = "broken"
    CLOSED = "closed"
