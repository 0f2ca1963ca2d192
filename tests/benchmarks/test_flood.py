"""That floods are made, and that their tables say what was measured. What they measure here means nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from load_generator import MISSING, ROOT

from benchmarks.flood_report import flood_tables, within
from benchmarks.floods import FLOODS, Placing
from benchmarks.results import page
from benchmarks.runs import Result, Run

needs_compiler = pytest.mark.skipif(bool(MISSING), reason=f"the load generator cannot be built: {MISSING}")

FIGURES = {
    **{f"{caller}_{of}": value for caller in ("calls", "new") for of, value in (("p50_ms", 0.5), ("p99_ms", 1.0))},
    **{f"{caller}_{of}_ratio": 1.5 for caller in ("calls", "new") for of in ("p50_ms", "p99_ms")},
    "flood_connected": 1234.0, "relay_cpu": 99.5, "refused strangers": 2.0, "refused tls": 30.0, "refused untrusted": 0.1,
}  # fmt: skip


def flooded(errors: int = 0, **figures: float) -> Run:
    return Run("flood", "half a handshake", 0, "", {**FIGURES, **figures}, errors)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "did", "refused"),
    [("CONNECT, answered 403", "flood_rounds", "unknown-target"), ("ClientHello dripped", "flood_dripped", None)],
)
def test_steady_calls_beside_a_flood_without_an_error(tmp_path: Path, name: str, did: str, refused: str | None) -> None:
    file = tmp_path / "floods.json"
    command = [sys.executable, "-m", "benchmarks.flood", "--seconds", "0.4", "--only", name, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = Result.from_json(file.read_text())
    assert result.troubles == []
    [run] = result.runs
    assert (run.proxy, run.errors) == (name, 0)
    assert run.figures[did] > 10
    assert refused is None or run.figures[f"refused {refused}"] > 10
    assert all(run.figures[f"{caller}_p99_ms_ratio"] > 0 for caller in ("calls", "new"))
    assert name in done.stdout


def test_floods_are_told_apart_by_their_names() -> None:
    assert len({flood.name for flood in FLOODS}) == len(FLOODS)


@pytest.mark.parametrize(
    ("run", "good"),
    [
        (flooded(), True),
        (flooded(calls_p50_ms_ratio=2.0), True),
        (flooded(new_p99_ms_ratio=2.01), False),
        (flooded(errors=1), False),
        (Run("flood", "half a handshake", 0, "", {}), False),
    ],
)
def test_within_is_of_all_latencies_and_of_no_errors(run: Run, good: bool) -> None:
    assert within(run) is good
    assert flood_tables([run])[0][1][5] == ("yes" if good else "no")


def test_the_tables_say_what_was_seen_and_what_was_done() -> None:
    seen, did = flood_tables([flooded()])
    assert seen[1] == ["half a handshake", "0.50 x1.50", "1.00 x1.50", "0.50 x1.50", "1.00 x1.50", "yes", "0"]
    assert dict(zip(*did, strict=True)) | {"connects/s": "1234", "relay CPU %": "99.5"} == dict(zip(*did, strict=True))
    assert did[1][-1] == "30 tls, 2 strangers"


def test_the_page_has_a_section_of_floods_and_no_target_of_theirs() -> None:
    plan = {"flood": 2.5, "placing": "the relay alone on one CPU"}
    machine = {"cpus": 2, "model": "a CPU", "load": 0.1}
    result = Result("2026-01-01 00:00", 65536, plan, machine, {}, {"ours": "0.1.0"}, [flooded()], ["the rest: no\nmore"])
    text = page([result])
    assert "## Floods, 2026-01-01 00:00 UTC" in text
    assert "Each caller for 2.5 s beside each flood; the relay alone on one CPU." in text
    assert "| half a handshake | 0.50 x1.50 |" in text
    assert "Not measured: the rest: no\n" in text


def test_the_relay_has_a_cpu_to_itself_where_there_are_two() -> None:
    two = Placing.on([0, 1], "taskset", "chrt")
    assert (two.relay, two.steady) == (("taskset", "-c", "0"), ("taskset", "-c", "1"))
    assert two.flood == ("taskset", "-c", "1", "chrt", "--idle", "0")
    four = Placing.on([2, 3, 4, 5], "taskset", "chrt")
    assert (four.relay[-1], four.steady[-1], four.core) == ("2", "3", 5)
    assert Placing.on([0], "taskset", None) == Placing((), (), (), None)
