"""The walk over a document agrees with a full decode by bson, in whatever pieces the document comes."""

import datetime as dt
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from halibut_bytes import (
    LIMITS,
    binary,
    bounded,
    decoded,
    deflated,
    document,
    element,
    envelope_read,
    guid,
    pieces,
    raw_reference,
    raw_request,
    raw_response,
    received,
    reference,
    request,
    response,
    single,
    string,
    walked,
)  # fmt: skip
from hypothesis import example, given, target
from hypothesis import strategies as st

from relay.halibut.document import REFERENCE_START, DocumentWalk
from relay.halibut.errors import EnvelopeError
from relay.halibut.limits import Limits
from relay.halibut.lines import DATA_STREAM_TYPE
from relay.halibut.message import Kind, Message, Reference

PLACEHOLDER = "?a reference goes here, which cannot be text.?"
assert len(PLACEHOLDER) == len(raw_reference())

lengths = st.integers(0, 1 << 62)
ids = st.integers(1, 4).map(guid)
names = st.one_of(
    st.sampled_from(["id", "length", "$type", "Id", "LENGTH", "Message", "params", "a"]),
    st.text(st.characters(exclude_characters="\0$", exclude_categories=["Cs"]), max_size=6),
)
blobs = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([REFERENCE_START, raw_reference(), raw_reference()[:-1], b"\x12length\0" + bytes(8)]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 31), (1 << 31) - 1),
    lengths.map(Int64),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([REFERENCE_START.decode(), REFERENCE_START.decode() * 2, PLACEHOLDER, DATA_STREAM_TYPE]),
    blobs,
    st.builds(Binary, blobs, st.sampled_from([0, 1, 2, 3, 4, 5, 128])),
    st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1)),
    st.just(ObjectId(b"twelve bytes")),
    st.builds(Regex, st.sampled_from(["", "^a.*", "id"]), st.sampled_from(["", "i"])),
    st.builds(Code, st.sampled_from(["", "f()", REFERENCE_START.decode()])),
    st.builds(Timestamp, st.integers(0, 1 << 30), st.integers(0, 9)),
    st.just(Decimal128("1.5")),
    st.sampled_from([MinKey(), MaxKey()]),
)
references = st.builds(reference, ids, lengths, st.booleans())


@st.composite
def near_misses(draw: st.DrawFn) -> Any:
    """What is almost a reference and is none (wire.md 5.1)."""
    id_, length = Binary(draw(ids), 4), Int64(draw(lengths))
    right: dict[str, Any] = {"id": id_, "length": length}
    return draw(
        st.sampled_from(
            [
                {"Id": id_, "length": length},
                {"id": id_, "LENGTH": length},
                {"id": id_, "length": 5},
                {"id": id_, "length": 5.0},
                {"id": id_, "length": None},
                {"id": Binary(id_, 3), "length": length},
                {"id": Binary(id_, 0), "length": length},
                {"id": Binary(id_[:15], 4), "length": length},
                {"id": Binary(bytes(id_) + b"\0", 4), "length": length},
                {"id": str(guid(1)), "length": length},
                {"id": id_},
                {"length": length},
                {**right, "more": 1},
                {"more": 1, **right},
                {"id": id_, "more": {}, "length": length},
                {**right, "$type": DATA_STREAM_TYPE},
                {"id": id_, "$type": DATA_STREAM_TYPE, "length": length},
                {"$type": DATA_STREAM_TYPE.lower(), **right},
                {"$type": DATA_STREAM_TYPE + " ", **right},
                {"$type": DATA_STREAM_TYPE[:-1], **right},
                {"$type": None, **right},
                {"$type": Code(DATA_STREAM_TYPE), **right},
                {"$Type": DATA_STREAM_TYPE, **right},
                [id_, length],
                {"id": right, "length": length},
                {"id": id_, "length": right},
                {"length": length, "id": id_},  # this one is one: order does not matter
            ]
        )
    )


leaves = st.one_of(scalars, scalars, references, near_misses())
values = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)), max_leaves=12
)
plain_values = st.recursive(scalars, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6)
unknown = st.dictionaries(st.sampled_from(["deadline", "Priority", "x" * 200, "é"]), plain_values, max_size=2)


def encoded(root: dict[str, Any]) -> bytes:
    return bson.encode(root).replace(PLACEHOLDER.encode(), raw_reference())


@st.composite
def requests(draw: st.DrawFn, payload: Any = values, elsewhere: Any = plain_values) -> tuple[Kind, bytes]:
    """A request, its members in any order, some of them left out, others added."""
    root = request(draw(st.one_of(st.none(), st.lists(payload, max_size=4))), **draw(unknown))
    message = root["Message"]
    message["endpoint"] = draw(st.one_of(st.none(), st.dictionaries(names, elsewhere, max_size=3)))
    message["service"] = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
    for name in draw(st.sets(st.sampled_from(["activityId", "endpoint"]))):
        del message[name]
    order = draw(st.permutations(list(message)))
    return Kind.REQUEST, encoded({"Message": {name: message[name] for name in order}})


@st.composite
def responses(draw: st.DrawFn, payload: Any = values, elsewhere: Any = plain_values) -> tuple[Kind, bytes]:
    root = response(draw(payload), **draw(unknown))
    message = root["Message"]
    message["error"] = draw(st.one_of(st.none(), st.dictionaries(names, elsewhere, max_size=3)))
    order = draw(st.permutations(list(message)))
    return Kind.RESPONSE, encoded({"Message": {name: message[name] for name in order}})


def outcome(judge: Any, *arguments: Any) -> Message | type[Exception]:
    """What it says, or the class of what it raises."""
    try:
        said: Message = judge(*arguments)
    except EnvelopeError as error:
        return type(error)
    return said


def agree(kind: Kind, data: bytes, cuts: list[int]) -> Message | type[Exception]:
    """What bson makes of it, after the walk has said the same: in one piece, byte by byte, in these pieces, as an envelope."""
    expected = outcome(decoded, kind, data)
    assert outcome(walked, kind, data) == expected
    assert outcome(walked, kind, data, range(len(data))) == expected
    assert outcome(walked, kind, data, cuts) == expected
    envelope = deflated(data)
    assert outcome(envelope_read, kind, [envelope]) == expected
    assert outcome(envelope_read, kind, pieces(envelope, cuts)) == expected
    assert outcome(received, kind, [envelope]) == expected
    return expected


cut_lists = st.lists(st.integers(1, 2000), max_size=8)


@bounded(250)
@given(requests(), cut_lists)
def test_requests(made: tuple[Kind, bytes], cuts: list[int]) -> None:
    said = agree(*made, cuts)
    assert isinstance(said, Message)
    target(len(said.streams))


@bounded(150)
@given(responses(), cut_lists)
def test_responses(made: tuple[Kind, bytes], cuts: list[int]) -> None:
    assert isinstance(agree(*made, cuts), Message)


@bounded(150)
@given(st.one_of(requests(elsewhere=values), responses(elsewhere=values)), cut_lists)
def test_references_where_they_do_not_belong(made: tuple[Kind, bytes], cuts: list[int]) -> None:
    agree(*made, cuts)


@bounded(150)
@given(
    st.lists(st.one_of(scalars, near_misses()), max_size=4),
    st.binary(min_size=16, max_size=16),
    st.integers(-(1 << 63), (1 << 63) - 1),
    cut_lists,
)
@example([], b"NEXT\r\n" + guid(1)[6:], 5, [])
@example([], guid(1), -1, [])
def test_ids_and_lengths_of_any_kind(around: list[Any], id_: bytes, length: int, cuts: list[int]) -> None:
    agree(Kind.REQUEST, encoded(request([*around, reference(id_, length)])), cuts)


@bounded(60)
@given(st.lists(values, min_size=1, max_size=3), st.integers(60_000, 140_000), st.integers(0, 9), cut_lists)
def test_documents_of_more_than_one_block(params: list[Any], size: int, where: int, cuts: list[int]) -> None:
    params.insert(where, bytes(size))
    data = encoded(request(params))
    expected = outcome(decoded, Kind.REQUEST, data)
    assert outcome(walked, Kind.REQUEST, data, [cut * 37 for cut in cuts]) == expected
    assert outcome(envelope_read, Kind.REQUEST, [deflated(data)]) == expected
    assert outcome(envelope_read, Kind.REQUEST, single(deflated(data))) == expected


@bounded(150)
@given(st.one_of(requests(), responses()), st.data())
def test_damaged_documents_are_never_read_in_two_ways(made: tuple[Kind, bytes], data: st.DataObject) -> None:
    """A byte or two of a document changed: an envelope gets one verdict, whatever the pieces. The walk itself is allowed
    to pass over what is wrong inside a container without references if it has all of it at once; it finds no more there."""
    kind, changed = made[0], bytearray(made[1])
    for _ in range(data.draw(st.integers(1, 2))):
        changed[data.draw(st.integers(4, len(changed) - 1))] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 18, 127, 255]))
    damaged = bytes(changed)
    verdict = outcome(envelope_read, kind, [deflated(damaged)])
    assert outcome(received, kind, [deflated(damaged)]) == verdict
    assert outcome(envelope_read, kind, single(deflated(damaged, 0))) == verdict
    assert outcome(walked, kind, damaged) == verdict
    in_pieces = outcome(walked, kind, damaged, range(len(damaged)))
    assert in_pieces == verdict or (isinstance(in_pieces, type) and issubclass(in_pieces, EnvelopeError))


# ---- single cases -------------------------------------------------------------------------------------------------------


def both(kind: Kind, data: bytes, limits: Limits = LIMITS) -> Message:
    """What the walk says, in one piece and byte by byte."""
    said = walked(kind, data, (), limits)
    assert walked(kind, data, range(len(data)), limits) == said
    return said


def test_header_fields_and_streams() -> None:
    streams = (Reference(guid(3), 0), Reference(guid(2), 1 << 40), Reference(guid(3), 0))
    data = bson.encode(
        request([reference(guid(3), 0), {"a": [reference(guid(2), 1 << 40, True)]}, reference(guid(3), 0, True)])
    )
    assert both(Kind.REQUEST, data) == Message(
        Kind.REQUEST, request()["Message"]["id"], guid(1), "IScriptService", "StartScript", False, streams, ()
    )


def test_a_result_may_itself_be_a_stream() -> None:
    assert both(Kind.RESPONSE, bson.encode(response(reference(guid(2), 7, True)))).streams == (Reference(guid(2), 7),)


def test_an_error_and_unknown_members_are_seen() -> None:
    said = both(Kind.RESPONSE, bson.encode(response(error={"message": "no"}, later={"a": 1}, also=None)))
    assert (said.failed, said.unknown) == (True, ("later", "also"))


def test_null() -> None:
    assert both(Kind.REQUEST, bson.encode({"Message": None})) == Message(Kind.NULL)
    assert both(Kind.RESPONSE, bson.encode({"Message": None})) == Message(Kind.NULL)


def test_what_is_read_may_be_text_of_any_bytes() -> None:
    said = both(Kind.REQUEST, raw_request(service=element(2, "service", string(b"I\xffScript\0Service"))))
    assert said.service == "I\ufffdScript\0Service"


def test_types_that_bson_no_longer_writes() -> None:
    symbol, pointer = element(14, "s", string("s")), element(12, "p", string("db") + bytes(12))
    undefined = element(6, "u")
    params = element(3, "params", document(symbol, pointer, undefined, element(3, "r", raw_reference())))
    assert both(Kind.REQUEST, raw_request(params=params)).streams == (Reference(guid(7), 5),)


@pytest.mark.parametrize("name", ["$type", "id", "service", "method"])
def test_each_text_that_is_read_is_bounded(name: str) -> None:
    limits = Limits(text=100)
    fits = raw_request(**{name: element(2, name, string("x" * 95))})
    if name == "$type":  # it has to be right before it can be too long
        with pytest.raises(EnvelopeError, match="not a request"):
            both(Kind.REQUEST, fits, limits)
    else:
        both(Kind.REQUEST, fits, limits)
    for cuts in ((), range(2000)):
        with pytest.raises(EnvelopeError, match="longer than 100 bytes"):
            walked(Kind.REQUEST, raw_request(**{name: element(2, name, string("x" * 96))}), cuts, limits)


def test_names_are_bounded() -> None:
    limits = Limits(name=20)
    for type_ in (4, 3):
        params = element(type_, "params", document(element(3, "x" * 20, raw_reference())))
        assert len(both(Kind.REQUEST, raw_request(params=params), limits).streams) == 1
        params = element(type_, "params", document(element(3, "x" * 21, raw_reference())))
        for cuts in ((), range(2000)):
            with pytest.raises(EnvelopeError, match="name is longer than 20 bytes"):
                walked(Kind.REQUEST, raw_request(params=params), cuts, limits)


def test_streams_are_counted_and_bounded() -> None:
    limits = Limits(streams=3)
    assert len(both(Kind.REQUEST, bson.encode(request([reference(guid(n), n) for n in (1, 2, 2)])), limits).streams) == 3
    for cuts in ((), range(2000)):
        with pytest.raises(EnvelopeError, match="may have 3 data streams"):
            walked(Kind.REQUEST, bson.encode(request([reference(guid(n), n) for n in (1, 1, 2, 3)])), cuts, limits)


def test_unknown_members_are_bounded() -> None:
    both(Kind.REQUEST, raw_request(*(element(10, f"x{n}") for n in range(64))))
    for cuts in ((), range(2000)):
        with pytest.raises(EnvelopeError, match="more than 64 unknown members"):
            walked(Kind.REQUEST, raw_request(*(element(10, f"x{n}") for n in range(65))), cuts)


@pytest.mark.parametrize("size", [64 * 1024 - 60, 64 * 1024 + 300_000])
def test_what_the_walk_keeps_is_bounded_by_the_limits(size: int) -> None:
    walk = DocumentWalk(Kind.RESPONSE, Limits())
    data = raw_response(
        result=element(3, "result", document(element(5, "x", binary(bytes(size))), element(3, "r", raw_reference())))
    )
    walk.start(data[:4])
    for piece in pieces(data[4:], range(0, len(data), 1000)):
        walk.feed(piece)
        assert len(walk._buffer) <= 1000
    assert walk.message().streams == (Reference(guid(7), 5),)
