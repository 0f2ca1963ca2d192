"""What nearly all envelopes are, read fast: whole, small, without data streams, in the order that every version writes.

Nothing is judged here. Whatever differs in the least is left to EnvelopeReader and DocumentWalk, and what is read here is what
they would have read: a test holds the two side by side.
"""

import re
import zlib
from typing import Final

from relay.halibut.bson_values import INT32
from relay.halibut.document import REFERENCE_START, SMALLEST_DOCUMENT
from relay.halibut.envelope import TRAILER
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message

_LARGEST: Final = 64 * 1024
_START: Final = rb"(?s).{4}\x03Message\x00(.{4})\x02\$type\x00"
_ID: Final = rb"\x02id\x00(.{4})([^\x00]+)\x00"
_REQUEST: Final = re.compile(
    _START + rb"\x33\x00\x00\x00Halibut\.Transport\.Protocol\.RequestMessage, Halibut\x00" + _ID
    + rb"\x05activityId\x00\x10\x00\x00\x00\x04(.{16})\x03endpoint\x00(.{4})"
)  # fmt: skip
_CALL: Final = re.compile(rb"(?s)\x02service\x00(.{4})([^\x00]+)\x00\x02method\x00(.{4})([^\x00]+)\x00\x04params\x00(.{4})")
_RESPONSE: Final = re.compile(
    _START + rb"\x34\x00\x00\x00Halibut\.Transport\.Protocol\.ResponseMessage, Halibut\x00" + _ID
    + rb"\x0aerror\x00(?:\x0aresult\x00|[\x03\x04]result\x00(.{4}))"
)  # fmt: skip


def read_plain(kind: Kind, data: bytes, limits: Limits) -> tuple[Message, int] | None:
    """The message of the envelope that these bytes begin with, and the envelope's length; None where it is not a plain one."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        head = inflate.decompress(data, 4)
        size = int.from_bytes(head, "little")
        if len(head) < 4 or not SMALLEST_DOCUMENT <= size <= min(_LARGEST, limits.envelope):
            return None
        body = inflate.decompress(inflate.unconsumed_tail, size - 5)
        tail = inflate.unconsumed_tail
        last = inflate.decompress(tail, 2)
    except zlib.error:
        return None
    unused = len(inflate.unused_data)
    document = head + body + last
    if not inflate.eof or len(document) != size or len(tail) - unused > TRAILER or REFERENCE_START in document:
        return None
    message = (_request if kind is Kind.REQUEST else _response)(document, size, limits.text)
    return None if message is None else (message, len(data) - unused)


def _request(document: bytes, size: int, text: int) -> Message | None:
    start = _REQUEST.match(document)
    if start is None:
        return None
    unpack = INT32.unpack_from
    endpoint = start.start(5)
    call_at = endpoint + unpack(document, endpoint)[0]
    if not endpoint + 5 <= call_at <= size or document[call_at - 1]:
        return None
    call = _CALL.match(document, call_at)
    if call is None:
        return None
    id_, service, method = start[3], call[2], call[4]
    if (
        unpack(document, start.start(1))[0] == size - 14
        and unpack(document, start.start(2))[0] == len(id_) + 1
        and unpack(document, call.start(1))[0] == len(service) + 1
        and unpack(document, call.start(3))[0] == len(method) + 1
        and unpack(document, call.start(5))[0] == size - 2 - call.start(5) >= 5
        and document.endswith(b"\x00\x00\x00")
        and max(len(id_), len(service), len(method)) + 5 <= text
    ):
        return Message(Kind.REQUEST, _text(id_), start[4], _text(service), _text(method))
    return None


def _response(document: bytes, size: int, text: int) -> Message | None:
    found = _RESPONSE.match(document)
    if found is None:
        return None
    unpack = INT32.unpack_from
    id_, result = found[3], found.start(4)
    if result < 0:
        whole = found.end() == size - 2 and document.endswith(b"\x00\x00")
    else:
        whole = unpack(document, result)[0] == size - 2 - result >= 5 and document.endswith(b"\x00\x00\x00")
    if (
        whole
        and unpack(document, found.start(1))[0] == size - 14
        and unpack(document, found.start(2))[0] == len(id_) + 1
        and len(id_) + 5 <= text
    ):
        return Message(Kind.RESPONSE, _text(id_))
    return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
