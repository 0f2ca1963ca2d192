"""A second request, hidden in a data stream that the receiver does not expect (wire.md 5.5).

``Tentacle`` here is a receiver as real ones are: it ignores members that it does not know, matches the others without case, the
last one winning, and takes what follows a message that has no streams for a control line.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import bson
import pytest
from halibut_bytes import REQUEST, bounded, brought, deflated, frame, guid, reference, request, single, stored
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut import lines
from relay.halibut.errors import LineError, RemoteProtocolError, SmugglingError, StreamError, TurnError
from relay.halibut.events import Part
from relay.halibut.message import judged_id
from relay.halibut.roles import Role, State

EVIL = deflated(request(method="Evil"))
NOTHING = b"\x00\x00\x00\xff\xff"  # a deflate block of nothing


class OutOfStepError(Exception):
    """The Tentacle reads what it cannot understand, and closes."""


def strict_line(data: bytes) -> tuple[bytes, bytes]:
    """How head reads a control line: CRLF, empty ones passed over. Returns it, and what follows."""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end or b"\r" in line:
            raise OutOfStepError(line)
        if line:
            return line, data


def lenient_line(data: bytes) -> tuple[bytes, bytes]:
    """How 4.4.8 reads it: LF, CR or CRLF."""
    found = re.match(rb"[\r\n]*([^\r\n]+)(?:\r\n|\r|\n)", data)
    if not found:
        raise OutOfStepError(data[:20])
    return found[1], data[found.end() :]


READERS = pytest.mark.parametrize("read_line", [strict_line, lenient_line], ids=["head", "4.4.8"])


class Tentacle:
    """ran: what it has run. No method of its contract has a data stream."""

    def __init__(self, read_line: Callable[[bytes], tuple[bytes, bytes]]) -> None:
        self.ran: list[str] = []
        self._read_line = read_line

    def hears(self, data: bytes) -> None:
        """All that comes behind ``MX-SERVER``."""
        while data:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                message = bson.decode(inflate.decompress(data))["Message"]
            except (zlib.error, bson.errors.InvalidBSON) as error:
                raise OutOfStepError from error
            data = inflate.unused_data
            folded = {name.lower(): value for name, value in message.items()}
            self.ran.append(f"{folded['service']}.{folded['method']}")
            if data:
                line, data = self._read_line(data)
                if line != b"NEXT":
                    raise OutOfStepError(line)


def attack(id_: bytes, place: dict[str, Any]) -> bytes:
    """A request with a reference in a place that the Tentacle does not look at, and a frame that holds another request.

    What follows ``NEXT`` in the id, and the length, read as deflate blocks of nothing; so the second request begins in the
    body. The length is as large as the limit allows; the frame need not end.
    """
    length = struct.unpack("<q", NOTHING[:5] + b"\x00\x00\x00")[0]
    return deflated(request(**place)) + id_ + struct.pack("<q", length) + b"\xff\xff" + EVIL


SPELLED = lines.NEXT + NOTHING * 2
PLACES = {
    "an unknown member": lambda id_: {"later": reference(id_, 1)},
    "an unknown property of a parameter": lambda id_: {"params": [{"Known": 1, "unknown": reference(id_, 1)}]},
    "one parameter too many": lambda id_: {"params": [reference(id_, 1, True)]},
    "the endpoint": lambda id_: {"endpoint": {"BaseUri": "https://web01/", "x": reference(id_, 1)}},
}
places = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def forwarded(data: bytes, bytewise: bool = False) -> tuple[bytes, type[RemoteProtocolError] | None]:
    """What a relay would pass on of this, and how it ends: with an error, or with the bytes."""
    us, passed = brought(Role.LISTENING_SERVICE, State.REQUEST), b""
    try:
        for chunk in single(data) if bytewise else [data]:
            for event in us.receive_data(chunk):
                assert isinstance(event, Part)
                passed += event.data
    except RemoteProtocolError as error:
        return passed, type(error)
    return passed, None


@READERS
@places
def test_what_a_relay_that_counts_by_search_would_let_through(place: Any, read_line: Any) -> None:
    """The attack is a real one: to the Tentacle these bytes are two requests, the second of which nobody has judged."""
    tentacle = Tentacle(read_line)
    tentacle.hears(attack(SPELLED, place(SPELLED)))
    assert tentacle.ran == ["IScriptService.StartScript", "IScriptService.Evil"]


@places
@pytest.mark.parametrize("bytewise", [False, True])
def test_it_fails(place: Any, bytewise: bool) -> None:
    data = attack(SPELLED, place(SPELLED))
    envelope = len(data) - len(data.partition(SPELLED)[1] + data.partition(SPELLED)[2])
    passed, error = forwarded(data, bytewise)
    assert error is SmugglingError
    assert len(passed) < envelope  # in one piece nothing, byte by byte not the envelope's last byte: no request was complete
    assert passed == b"" or bytewise


@places
@pytest.mark.parametrize("bytewise", [False, True])
def test_an_honest_reference_for_another_frame_fails_too(place: Any, bytewise: bool) -> None:
    """The envelope announces a proper id, the frame has the other: in the payload it is found out there."""
    in_payload = "params" in place(SPELLED)
    passed, error = forwarded(attack(SPELLED, place(guid(1))), bytewise)
    assert error is (StreamError if in_payload else SmugglingError)
    assert SPELLED not in passed


@READERS
def test_what_is_let_through_is_out_of_step_for_such_a_tentacle(read_line: Any) -> None:
    """A proper id in a property that the Tentacle does not know: as between real peers, the call breaks (wire.md 5.6 e)."""
    data = deflated(request(params=[{"unknown": reference(guid(1), 1)}])) + frame(guid(1), lines.NEXT + EVIL)
    assert forwarded(data) == (data, None)
    tentacle = Tentacle(read_line)
    with pytest.raises(OutOfStepError):
        tentacle.hears(data)
    assert tentacle.ran == ["IScriptService.StartScript"]


@READERS
def test_no_id_that_passes_reads_as_a_control_line(read_line: Any) -> None:
    tried = 0
    for count in range(7):
        for before in itertools.product(b"\r\n", repeat=count):
            for word, after in itertools.product((b"NEXT", b"PROCEED"), (b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\n\n\n")):
                start = bytes(before) + word + after
                for filling in (guid(1), b"\r\nA\r\nA\r\x40\x80" + guid(1)[9:], b"\n" * 7 + b"\x4a\x8a" + b"\n" * 7):
                    never_a_line((start + filling[len(start) :])[:16], read_line)
                    tried += 1
    assert tried > 4000


def never_a_line(id_: bytes, read_line: Any) -> None:
    """Either the codec refuses the id, or the Tentacle does not read NEXT or PROCEED where it stands."""
    try:
        judged_id(id_)
    except SmugglingError:
        return
    try:
        line, _ = read_line(id_ + struct.pack("<q", 1 << 39) + lines.NEXT + EVIL)
    except OutOfStepError:
        return
    assert line not in (b"NEXT", b"PROCEED")


@bounded(400)
@given(st.lists(st.sampled_from([b"NEXT", b"\r\n", b"\r", b"\n", b"PROCEED", b"A", b"\0", b"O"]), max_size=8).map(b"".join))
def test_nor_does_any_other(start: bytes) -> None:
    filled = (start + guid(1)[len(start) :])[:16] if len(start) < 16 else start[:16]
    for id_ in (filled, filled[:8] + guid(1)[8:], filled[:7] + b"\x40" + guid(1)[8:]):
        never_a_line(id_, strict_line)
        never_a_line(id_, lenient_line)


@READERS
def test_a_service_in_two_spellings(read_line: Any) -> None:
    """Rules would judge the one, and the Tentacle runs the other."""
    data = deflated(request(Service="IFileTransferService"))
    tentacle = Tentacle(read_line)
    tentacle.hears(data)
    assert tentacle.ran == ["IFileTransferService.StartScript"]
    assert forwarded(data) == (b"", SmugglingError)


@READERS
def test_a_second_request_behind_the_first(read_line: Any) -> None:
    """The plain attempt: nobody may speak before the reply."""
    data = REQUEST + lines.NEXT + EVIL
    tentacle = Tentacle(read_line)
    tentacle.hears(data)
    assert tentacle.ran[1:] == ["IScriptService.Evil"]
    assert forwarded(data) == (b"", TurnError)
    assert forwarded(data, bytewise=True) == (REQUEST, TurnError)


def test_a_second_request_inside_the_first_deflate_stream() -> None:
    """Receivers stop at the document's end; what deflate goes on with would be the next unit to them (wire.md 2.7 c)."""
    document = bson.encode(request())
    for hidden in (lines.NEXT + EVIL, NOTHING * 8 + lines.NEXT + EVIL):
        assert forwarded(stored(document, final=False) + stored(hidden))[1] is not None
    data = stored(document, final=False) + NOTHING * 40 + stored(b"")
    assert forwarded(data, bytewise=True)[1] is not None


def test_an_extra_frame_is_no_way_either() -> None:
    """A repeated id lets one more frame through; its id is a proper one, and what its body holds is never looked at."""
    id_ = guid(1)
    data = deflated(request(params=[reference(id_, 1), reference(id_, 1)])) + frame(id_, b"x")
    assert forwarded(data + frame(id_, lines.NEXT + EVIL)) == (data + frame(id_, lines.NEXT + EVIL), None)
    assert forwarded(data + lines.NEXT + EVIL)[1] is TurnError
    us = brought(Role.LISTENING_SERVICE, State.REQUEST)
    us.receive_data(data)
    with pytest.raises(TurnError):
        us.receive_data(id_[:5] + lines.NEXT)


def test_the_reply_may_not_hide_anything_either() -> None:
    us = brought(Role.LISTENING_CLIENT, State.REPLY)
    with pytest.raises(SmugglingError):
        us.receive_data(deflated({"Message": {"$type": lines.RESPONSE_TYPE, "id": "1", "later": reference(guid(1), 1)}}))
    us = brought(Role.LISTENING_CLIENT, State.REPLY)
    us.receive_data(deflated({"Message": {"$type": lines.RESPONSE_TYPE, "id": "1", "result": None}}))
    with pytest.raises(LineError):
        us.receive_data(frame(guid(1), b"x") + b"\r\n")
