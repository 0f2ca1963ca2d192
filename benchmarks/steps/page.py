"""benchmarks/PROFILE.md, from what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.report import as_markdown, number
from benchmarks.steps.every import EXCHANGE, ONE_OF_16, OTHERS, Line, total


@dataclass(frozen=True, slots=True)
class Profile:
    """costs: microseconds of CPU of each step; instructions: the same, where they were counted.

    whole: microseconds of CPU of a call through a running relay, by the number of callers. box: machine and versions.
    """

    date: str
    box: str
    costs: Mapping[str, float]
    instructions: Mapping[str, float]
    whole: Mapping[int, float]


_HEAD: Final = """# Where the time of a call goes

Made by `python -m benchmarks.steps`: each step of a call on kept connections, measured by itself (`benchmarks/steps/`), and the
whole, measured as the CPU time of a running relay under the same calls. No figure here is written by hand.

Measured {date} on {box}.

A call is `NEXT`, `PROCEED`, a request and a reply; the relay reads each of the four on one leg and writes it on the other.
Times are CPU of the process, user and system, the medians of many rounds. What is "of which" is part of the step above it.
{counted}
{table}

## The sum, and the whole

{whole}

With one caller each turn of the reactor has one connection to read. With 16 callers a turn has several, at most 16: the sum is
between the two of the table, and the lower one is given here.

The steps are measured in a loop of themselves, with warm caches and a peer in the same process. What a running relay has beside
them: the kernel's waking of the peers, switches between processes, cold caches. On a machine that does other work, that grows.

## What these calls have nothing of

{others}
"""
_COUNTED: Final = (
    "Instructions are those that valgrind counts: not the kernel's, and of the code that OpenSSL has for older CPUs.\n"
)


def page(profile: Profile) -> str:
    """The whole page."""
    table = [["step", "times", "us each", "us per call", *(["instructions per call"] if profile.instructions else [])]]
    table += [_cells(line, profile) for line in EXCHANGE]
    table.append(_sum("sum", profile, one_of_16=False))
    table.append(_cells(ONE_OF_16, profile))
    table.append(_sum("sum, where 16 share each turn", profile, one_of_16=True))
    return _HEAD.format(
        date=profile.date,
        box=profile.box,
        counted=_COUNTED if profile.instructions else "",
        table=as_markdown(table),
        whole=as_markdown(_whole(profile)),
        others=as_markdown([["step", "us each"], *([line.text, number(line.cost(profile.costs))] for line in OTHERS)]),
    )


def _cells(line: Line, profile: Profile) -> list[str]:
    each = line.cost(profile.costs)
    text = f"of which {line.text}" if line.of else line.text
    cells = [text, f"{line.times:g}", number(each), number(line.times * each)]
    if profile.instructions:
        cells.append(f"{line.times * line.cost(profile.instructions):.0f}")
    return cells


def _sum(text: str, profile: Profile, *, one_of_16: bool) -> list[str]:
    cells = [f"**{text}**", "", "", f"**{number(total(profile.costs, one_of_16=one_of_16))}**"]
    if profile.instructions:
        cells.append(f"**{total(profile.instructions, one_of_16=one_of_16):.0f}**")
    return cells


def _whole(profile: Profile) -> list[list[str]]:
    lines = [["callers at once", "sum of the steps, us", "measured whole, us", "the steps' share"]]
    for callers, whole in sorted(profile.whole.items()):
        steps = total(profile.costs, one_of_16=callers > 1)
        lines.append([str(callers), number(steps), number(whole), f"{100 * steps / whole:.0f} %"])
    return lines
