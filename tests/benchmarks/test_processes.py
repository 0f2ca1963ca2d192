import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.processes import Process, cpu_seconds, descriptors, forget_peak, memory_kb, process_tree, stop_all
from benchmarks.trouble import TroubleError


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    stop_all()


def python(folder: Path, program: str) -> Process:
    return Process("a program", [sys.executable, "-c", program], folder / "log", pipe=True)


def test_what_a_process_and_its_children_take(tmp_path: Path) -> None:
    program = """
import os, socket, time
if not os.fork():
    held = socket.socket(), bytearray(os.urandom(1)) * (40 << 20)
while time.process_time() < 0.2:
    pass
print(flush=True)
time.sleep(60)
"""
    process = python(tmp_path, program)
    for _ in range(2):
        process.read_line(20)
    assert len(process_tree(process.pid)) == 2
    assert cpu_seconds(process.pid) >= 0.3
    assert memory_kb(process.pid) > 40 << 10
    assert descriptors(process.pid) == 1
    process.stop()
    assert process.status is not None
    assert cpu_seconds(process.pid) == 0


def test_the_most_memory_is_counted_anew(tmp_path: Path) -> None:
    process = python(tmp_path, "import time; held = bytearray(b'x') * (60 << 20); del held; print(flush=True); time.sleep(60)")
    process.read_line(20)
    before = memory_kb(process.pid, "VmHWM")
    forget_peak(process.pid)
    assert memory_kb(process.pid, "VmHWM") < before - (50 << 10)


def test_a_process_that_says_nothing_or_ends(tmp_path: Path) -> None:
    silent = python(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(TroubleError, match="a program said nothing for too long"):
        silent.read_line(0.05)
    ending = python(tmp_path, "import sys; sys.exit('its last words')")
    with pytest.raises(TroubleError, match="a program ended early:\n    its last words"):
        ending.read_line(20)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TroubleError, match="a program: cannot run /no/such: No such file or directory"):
        Process("a program", ["/no/such"], tmp_path / "log")


def test_nobody_stays_behind(tmp_path: Path) -> None:
    """Not even who takes no notice of SIGTERM."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = python(tmp_path, f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}]).wait()")
    process.read_line(20)
    [child] = [pid for pid in process_tree(process.pid) if pid != process.pid]
    process.stop()
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
    assert Process.running == []
