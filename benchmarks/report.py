"""From runs to rows and tables: medians over the rounds, and medians of each round's own ratio to the base."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.plan import WORKLOADS
from benchmarks.runs import Run

# The columns of each workload: a figure's name, and what stands above it. A figure may be of some proxies only.
_EXCHANGES: Final = {"rate": "calls/s", "cpu_us": "CPU us/call", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}
_REST: Final = {"connections": "open", "legs": "legs", "kb_per_leg": "KB/leg", "kb_each": "KB each", "idle_cpu": "idle CPU %"}
FIGURES: Final[dict[str, dict[str, str]]] = {
    "rpc": {**_EXCHANGES, "added_p50_ms": "p50 over direct"},
    "newconn": _EXCHANGES,
    "stream": {"mb_per_s": "MB/s", "cpu_s_per_gb": "CPU s/GB", "p50_ms": "p50 ms", "p99_ms": "p99 ms"},
    "fair": {"alone_p99_ms": "p99 ms alone", "p99_ms": "p99 ms beside", "growth": "growth", "p50_ms": "p50 ms beside",
             "mb_per_s": "streams MB/s"},
    "flat": {**_EXCHANGES, "rss_mb": "RSS MB", "start_s": "start s"},
    "idle": {**_REST, "opened_per_s": "opened/s"},
    "pollers": {**_REST, "opened_per_s": "opened/s"},
    "nodes": {**_REST, "opened_per_s": "opened/s"},
    "stress": {"uploads": "at once", "kb_each": "KB each", "mb_per_s": "MB/s"},
}  # fmt: skip
_WITHOUT_RATIO: Final = ("connections", "legs", "uploads", "idle_cpu", "opened_per_s", "start_s")


@dataclass(frozen=True, slots=True)
class Row:
    """One proxy under one load. figures, ratios: by the figure's name, medians over the rounds; ratios: to the base's."""

    workload: str
    proxy: str
    figures: dict[str, float]
    ratios: dict[str, float]
    errors: int
    first_error: str


def add_over_direct(runs: Iterable[Run]) -> None:
    """Gives each run of small calls what its median takes longer than the direct one's of the same round."""
    runs = list(runs)
    direct = {run.round: run.figures for run in runs if run.workload == "rpc" and run.proxy == "direct"}
    for run in runs:
        there = direct.get(run.round, {})
        if run.workload == "rpc" and run.proxy != "direct" and "p50_ms" in there and "p50_ms" in run.figures:
            run.figures["added_p50_ms"] = run.figures["p50_ms"] - there["p50_ms"]


def summarise(runs: Iterable[Run]) -> list[Row]:
    """A row for each workload and proxy, in the order of WORKLOADS and of their first run."""
    runs = list(runs)
    add_over_direct(runs)
    rows: list[Row] = []
    for workload in WORKLOADS:
        of_it = [run for run in runs if run.workload == workload]
        proxies = dict.fromkeys(run.proxy for run in of_it)
        rows += [_row(workload, proxy, [run for run in of_it if run.proxy == proxy], of_it) for proxy in proxies]
    return rows


def _row(workload: str, proxy: str, mine: Sequence[Run], all_: Sequence[Run]) -> Row:
    by_round = {(run.proxy, run.round): run.figures for run in all_}
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for name in FIGURES[workload]:
        values = [run.figures[name] for run in mine if name in run.figures]
        if values:
            figures[name] = statistics.median(values)
        pairs = [
            (run.figures.get(name), by_round.get((run.base, run.round), {}).get(name)) for run in mine if run.base != proxy
        ]
        quotients = [value / base for value, base in pairs if value is not None and base]
        if quotients:
            ratios[name] = statistics.median(quotients)
    first_error = next((run.first_error for run in mine if run.first_error), "")
    return Row(workload, proxy, figures, ratios, sum(run.errors for run in mine), first_error)


def number(value: float) -> str:
    """With three digits, or all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows: Sequence[Row], workload: str) -> list[list[str]]:
    """The lines of one workload, the heading first; empty where it was not measured."""
    mine = [row for row in rows if row.workload == workload]
    names = [name for name in FIGURES[workload] if any(name in row.figures for row in mine)]
    if not mine:
        return []
    lines = [[workload, *(FIGURES[workload][name] for name in names), "errors"]]
    for row in mine:
        cells = []
        for name in names:
            text = number(row.figures[name]) if name in row.figures else ""
            ratio = row.ratios.get(name) if name not in _WITHOUT_RATIO else None
            cells.append(text if ratio is None else f"{text} x{ratio:.2f}")
        lines.append([row.proxy, *cells, str(row.errors)])
    return lines


def tables(rows: Sequence[Row]) -> list[list[list[str]]]:
    """One for each workload that was measured."""
    return [found for workload in WORKLOADS if (found := table(rows, workload))]


def as_text(lines: Sequence[Sequence[str]]) -> str:
    """For a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """For a page."""
    head, *rest = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest))
