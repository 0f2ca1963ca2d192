"""What the control socket, the status and the metrics ask of the running relay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from relay.load import FailureKind, Load, NodePolls
from relay.outcomes import NodeTrouble, Outcome, Refusal
from routing.table import Machine, Table


class Failure(Protocol):
    """How a call, or a caller, of one machine failed last, or what it is polled at, or its Tentacle.

    time: Unix seconds. peer: the address of whoever it was.
    """

    @property
    def time(self) -> float: ...

    @property
    def kind(self) -> FailureKind: ...

    @property
    def word(self) -> Outcome | Refusal | NodeTrouble: ...

    @property
    def detail(self) -> str: ...

    @property
    def peer(self) -> str: ...


class Controls(Protocol):
    """The relay. Each method that takes a name raises relay.errors.NoSuchNameError."""

    @property
    def table(self) -> Table:
        """The one in force."""

    @property
    def started(self) -> float:
        """When it was started (Unix seconds); 0 until all of it has."""

    @property
    def draining(self) -> bool:
        """The whole relay lets its calls end, and stops."""

    @property
    def drained(self) -> frozenset[str]:
        """Machines whose own doors take no callers until they are resumed."""

    def totals(self) -> Load:
        """Of the whole relay, machines that are leaving included."""

    def leaving(self) -> Iterator[tuple[Machine, Load]]:
        """Machines that reloads have removed, where somebody is still there."""

    def is_drained(self, name: str) -> bool:
        """Whether the machine is one of them."""

    def connections(self, name: str) -> int:
        """Callers' connections at the machine's doors."""

    def in_flight(self, name: str) -> int:
        """Exchanges that have begun and not ended."""

    def waiting(self, name: str) -> int:
        """Calls that wait for a connection to the Tentacle."""

    def back_connections(self, name: str) -> int:
        """Connections to the Tentacle."""

    def idle_back_connections(self, name: str) -> int:
        """Those of them that no exchange uses."""

    def pollers(self, name: str) -> int:
        """Connections of its Tentacle, where that polls the relay."""

    def polls(self, name: str) -> int:
        """Connections with which the relay polls Octopus for it."""

    def nodes(self, name: str) -> list[NodePolls]:
        """How each Octopus node is polled for it."""

    def live(self, name: str) -> bool | None:
        """Its Tentacle is there; None where nobody polls, so that only a call would tell."""

    def last_failure(self, name: str) -> Failure | None:
        """The last one, if there was one."""

    def last_success(self, name: str) -> float | None:
        """When a whole reply was last carried (Unix seconds)."""

    def expiries(self) -> Iterator[tuple[str, str, float]]:
        """When each identity expires: "machine" or "octopus", whose, and the time (Unix seconds)."""

    def start_drain(self) -> None:
        """What SIGTERM does: drains, then stops."""

    def drain_machine(self, name: str) -> None:
        """Its doors take no callers any more; those who are in may end their calls."""

    def resume_machine(self, name: str) -> None:
        """Ends that."""

    def close_machine(self, name: str) -> int:
        """Cuts the machine's connections now, exchanges too; how many callers' there were."""

    def close_octopus(self, name: str) -> int:
        """Cuts those of this octopus entry now; how many callers' there were."""


class Changes(Protocol):
    """What a reload changed: names of machines. closed: callers' connections that were cut."""

    @property
    def added(self) -> tuple[str, ...]: ...

    @property
    def changed(self) -> tuple[str, ...]: ...

    @property
    def removed(self) -> tuple[str, ...]: ...

    @property
    def unchanged(self) -> tuple[str, ...]: ...

    @property
    def closed(self) -> int: ...


class ReloadOutcome(Protocol):
    """How a reload ended. lines: all mistakes where it is not ok. changes: where it is ok."""

    @property
    def ok(self) -> bool: ...

    @property
    def lines(self) -> tuple[str, ...]: ...

    @property
    def changes(self) -> Changes | None: ...


class Reloads(Protocol):
    """Reads the configuration again."""

    @property
    def path(self) -> Path:
        """The configuration file."""

    @property
    def last(self) -> ReloadOutcome | None:
        """The last one that ended, whoever asked for it."""

    @property
    def last_at(self) -> float:
        """When (Unix seconds)."""

    async def reload(self, now: bool = False) -> ReloadOutcome:
        """Does it, and waits for its outcome. now: also cuts what the new file no longer allows."""
