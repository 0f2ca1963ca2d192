"""The stages, with everything around them in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import workloads
from benchmarks.measure import Measurement
from benchmarks.plan import Plan
from benchmarks.proxies import installed
from benchmarks.runs import Result, Run
from benchmarks.trouble import TroubleError


class FakeProxy:
    def __init__(self, name: str, scene: "Scene") -> None:
        self.name, self.scene, self.port, self.machines, self.pairs = name, scene, 1, 10, False

    def start(self, load: object) -> None:
        if self.name in self.scene.broken:
            raise TroubleError("does not start")
        if self.name != "direct":  # which is nothing that runs
            self.scene.up.append(self.name)

    def stop(self) -> None:
        if self.name in self.scene.up:
            self.scene.up.remove(self.name)


class Scene:
    """up: who runs; done: what was measured, of whom; kept: how much of it when it was kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, broken: str = "") -> None:
        self.broken = broken
        self.up: list[str] = []
        self.done: list[str] = []
        self.kept: list[int] = []
        self.result = Result("", 65536, {}, {}, {}, {})
        for name in ("exchanges", "fair", "idle", "stress"):
            monkeypatch.setattr(workloads, name, getattr(self, name))
        street = SimpleNamespace(
            direct=lambda: FakeProxy("direct", self), haproxy=lambda: FakeProxy("haproxy", self),
            nginx=lambda: FakeProxy("nginx", self), relay=lambda version, name="", *_: FakeProxy(name or version.name, self),
            most_pairs=100,
        )  # fmt: skip
        load = SimpleNamespace(serve=lambda *_: (1, SimpleNamespace(stop=lambda: None)), idle=self.hold, rpc=[])
        self.open = 7
        self.measurement = Measurement(
            cast("Any", load), Plan(rounds=3, idle=7), [installed()], ["direct"], cast("Any", lambda _: street), self.result,
            lambda: self.kept.append(len(self.result.runs)),
        )  # fmt: skip

    def hold(self, *_: object) -> Any:
        return SimpleNamespace(let_go=lambda: self.open, first_error="")

    def note(self, workload: str, proxy: FakeProxy, number: int = 0, base: str = "haproxy") -> Run:
        assert proxy.name in self.up
        self.done.append(f"{workload} {proxy.name}")
        return Run(workload, proxy.name, number, base, {})

    def exchanges(self, workload: str, proxy: FakeProxy, load: object, plan: Plan, number: int, base: str = "haproxy") -> Run:
        return self.note(workload, proxy, number, base)

    def fair(self, proxy: FakeProxy, load: object, plan: Plan, number: int) -> Run:
        return self.note("fair", proxy, number)

    def idle(self, proxy: FakeProxy, load: object, plan: Plan, most_pairs: int) -> Run:
        return self.note("idle", proxy)

    def stress(self, proxy: FakeProxy, load: object, plan: Plan) -> Run:
        return self.note("stress", proxy)


@contextmanager
def scene(monkeypatch: pytest.MonkeyPatch, broken: str = "") -> Iterator[Scene]:
    made = Scene(monkeypatch, broken)
    yield made
    assert made.up == [], "whoever was started is stopped"


def test_in_each_round_another_one_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(monkeypatch) as it:
        it.measurement.all(["rpc"])
    h, n, o = "rpc haproxy", "rpc nginx", "rpc ours"
    assert it.done == [h, n, o, n, o, h, o, h, n]
    assert [run.round for run in it.result.runs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_round_has_all_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(monkeypatch) as it:
        it.measurement.all(["stream", "fair"])
    assert [done.split()[0] for done in it.done] == 3 * ([*3 * ["stream"], *3 * ["fair"]])


def test_flat_is_compared_with_few_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(monkeypatch) as it:
        it.measurement.all(["flat"])
    assert {run.base for run in it.result.runs} == {"ours, 10 machines"}
    assert {run.proxy for run in it.result.runs} == {"ours, 10 machines", "ours, 10000 machines", "ours, 7 idle"}
    assert it.result.troubles == []


def test_idle_connections_that_closed_in_between_are_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(monkeypatch) as it:
        it.open = 6
        it.measurement.all(["flat"])
    assert it.result.troubles == ["flat, ours: ours, 7 idle: only 6 stayed open (closed while idle)"]


def test_trouble_of_one_stops_no_other_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(monkeypatch, broken="haproxy") as it:
        it.measurement.all(["rpc", "idle", "stress"])
    assert it.done == ["rpc nginx", "rpc ours", "rpc ours", "rpc nginx", "rpc nginx", "rpc ours",
        "idle nginx", "idle ours", "stress nginx", "stress ours",
    ]  # fmt: skip
    assert it.result.troubles == [f"{stage}, haproxy: does not start" for stage in ("rpc", "idle", "stress")]
    assert it.kept[-1] == len(it.result.runs) == 10


def test_a_run_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(monkeypatch) as it:
        run = it.exchanges

        def exchanges(workload: str, proxy: FakeProxy, load: object, plan: Plan, number: int) -> Run:
            if (proxy.name, number) == ("ours", 1):
                raise TroubleError("ended in the middle")
            return run(workload, proxy, load, plan, number)

        monkeypatch.setattr(workloads, "exchanges", exchanges)
        it.measurement.all(["rpc"])
    assert it.done.count("rpc ours") == 2
    assert it.done.count("rpc haproxy") == 3
    assert it.result.troubles == ["rpc, ours: ended in the middle"]
