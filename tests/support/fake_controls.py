"""A relay that only says what a test lets it say, and remembers what it was told."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from tables import machine, table
from twisted.internet.defer import Deferred

from relay.admin.metrics import Metrics
from relay.errors import NoSuchNameError
from relay.load import FailureKind, Load, NodePolls
from relay.outcomes import NodeTrouble, Outcome, Refusal
from routing.table import Machine

NOW = 1_700_000_000.0


@dataclass
class FakeFailure:
    time: float
    word: Outcome | Refusal | NodeTrouble
    detail: str = "no route"
    peer: str = "192.0.2.1:50000"
    of_tentacle: bool = False

    @property
    def kind(self) -> FailureKind:
        if self.of_tentacle:
            return "tentacle"
        kinds: dict[type, FailureKind] = {Outcome: "call", Refusal: "refusal", NodeTrouble: "node"}
        return kinds[type(self.word)]


@dataclass
class FakeChanges:
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    closed: int = 0


@dataclass
class FakeOutcome:
    ok: bool = True
    lines: tuple[str, ...] = ()
    changes: FakeChanges | None = field(default_factory=FakeChanges)


class FakeControls:
    """Controls. told: what it was told, in order. numbers: of machines, by name and kind. gone: what leaving() tells.

    polled: what nodes() tells; there: what live() does.
    """

    def __init__(self, folder: Path, *names: str, **options: Any) -> None:
        machines = [machine(name, **options) for name in names or ("web01", "web02")]
        self.table = table(folder, *machines)
        self.started = NOW - 3600
        self.draining = False
        self.drained: frozenset[str] = frozenset()
        self.told: list[tuple[str, ...]] = []
        self.numbers: dict[tuple[str, str], int] = defaultdict(int)
        self.gone: list[tuple[Machine, Load]] = []
        self.polled: dict[str, list[NodePolls]] = {}
        self.there: dict[str, bool] = {}
        self.failures: dict[str, FakeFailure] = {}
        self.successes: dict[str, float] = {}
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.declare(each.name for each in machines)

    def _number(self, name: str, kind: str) -> int:
        if self.table.machine(name) is None:
            raise NoSuchNameError(f"no machine is named {name}")
        return self.numbers[name, kind]

    def totals(self) -> Load:
        kinds = ("connections", "in_flight", "waiting", "back_connections", "pollers", "polls")
        here = [[self.numbers[each.name, kind] for kind in kinds] for each in self.table.machines]
        return Load(*map(sum, zip(*here, *(load for _, load in self.gone), strict=True)))

    def leaving(self) -> Iterator[tuple[Machine, Load]]:
        return iter(self.gone)

    def is_drained(self, name: str) -> bool:
        self._number(name, "")
        return name in self.drained

    def connections(self, name: str) -> int:
        return self._number(name, "connections")

    def in_flight(self, name: str) -> int:
        return self._number(name, "in_flight")

    def waiting(self, name: str) -> int:
        return self._number(name, "waiting")

    def back_connections(self, name: str) -> int:
        return self._number(name, "back_connections")

    def idle_back_connections(self, name: str) -> int:
        return self._number(name, "idle_back_connections")

    def pollers(self, name: str) -> int:
        return self._number(name, "pollers")

    def polls(self, name: str) -> int:
        return self._number(name, "polls")

    def nodes(self, name: str) -> list[NodePolls]:
        return self.polled.get(name, [])

    def live(self, name: str) -> bool | None:
        return self.there.get(name)

    def last_failure(self, name: str) -> FakeFailure | None:
        return self.failures.get(name)

    def last_success(self, name: str) -> float | None:
        return self.successes.get(name)

    def expiries(self) -> Iterator[tuple[str, str, float]]:
        for each in self.table.machines:
            yield "machine", each.name, NOW + 1000
        for octopus in self.table.octopus:
            yield "octopus", octopus.name, NOW + 2000

    def start_drain(self) -> None:
        self.draining = True
        self.told.append(("start_drain",))

    def drain_machine(self, name: str) -> None:
        self._number(name, "")
        self.drained |= {name}
        self.told.append(("drain", name))

    def resume_machine(self, name: str) -> None:
        self.drained -= {name}
        self.told.append(("resume", name))

    def close_machine(self, name: str) -> int:
        self._number(name, "")
        self.told.append(("close machine", name))
        return 3

    def close_octopus(self, name: str) -> int:
        if name not in {octopus.name for octopus in self.table.octopus}:
            raise NoSuchNameError(f"no octopus entry is named {name}")
        self.told.append(("close octopus", name))
        return 5


class FakeReloads:
    """Reloads. asked: the `now` of each; pending: what they wait for, to be called back with a FakeOutcome."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "relay.yaml"
        self.last: FakeOutcome | None = None
        self.last_at = NOW
        self.asked: list[bool] = []
        self.pending: list[Deferred[FakeOutcome]] = []

    async def reload(self, now: bool = False) -> FakeOutcome:
        self.asked.append(now)
        self.pending.append(Deferred())
        return await self.pending[-1]
