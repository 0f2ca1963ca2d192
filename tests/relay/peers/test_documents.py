import struct
import uuid
import zlib

import bson
import pytest
from bson.binary import Binary
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut.lines import DATA_STREAM_TYPE
from relay.peers import documents
from relay.peers.errors import PeerError
from relay.peers.streams import DataStream

ID = uuid.UUID("8c7b2cb6-ba42-417c-b66f-64935d014afa").bytes_le


def ref(length=5, **changes):
    return {"id": Binary(ID, 4), "length": Int64(length), **changes}


def test_one_document_is_decoded():
    assert documents.decode(bson.encode({"a": Int64(1), "b": [None]})) == {"a": 1, "b": [None]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x00\x00",
        b"\x06\x00\x00\x00\x00",
        b"\x05\x00\x00\x00\x00\x00",
        struct.pack("<i", -1) + b"\x00",
        # a string that is not UTF-8, and one whose length is 2 GiB
        b"\x0f\x00\x00\x00\x02a\x00\x02\x00\x00\x00\xff\x00\x00",
        b"\x0f\x00\x00\x00\x02a\x00\xff\xff\xff\x7fa\x00\x00",
    ],
)
def test_anything_but_one_document_is_refused(data):
    with pytest.raises(PeerError, match=r"wire.md 4\.1"):
        documents.decode(data)


def test_a_doubled_name_is_refused():
    data = bson.encode({"a": 1, "b": 2}).replace(b"\x10b\x00", b"\x10a\x00")
    with pytest.raises(PeerError, match="doubled names"):
        documents.decode(data)


def test_a_document_nested_too_deeply_is_refused_and_nothing_else_is_raised():
    data = b"\x05\x00\x00\x00\x00"
    for _ in range(20000):
        data = struct.pack("<i", len(data) + 8) + b"\x03a\x00" + data + b"\x00"
    with pytest.raises(PeerError):
        documents.decode(data)


@given(st.binary(min_size=0, max_size=200))
def test_no_bytes_raise_anything_but_peer_error(data):
    framed = struct.pack("<i", len(data) + 5) + data + b"\x00"
    try:
        documents.decode(framed)
    except PeerError:
        return
    assert bson.decode(framed) is not None


def test_deflate_is_raw_and_ends_with_its_document():
    inflater = zlib.decompressobj(-15)
    assert inflater.decompress(documents.deflate(b"x" * 100000)) == b"x" * 100000
    assert inflater.eof
    assert inflater.unused_data == b""


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 16384 + 63, 16384 + 64, 40000, 3 * 16384 + 1])
def test_records_never_end_in_a_crumb(size):
    envelope = bytes(range(256)) * (size // 256 + 1)
    records = documents.records(envelope[:size])
    assert b"".join(records) == envelope[:size]
    assert max(map(len, records)) <= 16384
    assert len(records) == 1 or len(records[-1]) >= 64


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (5, "00:00:05"), (300, "00:05:00"), (90061.5, "1.01:01:01.5000000"), (86400, "1.00:00:00")],
)
def test_timespans_both_ways(seconds, text):
    assert documents.timespan(seconds) == text
    assert documents.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "00:00", "a:b:c", "00:00:nan", "00:00:inf", "-1.00:00:00", "99999999.00:00:00"])
def test_what_is_no_timespan_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        documents.seconds(text)


def test_guids_are_in_dotnet_byte_order():
    value = documents.guid(uuid.UUID("8c7b2cb6-ba42-417c-b66f-64935d014afa"))
    assert bytes(value).hex() == "b62c7b8c42ba7c41b66f64935d014afa"
    assert value.subtype == 4


def test_a_stream_names_its_type_in_an_object_slot_only():
    stream = DataStream.of_bytes(b"hello")
    streams = []
    there = documents.with_references([stream, {"deep": {"Contents": stream}}], streams, typed=False)
    assert list(there[0]) == ["id", "length"]
    assert list(documents.with_references(stream, streams, typed=True)) == ["$type", "id", "length"]
    assert there[1]["deep"]["Contents"] == {"id": Binary(stream.id, 4), "length": Int64(5)}
    assert streams == [stream] * 3


def test_references_are_found_in_order_and_can_be_replaced():
    other = uuid.uuid4().bytes_le
    root = {"params": ["x", {"$type": DATA_STREAM_TYPE, **ref(1)}, {"Files": [{"Contents": ref(2, id=Binary(other, 4))}]}]}
    found = list(documents.find_references(root, "params"))
    assert [(reference.id, reference.length, reference.typed) for reference in found] == [(ID, 1, True), (other, 2, False)]
    for number, reference in enumerate(found):
        reference.replace(number)
    assert root == {"params": ["x", 0, {"Files": [{"Contents": 1}]}]}


@pytest.mark.parametrize(
    "value",
    [
        {"id": Binary(ID, 4), "length": 5},
        {"id": Binary(ID, 0), "length": Int64(5)},
        {"id": Binary(ID[:15], 4), "length": Int64(5)},
        {"id": Binary(ID, 4), "length": Int64(-1)},
        {"id": "x", "length": Int64(5)},
        {**ref(), "more": 1},
        {"Id": Binary(ID, 4), "Length": Int64(5)},
        Binary(bson.encode(ref()), 0),
        bson.encode(ref()).hex(),
    ],
)
def test_what_only_resembles_a_reference_is_none(value):
    assert list(documents.find_references({"params": [value]}, "params")) == []


@pytest.mark.parametrize(
    "value",
    [
        {"length": Int64(5), "id": Binary(ID, 4)},
        {"id": Binary(ID, 4), "length": Int64(5), "$type": DATA_STREAM_TYPE},
        {"$type": DATA_STREAM_TYPE, "id": Binary(ID, 4), "length": 5},
        {"$type": DATA_STREAM_TYPE, "id": Binary(ID, 4)},
        {"$type": DATA_STREAM_TYPE, **ref(), "more": 1},
    ],
)
def test_a_malformed_reference_is_refused(value):
    with pytest.raises(PeerError, match=r"wire.md 5\.1"):
        list(documents.find_references({"params": [value]}, "params"))


def test_an_id_that_is_no_version_4_guid_is_refused():
    with pytest.raises(PeerError, match=r"wire.md 5\.5"):
        list(documents.find_references({"params": [ref(id=Binary(b"NEXT\r\n" + bytes(10), 4))]}, "params"))
