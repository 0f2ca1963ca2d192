"""What real peers said to each other while polling, said again through the rooms, in each combination that has one who polls:
every byte and every record of every message.

What a relay does otherwise, by design (wire.md 10): null messages and control lines are each leg's own.
"""

from pathlib import Path

import pytest
from dialled import take
from fake_link import FIN, RST, FakeLink
from polling_memory import Memory, node_identifies
from recorded_calls import CALLS, POLLING, calls, expect_units, joined
from recordings import Side, label

from relay.halibut.lines import NEXT, PROCEED, SERVER_IDENTITY
from relay.outcomes import Outcome


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
    return list(records) if pace == "record by record" else joined(records)


def expect_same(pace: str, got: list[bytes], recorded: tuple[bytes, ...]) -> None:
    """The same bytes; and the same records, or, where they came joined, none that holds parts of two units."""
    if pace == "record by record":
        assert got == list(recorded)
    else:
        expect_units(got, recorded)


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
