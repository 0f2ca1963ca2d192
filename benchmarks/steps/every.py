"""All steps, and how an exchange is made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.steps import calls, transport
from benchmarks.steps.memory import ASKED
from benchmarks.steps.step import Step
from relay.halibut.lines import NEXT

_RECORD: Final = 16 * 1024


def every_step() -> list[Step]:
    """In the order in which they are measured."""
    return [*transport.steps(NEXT, ASKED, bytes(_RECORD)), *calls.steps()]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: text; parts: what it is made of, how often each step (or how often it is taken away).

    of: it is a part of the line before, and so is not added up. times: how often an exchange has it.
    """

    text: str
    parts: tuple[tuple[float, str], ...]
    times: float = 1.0
    of: bool = False

    def cost(self, costs: Mapping[str, float]) -> float:
        """Of one time."""
        return sum(factor * costs[name] for factor, name in self.parts)


# A call on kept connections: NEXT, PROCEED, request and reply, each read on one leg and written on the other.
EXCHANGE: Final = (
    Line("reactor turn, with one connection to read", ((1, "turn"),), 4),
    Line("TLS read: a line", ((1, "read line"),), 2),
    Line("TLS read: an envelope", ((1, "read envelope"),), 2),
    Line("codec: four lines, a request, a reply", ((1, "codec"),)),
    Line("envelopes: inflated, and their headers walked", ((1, "plain walk"),), of=True),
    Line("inflated", ((1, "inflate"),), of=True),
    Line("header walk", ((1, "plain walk"), (-1, "inflate")), of=True),
    Line("lease: acquire, prove, release", ((1, "lease with its codec"), (-1, "codec of the back"))),
    Line(
        "front and exchange",
        ((1, "exchange"), (-1, "codec"), (-1, "lease with its codec"), (1, "codec of the back")),
    ),
    Line("TLS write: a line", ((1, "write line"),), 2),
    Line("TLS write: an envelope", ((1, "write envelope"),), 2),
    Line("access log line", ((1, "log"),)),
    Line("metrics", ((1, "metrics"),)),
)
# Where 16 call at once, a turn has several to read. What is beside a turn with one is of each of them.
ONE_OF_16: Final = Line("one of 16 connections to read in a turn", ((1 / 16, "turn of 16"),), 4)
# What these calls have nothing of.
OTHERS: Final = (
    Line("envelope that is not plain: inflated and walked whole (both)", ((1, "whole walk"),)),
    Line("stream: TLS read of a record of 16 KiB", ((1, "read record"),)),
    Line("stream: TLS write of a record of 16 KiB", ((1, "write record"),)),
)


def total(costs: Mapping[str, float], *, one_of_16: bool = False) -> float:
    """Of an exchange. one_of_16: of 16 callers whose turns are shared by all."""
    lines = (ONE_OF_16, *EXCHANGE[1:]) if one_of_16 else EXCHANGE
    return sum(line.times * line.cost(costs) for line in lines if not line.of)
