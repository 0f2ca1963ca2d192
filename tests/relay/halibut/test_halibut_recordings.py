"""Every recording goes through the codec, however its bytes are cut and joined."""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from halibut_bytes import SUBSCRIPTION, bounded, decoded, pieces, single
from hypothesis import given
from hypothesis import strategies as st
from recordings import Turn, conversations, label, odd_cases, records, roles, turns

from relay.halibut.connection import Connection
from relay.halibut.errors import EnvelopeError, LineError, RemoteProtocolError, UnexpectedEndError
from relay.halibut.events import Event, Line, NotHalibut, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message
from relay.halibut.roles import Role, Side, State

CONVERSATIONS = pytest.mark.parametrize("path", conversations(), ids=label)
CUT_SHORT = {"listening-cancelled-in-stream/conn-1": Side.DIALLER, "polling-cancelled-in-stream/conn-1": Side.LISTENER}

# PROCEED and a request that met END on its way
CROSSED = {"polling-same-stream-twice-4.4.8/conn-1": 2, "polling-same-stream-twice-6.0.658/conn-1": 2}


class Said(NamedTuple):
    """One unit of one side; message: of an envelope."""

    side: Side
    unit: Unit
    data: bytes
    message: Message | None = None


class Replay:
    """Both ends of a recorded conversation: what one end's codec reads, the other end's has sent."""

    def __init__(self, path: Path) -> None:
        self.ends = {side: Connection(role, Limits(), SUBSCRIPTION) for side, role in roles(path).items()}
        self.units: list[Said] = []
        self.counts: list[int] = []  # of events, one for each chunk
        self.crossed = 0  # records that were on their way to a dialler when it said END
        self.cut_short: Side | None = None
        self._path = path
        self._parts: list[Part] = []  # of an envelope that is not at its end

    def run(self, cut: Callable[[int, Turn], list[bytes]]) -> "Replay":
        """cut: the chunks in which the turn of this number is fed."""
        for number, turn in enumerate(turns(self._path)):
            receiver = self.ends[Side.LISTENER if turn.side is Side.DIALLER else Side.DIALLER]
            if receiver.state is State.ENDED:
                self.crossed += len(turn.records)
                assert receiver.receive_data(turn.data) == receiver.receive_end() == []
                continue
            before = len(self.units)
            for chunk in cut(number, turn):
                events = receiver.receive_data(chunk)
                self.counts.append(len(events))
                for event in events:
                    if isinstance(event, NotHalibut):
                        assert turn.data == b"HELLO\n\n"  # discovery; what follows is the page
                        return self
                    self._mirror(turn, event)
            assert b"".join(said.data for said in self.units[before:]) == turn.data, "bytes lost or made up"
            if turn.closed:
                self._close(receiver, turn.side)
        return self

    def _close(self, receiver: Connection, side: Side) -> None:
        try:
            assert receiver.receive_end() == []
        except UnexpectedEndError:
            self.cut_short = side

    def _mirror(self, turn: Turn, event: Line | Part) -> None:
        sender, unit = self.ends[turn.side], event.unit
        if isinstance(event, Line):
            data = sender.send(unit)
            if unit is Unit.PREAMBLE:
                assert turn.records[0] == b"MX\n\n"  # .NET on Linux
                data = turn.records[0]
            self.units.append(Said(turn.side, unit, data))
        elif unit is Unit.ENVELOPE:
            self._parts.append(event)
            if event.message:
                self._mirror_envelope(turn.side, event.message)
        else:
            sender.forward(event)
            data = event.data
            if unit is Unit.STREAM_BODY and self.units[-1].unit is unit:
                data = self.units.pop().data + data
            self.units.append(Said(turn.side, unit, data))

    def _mirror_envelope(self, side: Side, message: Message) -> None:
        sender = self.ends[side]
        if message.kind is Kind.NULL:
            sender.send_null()
        else:
            for part in self._parts:
                sender.forward(part)
        self.units.append(Said(side, Unit.ENVELOPE, b"".join(part.data for part in self._parts), message))
        self._parts.clear()


@cache
def as_recorded(path: Path) -> Replay:
    return Replay(path).run(lambda _, turn: list(turn.records))


@CONVERSATIONS
def test_each_record_is_one_event_with_just_its_bytes(path: Path) -> None:
    replay = as_recorded(path)
    assert set(replay.counts) <= {1}
    assert replay.cut_short is CUT_SHORT.get(label(path))
    if not any(turn.data == b"HELLO\n\n" for turn in turns(path)):
        assert len(replay.counts) + replay.crossed == sum(not record.closed for record in records(path))
        assert replay.crossed == CROSSED.get(label(path), 0)


@CONVERSATIONS
def test_turns_in_one_piece(path: Path) -> None:
    replay = Replay(path).run(lambda _, turn: [turn.data] if turn.records else [])
    assert replay.units == as_recorded(path).units
    assert replay.cut_short is CUT_SHORT.get(label(path))


@CONVERSATIONS
def test_byte_by_byte(path: Path) -> None:
    replay = Replay(path).run(lambda _, turn: single(turn.data))
    assert replay.units == as_recorded(path).units
    assert replay.cut_short is CUT_SHORT.get(label(path))


def cuts(path: Path) -> st.SearchStrategy[list[int]]:
    """Offsets in all that was said, many of them close to a record's edge."""
    edges, total = [], 0
    for turn in turns(path):
        for record in turn.records:
            edges.append(total)
            total += len(record)
    near = st.builds(int.__add__, st.sampled_from(edges), st.integers(-9, 40))
    return st.lists(st.one_of(near, st.integers(0, total)), max_size=60)


@CONVERSATIONS
def test_cut_and_joined_at_random(path: Path) -> None:
    starts, total = [], 0
    for turn in turns(path):
        starts.append(total)
        total += len(turn.data)

    @bounded(4)
    @given(cuts(path))
    def holds(drawn: list[int]) -> None:
        replay = Replay(path).run(lambda number, turn: pieces(turn.data, [offset - starts[number] for offset in drawn]))
        assert replay.units == as_recorded(path).units

    holds()  # in here, because pytest-twisted runs no test that has both parameters and examples


def messages(units: list[Said]) -> Iterator[tuple[Said, list[Said]]]:
    """Each envelope with the units of its frames."""
    for position, said in enumerate(units):
        if said.unit is Unit.ENVELOPE:
            behind = units[position + 1 :]
            end = next((number for number, other in enumerate(behind) if not other.unit.value.startswith("stream")), None)
            yield said, behind[:end]


@CONVERSATIONS
def test_a_full_decode_says_the_same(path: Path) -> None:
    for envelope, frames in messages(as_recorded(path).units):
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        document = inflate.decompress(envelope.data)
        assert inflate.eof
        assert not inflate.unused_data
        message = envelope.message
        assert message is not None
        kind = Kind.REQUEST if roles(path)[envelope.side].is_client else Kind.RESPONSE
        assert message == decoded(kind, document)
        ids = [said.data for said in frames if said.unit is Unit.STREAM_ID]
        assert list(dict.fromkeys(ids)) == list(dict.fromkeys(stream.id for stream in message.streams))
        assert len(ids) in (len(set(ids)), len(message.streams))
        lengths = {stream.id: stream.length for stream in message.streams}
        rest = list(frames)
        while rest:
            id_, length = rest.pop(0), rest.pop(0)
            assert (id_.unit, length.unit) == (Unit.STREAM_ID, Unit.STREAM_LENGTH)
            assert length.data == struct.pack("<q", lengths[id_.data])
            if rest and rest[0].unit is Unit.STREAM_BODY:
                body = rest.pop(0)
                if not rest:  # cancelled
                    assert label(path) in CUT_SHORT
                    break
                assert len(body.data) == lengths[id_.data]
            assert rest.pop(0) == Said(id_.side, Unit.STREAM_CLOSING_LENGTH, length.data)


def test_there_are_streams_and_keep_alives_and_repeated_ids_among_the_recordings() -> None:
    units = [said for path in conversations() for said in as_recorded(path).units]
    found = [said.message for said in units if said.message]
    assert sum(message.kind is Kind.NULL for message in found) > 3
    assert sum(message.failed for message in found) > 3
    assert sum(len(set(message.streams)) < len(message.streams) for message in found) >= 4
    assert max(len(message.streams) for message in found) >= 3
    assert {said.unit for said in units} == set(Unit)


# ---- callers that are odd -----------------------------------------------------------------------------------------------

PAGE, SERVER, SILENCE, CLOSE = "the page", "MX-SERVER", "silence", "a close"
PREAMBLE, CLIENT = Line(Unit.PREAMBLE), Line(Unit.CLIENT_IDENTITY)
SUBSCRIBER = Line(Unit.SUBSCRIBER_IDENTITY, SUBSCRIPTION)

# what the codec makes of it, and what the real listener answered
ODD: dict[str, tuple[list[Event], type[RemoteProtocolError] | None, str]] = {
    "browser-get": ([NotHalibut()], None, PAGE),
    "handshake-post": ([NotHalibut()], None, PAGE),
    "hello": ([NotHalibut()], None, PAGE),
    "long-line-no-newline": ([NotHalibut()], None, PAGE),
    "garbage": ([], None, SILENCE),  # no blank line in it
    "silence": ([], None, SILENCE),
    "unknown-word": ([PREAMBLE], LineError, CLOSE),
    "client-half-then-close": ([PREAMBLE], UnexpectedEndError, SILENCE),
    "client-lf-only": ([PREAMBLE], None, SILENCE),
    "client-in-one-write": ([PREAMBLE, CLIENT], None, SERVER),
    "client-byte-by-byte": ([PREAMBLE, CLIENT], None, SERVER),
    "client-wrong-version": ([PREAMBLE, CLIENT], None, SERVER),
    "client-trusted-then-silence": ([PREAMBLE, CLIENT], None, SERVER),
    "client-untrusted": ([PREAMBLE, CLIENT], None, CLOSE),  # what certificates say is not the codec's business
    "client-without-certificate": ([PREAMBLE, CLIENT], None, CLOSE),
    "client-then-end": ([PREAMBLE, CLIENT, Line(Unit.END)], None, SERVER),
    "client-next-first": ([PREAMBLE, CLIENT], EnvelopeError, SERVER),
    "client-garbage-envelope": ([PREAMBLE, CLIENT], EnvelopeError, SERVER),
    "subscriber-trusted": ([PREAMBLE, SUBSCRIBER], None, SERVER),
    "subscriber-untrusted": ([PREAMBLE, SUBSCRIBER], None, CLOSE),
    "subscriber-without-certificate": ([PREAMBLE, SUBSCRIBER], None, CLOSE),
}


def answered(path: Path) -> str:
    """What the real listener did."""
    data = b"".join(record.data for record in records(path) if record.side is Side.LISTENER)
    if data:
        assert data.startswith((b"HTTP/1.0 200 OK\r\n", b"MX-SERVER 1.0\r\n\r\n"))
        return PAGE if data.startswith(b"HTTP") else SERVER
    return CLOSE if any(record.side is Side.LISTENER for record in records(path)) else SILENCE


def heard(path: Path, role: Role, records_kept: bool) -> tuple[list[Event], type[RemoteProtocolError] | None]:
    """What our listener makes of the caller, record by record or byte by byte; it answers an identity at once."""
    us, events, data = Connection(role, Limits()), [], [r.data for r in records(path) if r.side is Side.DIALLER]
    try:
        for chunk in data if records_kept else single(b"".join(data)):
            events += us.receive_data(chunk)
            if us.state is State.ANSWER:
                us.send(Unit.SERVER_IDENTITY)
        if path.stem.endswith("then-close"):
            us.receive_end()
    except RemoteProtocolError as error:
        return events, type(error)
    return events, None


@pytest.mark.parametrize("path", odd_cases(), ids=label)
def test_an_odd_caller_is_taken_as_a_real_listener_takes_it(path: Path) -> None:
    events, error, answer = ODD[path.stem]
    role = Role.LISTENING_CLIENT if path.parent.name.startswith("odd-octopus") else Role.LISTENING_SERVICE
    of_its_style = path.stem.startswith("client") == (role is Role.LISTENING_SERVICE)
    if events[1:] and not of_its_style:  # stricter than Halibut on purpose: whose role it is not, gets nothing
        events, error = [PREAMBLE], LineError
    if path.stem == "client-lf-only" and path.parent.name.endswith("4.4.8"):  # only the oldest took it; we wait, as head does
        answer = SERVER
    assert answered(path) == answer
    assert heard(path, role, records_kept=False) == (events, error)
    if path.stem == "client-in-one-write" and error:
        events = []  # an error leaves out what the same piece said before it
    assert heard(path, role, records_kept=True) == (events, error)
