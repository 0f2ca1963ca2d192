"""Documents made to be misread: each is refused, with the right error, or counted right, in whatever pieces it comes."""

import struct

import bson
import pytest
from halibut_bytes import (
    binary,
    document,
    element,
    guid,
    in_pieces,
    raw_members,
    raw_reference,
    raw_request,
    raw_response,
    refused,
    request,
    response,
    string,
    verdict,
    walked,
)  # fmt: skip

from relay.halibut.document import REFERENCE_START, folded
from relay.halibut.errors import EnvelopeError, SmugglingError
from relay.halibut.message import Kind, Message, Reference

REF = raw_reference()
INT32 = struct.Struct("<i")


def streams(kind: Kind, data: bytes) -> tuple[Reference, ...]:
    said = verdict(kind, data)
    assert isinstance(said, Message), said
    assert in_pieces(kind, data) == said
    return said.streams


def params(*values: bytes) -> bytes:
    """The element ``params`` of these elements."""
    return element(4, "params", document(*values))


# ---- reference bytes that are no reference ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [REFERENCE_START, REF, element(3, "0", REF), params(element(3, "0", REF)), REF * 50])
@pytest.mark.parametrize("more", [b"", element(3, "9", REF)], ids=["alone", "beside one"])
def test_strings_and_binaries_hold_what_they_like(content: bytes, more: bytes) -> None:
    expected = (Reference(guid(7), 5),) if more else ()
    values = {
        "string": element(2, "0", string(content)),
        "javascript": element(13, "0", string(content)),
        "symbol": element(14, "0", string(content)),
        "binary": element(5, "0", binary(content)),
        "guid-like": element(5, "0", binary(content, 4)),
        "old binary": element(5, "0", binary(INT32.pack(len(content)) + content, 2)),
        "pointer": element(12, "0", string(content) + bytes(12)),
        "nested": element(3, "0", document(element(4, "a", document(element(5, "b", binary(content)))))),
    }
    for name, value in values.items():
        assert streams(Kind.REQUEST, raw_request(params=params(value, more))) == expected, name
        assert streams(Kind.RESPONSE, raw_response(result=params(value, more).replace(b"params", b"result"))) == expected, name
    for member in ("service", "method", "id"):
        text = raw_request(**{member: element(2, member, string(content)), "params": params(more)})
        assert streams(Kind.REQUEST, text) == expected
    assert streams(Kind.REQUEST, raw_request(element(2, "later", string(content)), params=params(more))) == expected
    endpoint = element(3, "endpoint", document(element(2, "Password", string(content))))
    assert streams(Kind.REQUEST, raw_request(endpoint=endpoint, params=params(more))) == expected


def test_an_array_is_no_reference_whatever_its_keys() -> None:
    assert streams(Kind.REQUEST, raw_request(params=params(element(4, "0", REF)))) == ()
    assert streams(Kind.REQUEST, raw_request(params=element(4, "params", REF))) == ()
    assert streams(Kind.RESPONSE, raw_response(result=element(4, "result", REF))) == ()


def test_a_value_cannot_be_made_to_end_early_by_its_content() -> None:
    content = b"\0" + element(3, "1", REF) + b"\0\0"
    assert streams(Kind.REQUEST, raw_request(params=params(element(2, "0", string(content))))) == ()
    assert streams(Kind.REQUEST, raw_request(params=params(element(11, "0", b"a\0b\0"), element(3, "1", REF)))) != ()


# ---- references in the wrong place --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        raw_request(endpoint=element(3, "endpoint", REF)),
        raw_request(endpoint=element(3, "endpoint", document(element(3, "Proxy", REF)))),
        raw_request(endpoint=element(3, "endpoint", document(element(4, "a", document(element(3, "0", REF)))))),
        raw_request(element(3, "later", REF)),
        raw_request(element(4, "later", document(element(3, "0", REF)))),
        raw_request(element(3, "result", REF)),  # no member of a request
        raw_request(element(3, "error", REF)),
    ],
)
def test_references_outside_params(data: bytes) -> None:
    refused(Kind.REQUEST, data, SmugglingError)


@pytest.mark.parametrize(
    "data",
    [
        raw_response(error=element(3, "error", REF)),
        raw_response(error=element(3, "error", document(element(3, "details", REF)))),
        raw_response(element(3, "later", document(element(3, "a", REF)))),
        raw_response(element(4, "params", document(element(3, "0", REF)))),  # no member of a response
    ],
)
def test_references_outside_result(data: bytes) -> None:
    refused(Kind.RESPONSE, data, SmugglingError)


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.RESPONSE])
@pytest.mark.parametrize("more", [REF, document()], ids=["reference", "empty"])
def test_the_root_holds_message_alone(kind: Kind, more: bytes) -> None:
    message = element(3, "Message", document(*raw_members(kind)))
    for other in ("Other", "message", "", "$type", "Message"):
        refused(kind, document(message, element(3, other, more)), SmugglingError)
        refused(kind, document(element(10, "Message"), element(3, other, more)), SmugglingError)
    refused(kind, document(element(3, "Other", more), message), SmugglingError)
    refused(kind, document(message, element(10, "Message")), SmugglingError)
    refused(kind, document(element(3, "message", document(*raw_members(kind)))), SmugglingError)


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.RESPONSE])
def test_message_is_a_document_or_null(kind: Kind) -> None:
    refused(kind, document(element(4, "Message", document(*raw_members(kind)))), EnvelopeError)
    refused(kind, document(element(2, "Message", string("text"))), EnvelopeError)
    refused(kind, document(element(3, "Message", REF)), EnvelopeError)  # a message, and none
    refused(kind, document(element(3, "Message", document())), EnvelopeError)


def test_the_payload_itself_as_a_reference() -> None:
    assert streams(Kind.REQUEST, raw_request(params=element(3, "params", REF))) == (Reference(guid(7), 5),)
    assert streams(Kind.RESPONSE, raw_response(result=element(3, "result", REF))) == (Reference(guid(7), 5),)


# ---- names --------------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "service": ["Service", "SERVICE", "\u017fervice", "serv\u0131ce", "serv\u0130ce", "SERV\u0130CE"],
    "method": ["Method", "METHOD", "mEthod"],
    "id": ["Id", "ID", "\u0131d", "\u0130d"],
    "params": ["Params", "param\u017f", "PARAMS"],
    "activityId": ["activityid", "ActivityId", "ACT\u0130VITYID", "activ\u0131tyId"],
    "endpoint": ["Endpoint", "endpo\u0131nt"],
    "$type": ["$Type", "$TYPE"],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_name_stands_once_and_in_its_own_spelling(name: str) -> None:
    own = next(member for member in raw_members(Kind.REQUEST) if member[1:].startswith(name.encode() + b"\0"))
    refused(Kind.REQUEST, raw_request(own), SmugglingError)
    for other in SPELLINGS[name]:
        twin = own[:1] + other.encode() + own[1 + len(name) :]
        refused(Kind.REQUEST, raw_request(twin), SmugglingError)
        refused(Kind.REQUEST, raw_request(element(10, other)), SmugglingError)
        refused(Kind.REQUEST, raw_request(**{name: twin}), SmugglingError)  # in its place


@pytest.mark.parametrize("name", ["Result", "RESULT", "re\u017fult", "Error", "ERROR", "Id", "\u0131d"])
def test_so_it_is_in_a_response(name: str) -> None:
    refused(Kind.RESPONSE, raw_response(element(10, name)), SmugglingError)
    refused(Kind.RESPONSE, raw_response(element(3, name, REF)), SmugglingError)


def test_the_kelvin_sign_is_a_k() -> None:
    """No name of today has a k; the comparison must not depend on that."""
    assert folded("to\u212aen") == folded("token") == folded("TOKEN")
    assert folded("\u017f\u0131\u0130") == folded("sii")
    assert folded("service") != folded("services")


@pytest.mark.parametrize("name", ["$id", "$ref", "$values", "$value", "$"])
def test_no_other_metadata_of_newtonsoft(name: str) -> None:
    refused(Kind.REQUEST, raw_request(element(2, name, string("1"))), SmugglingError)


def test_an_unknown_member_twice() -> None:
    refused(Kind.REQUEST, raw_request(element(10, "later"), element(10, "later")), SmugglingError)


def test_names_of_the_other_kind_are_unknown_members() -> None:
    said = verdict(Kind.REQUEST, raw_request(element(10, "result"), element(10, "error")))
    assert isinstance(said, Message)
    assert (said.unknown, said.failed) == (("result", "error"), False)


# ---- fields -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "replaced",
    [
        {"$type": b""},
        {"$type": element(2, "$type", string("Halibut.Transport.Protocol.ResponseMessage, Halibut"))},
        {"$type": element(10, "$type")},
        {"id": b""},
        {"id": element(10, "id")},
        {"id": element(5, "id", binary(guid(1), 4))},
        {"service": b""},
        {"service": element(10, "service")},
        {"service": element(13, "service", string("IScriptService"))},
        {"method": b""},
        {"method": element(3, "method", document())},
        {"activityId": element(2, "activityId", string(guid(1).hex()))},
        {"activityId": element(5, "activityId", binary(guid(1), 3))},
        {"activityId": element(5, "activityId", binary(guid(1)[:15], 4))},
        {"endpoint": element(4, "endpoint", document())},
        {"endpoint": element(2, "endpoint", string("https://web01"))},
        {"params": element(2, "params", string("x"))},
    ],
)
def test_fields_missing_or_of_another_type(replaced: dict[str, bytes]) -> None:
    refused(Kind.REQUEST, raw_request(**replaced), EnvelopeError)


@pytest.mark.parametrize(
    "replaced", [{"$type": b""}, {"id": b""}, {"error": element(2, "error", string("no"))}, {"id": element(1, "id", bytes(8))}]
)
def test_so_it_is_with_a_response(replaced: dict[str, bytes]) -> None:
    refused(Kind.RESPONSE, raw_response(**replaced), EnvelopeError)


def test_a_message_of_the_other_kind() -> None:
    refused(Kind.RESPONSE, raw_request(), EnvelopeError)
    refused(Kind.REQUEST, raw_response(), EnvelopeError)


# ---- ids ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id_",
    [
        bytes(16),
        b"\xff" * 16,
        guid(1)[:7] + b"\x10" + guid(1)[8:],  # version 1
        guid(1)[:8] + b"\xc0" + guid(1)[9:],  # another variant
        guid(1)[:8] + b"\x00" + guid(1)[9:],
        b"NEXT\r\n" + guid(1)[6:],
        b"\nNEXT\r\x40\x80" + guid(1)[8:],
        b"\r\nNEXT\n\x40\x80" + guid(1)[9:],
        b"NEXT\n\nA\x40\x80" + guid(1)[9:],
        b"PROCEED\r\n" + guid(1)[9:],
    ],
)
def test_ids_that_are_no_version_4_guids_or_read_as_next(id_: bytes) -> None:
    refused(Kind.REQUEST, raw_request(params=params(element(3, "0", raw_reference(id_)))), SmugglingError)


def test_a_negative_length() -> None:
    refused(Kind.REQUEST, raw_request(params=params(element(3, "0", raw_reference(length=-1)))), EnvelopeError)


# ---- what it costs to look ----------------------------------------------------------------------------------------------


def test_millions_of_tiny_elements_are_not_walked() -> None:
    nothing = document(b"\x0a\x00" * 200_000)
    with pytest.raises(EnvelopeError, match="smaller elements than any call has: 7"):
        walked(Kind.RESPONSE, raw_response(result=element(3, "result", nothing)), (70_000, 140_000))


def test_a_long_log_of_short_lines_is() -> None:
    lines = [{"Source": 0, "Text": "x"} for _ in range(150_000)]
    data = bson.encode(response(result={"Logs": lines}))
    assert walked(Kind.RESPONSE, data, range(65536, len(data), 65536)).kind is Kind.RESPONSE


# ---- errors say what a log may hold -------------------------------------------------------------------------------------


def test_errors_never_show_values_of_the_endpoint() -> None:
    password = "hunter2" * 9
    for value in (string(password)[:-1] + b"\x01", INT32.pack(3) + password.encode()):
        endpoint = element(3, "endpoint", document(element(3, "r", REF), element(2, "Password", value)))
        for cuts in ((), range(4000)):
            with pytest.raises(EnvelopeError) as caught:
                walked(Kind.REQUEST, raw_request(endpoint=endpoint), cuts)
            assert "hunter2" not in str(caught.value)


def test_errors_are_short_and_name_their_rule() -> None:
    with pytest.raises(SmugglingError) as caught:
        walked(Kind.REQUEST, bson.encode(request(Service="x" * 5000)))
    assert caught.value.rule == "5.5"
    assert caught.value.value == "'Service'"
    assert len(str(caught.value)) < 200
