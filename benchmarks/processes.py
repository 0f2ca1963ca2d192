"""Processes that a measurement starts and ends, and what the kernel says of them."""

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.trouble import TroubleError

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG: Final = 1
_STOP_S: Final = 5.0  # how long a process may take to end at SIGTERM
_ORPHANS_S: Final = 1.0  # and its descendants then, and again when they are killed
_libc = ctypes.CDLL(None)

Stat = list[str]  # the fields of /proc/PID/stat after the name: [0] state, [1] parent, [11:15] CPU ticks, [19] start time


def _stat(pid: int) -> Stat | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def process_tree(pid: int) -> dict[int, Stat]:
    """A process and all its descendants."""
    everything = {int(entry): stat for entry in os.listdir("/proc") if entry.isdigit() and (stat := _stat(int(entry)))}
    children: dict[int, list[int]] = {}
    for child, fields in everything.items():
        children.setdefault(int(fields[1]), []).append(child)
    members, queue = {}, [pid]
    while queue:
        member = queue.pop()
        if member in everything:
            members[member] = everything[member]
            queue.extend(children.get(member, ()))
    return members


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and its descendants; the last two of the four fields are of children that have ended."""
    return sum(int(ticks) for fields in process_tree(pid).values() for ticks in fields[11:15]) / _TICKS


def memory_kb(pid: int, field: str = "VmRSS") -> int:
    """Of the process and its descendants. field: VmRSS, now; VmHWM, the most since forget_peak()."""
    total = 0
    for member in process_tree(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        found = re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def forget_peak(pid: int) -> None:
    """From now on VmHWM counts anew."""
    for member in process_tree(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """How many sockets the process and its descendants have open."""
    total = 0
    for member in process_tree(pid):
        folder = f"/proc/{member}/fd"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                total += os.readlink(f"{folder}/{name}").startswith("socket:")
            except OSError:
                continue
    return total


def _die_with_us() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # should the measurement itself be killed


class Process:
    """Started at once, in the foreground of nobody. log: where what it says goes; pipe: its standard output is read by us."""

    running: ClassVar[list["Process"]] = []

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        *,
        pipe: bool = False,
        environment: Mapping[str, str] | None = None,
        inherits: Sequence[int] = (),
    ) -> None:
        """environment: what it has beside ours. inherits: descriptors of ours that it has, too. Raises TroubleError."""
        self.name, self.log = name, log
        try:
            with log.open("ab") as output:
                self._popen = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if pipe else output,
                    stderr=output,
                    cwd=log.parent,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                    pass_fds=inherits,
                    preexec_fn=_die_with_us,  # noqa: PLW1509 (there are no threads here)
                )
        except OSError as error:
            raise TroubleError(f"{name}: cannot run {argv[0]}: {error.strerror}") from None
        self.pid = self._popen.pid
        Process.running.append(self)

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._popen.poll()

    def terminate(self) -> None:
        """Asks it to end."""
        self._popen.terminate()

    def read_line(self, within: float) -> str:
        """The next line of its standard output, within so many seconds. Raises TroubleError."""
        pipe, line, deadline = self._popen.stdout, b"", time.monotonic() + within
        assert pipe is not None
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TroubleError(f"{self.name} said nothing for too long:\n{self.last_words()}")
            byte = os.read(pipe.fileno(), 1)
            if not byte:
                raise TroubleError(f"{self.name} ended early:\n{self.last_words()}")
            line += byte
        return line.decode().strip()

    def stop(self) -> None:
        """Ends it and its descendants, and waits for that."""
        family = process_tree(self.pid)
        if self.status is None:
            self._popen.terminate()
            try:
                self._popen.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._popen.stdout:
            self._popen.stdout.close()
        family.pop(self.pid, None)
        _end_orphans(family)
        if self in Process.running:
            Process.running.remove(self)

    def last_words(self) -> str:
        """The end of what it said, indented."""
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return "\n".join("    " + line[:400] for line in text.splitlines()[-12:]) or "    (it printed nothing)"


def _end_orphans(family: Mapping[int, Stat]) -> None:
    """Waits for the descendants of a process that has ended; those that do not end with it are killed."""
    began, killed = time.monotonic(), False
    while left := [pid for pid, was in family.items() if _still_there(pid, was)]:
        waited = time.monotonic() - began
        if waited > 2 * _ORPHANS_S:
            return  # the kernel ends them when it is done with what they wait for
        if waited > _ORPHANS_S and not killed:
            killed = True
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _still_there(pid: int, was: Stat) -> bool:
    """And not another one of the same number, nor one that only nobody has asked for its status."""
    now = _stat(pid)
    return now is not None and now[19] == was[19] and now[0] != "Z"


def stop_all() -> None:
    """Ends whatever still runs."""
    for process in reversed(Process.running[:]):
        process.stop()
