"""An error reply of the relay's own: what a real Tentacle's looks like (wire.md 4.5), for requests that it may not have."""

import struct
import zlib
from typing import Final

from relay.halibut.bson_values import DOCUMENT, NULL, STRING
from relay.halibut.lines import RESPONSE_TYPE

# Octopus takes details that begin so for the called method's own failure, and does not call again (wire.md 4.7, 9.5).
INVOKED: Final = "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation."


def error_reply(id_: str, text: str) -> bytes:
    """The envelope. id_: the request's. text: what went wrong; it stands in the message and in the details."""
    error = _document(
        _string("message", text),
        _string("details", f"{INVOKED}\n ---> {text}\n   --- End of inner exception stack trace ---"),
        _element(NULL, "HalibutErrorType"),
    )
    message = _document(
        _string("$type", RESPONSE_TYPE), _string("id", id_), _element(DOCUMENT, "error", error), _element(NULL, "result")
    )
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(_document(_element(DOCUMENT, "Message", message))) + deflate.flush()


def _element(type_: int, name: str, value: bytes = b"") -> bytes:
    return bytes((type_,)) + name.encode("ascii") + b"\0" + value


def _string(name: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace") + b"\0"
    return _element(STRING, name, struct.pack("<i", len(data)) + data)


def _document(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return struct.pack("<i", len(body) + 5) + body + b"\0"
