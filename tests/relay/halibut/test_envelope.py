"""Where an envelope ends, what it may hold beside its document, and what it costs to find out."""

import itertools
import random
import struct
import tracemalloc
import zlib
from collections.abc import Iterator

import bson
import pytest
from halibut_bytes import (
    LIMITS,
    REQUEST,
    binary,
    bounded,
    deflated,
    element,
    envelope_read,
    pieces,
    raw_members,
    raw_reference,
    raw_request,
    request,
    single,
    stored,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut import lines
from relay.halibut.envelope import TRAILER, EnvelopeReader
from relay.halibut.errors import EnvelopeError
from relay.halibut.limits import MIB, Limits
from relay.halibut.message import Kind, Message

DOCUMENT = bson.encode(request([{"a": "text " * 40}]))
EMPTY_STORED = b"\x00\x00\x00\xff\xff"  # at a whole byte
FINAL = b"\x03\x00"  # a final block of nothing


def sync_flushed(data: bytes = DOCUMENT) -> bytes:
    """A deflate stream without its end, at a whole byte."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)


def fixed_nothing(count: int) -> bytes:
    """So many blocks with fixed codes and nothing in them but their end, ten bits each, and a final one."""
    bits = "0100000000" * count + "1100000000"
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def fails(*chunks: bytes, limits: Limits = LIMITS) -> str:
    """What the reader says against them, once it says the same byte by byte."""
    with pytest.raises(EnvelopeError) as whole:
        envelope_read(Kind.REQUEST, chunks, limits)
    with pytest.raises(EnvelopeError) as bytewise:
        envelope_read(Kind.REQUEST, single(b"".join(chunks)), limits)
    assert type(whole.value) is type(bytewise.value) is EnvelopeError
    assert whole.value.args[0].partition(":")[0] == bytewise.value.args[0].partition(":")[0]
    return str(whole.value)


@bounded(100)
@given(st.binary(min_size=1, max_size=40), st.sampled_from([0, 1, 6, 9]), st.lists(st.integers(1, 500), max_size=5))
def test_it_ends_where_deflate_ends_whatever_follows(behind: bytes, level: int, cuts: list[int]) -> None:
    envelope = deflated(DOCUMENT, level)
    reader, taken = EnvelopeReader(Kind.REQUEST, LIMITS), 0
    for chunk in pieces(envelope + behind, cuts):
        if reader.complete:
            break
        taken += reader.feed(chunk)
    assert taken == len(envelope)
    assert reader.complete
    assert isinstance(reader.message, Message)


def test_the_last_byte_is_waited_for() -> None:
    assert envelope_read(Kind.REQUEST, [REQUEST[:-1]]) is None
    assert envelope_read(Kind.REQUEST, [REQUEST[:-1], REQUEST[-1:]]) is not None


def test_an_envelope_by_other_deflaters() -> None:
    """Stored blocks of every size, fixed codes, flushes in the middle."""
    halves = stored(DOCUMENT[:100], final=False) + stored(DOCUMENT[100:])
    fixed = zlib.compressobj(6, zlib.DEFLATED, -15, strategy=zlib.Z_FIXED)
    flushed = zlib.compressobj(6, zlib.DEFLATED, -15)
    for envelope in (
        b"".join(stored(bytes([byte]), final=False) for byte in DOCUMENT[:-1]) + stored(DOCUMENT[-1:]),
        halves,
        fixed.compress(DOCUMENT) + fixed.flush(),
        b"".join(
            flushed.compress(DOCUMENT[at : at + 9]) + flushed.flush(zlib.Z_FULL_FLUSH) for at in range(0, len(DOCUMENT), 9)
        )
        + flushed.flush(),
    ):
        assert envelope_read(Kind.REQUEST, [envelope]) == envelope_read(Kind.REQUEST, single(envelope)) is not None


def test_a_sync_flush_and_a_final_block_in_a_record_of_its_own() -> None:
    """wire.md 12.2: Halibut 2.4.0 to 4.2.8 on .NET Core."""
    assert envelope_read(Kind.REQUEST, [sync_flushed()]) is None
    assert envelope_read(Kind.REQUEST, [sync_flushed(), FINAL]) is not None
    assert envelope_read(Kind.REQUEST, [sync_flushed() + FINAL]) is not None
    assert envelope_read(Kind.REQUEST, single(sync_flushed() + FINAL)) is not None


def test_an_envelope_without_a_final_block_is_waited_for() -> None:
    """wire.md 12.2: Halibut 4.2.9 to 4.3.2 on .NET Core. Its document is whole; whoever keeps the time has to end it."""
    reader = EnvelopeReader(Kind.REQUEST, LIMITS)
    assert reader.feed(sync_flushed()) == len(sync_flushed())
    assert reader.message is None
    assert not reader.complete


def test_null() -> None:
    for chunks in ([lines.NULL_ENVELOPE], single(lines.NULL_ENVELOPE), [deflated({"Message": None}, 0)]):
        assert envelope_read(Kind.REQUEST, chunks) == Message(Kind.NULL)


# ---- what does not end with its document --------------------------------------------------------------------------------


def test_no_deflate() -> None:
    assert "is not deflated" in fails(b"\xff" * 64)
    assert "is not deflated" in fails(b"NEXT\r\n")
    assert "is not deflated" in fails(REQUEST[:40] + b"\xff" * 400)
    assert "is not deflated" in fails(zlib.compress(DOCUMENT))  # with a zlib header
    for byte in range(256):  # END cannot begin an envelope: that is how the two are told apart
        with pytest.raises(EnvelopeError, match="is not deflated"):
            envelope_read(Kind.REQUEST, [lines.END + bytes([byte]) * 40])


def test_deflate_ends_before_the_document() -> None:
    for length in (0, 1, 3, 4, 5, len(DOCUMENT) // 2, len(DOCUMENT) - 1):
        assert "ends before its document" in fails(deflated(DOCUMENT[:length]))


@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize("more", [b"\0", b"x", DOCUMENT, bytes(10_000_000)], ids=["0", "x", "another", "10 MB"])
def test_data_behind_the_document(level: int, more: bytes) -> None:
    with pytest.raises(EnvelopeError, match=r"more than its document|bytes behind a document"):
        envelope_read(Kind.REQUEST, [deflated(DOCUMENT + more, level)])


def test_blocks_of_nothing_behind_the_document() -> None:
    """Old receivers stop at the document's end and take these bytes for the next unit (wire.md 2.7 c)."""
    assert envelope_read(Kind.REQUEST, [sync_flushed() + EMPTY_STORED + FINAL]) is not None
    for count in (3, 4, 100, 2000):
        assert f"more than {TRAILER} bytes behind a document" in fails(sync_flushed() + EMPTY_STORED * count + FINAL)
        with pytest.raises(EnvelopeError, match="bytes behind a document"):  # without an end, too
            envelope_read(Kind.REQUEST, [sync_flushed(), *[EMPTY_STORED] * count])
    for count in (0, 1, 2, 3, 4):
        assert envelope_read(Kind.REQUEST, [sync_flushed() + fixed_nothing(count)]) is not None
    for count in (12, 13, 14, 15, 1000):
        assert f"more than {TRAILER} bytes behind a document" in fails(sync_flushed() + fixed_nothing(count))


def test_code_tables_behind_the_document() -> None:
    """A dynamic block's tables are bytes that inflate to nothing, too, and count."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    tables = deflate.compress(bytes(random.Random(1).choices(range(200), k=4000))) + deflate.flush()
    assert tables[0] & 7 == 5  # final, dynamic
    with pytest.raises(EnvelopeError, match="bytes behind a document"):
        envelope_read(Kind.REQUEST, [sync_flushed(), *single(tables[: TRAILER + 1])])


def test_nothing_at_all_for_ever() -> None:
    with pytest.raises(EnvelopeError, match="inflates to nothing"):
        envelope_read(Kind.REQUEST, [EMPTY_STORED * 1000])
    with pytest.raises(EnvelopeError, match="inflates to nothing"):
        envelope_read(Kind.REQUEST, itertools.islice(itertools.repeat(EMPTY_STORED), 1000))  # type: ignore[arg-type] # a lazy list


def test_blocks_of_nothing_inside_the_document() -> None:
    begun = stored(DOCUMENT[:50], final=False)
    assert envelope_read(Kind.REQUEST, [begun + EMPTY_STORED * 100 + stored(DOCUMENT[50:])]) is not None
    with pytest.raises(EnvelopeError, match="far longer than its document"):
        envelope_read(Kind.REQUEST, [begun, *[EMPTY_STORED] * 2000])


# ---- sizes and memory ---------------------------------------------------------------------------------------------------


def zeros(size: int, more: bytes = b"") -> Iterator[bytes]:
    """The envelope of a request with so many zero bytes in a binary, in the pieces that deflate gives: about 1000 to 1."""
    start = more + element(5, "x", struct.pack("<iB", size, 0))
    members = b"".join(raw_members(Kind.REQUEST, {"params": b""})) + b"\x04params\0"
    params = 4 + len(start) + size + 1
    message = 4 + len(members) + params + 1
    head = struct.pack("<i", 4 + 9 + message + 1) + b"\x03Message\0" + struct.pack("<i", message) + members
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield deflate.compress(head + struct.pack("<i", params) + start)
    for _ in range(size // MIB):
        yield deflate.compress(bytes(MIB))
    yield deflate.compress(bytes(size % MIB + 3)) + deflate.flush()


def test_the_cap_is_checked_before_anything_is_inflated() -> None:
    bomb = b"".join(zeros(65 * MIB))
    reader = EnvelopeReader(Kind.REQUEST, Limits(envelope=64 * MIB))
    with pytest.raises(EnvelopeError, match=r"may hold 67108864 bytes \(limits.envelope\)"):
        reader.feed(bomb[:200])
    assert envelope_read(Kind.REQUEST, [bomb], Limits(envelope=66 * MIB)) is not None


@pytest.mark.parametrize("record", [16 * 1024, 1000])
@pytest.mark.parametrize("more", [b"", element(3, "r", raw_reference())], ids=["plain", "with a stream"])
def test_memory_is_bounded_while_a_bomb_goes_off(record: int, more: bytes) -> None:
    bomb = b"".join(zeros(100 * MIB, more))
    assert len(bomb) < 110_000
    reader = EnvelopeReader(Kind.REQUEST, LIMITS)
    tracemalloc.start()
    try:
        for chunk in pieces(bomb, range(0, len(bomb), record)):
            assert reader.feed(chunk) == len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.message is not None
    assert len(reader.message.streams) == bool(more)
    assert peak < 400 * 1024


def test_a_bomb_that_says_less_than_it_holds() -> None:
    bomb = deflated(raw_request() + bytes(20 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(EnvelopeError, match="more than its document"):
            envelope_read(Kind.REQUEST, [bomb])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * 1024


@bounded(40)
@given(st.integers(64 * 1024 - 40, 64 * 1024 + 40), st.sampled_from([0, 6]), st.lists(st.integers(1, 66_000), max_size=4))
def test_documents_about_the_size_of_a_block(size: int, level: int, cuts: list[int]) -> None:
    fill = size - len(raw_request(params=element(5, "params", binary(b""))))
    data = raw_request(element(5, "later", binary(bytes(fill - 12))))
    envelope = deflated(data, level)
    said = envelope_read(Kind.REQUEST, [envelope])
    assert said is not None
    assert said.unknown == ("later",)
    assert envelope_read(Kind.REQUEST, pieces(envelope, cuts)) == said
