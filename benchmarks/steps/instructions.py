"""How many instructions each step takes, counted by valgrind: a figure that does not depend on what else the machine does.

They are those of the process, not the kernel's; and OpenSSL takes other ways with the CPU that valgrind shows it.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.steps.step import COUNT, Step
from benchmarks.trouble import TroubleError

_MARKS: Final = Path(__file__).with_name("marks.c")
_PATIENCE: Final = 600.0
_WARM: Final = 2  # times that each step is done before it is counted


def count() -> dict[str, float]:
    """By the step's name; empty where valgrind or its headers are missing. Raises TroubleError."""
    valgrind, cc = shutil.which("valgrind"), shutil.which("cc")
    if not valgrind or not cc:
        return {}
    with tempfile.TemporaryDirectory(prefix="steps-") as folder:
        library = Path(folder) / "marks.so"
        if subprocess.run([cc, "-shared", "-fPIC", "-O2", "-o", library, _MARKS], capture_output=True, check=False).returncode:
            return {}
        command = [
            valgrind, "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts",
            sys.executable, "-m", "benchmarks.steps.instructions", str(library),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False, env=environment)
        if done.returncode:
            raise TroubleError(f"valgrind failed:\n{done.stderr[-2000:]}")
        return read_counts(file.read_text(errors="replace") for file in Path(folder).glob("counts.*"))


def read_counts(texts: Iterable[str]) -> dict[str, float]:
    """From callgrind's files, one for each dump: instructions of one time, by the name that the dump was given."""
    found = {}
    for text in texts:
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if name and total:
            found[name[1]] = int(total[1]) / COUNT
    return found


def _count_here(library: str, steps: Sequence[Step]) -> None:
    """In the process that valgrind runs."""
    marks = ctypes.PyDLL(library)
    marks.start()
    for step in steps:
        step.prepare(_WARM)
        step.run(_WARM)
        step.tidy(_WARM)
        step.prepare(COUNT)
        marks.zero()
        step.run(COUNT)
        marks.dump(step.name.encode())
        step.tidy(COUNT)


if __name__ == "__main__":
    from benchmarks.steps.every import every_step

    _count_here(sys.argv[1], every_step())
