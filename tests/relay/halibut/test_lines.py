"""The words of the protocol are those of the recordings."""

import zlib
from contextlib import suppress

import bson
from halibut_bytes import string
from recordings import CAPTURES, conversations, records

from relay.halibut import lines


def recorded() -> set[bytes]:
    return {record.data for path in conversations() for record in records(path)}


def test_each_line_was_recorded() -> None:
    found = recorded()
    for line in (lines.CLIENT_IDENTITY, lines.SERVER_IDENTITY, lines.NEXT, lines.PROCEED, lines.END, lines.NULL_ENVELOPE):
        assert line in found
    assert lines.subscriber_identity("poll://sq-tentapoll/") in found
    assert lines.PREAMBLE in {record.data for path in CAPTURES.glob("odd-*/*.jsonl") for record in records(path)}


def test_each_type_name_was_recorded() -> None:
    documents = b""
    for record in records(CAPTURES / "listening-upload-200k-head" / "conn-1.jsonl"):
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        with suppress(zlib.error):
            documents += inflate.decompress(record.data)
    for name in (lines.REQUEST_TYPE, lines.RESPONSE_TYPE, lines.DATA_STREAM_TYPE):
        assert string(name) in documents


def test_the_null_envelope_is_one() -> None:
    assert bson.decode(zlib.decompress(lines.NULL_ENVELOPE, -15)) == {"Message": None}
