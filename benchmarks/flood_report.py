"""Tables of floods: what steady callers saw, and what the flood did."""

from collections.abc import Sequence
from typing import Final

from benchmarks.floods import CALLERS, FLOOD, MOST
from benchmarks.report import number
from benchmarks.runs import Result, Run

_LATENCIES: Final = tuple(f"{caller}_{of}" for caller in CALLERS for of in ("p50_ms", "p99_ms"))
_REFUSED: Final = "refused "  # and the reason: a figure of the relay's refusals a second
_DID: Final = {
    "flood_connected": "connects/s", "flood_handshakes": "handshakes/s", "flood_dripped": "bytes dripped/s",
    "flood_rounds": "rounds/s", "flood_held": "held in the end", "handshakes": "begun/s", "handshakes_delayed": "delayed/s",
    "relay_cpu": "relay CPU %", "flood_cpu": "flood CPU %", "core_left": "its core left %",
}  # fmt: skip


def is_of_floods(result: Result) -> bool:
    """Whether flood.py has made it."""
    return any(run.workload == FLOOD for run in result.runs)


def within(run: Run) -> bool:
    """Every latency of both steady callers is within MOST times the usual one, and no call went wrong."""
    return not run.errors and all(run.figures.get(f"{name}_ratio", MOST + 1) <= MOST for name in _LATENCIES)


def flood_tables(runs: Sequence[Run]) -> list[list[list[str]]]:
    """What the steady callers saw, and what the flood did; the headings first."""
    seen = [["flood", "calls: p50 ms", "p99 ms", "new connections: p50 ms", "p99 ms", f"within x{MOST:g}", "errors"]]
    did = [["flood", *_DID.values(), "refused/s"]]
    for run in runs:
        seen.append([run.proxy, *(_latency(run, name) for name in _LATENCIES), "yes" if within(run) else "no", str(run.errors)])
        did.append([run.proxy, *(number(run.figures[name]) if name in run.figures else "" for name in _DID), _refused(run)])
    return [seen, did]


def _latency(run: Run, name: str) -> str:
    """As it was beside the flood, and by the usual one."""
    ratio = run.figures.get(f"{name}_ratio")
    return f"{number(run.figures[name])} x{ratio:.2f}" if ratio is not None else ""


def _refused(run: Run) -> str:
    found = {
        name.removeprefix(_REFUSED): value for name, value in run.figures.items() if name.startswith(_REFUSED) and value >= 1
    }
    return ", ".join(f"{value:.0f} {reason}" for reason, value in sorted(found.items(), key=lambda each: -each[1]))
