import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

from benchmarks.steps.every import EXCHANGE, ONE_OF_16, OTHERS, total
from benchmarks.steps.instructions import read_counts
from benchmarks.steps.page import Profile, page
from benchmarks.steps.step import COUNT, Step, microseconds, times

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = {name for line in (*EXCHANGE, ONE_OF_16, *OTHERS) for _, name in line.parts}
ONES: Final = dict.fromkeys(NAMES, 1.0)


def test_each_step_can_be_done() -> None:
    """In a process of its own: they open sockets, and leave it to the end to close them."""
    program = """
from benchmarks.steps.every import every_step
for step in every_step():
    for _ in range(2):
        step.prepare(3)
        step.run(3)
        step.tidy(3)
    print(step.name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) >= NAMES


def test_the_sum_has_each_step_as_often_as_a_call_has_it() -> None:
    """And nothing of it twice: what is part of another line, and what one measured step has of another, are taken away."""
    costs = defaultdict(float, {"turn": 1.0, "turn of 16": 1.6})
    assert total(costs) == 4
    assert total(costs, one_of_16=True) == pytest.approx(0.4)
    assert total(defaultdict(float, {"read line": 1.0, "read envelope": 1.0})) == 4
    assert total(defaultdict(float, {"write line": 1.0, "write envelope": 1.0})) == 4
    assert total(defaultdict(float, {"plain walk": 1.0, "inflate": 1.0})) == 0
    # An exchange in memory has codec and lease in it.
    assert (
        total(defaultdict(float, {"exchange": 10.0, "codec": 4.0, "lease with its codec": 3.0, "codec of the back": 1.0})) == 10
    )


def test_the_page_has_the_sum_beside_the_whole() -> None:
    text = page(Profile("2026-01-01", "a machine", ONES, {}, {1: 50.0, 16: 25.0}))
    assert "Measured 2026-01-01 on a machine." in text
    assert f"| 1 | {total(ONES):.1f} | 50.0 | {2 * total(ONES):.0f} % |" in text
    assert f"| 16 | {total(ONES, one_of_16=True):.1f} | 25.0 |" in text
    assert "instructions" not in text.partition("| step |")[2]
    assert "| instructions per call |" in page(Profile("2026-01-01", "a machine", ONES, ONES, {1: 50.0}))


def test_a_step_is_prepared_and_tidied_outside_of_its_time() -> None:
    done: list[str] = []
    step = Step("a step", times(lambda: done.append("run")), lambda _: done.append("prepare"), lambda _: done.append("tidy"))
    assert list(microseconds([step], rounds=2)) == ["a step"]
    assert done == 2 * ["prepare", *COUNT * ["run"], "tidy"]


def test_instructions_are_read_from_the_dumps() -> None:
    dump = "version: 1\ndesc: Trigger: Client Request: read line\nevents: Ir\nsummary: 5000\n\ntotals: 5000\n"
    end = "version: 1\ndesc: Trigger: Program termination\nevents: Ir\ntotals: 77\n"
    assert read_counts([dump, end]) == {"read line": 5000 / COUNT}
