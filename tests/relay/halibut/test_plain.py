"""What is read fast is what the reader and the walk would have read."""

import tracemalloc
from typing import Any

import bson
import pytest
from halibut_bytes import (
    LIMITS,
    REQUEST,
    RESPONSE,
    bounded,
    deflated,
    document,
    element,
    guid,
    raw_members,
    raw_request,
    raw_response,
    reference,
    request,
    response,
    string,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st
from recordings import conversations, records, roles

from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.envelope import EnvelopeReader
from relay.halibut.errors import EnvelopeError, RemoteProtocolError
from relay.halibut.events import Line, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message
from relay.halibut.plain import read_plain
from relay.halibut.roles import Role, State

KINDS = pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.RESPONSE], ids=lambda kind: kind.value)


def read(kind: Kind, data: bytes, limits: Limits = LIMITS) -> tuple[Message, int] | None:
    """What the reader says; None: not an envelope, or not all of one."""
    reader = EnvelopeReader(kind, limits)
    try:
        taken = reader.feed(data)
    except EnvelopeError:
        return None
    return None if reader.message is None else (reader.message, taken)


def test_nearly_all_recorded_messages_without_streams_are_plain() -> None:
    plain = others = 0
    for path in conversations():
        for record in records(path):
            kind = Kind.REQUEST if roles(path)[record.side].is_client else Kind.RESPONSE
            expected = read(kind, record.data)
            found = read_plain(kind, record.data, LIMITS)
            assert found in (None, expected)
            if expected and expected[0].kind is not Kind.NULL and not expected[0].streams and not expected[0].failed:
                plain += found is not None
                others += found is None
    assert plain > 500
    assert others < plain / 50


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.one_of(
    st.none(), st.integers(0, 9), texts, st.binary(max_size=9), st.dictionaries(texts.filter(lambda t: "\0" not in t), texts)
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[Kind, bytes]:
    """Messages in the usual order, with a byte or two changed, or a member more or less."""
    kind = draw(st.sampled_from([Kind.REQUEST, Kind.RESPONSE]))
    root: dict[str, Any]
    if kind is Kind.REQUEST:
        root = request(draw(st.lists(values, max_size=2)), id=draw(texts), service=draw(texts), method=draw(texts))
    else:
        root = response(draw(st.one_of(st.none(), values)), id=draw(texts))
    if draw(st.integers(0, 9)) == 0:
        del root["Message"][draw(st.sampled_from(sorted(root["Message"])))]
    if draw(st.integers(0, 9)) == 0:
        root["Message"][draw(st.sampled_from(["more", "Service", "result", "error", "Id"]))] = draw(values)
    data = bytearray(bson.encode(root))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 10, 127, 128, 255]))
    return kind, bytes(data)


@bounded(400)
@given(messages(), st.sampled_from([0, 6]), st.sampled_from([b"", b"", lines.END, lines.NEXT, b"\xff" * 20]))
def test_what_it_reads_the_others_read(made: tuple[Kind, bytes], level: int, behind: bytes) -> None:
    kind, data = made
    found = read_plain(kind, deflated(data, level) + behind, LIMITS)
    if found is not None:
        assert found == read(kind, deflated(data, level) + behind)


@KINDS
def test_every_byte_of_a_document_that_it_believes(kind: Kind) -> None:
    """Each byte in turn set to each of a few values: it reads the same as the reader, or leaves it to it."""
    data = raw_request() if kind is Kind.REQUEST else raw_response(result=element(3, "result", document()))
    assert read_plain(kind, deflated(data), LIMITS) is not None
    accepted = 0
    for offset in range(len(data)):
        for byte in (
            0,
            1,
            2,
            3,
            4,
            10,
            0x7F,
            0x80,
            0xFF,
            data[offset] ^ 1,
            (data[offset] + 4) & 0xFF,
            (data[offset] - 4) & 0xFF,
        ):
            envelope = deflated(data[:offset] + bytes([byte]) + data[offset + 1 :], 1)
            found = read_plain(kind, envelope, LIMITS)
            accepted += found is not None
            assert found in (None, read(kind, envelope))
    assert accepted >= 100  # inside the texts anything goes


def swapped(kind: Kind) -> bytes:
    members = raw_members(kind)
    return document(element(3, "Message", document(*members[:1], members[2], members[1], *members[3:])))


@pytest.mark.parametrize(
    ("kind", "envelope"),
    [
        (Kind.REQUEST, lines.NULL_ENVELOPE),
        (Kind.RESPONSE, lines.NULL_ENVELOPE),
        (Kind.REQUEST, RESPONSE),
        (Kind.RESPONSE, REQUEST),
        (Kind.REQUEST, REQUEST[:-1]),
        (Kind.REQUEST, REQUEST[:20]),
        (Kind.REQUEST, b"\xff" * 20),
        (Kind.REQUEST, deflated(b"")),
        (Kind.REQUEST, deflated(bytes(13))),
        (Kind.REQUEST, deflated(swapped(Kind.REQUEST))),
        (Kind.RESPONSE, deflated(swapped(Kind.RESPONSE))),
        (Kind.REQUEST, deflated(request(later=1))),
        (Kind.REQUEST, deflated(request((reference(guid(1), 1),)))),
        (Kind.REQUEST, deflated(request(method="x" * 70_000))),
        (Kind.REQUEST, deflated(bson.encode(request()) + b"\0")),
        (Kind.REQUEST, deflated(bson.encode(request())[:-1])),
        (Kind.RESPONSE, deflated(response(reference(guid(1), 1)))),
        (Kind.RESPONSE, deflated(response(error={"message": "no"}))),
        (Kind.RESPONSE, deflated(response(5))),
    ],
)
def test_what_differs_in_the_least_is_left_to_the_reader(kind: Kind, envelope: bytes) -> None:
    assert read_plain(kind, envelope, LIMITS) is None


@KINDS
@pytest.mark.parametrize("word", ["NEXT", "PROCEED"])
def test_so_is_what_holds_a_control_line_in_its_raw_bytes(kind: Kind, word: str) -> None:
    """Whatever the kind: a request may go on to a Tentacle that waits for either."""
    holding = request(endpoint={"x": word}) if kind is Kind.REQUEST else response({"x": word})
    assert read_plain(kind, deflated(holding, 0), LIMITS) is None
    assert read_plain(kind, deflated(request() if kind is Kind.REQUEST else response({}), 0), LIMITS) is not None


def test_limits_hold() -> None:
    for name in ("id", "service", "method"):
        for length, fits in ((95, True), (96, False)):
            envelope = deflated(raw_request(**{name: element(2, name, string("x" * length))}))
            assert (read_plain(Kind.REQUEST, envelope, Limits(text=100)) is not None) == fits
    envelope = deflated(raw_response(id=element(2, "id", string("x" * 96))))
    assert read_plain(Kind.RESPONSE, envelope, Limits(text=100)) is None
    assert read_plain(Kind.REQUEST, REQUEST, Limits(envelope=100)) is None


def test_a_bomb_costs_one_block() -> None:
    bomb = deflated(request(method="x" * 20_000_000))
    tracemalloc.start()
    try:
        assert read_plain(Kind.REQUEST, bomb, LIMITS) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300 * 1024


@pytest.mark.parametrize("role", [Role.LISTENING_SERVICE, Role.DIALLING_CLIENT], ids=lambda role: role.name.lower())
def test_what_stands_behind_a_plain_message_is_no_part_of_it(role: Role) -> None:
    """Else bytes that nobody has judged would go on in the message's record (wire.md 2.7)."""
    kind = Kind.RESPONSE if role.is_client else Kind.REQUEST
    whole = deflated(response() if role.is_client else request())
    assert read_plain(kind, whole, LIMITS) is not None
    ours = Connection(role, LIMITS)
    ours.state = State.REPLY if role.is_client else State.REQUEST
    [part] = ours.receive_data(whole)
    assert isinstance(part, Part)
    assert (part.data, part.last) == (whole, True)
    behind = Connection(role, LIMITS)
    behind.state = State.REPLY if role.is_client else State.REQUEST
    with pytest.raises(RemoteProtocolError):
        behind.receive_data(whole + b"\x01")


def test_giving_up_behind_a_plain_request_is_told_apart_from_it() -> None:
    whole = deflated(request())
    ours = Connection(Role.LISTENING_SERVICE, LIMITS)
    ours.state = State.REQUEST
    part, end = ours.receive_data(whole + lines.END)
    assert isinstance(part, Part)
    assert part.data == whole
    assert end == Line(Unit.END)
