"""Documents whose lengths, types or depth are lies: each is refused, with the right error, in whatever pieces it comes."""

import struct

import pytest
from halibut_bytes import (
    LIMITS,
    binary,
    bounded,
    document,
    element,
    in_pieces,
    raw,
    raw_members,
    raw_reference,
    raw_request,
    raw_response,
    refused,
    string,
    verdict,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut.errors import EnvelopeError, SmugglingError
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message

REF = raw_reference()
INT32 = struct.Struct("<i")
GIB2 = INT32.pack(0x7FFFFFFF)
NEGATIVE = INT32.pack(-1)
LOWEST = INT32.pack(-0x80000000)
ZERO = INT32.pack(0)


def params(*values: bytes) -> bytes:
    """The element ``params`` of these elements."""
    return element(4, "params", document(*values))


def streams(data: bytes, limits: Limits = LIMITS) -> int:
    """How many streams a request has that is not refused."""
    said = verdict(Kind.REQUEST, data, limits)
    assert isinstance(said, Message), said
    assert in_pieces(Kind.REQUEST, data, limits) == said
    return len(said.streams)


# ---- lengths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [ZERO, NEGATIVE, LOWEST, GIB2, INT32.pack(13), INT32.pack(256 * 1024 * 1024 + 1)])
def test_lengths_of_the_root(length: bytes) -> None:
    assert verdict(Kind.REQUEST, length + raw_request()[4:]) is EnvelopeError


@pytest.mark.parametrize("difference", [-1, 1, -7, 7])
def test_a_root_that_is_not_as_long_as_it_says(difference: int) -> None:
    data = raw_request()
    assert verdict(Kind.REQUEST, INT32.pack(len(data) + difference) + data[4:]) is EnvelopeError


@pytest.mark.parametrize("length", [ZERO, NEGATIVE, LOWEST, GIB2, INT32.pack(4), INT32.pack(100_000)])
@pytest.mark.parametrize("type_", [3, 4])
def test_lengths_of_containers(length: bytes, type_: int) -> None:
    value = length + document(element(3, "0", REF))[4:]
    for data in (
        raw_request(params=element(type_, "params", value)),
        raw_request(params=params(element(type_, "0", value))),
        raw_request(endpoint=element(3, "endpoint", value)),
        raw_request(element(type_, "later", value)),
        document(element(3, "Message", length + document(*raw_members(Kind.REQUEST))[4:])),
    ):
        refused(Kind.REQUEST, data, EnvelopeError)


@pytest.mark.parametrize("difference", [-8, -1, 1, 8, 20])
def test_containers_that_overlap_what_is_around_them(difference: int) -> None:
    value = document(element(3, "0", REF), element(2, "1", string("text")))
    value = INT32.pack(len(value) + difference) + value[4:]
    for data in (
        raw_request(params=params(element(3, "0", value))),
        raw_request(params=element(4, "params", value)),
        document(element(3, "Message", document(*raw_members(Kind.REQUEST, {"params": element(4, "params", value)})))),
    ):
        refused(Kind.REQUEST, data, EnvelopeError)


@pytest.mark.parametrize("length", [NEGATIVE, LOWEST, GIB2, INT32.pack(100_000), INT32.pack(60)])
@pytest.mark.parametrize("type_", [2, 13, 14, 5, 12])
def test_lengths_of_texts_and_binaries(length: bytes, type_: int) -> None:
    value = length + {5: b"\0data", 12: b"data\0" + bytes(12)}.get(type_, b"data\0")
    for data in (
        raw_request(params=params(element(3, "0", REF), element(type_, "1", value))),
        raw_request(element(type_, "later", value)),
        raw_request(service=element(2, "service", value)),
        raw_request(activityId=element(5, "activityId", value)),
    ):
        refused(Kind.REQUEST, data, EnvelopeError)


def test_a_string_has_at_least_its_final_zero() -> None:
    for type_ in (2, 13, 14):
        refused(Kind.REQUEST, raw_request(element(type_, "later", ZERO)), EnvelopeError)


@pytest.mark.parametrize("type_", [2, 13, 14])
def test_strings_without_their_final_zero(type_: int) -> None:
    value = INT32.pack(5) + b"texts"
    refused(Kind.REQUEST, raw_request(element(type_, "later", value)), EnvelopeError)
    refused(Kind.REQUEST, raw_request(params=params(element(3, "0", REF), element(type_, "1", value))), EnvelopeError)
    if type_ == 2:
        for name in ("$type", "id", "service", "method"):
            refused(Kind.REQUEST, raw_request(**{name: element(2, name, value)}), EnvelopeError)


def test_containers_without_their_final_zero() -> None:
    members = raw_members(Kind.REQUEST)
    broken = document(*members)[:-1] + b"\x01"
    refused(Kind.REQUEST, document(element(3, "Message", broken)), EnvelopeError)
    refused(Kind.REQUEST, document(element(3, "Message", document(*members)))[:-1] + b"\x01", EnvelopeError)
    for value in (document()[:-1] + b"\x01", document(element(3, "0", REF))[:-1] + b"\x01"):
        refused(Kind.REQUEST, raw_request(params=element(4, "params", value)), EnvelopeError)


@pytest.mark.parametrize("inner", [-1, 0, 3, 5, 1000, -0x80000000])
@pytest.mark.parametrize("place", ["result", "later", "inside"])
def test_a_binary_of_the_old_kind_with_two_lengths(inner: int, place: str) -> None:
    """Receivers believe the inner one: what is data to one reader holds members to another."""
    value = binary(INT32.pack(inner) + b"data", 2)
    data = {
        "result": raw_response(result=element(5, "result", value)),
        "later": raw_response(element(5, "later", value)),
        "inside": raw_response(result=element(3, "result", document(element(3, "0", REF), element(5, "1", value)))),
    }[place]
    refused(Kind.RESPONSE, data, SmugglingError)


def test_a_binary_of_the_old_kind_too_short_for_a_second_length() -> None:
    """Its second length would be read out of what follows: here it even fits, for whom does not look at the first."""
    value = binary(b"", 2)
    hidden = element(0xFC, b"\xff\xff\xff")  # what follows reads as -4
    assert hidden.startswith(INT32.pack(-4))
    refused(Kind.RESPONSE, raw_response(element(5, "later", value), hidden), SmugglingError)


@pytest.mark.parametrize("type_", [0, 15, 20, 126, 128, 254])
def test_types_that_halibut_never_writes(type_: int) -> None:
    refused(Kind.REQUEST, raw_request(element(type_, "later", bytes(40))), EnvelopeError)
    refused(Kind.RESPONSE, raw_response(result=element(type_, "result", bytes(40))), EnvelopeError)
    refused(Kind.REQUEST, raw_request(params=params(element(3, "0", REF), element(type_, "1", bytes(40)))), EnvelopeError)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (b"a" * 59 + b"\0" + b"i" * 59 + b"\0", True),
        (b"a" * 60 + b"\0i\0", False),
        (b"\0" + b"i" * 60 + b"\0", False),
        (b"a" * 4000, False),
    ],
)
def test_regular_expressions_are_bounded(value: bytes, fits: bool) -> None:
    limits, data = Limits(text=60), raw_response(element(11, "later", value))
    if fits:
        assert isinstance(verdict(Kind.RESPONSE, data, limits), Message)
    else:
        refused(Kind.RESPONSE, data, EnvelopeError, limits)


# ---- truncation and depth -----------------------------------------------------------------------------------------------


@bounded(60)
@given(st.sampled_from([Kind.REQUEST, Kind.RESPONSE]), st.floats(0, 1, exclude_max=True))
def test_truncated(kind: Kind, part: float) -> None:
    payload = "params" if kind is Kind.REQUEST else "result"
    data = raw(kind, element(11, "re", b"a\0b\0"), **{payload: element(4, payload, document(element(3, "0", REF)))})
    cut = data[: int(4 + (len(data) - 4) * part)]
    assert verdict(kind, cut) is EnvelopeError  # deflate ends before the document
    if len(cut) >= 14:  # a document that says that it ends there
        assert verdict(kind, INT32.pack(len(cut)) + cut[4:]) is EnvelopeError


def nested(levels: int, inner: bytes) -> bytes:
    for _ in range(levels):
        inner = document(element(3, "a", inner))
    return inner


def test_nesting_around_a_reference_is_bounded() -> None:
    fits = 128 - 3  # the root, Message and params are levels too, and so is the reference
    assert streams(raw_request(params=params(element(3, "0", nested(fits - 1, REF))))) == 1
    for levels in (fits, 5000):
        refused(Kind.REQUEST, raw_request(params=params(element(3, "0", nested(levels, REF)))), EnvelopeError)
    limits = Limits(depth=10)
    assert streams(raw_request(params=params(element(3, "0", nested(6, REF)))), limits) == 1
    refused(Kind.REQUEST, raw_request(params=params(element(3, "0", nested(7, REF)))), EnvelopeError, limits)


def test_nesting_without_a_reference_is_passed_over() -> None:
    data = raw_request(params=params(element(3, "0", nested(5000, document()))))
    said = verdict(Kind.REQUEST, data)
    assert isinstance(said, Message)
    assert said.streams == ()


def test_nesting_across_blocks_has_one_verdict() -> None:
    """A container that no block holds whole has to be entered, and the limit holds there."""
    data = raw_request(params=params(element(3, "0", nested(20_000, document()))))
    assert len(data) > 2 * 64 * 1024
    assert verdict(Kind.REQUEST, data) is EnvelopeError
