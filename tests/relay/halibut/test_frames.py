"""Data stream frames behind an envelope (wire.md 5.2 to 5.6)."""

import struct

import pytest
from halibut_bytes import (
    LIMITS,
    RESPONSE,
    bounded,
    brought,
    deflated,
    fed,
    frame,
    guid,
    merged,
    ours,
    pieces,
    reference,
    request,
    single,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.errors import (
    EnvelopeError,
    LineError,
    LocalProtocolError,
    RemoteProtocolError,
    StreamError,
    TurnError,
    UnexpectedEndError,
)
from relay.halibut.events import Line, Part, Unit
from relay.halibut.frames import FrameReader
from relay.halibut.limits import Limits
from relay.halibut.message import Reference
from relay.halibut.roles import Role, State

A, B, C = guid(1), guid(2), guid(3)
FRAME = [Unit.STREAM_ID, Unit.STREAM_LENGTH, Unit.STREAM_BODY, Unit.STREAM_CLOSING_LENGTH]


def begun(*ids: bytes, length: int = 5, limits: Limits = LIMITS) -> Connection:
    """A listening service that has received a request's envelope, which announces these ids."""
    us = brought(Role.LISTENING_SERVICE, State.REQUEST)
    if limits is not LIMITS:
        us = Connection(Role.LISTENING_SERVICE, limits)
        us.state = State.REQUEST
    [part] = us.receive_data(deflated(request(tuple(reference(id_, length) for id_ in ids))))
    assert isinstance(part, Part)
    assert part.message is not None
    assert [stream.id for stream in part.message.streams] == list(ids)
    assert part.last == (not ids)
    return us


def units(us: Connection, data: bytes) -> list[tuple[Unit | None, bytes]]:
    return merged(fed(us, [data]))


# ---- what is right ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [lambda data: [data], single, lambda data: pieces(data, range(3, len(data), 7))])
def test_one_frame(cut: object) -> None:
    us, data = begun(A), frame(A, b"hello")
    assert callable(cut)
    events = fed(us, cut(data))
    length = struct.pack("<q", 5)
    assert merged(events) == list(zip(FRAME, [A, length, b"hello", length], strict=True))
    assert [event.last for event in events if isinstance(event, Part)] == [False] * (len(events) - 1) + [True]
    assert not any(event.extra for event in events if isinstance(event, Part))
    assert us.state is State.REPLY
    assert not us.receiving
    assert not us.more_frames


def test_ids_and_lengths_travel_whole() -> None:
    events = fed(begun(A), single(frame(A, b"hello")))
    whole = [event for event in events if isinstance(event, Part) and event.unit is not Unit.STREAM_BODY]
    assert [len(event.data) for event in whole] == [16, 8, 8]


def test_an_empty_stream_has_no_body() -> None:
    us = begun(A, length=0)
    assert [unit for unit, _ in units(us, frame(A, b""))] == [Unit.STREAM_ID, Unit.STREAM_LENGTH, Unit.STREAM_CLOSING_LENGTH]
    assert us.state is State.REPLY


@pytest.mark.parametrize("order", [(A, B, C), (C, B, A), (B, C, A)])
def test_frames_in_any_order(order: tuple[bytes, ...]) -> None:
    us = begun(A, B, C)
    for id_ in order:
        assert us.state is State.REQUEST
        assert us.receiving
        fed(us, [frame(id_, b"hello")])
    assert us.state is State.REPLY


def test_a_frame_says_its_own_length() -> None:
    """wire.md 5.7: the frame's length counts; what the reference said is the real peers' business."""
    us = begun(A, length=5)
    assert units(us, frame(A, b"longer than that"))[2] == (Unit.STREAM_BODY, b"longer than that")
    assert us.state is State.REPLY


def test_a_body_holds_what_it_likes() -> None:
    body = lines.NEXT + lines.END + A + RESPONSE + frame(B, b"x")
    us = begun(A)
    assert units(us, frame(A, body))[2] == (Unit.STREAM_BODY, body)
    assert us.state is State.REPLY


# ---- repeated ids (wire.md 5.4, 5.5) ------------------------------------------------------------------------------------


def test_an_id_twice_with_one_frame() -> None:
    us = begun(A, A)
    events = fed(us, [frame(A, b"hello")])
    assert events[-1].last  # type: ignore[union-attr] # a Part
    assert us.state is State.REPLY
    assert us.more_frames  # another may come, and is not waited for
    assert not us.receiving
    ours(us, Unit.ENVELOPE, RESPONSE)
    assert fed(us, [lines.NEXT]) == [Line(Unit.NEXT)]
    assert not us.more_frames


@pytest.mark.parametrize("bytewise", [False, True])
def test_an_id_twice_with_a_frame_each(bytewise: bool) -> None:
    us, data = begun(A, A), frame(A, b"hello")
    fed(us, [data])
    events = fed(us, single(data) if bytewise else [data])
    assert [unit for unit, _ in merged(events)] == FRAME
    assert all(event.extra and not event.last for event in events if isinstance(event, Part))
    assert not us.more_frames
    assert us.state is State.REPLY
    with pytest.raises(TurnError):  # and no third one
        fed(us, [data])


def test_both_frames_in_one_piece_with_what_follows() -> None:
    us = begun(A, A)
    ours_later = fed(us, [frame(A, b"hello") * 2])
    assert [event.extra for event in ours_later if isinstance(event, Part)] == [False] * 4 + [True] * 4
    ours(us, Unit.ENVELOPE, RESPONSE)
    assert fed(us, [lines.NEXT]) == [Line(Unit.NEXT)]


def test_a_repeated_id_between_others() -> None:
    us = begun(A, A, B)
    events = fed(us, [frame(A, b"hello"), frame(A, b"again"), frame(B, b"last")])
    assert not any(event.extra for event in events if isinstance(event, Part))  # B was due until the end
    assert us.state is State.REPLY
    assert not us.more_frames


def test_an_extra_frame_may_come_after_our_reply_has_begun() -> None:
    us = begun(A, A)
    fed(us, [frame(A, b"hello")])
    ours(us, Unit.ENVELOPE, RESPONSE)
    assert us.state is State.TURN
    events = fed(us, [frame(A, b"hello")])
    assert all(event.extra for event in events if isinstance(event, Part))
    assert us.state is State.TURN
    assert fed(us, [lines.NEXT]) == [Line(Unit.NEXT)]


def test_no_frame_comes_behind_a_line() -> None:
    us = begun(A, A)
    fed(us, [frame(A, b"hello")])
    ours(us, Unit.ENVELOPE, RESPONSE)
    fed(us, [lines.NEXT])
    us.send(Unit.PROCEED)
    with pytest.raises(EnvelopeError):
        fed(us, [frame(A, b"hello"), bytes(300)])


@pytest.mark.parametrize("start", [b"NEX", b"NEXT", b"N", b"E", b"EN", b"END\r", b"\r\n", b"\r"])
@pytest.mark.parametrize("line", [lines.NEXT, lines.END, b"\r\n\r\n" + lines.NEXT])
def test_an_id_that_begins_as_a_line_does(start: bytes, line: bytes) -> None:
    """Byte by byte, a line is told from one more frame as soon as it can be, and no byte of it is lost."""
    id_ = start + A[len(start) :]
    data = frame(id_, b"hello")
    for chunks in ([line], single(line)):
        us = begun(id_, id_)
        fed(us, [data])
        ours(us, Unit.ENVELOPE, RESPONSE)
        assert fed(us, chunks) == [Line(Unit.END if line == lines.END else Unit.NEXT)]
    us = begun(id_, id_)
    events = fed(us, single(data * 2))
    assert merged(events)[4:] == merged(events)[:4]
    ours(us, Unit.ENVELOPE, RESPONSE)
    assert us.state is State.TURN


def test_giving_up_in_the_place_of_an_extra_frame() -> None:
    id_ = b"EN" + A[2:]
    for chunks in ([lines.END], single(lines.END)):
        us = begun(id_, id_)
        fed(us, [frame(id_, b"hello")])
        assert fed(us, chunks) == [Line(Unit.END)]
        assert us.state is State.ENDED


def test_an_extra_frame_of_a_reply() -> None:
    us = brought(Role.DIALLING_CLIENT, State.REPLY)
    fed(us, [deflated({"Message": {"$type": lines.RESPONSE_TYPE, "id": "1", "result": [reference(A, 1), reference(A, 1)]}})])
    fed(us, [frame(A, b"x")])
    assert us.state is State.TURN
    assert us.more_frames
    us.send(Unit.NEXT)
    assert len(fed(us, [frame(A, b"x")])) == 4
    assert fed(us, [lines.PROCEED]) == [Line(Unit.PROCEED)]


# ---- what is wrong ------------------------------------------------------------------------------------------------------


def breaks(us: Connection, data: bytes, error: type[RemoteProtocolError] = StreamError) -> str:
    with pytest.raises(error) as caught:
        fed(us, [data])
    assert type(caught.value) is error
    assert fed(us, [frame(A, b"hello"), lines.NEXT]) == []  # from here on it only discards
    assert us.receive_end() == []
    return str(caught.value)


def test_an_id_that_the_envelope_does_not_announce() -> None:
    assert B.hex() in breaks(begun(A), frame(B, b"hello"))
    breaks(begun(A, B), frame(A, b"hello") + frame(A, b"hello"))  # B is due
    breaks(begun(A), lines.NEXT + bytes(20))
    breaks(begun(A, A, B), frame(A, b"x") * 3)


def test_no_frame_behind_a_message_without_streams() -> None:
    breaks(begun(), frame(A, b"hello"), TurnError)
    us = begun()
    ours(us, Unit.ENVELOPE, RESPONSE)
    breaks(us, frame(A, b"hello" + b"\r\n"), LineError)


@pytest.mark.parametrize("closing", [4, 6, -5, 0, 1 << 62, 5 << 8])
def test_another_closing_length(closing: int) -> None:
    assert "closing length differs" in breaks(begun(A), frame(A, b"hello", closing=closing))
    assert "closing length differs" in breaks(begun(A, A), frame(A, b"hello") + frame(A, b"hello", closing=closing))


@pytest.mark.parametrize("first", [-1, -(1 << 63), (1 << 40) + 1, (1 << 63) - 1])
def test_an_impossible_length(first: int) -> None:
    assert str(first) in breaks(begun(A), frame(A, b"hello", first=first))


def test_the_limit_of_a_length() -> None:
    limits = Limits(stream=5)
    assert len(fed(begun(A, limits=limits), [frame(A, b"hello")])) == 4
    assert "between 0 and 5: 6" in breaks(begun(A, limits=limits), frame(A, b"hello!"))


def test_a_whole_conversation_that_ends_in_each_place() -> None:
    """EOF after each byte: inside a message it is an error, between messages none (wire.md 1.10)."""
    data = frame(A, b"hello") + frame(B, b"")
    for length in range(len(data) + 1):
        us = begun(A, B)
        fed(us, [data[:length]])
        assert us.receiving == (length < len(data))
        if length < len(data):
            with pytest.raises(UnexpectedEndError, match="closed inside a message's streams"):
                us.receive_end()
        else:
            assert us.receive_end() == []
        assert fed(us, [data[length:]]) == []


def test_an_end_inside_an_extra_frame() -> None:
    data = frame(A, b"hello")
    for length in range(len(data)):
        us = begun(A, A)
        fed(us, [data + data[:length]])
        if length:
            with pytest.raises(UnexpectedEndError):
                us.receive_end()
        else:
            assert us.receive_end() == []


# ---- the pump -----------------------------------------------------------------------------------------------------------


def test_a_body_may_pass_unseen() -> None:
    us, data = begun(A), frame(A, b"hello")
    assert us.body_left == 0
    fed(us, [data[:24]])
    assert us.body_left == 5
    us.body_passed(2)
    assert us.body_left == 3
    assert units(us, b"l") == [(Unit.STREAM_BODY, b"l")]
    us.body_passed(2)
    assert us.body_left == 0
    assert units(us, data[-8:]) == [(Unit.STREAM_CLOSING_LENGTH, data[-8:])]
    assert us.state is State.REPLY


def test_the_pump_takes_no_more_than_the_body() -> None:
    us, data = begun(A), frame(A, b"hello")
    for count in (0, 1, -1):
        with pytest.raises(LocalProtocolError):
            us.body_passed(count)
    fed(us, [data[:24]])
    for count in (0, 6, -1):
        with pytest.raises(LocalProtocolError, match="where 5 are left"):
            us.body_passed(count)
    us.body_passed(5)
    with pytest.raises(LocalProtocolError, match="where 0 are left"):
        us.body_passed(1)
    assert units(us, data[-8:]) == [(Unit.STREAM_CLOSING_LENGTH, data[-8:])]
    with pytest.raises(LocalProtocolError):
        us.body_passed(1)


def test_the_pump_in_an_extra_frame() -> None:
    us, data = begun(A, A), frame(A, b"hello")
    fed(us, [data + data[:24]])
    us.body_passed(us.body_left)
    assert us.receiving
    [closing] = fed(us, [data[-8:]])
    assert isinstance(closing, Part)
    assert closing.extra
    assert not us.receiving


@bounded(100)
@given(st.data())
def test_pumped_or_not_the_frames_are_the_same(data: st.DataObject) -> None:
    bodies = {id_: data.draw(st.binary(max_size=20)) for id_ in (A, B)}
    whole = b"".join(frame(id_, body) for id_, body in bodies.items())
    us, offset, seen = begun(A, B), 0, b""
    while offset < len(whole):
        if us.body_left and data.draw(st.booleans()):
            count = data.draw(st.integers(1, us.body_left))
            us.body_passed(count)
            seen += whole[offset : offset + count]
        else:
            count = data.draw(st.integers(1, len(whole) - offset))
            chunk = whole[offset : offset + count]
            seen += b"".join(event.data for event in us.receive_data(chunk) if isinstance(event, Part))
        offset += count
    assert us.state is State.REPLY
    assert seen == whole


def test_the_reader_alone() -> None:
    reader = FrameReader([Reference(A, 1), Reference(A, 1), Reference(B, 1)], LIMITS)
    assert (reader.due, reader.more, reader.inside) == (True, True, False)
    assert reader.may_begin(A)
    assert reader.may_begin(A[:3])
    assert not reader.may_begin(B)
    part, offset = reader.feed(b"..." + A + b"..", 3)
    assert part is not None
    assert (part.unit, part.data, offset) == (Unit.STREAM_ID, A, 19)
    assert reader.inside


def test_an_id_that_is_end_until_more_comes() -> None:
    """Undecidable, and one id in 2^40: the connection waits, and a close is then taken for one inside a frame."""
    id_ = lines.END + A[5:]
    us = begun(id_, id_)
    fed(us, [frame(id_, b"hello")])
    assert fed(us, [lines.END]) == []
    with pytest.raises(UnexpectedEndError):
        us.receive_end()
    us = begun(id_, id_)
    fed(us, [frame(id_, b"hello"), lines.END])
    assert fed(us, [b"what comes behind it tells"]) == [Line(Unit.END)]
