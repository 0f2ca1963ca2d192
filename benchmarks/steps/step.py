"""One step of an exchange, and the time that it takes."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

COUNT: Final = 50  # times that a step is done in one go; what it needs is prepared before
ROUNDS: Final = 200


def _nothing(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Step:
    """run: does it so many times; prepare, tidy: before and behind that, and not measured."""

    name: str
    run: Callable[[int], None]
    prepare: Callable[[int], None] = _nothing
    tidy: Callable[[int], None] = _nothing


def times(run: Callable[[], object]) -> Callable[[int], None]:
    """Does it over and over."""

    def many(count: int) -> None:
        for _ in range(count):
            run()

    return many


def microseconds(steps: Sequence[Step], rounds: int = ROUNDS) -> dict[str, float]:
    """CPU time of each, user and system, the median of many rounds. They take turns: what disturbs, disturbs all."""
    gc.collect()
    gc.freeze()  # as the relay does when it has started
    found: dict[str, list[float]] = {step.name: [] for step in steps}
    for _ in range(rounds):
        for step in steps:
            step.prepare(COUNT)
            before = time.thread_time_ns()
            step.run(COUNT)
            found[step.name].append((time.thread_time_ns() - before) / COUNT / 1e3)
            step.tidy(COUNT)
    gc.unfreeze()
    return {name: statistics.median(values) for name, values in found.items()}
