"""That the benchmarks build, run, and notice what goes wrong. What they measure here means nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_generator import CC, MISSING, OPENSSL, ROOT

from benchmarks.load import Load
from benchmarks.messages import REQUEST, RESPONSE
from benchmarks.processes import stop_all
from benchmarks.runs import Result
from benchmarks.tools import make_certificates

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the load generator cannot be built: {MISSING}")


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_two_seconds_of_calls_without_an_error(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = compare(
        "--quick", "--only", "rpc", "--rounds", "1", "--seconds", "2", "--without", "haproxy,nginx", "--json", str(file)
    )
    assert done.returncode == 0, done.stderr
    result = Result.from_json(file.read_text())
    assert result.troubles == []
    assert [(run.proxy, run.errors) for run in result.runs] == [("direct", 0), ("ours", 0)]
    ours = result.runs[1].figures
    assert ours["rate"] > 10
    assert ours["cpu_us"] > 0
    assert done.stdout.splitlines()[0].startswith("rpc")


def test_a_place_without_a_relay(tmp_path: Path) -> None:
    done = compare("--without", "haproxy,nginx", "--beside", "before", str(tmp_path))
    assert done.returncode == 2
    assert f"before: {tmp_path} is neither a tree of this project nor a program" in done.stderr


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    folder = tmp_path_factory.mktemp("load")
    make_certificates(OPENSSL, folder)
    yield Load(CC, folder)
    stop_all()


def serving(load: Load) -> int:
    port, _ = load.serve()
    return port


def test_an_altered_reply_is_an_error(load: Load, tmp_path: Path) -> None:
    altered = tmp_path / "altered.bin"
    altered.write_bytes(RESPONSE.read_bytes()[:-1] + b"\xff")
    got = load.client(serving(load), 2, 0.1, "--rpc", f"{REQUEST}:{altered}")
    assert got["rpc"] == 0
    assert got["errors"] > 0
    assert got["first_error"] == "reply differs"


def test_idle_callers_are_counted(load: Load) -> None:
    held = load.idle(serving(load), 5, *load.rpc)
    assert held.opened == 5
    assert held.let_go() == 5
