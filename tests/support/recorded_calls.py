"""The calls of a polling recording, and who ended it: what any combination of ways has to carry unchanged."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recordings import Side, conversations, turns

from relay.halibut.lines import END, NEXT, NULL_ENVELOPE, PROCEED, SERVER_IDENTITY, subscriber_identity

SUBSCRIPTION = "poll://sq-tentapoll/"
IDENTITY = subscriber_identity(SUBSCRIPTION)
MX = b"MX\n\n"  # from Linux
LINES = (MX, IDENTITY, SERVER_IDENTITY, NEXT, PROCEED, END, NULL_ENVELOPE)
POLLING = [path for path in conversations() if path.parent.name.startswith("polling-")]


@dataclass
class Recorded:
    """One call: the request's records, the reply's, and who closed behind them, if one did in the call.

    nulls: how many null messages came before it.
    """

    request: tuple[bytes, ...]
    reply: tuple[bytes, ...] = ()
    closed: Side | None = None
    nulls: int = 0


def calls(path: Path) -> list[Recorded]:
    """All of a conversation's."""
    found: list[Recorded] = []
    nulls = 0
    for turn in turns(path):
        records = list(turn.records)
        nulls += turn.side is Side.LISTENER and NULL_ENVELOPE in records
        while records and records[0] in LINES:
            records.pop(0)
        while records and records[-1] in LINES:
            records.pop()
        assert not [record for record in records if record in LINES]
        if records and turn.side is Side.LISTENER:
            found.append(Recorded(tuple(records), nulls=nulls))
            nulls = 0
        elif records:
            if found[-1].closed:  # what a Tentacle says behind the end of its call
                continue
            found[-1].reply = tuple(records)
        if turn.closed and found and not found[-1].reply and not found[-1].closed:
            found[-1].closed = turn.side
    return found


CALLS = [path for path in POLLING if calls(path)]


def ended_by(path: Path) -> Side:
    """Who closed first."""
    return next(turn.side for turn in turns(path) if turn.closed)


def unit_edges(data: bytes) -> Iterator[int]:
    """Where an envelope and the four pieces of each of its frames end (wire.md 2.7, 5.2), as far as they have come."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflate.decompress(data)
    assert inflate.eof
    offset = len(data) - len(inflate.unused_data)
    yield offset
    while offset < len(data):
        size = int.from_bytes(data[offset + 16 : offset + 24], "little")
        for piece in (16, 8, size, 8):
            offset += piece
            yield min(offset, len(data))


def joined(records: tuple[bytes, ...]) -> list[bytes]:
    """The same bytes in as few records as hold them: what no peer does, and a relay must undo."""
    data = b"".join(records)
    return [data[start : start + 16384] for start in range(0, len(data), 16384)]


def expect_units(got: list[bytes], recorded: tuple[bytes, ...]) -> None:
    """The same bytes, and no record that holds parts of two units."""
    data = b"".join(recorded)
    assert b"".join(got) == data
    edges, offset = {0}, 0
    for record in got:
        offset += len(record)
        edges.add(offset)
    assert set(unit_edges(data)) <= edges
