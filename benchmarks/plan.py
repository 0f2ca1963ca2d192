"""How much is measured: a full run, a quick one, and what of it."""

from dataclasses import dataclass, replace
from typing import Final

LOADS: Final = ("rpc", "newconn", "stream", "fair")  # in alternating rounds
WORKLOADS: Final = (*LOADS, "flat", "idle", "pollers", "nodes", "stress")
CONNECTIONS: Final = {"rpc": 16, "newconn": 16, "stream": 4, "flat": 16}
FAIR_CALLERS: Final = 4
FAIR_PAUSE: Final = 0.005  # seconds between two calls of each, so that they do not load the machine by themselves
SLOW_PAUSE: Final = 0.1  # seconds between 64 KiB that a slow Tentacle reads


@dataclass(frozen=True, slots=True)
class Plan:
    """rounds: of each load. warmup, rpc, newconn, stream, fair, flat, watch: seconds, watch of connections at rest: each that
    polls hears one null then.

    idle: connections, of callers and of pollers. polled: machines for which the relay polls nodes. machines: of a relay that
    has many. uploads: at once, to slow readers.
    """

    rounds: int = 5
    warmup: float = 1.0
    rpc: float = 4.0
    newconn: float = 4.0
    stream: float = 4.0
    fair: float = 4.0
    flat: float = 4.0
    watch: float = 30.0
    idle: int = 10_000
    polled: int = 500
    machines: int = 10_000
    uploads: int = 200

    def seconds(self, workload: str) -> float:
        """Of one run of a load."""
        return {"rpc": self.rpc, "newconn": self.newconn, "stream": self.stream, "fair": self.fair, "flat": self.flat}[workload]


FULL: Final = Plan()
QUICK: Final = replace(
    FULL,
    rounds=2,
    warmup=0.3,
    rpc=1.2,
    newconn=0.8,
    stream=0.8,
    fair=1.0,
    flat=1.2,
    watch=3.0,
    idle=200,
    polled=20,
    machines=200,
    uploads=40,
)
