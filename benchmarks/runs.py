"""One run: what was measured of one proxy under one load, once."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Run:
    """figures: by name, those of report.FIGURES; base: the name of whom they are compared with, in the same round."""

    workload: str
    proxy: str
    round: int
    base: str
    figures: dict[str, float]
    errors: int = 0
    first_error: str = ""


@dataclass(slots=True)
class Result:
    """A whole measurement, as its JSON file has it.

    date: its start, UTC; relays: their versions, by name; troubles: what could not be measured, and why.
    """

    date: str
    mtu: int
    plan: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    relays: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def write(self, file: Path) -> None:
        """Whole, or not at all."""
        part = file.with_name(file.name + ".part")
        part.write_text(self.to_json())
        part.replace(file)

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Raises ValueError, TypeError, KeyError for what to_json() has not written."""
        fields = json.loads(text)
        return cls(**{**fields, "runs": [Run(**run) for run in fields["runs"]]})
