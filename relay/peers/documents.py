"""BSON documents as Halibut writes them, and the data stream references inside (wire.md 4, 5.1)."""

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import bson
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.int64 import Int64

from relay.halibut.lines import DATA_STREAM_TYPE
from relay.peers.errors import PeerError
from relay.peers.streams import RECORD, DataStream

TYPE = "$type"
Holder = dict[str, object] | list[object]
_ID_BYTES = 16
_SMALLEST_END = 64
_LONGEST = 10**9
_OPTIONS: CodecOptions[dict[str, object]] = CodecOptions(
    document_class=dict,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A data stream reference found in a document.

    id: 16 bytes as on the wire; length in bytes; typed: it names its type; holder and key: ``holder[key]`` is the reference.
    """

    id: bytes
    length: int
    typed: bool
    holder: Holder
    key: str | int

    def replace(self, value: object) -> None:
        """Put value where the reference stands."""
        if isinstance(self.holder, dict):
            assert isinstance(self.key, str)
            self.holder[self.key] = value
        else:
            assert isinstance(self.key, int)
            self.holder[self.key] = value


def decode(data: bytes) -> dict[str, object]:
    """One BSON document. Raises PeerError where it is not one, or not in the one form that a writer gives it."""
    if len(data) < 5 or struct.unpack_from("<i", data)[0] != len(data):
        raise PeerError("an envelope holds exactly one document", "4.1", data)
    try:
        document = bson.decode(data, _OPTIONS)
        again = bson.encode(document, codec_options=_OPTIONS)
    except (bson.errors.BSONError, RecursionError, ValueError, OverflowError, TypeError) as error:
        raise PeerError(f"a document that cannot be read ({error})", "4.1", data) from error
    if again != data:
        raise PeerError("a document with doubled names, or not in the usual form", "5.5", data)
    return document


def encode(document: dict[str, object]) -> bytes:
    """The document as BSON."""
    return bson.encode(document, codec_options=_OPTIONS)


def deflate(data: bytes) -> bytes:
    """One envelope: raw deflate, level 6 (wire.md 4.1)."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def records(envelope: bytes) -> list[bytes]:
    """The envelope cut into records. The last one is never so short that the document could end before it (wire.md 2.7 c)."""
    cuts = [*range(0, len(envelope), RECORD), len(envelope)]
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < _SMALLEST_END:
        cuts[-2] -= _SMALLEST_END
    return [envelope[start:end] for start, end in pairwise(cuts)]


def guid(value: uuid.UUID) -> Binary:
    """A GUID as Halibut writes it: subtype 4, although in .NET byte order (wire.md 4.4)."""
    return Binary(value.bytes_le, UUID_SUBTYPE)


def timespan(seconds: float) -> str:
    """A .NET TimeSpan: ``hh:mm:ss``, with days and parts of a second where there are any."""
    ticks = round(seconds * 10_000_000)
    whole, part = divmod(ticks, 10_000_000)
    days, rest = divmod(whole, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return (f"{days}." if days else "") + text + (f".{part:07}" if part else "")


def seconds(text: str) -> float:
    """The seconds of a .NET TimeSpan. Raises ValueError where text is none, or is negative."""
    clock = text.split(":")
    if len(clock) != 3:
        raise ValueError(f"a TimeSpan reads hh:mm:ss, not {text!r}")
    days, _, hours = clock[0].rpartition(".")
    value = int(days or 0) * 86400 + int(hours) * 3600 + int(clock[1]) * 60 + float(clock[2])
    if not 0 <= value < _LONGEST:
        raise ValueError(f"a wait is not negative and ends within {_LONGEST} s, unlike {text!r}")
    return value


def reference(stream: DataStream, *, typed: bool) -> dict[str, object]:
    """What stands for a stream in a document; typed: its slot is declared as object (wire.md 5.1)."""
    form: dict[str, object] = {"id": Binary(stream.id, UUID_SUBTYPE), "length": Int64(stream.length)}
    return {TYPE: DATA_STREAM_TYPE, **form} if typed else form


def with_references(value: object, streams: list[DataStream], *, typed: bool) -> object:
    """A copy of value with references for its DataStreams, which are added to streams in order of appearance.

    typed is for value itself: an element of ``params`` and a ``result`` are object slots, whatever lies deeper is not.
    """
    if isinstance(value, DataStream):
        streams.append(value)
        return reference(value, typed=typed)
    if isinstance(value, dict):
        return {name: with_references(item, streams, typed=False) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_references(item, streams, typed=False) for item in value]
    return value


def find_references(holder: Holder, key: str | int) -> Iterator[Reference]:
    """Every reference at holder[key] or below, in order of appearance.

    Raises PeerError for one that is not exactly as in wire.md 5.1.
    """
    stack: list[tuple[Holder, str | int]] = [(holder, key)]
    while stack:
        parent, where = stack.pop()
        value = _at(parent, where)
        if isinstance(value, dict):
            found = _reference(parent, where, value)
            if found is not None:
                yield found
            else:
                stack.extend((value, name) for name in reversed(value))
        elif isinstance(value, list):
            stack.extend((value, index) for index in reversed(range(len(value))))


def _at(holder: Holder, key: str | int) -> object:
    if isinstance(holder, dict):
        assert isinstance(key, str)
        return holder[key]
    assert isinstance(key, int)
    return holder[key]


def _reference(holder: Holder, key: str | int, value: dict[str, object]) -> Reference | None:
    named = value.get(TYPE) == DATA_STREAM_TYPE
    names = [name for name in value if name != TYPE]
    id_, length = value.get("id"), value.get("length")
    fits = (
        isinstance(id_, Binary)
        and id_.subtype == UUID_SUBTYPE
        and len(id_) == _ID_BYTES
        and isinstance(length, Int64)
        and length >= 0
    )
    if not named and not (set(names) == {"id", "length"} and fits):
        return None
    wanted = [TYPE, "id", "length"] if named else ["id", "length"]
    if list(value) != wanted or not fits or not isinstance(id_, Binary) or not isinstance(length, Int64):
        raise PeerError(f"a data stream reference with the members {list(value)}", "5.1")
    if id_[7] & 0xF0 != 0x40 or id_[8] & 0xC0 != 0x80:
        raise PeerError("a data stream's id is not a version-4 GUID", "5.5", bytes(id_))
    return Reference(bytes(id_), int(length), named, holder, key)
