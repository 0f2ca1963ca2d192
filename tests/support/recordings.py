"""What real Halibut peers said to each other, from tests/captures, one TLS record at a time."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from relay.halibut.roles import Role, Side

CAPTURES = Path(__file__).parents[1] / "captures"


@dataclass(frozen=True)
class Record:
    """One TLS record's payload; closed: that side closed, and data is empty."""

    side: Side
    data: bytes = b""
    closed: bool = False


@dataclass(frozen=True)
class Turn:
    """All that one side said, record by record, until the other spoke; closed: it closed behind these."""

    side: Side
    records: tuple[bytes, ...]
    closed: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(self.records)


def conversations() -> list[Path]:
    """Every recorded Halibut connection of both styles, to the second Octopus node too."""
    return sorted(
        path
        for style in ("listening", "polling")
        for name in ("conn", "other")
        for path in CAPTURES.glob(f"{style}-*/{name}-*.jsonl")
    )


def odd_cases() -> list[Path]:
    """Every caller that was not Halibut, or not a polite one."""
    return sorted(CAPTURES.glob("odd-*/*.jsonl"))


def label(path: Path) -> str:
    """What pytest calls it."""
    return f"{path.parent.name}/{path.stem}"


def roles(path: Path) -> dict[Side, Role]:
    """Which role each side of a conversation plays."""
    if path.parent.name.startswith("polling-"):
        return {Side.DIALLER: Role.DIALLING_SERVICE, Side.LISTENER: Role.LISTENING_CLIENT}
    return {Side.DIALLER: Role.DIALLING_CLIENT, Side.LISTENER: Role.LISTENING_SERVICE}


def records(path: Path) -> list[Record]:
    """What was recorded, in order. Raises ValueError for a line of an unknown kind: nothing is passed over unseen."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        entry = json.loads(line)
        side = Side(entry["from"])
        if "b64" in entry:
            found.append(Record(side, base64.b64decode(entry["b64"])))
        elif "eof" in entry:
            found.append(Record(side, closed=True))
        elif not {"tls", "silent"} & entry.keys():
            raise ValueError(f"{path}: a line of an unknown kind: {line}")
    return found


def turns(path: Path) -> list[Turn]:
    """The same, with the records of one side joined into turns."""
    found: list[Turn] = []
    for record in records(path):
        last = found[-1] if found else None
        if last and last.side is record.side and not last.closed:
            found[-1] = Turn(record.side, (*last.records, *([] if record.closed else [record.data])), record.closed)
        else:
            found.append(Turn(record.side, () if record.closed else (record.data,), record.closed))
    return found
