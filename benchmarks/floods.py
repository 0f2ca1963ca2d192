"""Floods, and a steady caller of another machine beside each: what the one does to the other. flood.py is the command line."""

import contextlib
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load
from benchmarks.measure import say
from benchmarks.processes import cpu_seconds
from benchmarks.proxies import Proxy
from benchmarks.runs import Run
from benchmarks.trouble import TroubleError

FLOOD: Final = "flood"  # the workload's name
CALLERS: Final = {"calls": (), "new": ("--new-connection",)}  # the steady ones: on kept connections, and on new ones
MOST: Final = 2.0  # a steady caller's latency beside a flood, by its usual one
_STEADY: Final = 4  # connections of each, which pause between two calls
_PAUSE: Final = "0.005"
_DRIP: Final = 0.02  # seconds from one byte of a connection to its next
_CALM_S: Final = 30.0  # how long the relay may take to be rid of a flood
_COUNTERS: Final = re.compile(
    r'^relay_(handshakes_total|handshakes_delayed_total|refusals_total\{reason="([\w-]+)"\}) (\S+)$', re.M
)
_GAUGES: Final = re.compile(r"^relay_(strangers|connections) (\S+)$", re.M)


@dataclass(frozen=True, slots=True)
class Flood:
    """way: hload's; count: connections at once; shared: at the shared door, else at the machine's own.

    who: whose certificate, empty for none. pause: between two bytes. target: of a CONNECT. settle: seconds until it is at its
    height.
    """

    name: str
    way: str
    count: int
    shared: bool = False
    who: str = ""
    pause: float = 0.0
    target: str = ""
    settle: float = 1.0


_UNKNOWN: Final = "nowhere.test:10933"
_DECLARED: Final = "{declared}"
_STRANGER: Final = "tentacle"
_OCTOPUS: Final = "octopus"

FLOODS: Final = (
    Flood("not a byte", "connect", 2000),
    Flood("not a byte, and 200 more", "connect", 2200),
    Flood("not a byte, shared door", "connect", 2000, shared=True),
    Flood("not a byte, and 200 more, shared door", "connect", 2200, shared=True),
    Flood("ClientHello dripped", "hello", 1000, pause=_DRIP),
    Flood("ClientHello dripped, shared door", "hello", 1000, shared=True, pause=_DRIP),
    Flood("half a handshake", "half", 1000),
    Flood("preamble dripped", "preamble", 1000, pause=_DRIP),
    Flood("CONNECT header dripped", "header", 1000, shared=True, pause=_DRIP),
    Flood("handshakes without a certificate", "handshake", 100),
    Flood("handshakes with an unknown one", "stranger", 100, who=_STRANGER),
    Flood("CONNECT, answered 403", "ask", 200, shared=True, target=_UNKNOWN),
    Flood("CONNECT, answered 200", "ask", 200, shared=True, target=_DECLARED),
    Flood("Octopus: identity dripped", "identity", 500, who=_OCTOPUS, pause=_DRIP, settle=2.0),
    Flood("Octopus: request dripped", "envelope", 200, who=_OCTOPUS, pause=_DRIP),
    Flood("Octopus: idle", "idle", 1000, who=_OCTOPUS, settle=5.0),
    Flood("Octopus: connections, no call", "fresh", 100, who=_OCTOPUS),
    Flood("Octopus: calls at once", "calls", 200, who=_OCTOPUS, settle=2.0),
)


@dataclass(frozen=True, slots=True)
class Placing:
    """Commands that put what they run on a CPU: the relay, the steady callers with their Tentacle, the flood with its own.

    core: the number of the one that the flood is on; None where nothing is pinned.
    """

    relay: tuple[str, ...]
    steady: tuple[str, ...]
    flood: tuple[str, ...]
    core: int | None

    @classmethod
    def on(cls, cpus: Sequence[int], taskset: str | None, chrt: str | None) -> "Placing":
        """The relay has the first CPU to itself; the flood has what others leave of the last one (SCHED_IDLE)."""
        last = (chrt, "--idle", "0") if chrt else ()
        if len(cpus) < 2 or taskset is None:
            return cls((), (), last, None)
        relay, steady, flood = ((taskset, "-c", str(cpu)) for cpu in (cpus[0], cpus[1], cpus[-1]))
        return cls(relay, steady, (*flood, *last), cpus[-1])

    @property
    def shown(self) -> str:
        """In words."""
        if self.core is None:
            return "nothing pinned to a CPU"
        same = f"{self.core}" in self.steady
        rest = "steady callers and, in what they leave of it, floods on another"
        return f"the relay alone on one CPU, {rest if same else 'steady callers on another, floods on a third'}"


class Steady:
    """The steady callers: what they see of the relay. seconds: of each run of each."""

    def __init__(self, load: Load, proxy: Proxy, seconds: float) -> None:
        self._load, self._proxy, self._seconds = load, proxy, seconds

    def look(self, part: float = 1.0) -> dict[str, dict[str, Any]]:
        """Both of them, one after the other. part: of the seconds."""
        return {
            name: self._load.client(
                self._proxy.port, _STEADY, self._seconds * part, *self._load.rpc, "--pause", _PAUSE, "--sni", "web0.test",
                *options, warmup=0.3,
            )
            for name, options in CALLERS.items()
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """What is measured. proxy: it runs; declared: HOST:PORT of the machine that is flooded."""

    load: Load
    proxy: Proxy
    placing: Placing
    declared: str


def measure(scene: Scene, floods: Sequence[Flood], seconds: float, note: Callable[[Run], None]) -> None:
    """One flood after the other, with a look at the steady callers before, in and behind each. seconds: of each look in it."""
    proxy = scene.proxy
    steady = Steady(scene.load, proxy, seconds)
    steady.look(0.2)
    before = steady.look(0.5)
    for number, flood in enumerate(floods):
        say(f"flood {number + 1} of {len(floods)}: {flood.name}")
        with _flooding(scene, flood, number) as figures:
            during = steady.look()
        _wait_calm(proxy)
        after = steady.look(0.5)
        proxy.expect_alive(f"at {flood.name}")
        note(_run(flood, before, during, after, figures))
        before = after


@contextlib.contextmanager
def _flooding(scene: Scene, flood: Flood, number: int) -> Iterator[dict[str, float]]:
    """The flood is at its height within; its figures are there behind it."""
    figures: dict[str, float] = {}
    proxy, placing = scene.proxy, scene.placing
    target = flood.target.format(declared=scene.declared)
    options = ["--from", f"127.0.2.{1 + number}", "--sni", "web1.test", "--pause", str(flood.pause)]
    options += ["--target", target] * bool(target) + ["--anonymous"] * (not flood.who)
    port = proxy.port if flood.shared else proxy.back_port
    flooding = scene.load.flood(port, flood.who or _STRANGER, flood.way, flood.count, *options, within=placing.flood)
    try:
        time.sleep(flood.settle)
        began, before = time.monotonic(), _counted(proxy)
        spent = [cpu_seconds(flooding.pid), cpu_seconds(proxy.pid)]
        core = _core(placing.core)
        yield figures
        took, now = time.monotonic() - began, _counted(proxy)
        idle, total = (after - earlier for after, earlier in zip(_core(placing.core), core, strict=True))
        figures |= {
            "flood_cpu": 100 * (cpu_seconds(flooding.pid) - spent[0]) / took,
            "relay_cpu": 100 * (cpu_seconds(proxy.pid) - spent[1]) / took,
            **({"core_left": 100 * idle / total} if total else {}),
            **{name: (value - before.get(name, 0)) / took for name, value in now.items() if not name.startswith("now ")},
            **{name.removeprefix("now "): value for name, value in now.items() if name.startswith("now ")},
        }
    finally:
        did = flooding.end()
    lasted = did["seconds"]
    figures |= {f"flood_{name}": did[name] / lasted for name in ("connected", "handshakes", "dripped", "rounds", "closed")}
    figures["flood_held"] = did["held"]


def _run(flood: Flood, before: dict[str, Any], during: dict[str, Any], after: dict[str, Any], figures: dict[str, float]) -> Run:
    errors = sum(look[name]["errors"] for look in (before, during, after) for name in CALLERS)
    why = next((look[name]["first_error"] for look in (during, before, after) for name in CALLERS if look[name]["errors"]), "")
    for name in CALLERS:
        for of in ("p50_ms", "p99_ms"):
            usual = (before[name][of] + after[name][of]) / 2
            figures |= {
                f"{name}_{of}": during[name][of],
                f"{name}_{of}_before": before[name][of],
                f"{name}_{of}_after": after[name][of],
            }
            if usual and during[name]["rpc"]:
                figures[f"{name}_{of}_ratio"] = during[name][of] / usual
    return Run(FLOOD, flood.name, 0, "", figures, errors, why)


def _page(proxy: Proxy) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/metrics", timeout=20) as answer:
            text: str = answer.read().decode()
            return text
    except OSError as error:
        raise TroubleError(f"{proxy.name} shows no metrics: {error}") from None


def _counted(proxy: Proxy) -> dict[str, float]:
    """What the relay has counted so far; with "now " before the name, what there is."""
    page = _page(proxy)
    found = {
        f"refused {reason}" if reason else name.removesuffix("_total"): float(value)
        for name, reason, value in _COUNTERS.findall(page)
    }
    return found | {f"now {name}": float(value) for name, value in _GAUGES.findall(page)}


def _wait_calm(proxy: Proxy) -> None:
    """Until nobody of the flood is there any more."""
    deadline = time.monotonic() + _CALM_S
    while time.monotonic() < deadline:
        if _counted(proxy)["now connections"] == 0:
            return
        time.sleep(0.1)
    raise TroubleError(f"the relay still has callers {_CALM_S:.0f} s after the flood has ended")


def _core(number: int | None) -> tuple[int, int]:
    """Ticks that a CPU was idle, and all of them; nothing where it is not known which."""
    if number is None:
        return 0, 0
    found = re.search(rf"^cpu{number} (.+)$", Path("/proc/stat").read_text(), re.M)
    ticks = [int(tick) for tick in found[1].split()[:8]] if found else [0] * 8
    return ticks[3] + ticks[4], sum(ticks)


def cpus() -> list[int]:
    """Those that we may use."""
    return sorted(os.sched_getaffinity(0))
