"""The relay's own error reply, beside those that real Tentacles were recorded with."""

import struct
import zlib
from typing import Any

import bson
import pytest
from halibut_bytes import bounded, envelope_read
from hypothesis import given
from hypothesis import strategies as st
from recordings import conversations, turns

from relay.halibut.error_reply import INVOKED, error_reply
from relay.halibut.lines import RESPONSE_TYPE
from relay.halibut.message import Kind, Message
from relay.peers.messages import Response, read


def decoded(envelope: bytes) -> dict[str, Any]:
    return bson.decode(zlib.decompress(envelope, -zlib.MAX_WBITS))


def recorded() -> list[bytes]:
    """The documents of every error reply in the recordings."""
    found = []
    for path in conversations():
        for record in (record for turn in turns(path) for record in turn.records):
            try:
                data = zlib.decompress(record, -zlib.MAX_WBITS)
            except zlib.error:
                continue
            if RESPONSE_TYPE.encode() in data and bson.decode(data)["Message"]["error"]:
                found.append(data)
    return found


def shape(data: bytes) -> list[tuple[int, str]]:
    """The types and names of a message's elements, and of those of its error, in order."""
    found, position = [], 4
    while position < len(data) - 1:
        name_end = data.index(0, position + 1)
        type_, name = data[position], data[position + 1 : name_end].decode()
        position = name_end + 1
        found.append((type_, name))
        if type_ == 3:
            found += shape(data[position : position + struct.unpack_from("<i", data, position)[0]])
        position += {2: 4, 3: 0, 10: 0}[type_] + (struct.unpack_from("<i", data, position)[0] if type_ != 10 else 0)
    return found


def test_it_is_built_as_those_of_real_tentacles() -> None:
    real = [shape(data) for data in recorded()]
    assert len(real) > 20
    own = shape(zlib.decompress(error_reply("call 1", "no"), -zlib.MAX_WBITS))
    assert own in real  # as versions from 5.0.464 on write it
    older = [element for element in own if element != (10, "HalibutErrorType")]
    assert older in real  # the ones before know nothing of the last element, and pass over it


def test_details_begin_as_a_failed_methods_do() -> None:
    real = {bson.decode(data)["Message"]["error"]["details"].split("\n")[0] for data in recorded()}
    error = decoded(error_reply("call 1", "no"))["Message"]["error"]
    assert error["details"].split("\n")[0] in real
    assert error["details"].startswith(INVOKED)
    assert error == {"message": "no", "details": error["details"], "HalibutErrorType": None}


@bounded(100)
@given(st.text(max_size=200).filter(lambda text: "\0" not in text), st.text(max_size=300))
def test_any_text_travels(id_: str, text: str) -> None:
    envelope = error_reply(id_, text)
    error = decoded(envelope)["Message"]["error"]
    if text.isprintable():
        assert error["message"] == text
    said = envelope_read(Kind.RESPONSE, [envelope])
    assert said == Message(Kind.RESPONSE, id_.encode("utf-8", "replace").decode(), failed=True)


def test_a_strict_octopus_takes_it() -> None:
    message, _ = read(decoded(error_reply("call 1", "running scripts is not allowed here")))
    assert isinstance(message, Response)
    assert message.error is not None
    assert message.error.message == "running scripts is not allowed here"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_odd_text_breaks_nothing(text: str) -> None:
    assert decoded(error_reply("call 1", text))["Message"]["id"] == "call 1"
