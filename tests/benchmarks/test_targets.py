from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.plan import FULL
from benchmarks.report import FIGURES
from benchmarks.runs import Result, Run
from benchmarks.targets import TARGETS, judged

LOOPBACK = 65536


def result(*runs: Run, mtu: int = LOOPBACK) -> Result:
    return Result("2026-01-01 00:00", mtu, asdict(FULL), {}, {}, {}, list(runs))


def verdicts(*results: Result) -> dict[str, list[str]]:
    return {line[0]: line[1:] for line in judged(results)[1:]}


def pair(workload: str, figure: str, haproxy: float, ours: float, **more: Any) -> list[Run]:
    return [
        Run(workload, "haproxy", 0, "haproxy", {figure: haproxy}),
        Run(workload, "ours", 0, "haproxy", {figure: ours}, **more),
    ]


@pytest.mark.parametrize(
    ("ours", "shown"), [(201.0, ["x2.01", "missed"]), (200.0, ["x2.00", "met"]), (160.0, ["x1.60", "met, and stretch"])]
)
def test_a_ratio_that_may_not_be_more(ours: float, shown: list[str]) -> None:
    found = verdicts(result(*pair("rpc", "cpu_us", 100.0, ours)))
    assert found["small calls: CPU per call"] == ["at most x2", "at most x1.6", *shown]


@pytest.mark.parametrize(
    ("ours", "shown"), [(199.0, ["x1.99", "missed"]), (200.0, ["x2.00", "met"]), (250.0, ["x2.50", "met, and stretch"])]
)
def test_a_ratio_that_may_not_be_less(ours: float, shown: list[str]) -> None:
    found = verdicts(result(*pair("newconn", "rate", 100.0, ours)))
    assert found["a new connection for each call: calls/s"] == ["at least x2", "at least x2.5", *shown]


def test_a_value_is_not_a_ratio() -> None:
    found = verdicts(result(*pair("fair", "growth", 100.0, 11.0)))
    assert found["small calls beside 4 streams: growth of p99"] == ["at most 10", "", "11.0", "missed"]


def test_each_mtu_has_its_own_targets() -> None:
    plain, real = pair("stream", "cpu_s_per_gb", 1.0, 1.05), pair("stream", "cpu_s_per_gb", 1.0, 1.2)
    found = verdicts(result(*plain), result(*real, mtu=1500))
    assert found["64 MiB streams: CPU per GB"][2:] == ["x1.05", "missed"]
    assert found["64 MiB streams, MTU 1500: CPU per GB"][2:] == ["x1.20", "missed"]
    assert verdicts(result(*real, mtu=1500))["64 MiB streams: CPU per GB"][2:] == ["", "not measured"]


def test_flat_is_compared_with_few_machines() -> None:
    runs = [
        Run("flat", name, 0, "ours, 10 machines", {"cpu_us": cpu})
        for name, cpu in (("ours, 10 machines", 100.0), ("ours, 10000 machines", 104.0), ("ours, 10000 idle", 130.0))
    ]
    found = verdicts(result(*runs))
    assert found["10000 machines: CPU per call, to that with few"][2:] == ["x1.04", "met"]
    assert found["10000 idle callers: CPU per call, to that with none"][2:] == ["x1.30", "missed"]


def test_figures_with_errors_meet_nothing() -> None:
    found = verdicts(result(*pair("rpc", "cpu_us", 100.0, 100.0, errors=3)))
    assert found["small calls: CPU per call"][2:] == ["x1.00", "3 errors"]


def test_targets_are_of_figures_that_there_are() -> None:
    for target in TARGETS:
        assert target.figure in FIGURES[target.workload]
