"""What real peers said to each other while polling, said again through the rooms, in each combination that has one who polls:
every byte and every record of every message.

What a relay does otherwise, by design (wire.md 10): null messages and control lines are each leg's own.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dialled import take
from fake_link import FIN, RST, FakeLink
from polling_memory import IDENTITY, Memory, node_identifies
from recordings import Side, conversations, label, turns

from relay.halibut.lines import (
    END,
    NEXT,
    NULL_ENVELOPE,
    PROCEED,
    SERVER_IDENTITY,
)
from relay.outcomes import Outcome

MX = b"MX\n\n"  # from Linux
LINES = (MX, IDENTITY, SERVER_IDENTITY, NEXT, PROCEED, END, NULL_ENVELOPE)
POLLING = [path for path in conversations() if path.parent.name.startswith("polling-")]


@dataclass
class Recorded:
    """One call: the request's records, the reply's, and who closed behind them, if one did in the call."""

    request: tuple[bytes, ...]
    reply: tuple[bytes, ...] = ()
    closed: Side | None = None


def calls(path: Path) -> list[Recorded]:
    """All of a conversation's."""
    found: list[Recorded] = []
    for turn in turns(path):
        records = list(turn.records)
        while records and records[0] in LINES:
            records.pop(0)
        while records and records[-1] in LINES:
            records.pop()
        assert not [record for record in records if record in LINES]
        if records and turn.side is Side.LISTENER:
            found.append(Recorded(tuple(records)))
        elif records:
            if found[-1].closed:  # what a Tentacle says behind the end of its call
                continue
            found[-1].reply = tuple(records)
        if turn.closed and found and not found[-1].reply and not found[-1].closed:
            found[-1].closed = turn.side
    return found


CALLS = [path for path in POLLING if calls(path)]


def test_every_polling_recording_is_here() -> None:
    assert len(CALLS) == 42
    without = {path.parent.name for path in POLLING if path not in CALLS}
    assert without == {
        "polling-too-many-connections",
        "polling-untrusted-tentacle",
        "polling-untrusted-tentacle-4.4.8",
    }
    assert sum(len(calls(path)) for path in CALLS) > 150
    assert {call.closed for path in CALLS for call in calls(path)} == {None, Side.DIALLER, Side.LISTENER}


# ---- the two ends of the relay -------------------------------------------------------------------------------------------


class Ends:
    """An Octopus and a Tentacle; both wait for a request of the other, or the relay does."""

    def __init__(self, memory: Memory, front: str, back: str) -> None:
        self.memory = memory
        self.front, self.back = front, back
        self.octopus: FakeLink
        self.tentacle: FakeLink
        if back == "polling":
            self.tentacle = memory.parked_poller()
        if front == "polling":
            self.polls = memory.front(back=None if back == "polling" else memory.parked)
            if back == "listening":
                self.tentacle = memory.tentacles[-1].identifies()
                memory.advance()
            self.octopus = node_identifies(memory.nodes[-1])
        else:
            self.octopus = memory.caller()
            assert take(self.octopus) == [SERVER_IDENTITY]

    def request(self, records: list[bytes]) -> list[bytes]:
        """Octopus sends these; what the Tentacle gets."""
        for record in records:
            self.octopus.receive(record)
            self.memory.advance()
        self.octopus.deliver()
        return take(self.tentacle)

    def reply(self, records: list[bytes]) -> list[bytes]:
        for record in records:
            self.tentacle.receive(record)
        return take(self.octopus)

    def turn(self) -> None:
        """Both go on to the next call."""
        if self.back == "polling":
            self.tentacle.receive(NEXT)
            assert take(self.tentacle) == [PROCEED]
            self.memory.advance()
        if self.front == "polling":
            self.octopus.receive(PROCEED)
        else:
            self.octopus.receive(NEXT)
            self.memory.advance()
            assert take(self.octopus) == [PROCEED]
        if self.back == "listening":  # the next connection is parked already, and the first one rests
            self.memory.advance()
            self.tentacle = self._parked_tentacle()

    def _parked_tentacle(self) -> FakeLink:
        """Where the next request goes: the connection that was dialled or proved while the last call ran."""
        dial = self.memory.tentacles[-1]
        if dial.link is None:
            return dial.identifies()
        for link in (made.link for made in self.memory.tentacles if made.link and made.link.ended is None):
            if link.written == [NEXT]:
                take(link)
                link.receive(PROCEED)
                return link
        raise AssertionError("no connection is kept for the next request")


def recut(pace: str, records: tuple[bytes, ...]) -> list[bytes]:
    """joined: as few records as hold them, what no peer does and a relay must undo."""
    if pace == "record by record":
        return list(records)
    data = b"".join(records)
    return [data[start : start + 16384] for start in range(0, len(data), 16384)]


def expect_same(pace: str, got: list[bytes], recorded: tuple[bytes, ...]) -> None:
    """The same bytes; and the same records, or, where they came joined, none that holds parts of two units."""
    assert b"".join(got) == b"".join(recorded)
    if pace == "record by record":
        assert got == list(recorded)
        return
    edges, offset = {0}, 0
    for record in got:
        offset += len(record)
        edges.add(offset)
    assert set(unit_edges(b"".join(recorded))) <= edges


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


@pytest.mark.parametrize("pace", ["record by record", "joined"])
@pytest.mark.parametrize(("front", "back"), [("polling", "polling"), ("polling", "listening"), ("dialling", "polling")])
@pytest.mark.parametrize("path", CALLS, ids=label)
def test_conversation(monkeypatch: pytest.MonkeyPatch, path: Path, front: str, back: str, pace: str) -> None:
    memory = Memory(monkeypatch)
    ends = Ends(memory, front, back)
    for call in calls(path):
        expect_same(pace, ends.request(recut(pace, call.request)), call.request)
        if call.closed is Side.LISTENER:
            ends.octopus.lose()
            cut = path.parent.name == "polling-cancelled-in-stream"
            assert ends.tentacle.ended == (RST if cut else FIN)  # in a stream an old Tentacle notices nothing else (5.7)
            assert memory.outcomes[-1] is Outcome.CANCELLED
        elif call.closed is Side.DIALLER:
            ends.tentacle.lose()
            assert ends.octopus.ended == FIN
            assert memory.outcomes[-1] is Outcome.TENTACLE_GONE
        else:
            got = ends.reply(recut(pace, call.reply))
            if front == "polling":
                assert got.pop() == NEXT
            expect_same(pace, got, call.reply)
            assert memory.outcomes[-1] in (Outcome.OK, Outcome.ERROR_REPLY)
            ends.turn()
        line = memory.calls[-1]
        assert line.request_bytes == sum(map(len, call.request))
        assert line.reply_bytes == sum(map(len, call.reply))
    assert len(memory.calls) == len(calls(path))
