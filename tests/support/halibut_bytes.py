"""Bytes of the protocol for tests: documents, envelopes, frames, and connections brought into a state."""

import itertools
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import bson
from bson.binary import Binary
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from hypothesis import settings

from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.document import DocumentWalk
from relay.halibut.envelope import EnvelopeReader
from relay.halibut.errors import EnvelopeError, SmugglingError
from relay.halibut.events import Event, Line, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message, Reference
from relay.halibut.roles import Role, Side, State, Style

LIMITS: Final = Limits()
SUBSCRIPTION: Final = "poll://sq-tentapoll/"


def bounded(examples: int) -> settings:
    """A fixed budget: the same examples in every run."""
    return settings(max_examples=examples, deadline=None, database=None, derandomize=True)


# ---- documents ----------------------------------------------------------------------------------------------------------


def guid(number: int) -> bytes:
    """A version-4 GUID in .NET order."""
    return uuid.UUID(int=number << 80 | number, version=4).bytes_le


def reference(id_: bytes, length: int, typed: bool = False) -> dict[str, Any]:
    """A data stream reference (wire.md 5.1), as bson encodes it."""
    head = {"$type": lines.DATA_STREAM_TYPE} if typed else {}
    return {**head, "id": Binary(id_, 4), "length": Int64(length)}


def request(params: Any = (), **members: Any) -> dict[str, Any]:
    """The document of a request; members replace or follow those that it has."""
    message = {
        "$type": lines.REQUEST_TYPE,
        "id": "IScriptService::StartScript[1] / 8a4b1c9e-0000-4000-8000-000000000001",
        "activityId": Binary(guid(1), 4),
        "endpoint": {"BaseUri": "https://web01:10933/", "Proxy": None},
        "service": "IScriptService",
        "method": "StartScript",
        "params": list(params) if isinstance(params, tuple) else params,
    }
    return {"Message": {**message, **members}}


def response(result: Any = None, **members: Any) -> dict[str, Any]:
    """The document of a response."""
    return {"Message": {"$type": lines.RESPONSE_TYPE, "id": "call 1", "error": None, "result": result, **members}}


def element(type_: int, name: str | bytes, value: bytes = b"") -> bytes:
    """One BSON element, from its raw value."""
    return bytes([type_]) + (name.encode() if isinstance(name, str) else name) + b"\0" + value


def string(text: str | bytes) -> bytes:
    """A BSON string's value."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<i", len(data) + 1) + data + b"\0"


def binary(data: bytes, subtype: int = 0) -> bytes:
    """A BSON binary's value."""
    return struct.pack("<iB", len(data), subtype) + data


def document(*elements: bytes) -> bytes:
    """A BSON document, or a value of that type."""
    body = b"".join(elements)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def raw_reference(id_: bytes = guid(7), length: int = 5) -> bytes:
    """A reference as a BSON document."""
    return document(element(5, "id", binary(id_, 4)), element(18, "length", struct.pack("<q", length)))


def raw_members(kind: Kind, replaced: Mapping[str, bytes] | None = None) -> list[bytes]:
    """The elements of a whole Message; replaced: other elements in the place of some, b"" for none."""
    if kind is Kind.REQUEST:
        found = {
            "$type": element(2, "$type", string(lines.REQUEST_TYPE)),
            "id": element(2, "id", string("call 1")),
            "activityId": element(5, "activityId", binary(guid(1), 4)),
            "endpoint": element(3, "endpoint", document()),
            "service": element(2, "service", string("IScriptService")),
            "method": element(2, "method", string("StartScript")),
            "params": element(4, "params", document()),
        }
    else:
        found = {
            "$type": element(2, "$type", string(lines.RESPONSE_TYPE)),
            "id": element(2, "id", string("call 1")),
            "error": element(10, "error"),
            "result": element(10, "result"),
        }
    return list({**found, **(replaced or {})}.values())


def raw(kind: Kind, *more: bytes, **replaced: bytes) -> bytes:
    """A document around the members of a whole Message, and more of them behind."""
    return document(element(3, "Message", document(*raw_members(kind, replaced), *more)))


def raw_request(*more: bytes, **replaced: bytes) -> bytes:
    return raw(Kind.REQUEST, *more, **replaced)


def raw_response(*more: bytes, **replaced: bytes) -> bytes:
    return raw(Kind.RESPONSE, *more, **replaced)


# ---- what bson says of them ---------------------------------------------------------------------------------------------

_LENIENT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(unicode_decode_error_handler="replace")


def is_reference(value: Any) -> bool:
    """wire.md 5.1, of a decoded value."""
    if not isinstance(value, dict):
        return False
    names = list(value)
    if names[:1] == ["$type"]:
        if type(value["$type"]) is not str or value["$type"] != lines.DATA_STREAM_TYPE:
            return False
        del names[0]
    if sorted(names) != ["id", "length"]:
        return False
    id_, length = value["id"], value["length"]
    return isinstance(id_, Binary) and id_.subtype == 4 and len(id_) == 16 and isinstance(length, Int64)


def _references(value: Any, payload: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each reference in the order in which it ends, and whether it stands in the payload."""
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(child, payload)
    if is_reference(value):
        yield value, payload


def decoded(kind: Kind, data: bytes) -> Message:
    """What a full decode by bson says of a valid document. Raises what the codec has to raise for its references."""
    root = bson.decode(data, _LENIENT)
    assert list(root) == ["Message"]
    message = root["Message"]
    if message is None:
        return Message(Kind.NULL)
    payload = "params" if kind is Kind.REQUEST else "result"
    known = {"$type", "id", "activityId", "endpoint", "service", "method", "params"}
    known = known if kind is Kind.REQUEST else {"$type", "id", "error", "result"}
    streams = []
    for name, value in message.items():
        for found, inside in _references(value, name == payload):
            id_, length = bytes(found["id"]), int(found["length"])
            if length < 0:
                raise EnvelopeError("negative", "5.1")
            if not inside or id_[7] >> 4 != 4 or id_[8] >> 6 != 2 or id_.lstrip(b"\r\n")[:5] in (b"NEXT\r", b"NEXT\n"):
                raise SmugglingError("a reference", "5.5")
            streams.append(Reference(id_, length))
    activity = message.get("activityId") if kind is Kind.REQUEST else None
    return Message(
        kind,
        message["id"],
        None if activity is None else bytes(activity),
        message.get("service", "") if kind is Kind.REQUEST else "",
        message.get("method", "") if kind is Kind.REQUEST else "",
        kind is Kind.RESPONSE and message.get("error") is not None,
        tuple(streams),
        tuple(name for name in message if name not in known),
    )


# ---- envelopes and frames -----------------------------------------------------------------------------------------------


def deflated(data: bytes | Mapping[str, Any], level: int = 6) -> bytes:
    """An envelope around a document."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data if isinstance(data, bytes) else bson.encode(data)) + deflate.flush()


def stored(data: bytes, final: bool = True) -> bytes:
    """A deflate block that is not compressed; it starts and ends at whole bytes."""
    return struct.pack("<BHH", final, len(data), len(data) ^ 0xFFFF) + data


def frame(id_: bytes, body: bytes, first: int | None = None, closing: int | None = None) -> bytes:
    """A data stream's frame; first, closing: other lengths than the body's."""
    first = len(body) if first is None else first
    return id_ + struct.pack("<q", first) + body + struct.pack("<q", first if closing is None else closing)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data, cut at these offsets; none of the pieces is empty."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


def single(data: bytes) -> list[bytes]:
    """The data byte by byte."""
    return pieces(data, range(len(data)))


def walked(kind: Kind, data: bytes, cuts: Iterable[int] = (), limits: Limits = LIMITS) -> Message:
    """What the walk says of a document that came in these pieces."""
    walk = DocumentWalk(kind, limits)
    walk.start(data[:4])
    for piece in pieces(data[4:], cuts):
        walk.feed(piece)
    return walk.message()


def envelope_read(kind: Kind, chunks: Sequence[bytes], limits: Limits = LIMITS) -> Message | None:
    """What an envelope says that came in these pieces, and nothing behind it; None: more of it is due."""
    reader = EnvelopeReader(kind, limits)
    for chunk in chunks:
        assert not reader.complete, "an envelope ended early"
        assert reader.feed(chunk) == len(chunk)
    return reader.message


# ---- connections --------------------------------------------------------------------------------------------------------

IDENTITY: Final = {Style.LISTENING: Unit.CLIENT_IDENTITY, Style.POLLING: Unit.SUBSCRIBER_IDENTITY}
LINES: Final = {
    Unit.PREAMBLE: lines.PREAMBLE,
    Unit.CLIENT_IDENTITY: lines.CLIENT_IDENTITY,
    Unit.SUBSCRIBER_IDENTITY: lines.subscriber_identity(SUBSCRIPTION),
    Unit.SERVER_IDENTITY: lines.SERVER_IDENTITY,
    Unit.NEXT: lines.NEXT,
    Unit.PROCEED: lines.PROCEED,
    Unit.END: lines.END,
}
REQUEST: Final = deflated(request())
RESPONSE: Final = deflated(response())


def connection(role: Role, limits: Limits = LIMITS) -> Connection:
    return Connection(role, limits, SUBSCRIPTION)


def script(style: Style) -> list[tuple[State, Side, Unit, bytes]]:
    """One call, step by step: what is due, who sends it, and its bytes."""
    client, service = (Side.DIALLER, Side.LISTENER) if style is Style.LISTENING else (Side.LISTENER, Side.DIALLER)
    steps = [
        (State.PREAMBLE, Side.DIALLER, Unit.PREAMBLE),
        (State.IDENTITY, Side.DIALLER, IDENTITY[style]),
        (State.ANSWER, Side.LISTENER, Unit.SERVER_IDENTITY),
    ]
    call = [(State.REQUEST, client, Unit.ENVELOPE, REQUEST), (State.REPLY, service, Unit.ENVELOPE, RESPONSE)]
    turn = [(State.TURN, Side.DIALLER, Unit.NEXT), (State.PROCEED, Side.LISTENER, Unit.PROCEED)]
    return [(*step, LINES[step[2]]) for step in steps] + call + [(*step, LINES[step[2]]) for step in turn]


def received(kind: Kind, chunks: Sequence[bytes], limits: Limits = LIMITS) -> Message | None:
    """What a connection makes of an envelope that comes in these pieces, with nothing behind it; None: more of it is due."""
    polling = {Kind.REQUEST: (Role.DIALLING_SERVICE, State.REQUEST), Kind.RESPONSE: (Role.LISTENING_CLIENT, State.REPLY)}
    role, due = polling[kind]
    us = connection(role, limits)
    us.state = due
    events = fed(us, chunks)
    assert all(isinstance(event, Part) and event.unit is Unit.ENVELOPE for event in events)
    assert b"".join(event.data for event in events if isinstance(event, Part)) == b"".join(chunks)
    said = [event.message for event in events if isinstance(event, Part) and event.message]
    return said[0] if said else None


def fed(us: Connection, chunks: Iterable[bytes]) -> list[Event]:
    """What it says to all of them."""
    return [event for chunk in chunks for event in us.receive_data(chunk)]


def verdict(kind: Kind, data: bytes, limits: Limits = LIMITS) -> Message | type[EnvelopeError]:
    """One verdict, whatever the pieces of the envelope; EnvelopeError or SmugglingError itself, where it is refused."""
    found: list[Any] = []
    for level in (6, 0):  # stored, its bytes come one by one
        envelope = deflated(data, level)
        for chunks in ([envelope], single(envelope), pieces(envelope, range(0, len(envelope), 7))):
            for read in (envelope_read, received):
                try:
                    found.append(read(kind, chunks, limits))
                except EnvelopeError as error:
                    found.append(type(error))
    assert all(said == found[0] for said in found), found
    assert found[0] is not None
    said: Message | type[EnvelopeError] = found[0]
    return said


def in_pieces(kind: Kind, data: bytes, limits: Limits = LIMITS) -> Message | type[EnvelopeError]:
    """What the walk says that never has a container whole."""
    try:
        return walked(kind, data, range(len(data)), limits)
    except EnvelopeError as error:
        return type(error)


def refused(kind: Kind, data: bytes, error: type[EnvelopeError], limits: Limits = LIMITS) -> None:
    """By the envelope, and by the walk that goes step by step."""
    assert verdict(kind, data, limits) is error
    assert in_pieces(kind, data, limits) is error


def ours(us: Connection, unit: Unit, data: bytes) -> None:
    """We send a whole unit."""
    if unit is Unit.ENVELOPE:
        reader = EnvelopeReader(Kind.RESPONSE if data == RESPONSE else Kind.REQUEST, LIMITS)
        reader.feed(data)
        us.forward(Part(Unit.ENVELOPE, data, reader.message, last=True))
    else:
        assert us.send(unit) == data


def brought(role: Role, state: State, limits: Limits = LIMITS) -> Connection:
    """A connection in this role, after an ordinary conversation up to this state."""
    us = connection(role, limits)
    for due, side, unit, data in script(role.style):
        if us.state is state:
            return us
        assert us.state is due
        if side is role.side:
            ours(us, unit, data)
        else:
            [event] = us.receive_data(data)
            assert event.unit is unit  # type: ignore[union-attr] # NotHalibut has none, and fails here as it should
    if state is State.ENDED:  # after PROCEED a request is due: the dialler gives up
        if role.side is Side.DIALLER:
            us.send(Unit.END)
        else:
            assert us.receive_data(lines.END) == [Line(Unit.END)]
    assert us.state is state
    return us


def merged(events: Iterable[Event]) -> list[tuple[Unit | None, bytes]]:
    """The units of these events, Parts of one unit put together; None for NotHalibut."""
    found: list[tuple[Unit | None, bytes]] = []
    for event in events:
        if not isinstance(event, Part):
            found.append((event.unit if isinstance(event, Line) else None, b""))
        elif found and found[-1][0] is event.unit:
            found[-1] = (event.unit, found[-1][1] + event.data)
        else:
            found.append((event.unit, event.data))
    return found
