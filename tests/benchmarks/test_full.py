import sys
from pathlib import Path

import pytest

from benchmarks import full
from benchmarks.plan import WORKLOADS


def test_everything_is_measured_and_both_pages_are_written(tmp_path: Path) -> None:
    compare, mtu, floods, results, steps = full.commands(tmp_path, tmp_path / "pages", quick=False)
    assert "--only" not in compare, "all of the workloads are the default"
    assert set(mtu[mtu.index("--only") + 1].split(",")) < set(WORKLOADS)
    assert [compare[-1], mtu[-1], floods[-1]] == results[1:4]
    assert (results[-1], steps[-1]) == (str(tmp_path / "pages" / "RESULTS.md"), str(tmp_path / "pages" / "PROFILE.md"))


def test_a_failure_stops_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    monkeypatch.setattr(
        full, "commands", lambda folder, *_: [["no.such.module"], ["timeit", "-n1", f"open({str(there)!r}, 'w')"]]
    )
    monkeypatch.setattr(sys, "argv", ["full", str(tmp_path)])
    assert full.main() == 1
    assert there.exists()
    assert "== it ended with status 1" in capsys.readouterr().err
