"""Mistakes in a configuration file: where each one is, what is wrong, and what to write instead."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_MAX_SHOWN = 60


class WrongValueError(ValueError):
    """A value cannot be what it should be. `problem` says why, `remedy` what to write; neither repeats the value."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `line` counts from 1; 0 is the file as a whole. `where` is the key ("machines[1].port"), or empty."""

    file: Path
    line: int
    where: str
    value: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        parts = [place, self.where, "" if self.value is None else shown(self.value), f"{self.problem}. {self.remedy}"]
        return ": ".join(part for part in parts if part)


class ConfigurationError(Exception):
    """A configuration cannot be used. The text has one line for each mistake.

    mistakes: all that was found, by file, and then by line. files: those that were read, in this order; a mistake in any
    other one comes after them.
    """

    def __init__(self, mistakes: Iterable[Mistake], files: Iterable[Path] = ()) -> None:
        self.files = tuple(files)
        found = tuple(mistakes)
        order = {file: index for index, file in enumerate((*self.files, *(mistake.file for mistake in found)))}
        order |= {file: index for index, file in enumerate(self.files)}
        self.mistakes = tuple(sorted(found, key=lambda mistake: (order[mistake.file], mistake.line)))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def shown(value: str) -> str:
    """The value in quotes, without control characters, cut at 60 characters."""
    return repr(value if len(value) <= _MAX_SHOWN else value[: _MAX_SHOWN - 1] + "…")
