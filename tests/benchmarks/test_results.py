import sys
from pathlib import Path

import pytest

from benchmarks.results import main, page
from benchmarks.runs import Result, Run


def made() -> Result:
    runs = [Run("rpc", name, 0, "haproxy", {"cpu_us": cpu}) for name, cpu in (("haproxy", 50.0), ("ours", 75.0))]
    plan = {"rounds": 5, "rpc": 4.0, "machines": 10_000, "idle": 10_000}
    machine = {"cpus": 2, "model": "a CPU", "load": 0.1}
    return Result(
        "2026-01-01 00:00", 65536, plan, machine, {"haproxy": "2.6"}, {"ours": "0.1.0 (abc)"}, runs, ["idle: no\nmore"]
    )


def test_what_was_written_is_read_again() -> None:
    assert Result.from_json(made().to_json()) == made()


def test_the_page_says_what_was_measured_where_and_when() -> None:
    text = page([made()])
    assert "| small calls: CPU per call | at most x2 | at most x1.6 | x1.50 | met, and stretch |" in text
    assert "## Loopback with MTU 65536, 2026-01-01 00:00 UTC" in text
    assert "2 CPUs, a CPU, load 0.1 before. haproxy 2.6, ours 0.1.0 (abc). 5 rounds, calls for 4 s in each." in text
    assert "| ours | 75.0 x1.50 | 0 |" in text
    assert "Not measured: idle: no\n" in text


def test_it_is_written_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file, to = tmp_path / "full.json", tmp_path / "RESULTS.md"
    file.write_text(made().to_json())
    monkeypatch.setattr(sys, "argv", ["results", str(file), "--to", str(to)])
    assert main() == 0
    assert to.read_text() == page([made()])
    assert capsys.readouterr().out == f"wrote {to}\n"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"runs": []}'])
def test_a_file_that_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file, to = tmp_path / "wrong.json", tmp_path / "RESULTS.md"
    file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["results", str(file), "--to", str(to)])
    assert main() == 2
    assert f"{file} is not a result of compare or flood" in capsys.readouterr().err
    assert not to.exists()
