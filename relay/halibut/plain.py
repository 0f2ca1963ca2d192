"""What nearly all envelopes are, read fast: whole, small, without data streams, in the order that every version writes.

Nothing is judged here. Whatever differs in the least is left to EnvelopeReader and DocumentWalk, and what is read here is what
they would have read: a test holds the two side by side. One thing is not looked for, how many bytes stand behind the document's
end (envelope.py, rule 2): without a control line among the raw bytes they cannot be taken for anything.
"""

import struct
import zlib
from typing import Final

from relay.halibut.document import REFERENCE_START
from relay.halibut.limits import Limits
from relay.halibut.lines import REQUEST_TYPE, RESPONSE_TYPE
from relay.halibut.message import Kind, Message

# Python 3.11 finds a name of the module for nothing, and a member of an Enum at the price of a call.
_REQUEST, _RESPONSE = Kind.REQUEST, Kind.RESPONSE
_RAW: Final = -zlib.MAX_WBITS  # deflate without a header
_LARGEST: Final = 64 * 1024
_MESSAGE: Final = b"\x03Message\x00"
_LINES: Final = (b"NEXT", b"PROCEED")  # what a receiver may read next: which of them, its own style says, not ours
_ACTIVITY: Final = b"\x05activityId\x00\x10\x00\x00\x00\x04"
_ENDPOINT: Final = b"\x03endpoint\x00"
_SERVICE: Final = b"\x02service\x00"
_METHOD: Final = b"\x02method\x00"
_PARAMS: Final = b"\x04params\x00"
_RESULT: Final = b"\nerror\x00\x03result\x00"
_NO_RESULT: Final = b"\nerror\x00\nresult\x00\x00\x00"


def _start(type_: str) -> bytes:
    """The first elements of a message, up to where the length of its id stands."""
    return b"\x02$type\x00" + struct.pack("<i", len(type_) + 1) + type_.encode() + b"\x00\x02id\x00"


_STARTS: Final = {Kind.REQUEST: _start(REQUEST_TYPE), Kind.RESPONSE: _start(RESPONSE_TYPE)}
# Several values at a time: one call of unpack costs as much as one slice. Each ends with a length.
_HEADS: Final = {kind: struct.Struct(f"<i{len(_MESSAGE)}si{len(start)}si").unpack_from for kind, start in _STARTS.items()}
_ID_AT: Final = {kind: 4 + len(_MESSAGE) + 4 + len(start) for kind, start in _STARTS.items()}
_ACTIVITY_AND_ENDPOINT: Final = struct.Struct(f"<{len(_ACTIVITY)}s16s{len(_ENDPOINT)}si").unpack_from
_ENDPOINT_AT: Final = len(_ACTIVITY) + 16 + len(_ENDPOINT)
_NAMED: Final = struct.Struct(f"<{len(_SERVICE)}si").unpack_from
_NAMED_SHORT: Final = struct.Struct(f"<{len(_METHOD)}si").unpack_from  # method and params, whose names are as long


def read_plain(kind: Kind, data: bytes, limits: Limits) -> tuple[Message, int] | None:
    """The message of the envelope that these bytes begin with, and the envelope's length; None where it is not a plain one."""
    inflate = zlib.decompressobj(_RAW)
    try:
        document = inflate.decompress(data, _LARGEST)
        size, tag, inner, start, id_size = _HEADS[kind](document)
        if (
            not inflate.eof
            or size != len(document)
            or size > limits.envelope
            or inner != size - 14
            or tag != _MESSAGE
            or start != _STARTS[kind]
            or document.find(REFERENCE_START) >= 0  # `in` would try it as a number first, and raise and drop an error
            or data.find(_LINES[0]) >= 0
            or data.find(_LINES[1]) >= 0
        ):
            return None
        message = (_request if kind is _REQUEST else _response)(document, size, _ID_AT[kind], id_size, limits.text)
    except (zlib.error, struct.error, IndexError):  # not deflate, or cut short: that is judged elsewhere
        return None
    if message is None:
        return None
    left = inflate.unused_data
    return message, len(data) - len(left) if left else len(data)


def _request(document: bytes, size: int, id_at: int, id_size: int, text: int) -> Message | None:
    id_end = id_at + 4 + id_size
    tag, activity, endpoint, endpoint_size = _ACTIVITY_AND_ENDPOINT(document, id_end)
    endpoint_end = id_end + _ENDPOINT_AT + endpoint_size
    if tag != _ACTIVITY or endpoint != _ENDPOINT or endpoint_size < 5:
        return None
    tag, service_size = _NAMED(document, endpoint_end)
    service_at = endpoint_end + len(_SERVICE) + 4
    service_end = service_at + service_size
    if tag != _SERVICE or service_size < 1:
        return None
    tag, method_size = _NAMED_SHORT(document, service_end)
    method_at = service_end + len(_METHOD) + 4
    method_end = method_at + method_size
    if tag != _METHOD or method_size < 1:
        return None
    tag, params_size = _NAMED_SHORT(document, method_end)
    if tag != _PARAMS or params_size != size - 2 - method_end - len(_PARAMS) or params_size < 5:
        return None
    if (
        document[-3:] != b"\x00\x00\x00"
        or document[id_end - 1]
        or document[endpoint_end - 1]
        or document[service_end - 1]
        or document[method_end - 1]
        or id_size < 1
        or id_size > text - 4
        or service_size > text - 4
        or method_size > text - 4
    ):
        return None
    return Message(
        _REQUEST,
        document[id_at + 4 : id_end - 1].decode("utf-8", "replace"),
        activity,
        document[service_at : service_end - 1].decode("utf-8", "replace"),
        document[method_at : method_end - 1].decode("utf-8", "replace"),
    )


def _response(document: bytes, size: int, id_at: int, id_size: int, text: int) -> Message | None:
    id_end = id_at + 4 + id_size
    if id_size < 1 or id_size > text - 4:
        return None
    if document.startswith(_RESULT, id_end):
        result_at = id_end + len(_RESULT)
        result_size = int.from_bytes(document[result_at : result_at + 4], "little", signed=True)
        if result_size != size - 2 - result_at or result_size < 5 or document[-3:] != b"\x00\x00\x00":
            return None
    elif document[id_end:] != _NO_RESULT:
        return None
    if document[id_end - 1]:
        return None
    return Message(_RESPONSE, document[id_at + 4 : id_end - 1].decode("utf-8", "replace"))
