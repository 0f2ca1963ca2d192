"""What the relay is meant to reach, and whether a measurement shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.report import Row, number, summarise
from benchmarks.runs import Result

RELAY: Final = "ours"
REAL_MTU: Final = 1500


@dataclass(frozen=True, slots=True)
class Target:
    """kind: whether the figure itself is meant, or its ratio to the base's. at_least: more is better. stretch: better still.

    of: whose row, with {machines} and {idle} of the plan; mtu: of the loopback, None for one that is not small.
    """

    text: str
    workload: str
    figure: str
    kind: Literal["ratio", "value"]
    limit: float
    stretch: float | None = None
    at_least: bool = False
    of: str = RELAY
    mtu: int | None = None

    def wanted(self, limit: float) -> str:
        return f"{'at least' if self.at_least else 'at most'} {'x' if self.kind == 'ratio' else ''}{limit:g}"

    def met(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit


TARGETS: Final = (
    Target("64 MiB streams: CPU per GB", "stream", "cpu_s_per_gb", "ratio", 1.0),
    Target("64 MiB streams: MB/s", "stream", "mb_per_s", "ratio", 1.0, at_least=True),
    Target("64 MiB streams, MTU 1500: CPU per GB", "stream", "cpu_s_per_gb", "ratio", 1.1, mtu=REAL_MTU),
    Target("small calls: CPU per call", "rpc", "cpu_us", "ratio", 2.0, 1.6),
    Target("small calls: p50 over direct", "rpc", "added_p50_ms", "ratio", 1.7, 1.5),
    Target("a new connection for each call: calls/s", "newconn", "rate", "ratio", 2.0, 2.5, at_least=True),
    Target("idle callers: KB/leg", "idle", "kb_per_leg", "value", 40),
    Target("idle callers: CPU, % of a core", "idle", "idle_cpu", "value", 3),
    Target("parked pollers: KB/leg", "pollers", "kb_per_leg", "value", 40),
    Target("parked pollers: CPU, % of a core", "pollers", "idle_cpu", "value", 3),
    Target("polled nodes: KB/leg", "nodes", "kb_per_leg", "value", 40),
    Target("polled nodes: CPU, % of a core", "nodes", "idle_cpu", "value", 3),
    Target(
        "{machines} machines: CPU per call, to that with few", "flat", "cpu_us", "ratio", 1.05, of="ours, {machines} machines"
    ),
    Target("{idle} idle callers: CPU per call, to that with none", "flat", "cpu_us", "ratio", 1.2, of="ours, {idle} idle"),
    Target("uploads to slow readers: KB each", "stress", "kb_each", "value", 256),
    Target("small calls beside 4 streams: growth of p99", "fair", "growth", "value", 10),
)


def judged(results: Sequence[Result]) -> list[list[str]]:
    """A table: each target, and what was measured of it; the heading first."""
    lines = [["target", "wanted", "stretch", "measured", ""]]
    rows = [(result, summarise(result.runs)) for result in results]
    for target in TARGETS:
        text, value, errors = target.text, None, 0
        for result, of_it in rows:
            text = target.text.format_map(result.plan)
            if (row := _row(target, result, of_it)) is not None:
                value = (row.ratios if target.kind == "ratio" else row.figures).get(target.figure)
                errors = row.errors
                break
        stretch = target.wanted(target.stretch) if target.stretch is not None else ""
        shown = "" if value is None else ("x" if target.kind == "ratio" else "") + number(value)
        lines.append([text, target.wanted(target.limit), stretch, shown, _verdict(target, value, errors)])
    return lines


def _row(target: Target, result: Result, rows: Sequence[Row]) -> Row | None:
    small = result.mtu <= REAL_MTU
    if small if target.mtu is None else result.mtu != target.mtu:
        return None
    proxy = target.of.format_map(result.plan)
    return next((row for row in rows if (row.workload, row.proxy) == (target.workload, proxy)), None)


def _verdict(target: Target, value: float | None, errors: int) -> str:
    if value is None:
        return "not measured"
    if errors:
        return f"{errors} errors"
    if not target.met(value, target.limit):
        return "missed"
    return "met" if target.stretch is None or not target.met(value, target.stretch) else "met, and stretch"
