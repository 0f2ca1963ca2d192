"""What nearly all envelopes are, read fast: whole, small, without data streams, in the order that every version writes.

Nothing is judged here. Whatever differs in the least is left to EnvelopeReader and DocumentWalk, and what is read here is what
they would have read: a test holds the two side by side. One thing is not looked for, how many bytes stand behind the document's
end (envelope.py, rule 2): without a control line among the raw bytes they cannot be taken for anything.
"""

import struct
import zlib
from typing import Final

from relay.halibut.bson_values import INT32
from relay.halibut.document import REFERENCE_START
from relay.halibut.limits import Limits
from relay.halibut.lines import REQUEST_TYPE, RESPONSE_TYPE
from relay.halibut.message import Kind, Message

_LARGEST: Final = 64 * 1024
_MESSAGE: Final = b"\x03Message\x00"
_MESSAGE_AT: Final = 13  # where Message's length stands
_FIELDS_AT: Final = 17  # and its first element


def _start(type_: str) -> bytes:
    """The first elements of a message, up to where the length of its id stands."""
    return b"\x02$type\x00" + INT32.pack(len(type_) + 1) + type_.encode() + b"\x00\x02id\x00"


_STARTS: Final = {Kind.REQUEST: _start(REQUEST_TYPE), Kind.RESPONSE: _start(RESPONSE_TYPE)}
_LINES: Final = (b"NEXT", b"PROCEED")  # what a receiver may read next: which of them, its own style says, not ours
_ACTIVITY: Final = b"\x05activityId\x00\x10\x00\x00\x00\x04"
_ENDPOINT: Final = b"\x03endpoint\x00"
_SERVICE: Final = b"\x02service\x00"
_METHOD: Final = b"\x02method\x00"
_PARAMS: Final = b"\x04params\x00"
_RESULT: Final = b"\nerror\x00\x03result\x00"
_NO_RESULT: Final = b"\nerror\x00\nresult\x00\x00\x00"


def read_plain(kind: Kind, data: bytes, limits: Limits) -> tuple[Message, int] | None:
    """The message of the envelope that these bytes begin with, and the envelope's length; None where it is not a plain one."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        document = inflate.decompress(data, _LARGEST)
        size = len(document)
        if not inflate.eof or size > limits.envelope or REFERENCE_START in document:
            return None
        if _LINES[0] in data or _LINES[1] in data:
            return None
        start = _STARTS[kind]
        id_at = _FIELDS_AT + len(start)
        if (
            INT32.unpack_from(document, 0)[0] != size
            or document[4:_MESSAGE_AT] != _MESSAGE
            or INT32.unpack_from(document, _MESSAGE_AT)[0] != size - 14
            or document[_FIELDS_AT:id_at] != start
        ):
            return None
        message = (_request if kind is Kind.REQUEST else _response)(document, size, id_at, limits.text)
    except (zlib.error, struct.error, IndexError):  # not deflate, or cut short: that is judged elsewhere
        return None
    return None if message is None else (message, len(data) - len(inflate.unused_data))


def _request(document: bytes, size: int, id_at: int, text: int) -> Message | None:
    unpack = INT32.unpack_from
    id_end = id_at + 4 + unpack(document, id_at)[0]
    activity_at = id_end + len(_ACTIVITY)
    endpoint_at = activity_at + 16 + len(_ENDPOINT)
    if document[id_end:activity_at] != _ACTIVITY or document[activity_at + 16 : endpoint_at] != _ENDPOINT:
        return None
    endpoint_end = endpoint_at + unpack(document, endpoint_at)[0]
    service_at = endpoint_end + len(_SERVICE)
    if endpoint_end < endpoint_at + 5 or document[endpoint_end:service_at] != _SERVICE:
        return None
    service_end = service_at + 4 + unpack(document, service_at)[0]
    method_at = service_end + len(_METHOD)
    if service_end < service_at + 5 or document[service_end:method_at] != _METHOD:
        return None
    method_end = method_at + 4 + unpack(document, method_at)[0]
    params_at = method_end + len(_PARAMS)
    if method_end < method_at + 5 or document[method_end:params_at] != _PARAMS:
        return None
    if unpack(document, params_at)[0] != size - 2 - params_at or size - 2 < params_at + 5:
        return None
    if (
        document[-3:] == b"\x00\x00\x00"
        and not document[id_end - 1] + document[endpoint_end - 1] + document[service_end - 1] + document[method_end - 1]
        and max(id_end - id_at, service_end - service_at, method_end - method_at) <= text
        and id_end >= id_at + 5
    ):
        return Message(
            Kind.REQUEST,
            document[id_at + 4 : id_end - 1].decode("utf-8", "replace"),
            document[activity_at : activity_at + 16],
            document[service_at + 4 : service_end - 1].decode("utf-8", "replace"),
            document[method_at + 4 : method_end - 1].decode("utf-8", "replace"),
        )
    return None


def _response(document: bytes, size: int, id_at: int, text: int) -> Message | None:
    id_end = id_at + 4 + INT32.unpack_from(document, id_at)[0]
    result_at = id_end + len(_RESULT)
    if document[id_end:result_at] == _RESULT:
        if INT32.unpack_from(document, result_at)[0] != size - 2 - result_at or document[-3:] != b"\x00\x00\x00":
            return None
        if size - 2 < result_at + 5:
            return None
    elif document[id_end:] != _NO_RESULT:
        return None
    if not id_at + 5 <= id_end <= id_at + text or document[id_end - 1]:
        return None
    return Message(Kind.RESPONSE, document[id_at + 4 : id_end - 1].decode("utf-8", "replace"))
