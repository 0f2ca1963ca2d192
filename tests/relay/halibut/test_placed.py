"""Where data streams stand, whatever pieces a document comes in: only places that every receiver reads are named."""

import zlib
from typing import Any

import bson
import pytest
from halibut_bytes import document, element, guid, pieces, raw_reference, raw_request, reference, request, string
from recordings import conversations, roles, turns

from relay.halibut.document import DocumentWalk
from relay.halibut.limits import Limits
from relay.halibut.lines import REQUEST_TYPE
from relay.halibut.message import Kind
from relay.halibut.placed import ARGUMENT, FILES, PlacedWalk
from routing.services import SERVICES

LIMITS = Limits(placed=True)
ID = guid(7)
CONTRACTS = "Octopus.Tentacle.Contracts"
V2 = f"{CONTRACTS}.ScriptServiceV2.StartScriptCommandV2, {CONTRACTS}"
V1 = "Octopus.Shared.Contracts.StartScriptCommand, Octopus.Shared"
KUBERNETES = f"{CONTRACTS}.KubernetesScriptServiceV1.StartKubernetesScriptCommandV1, {CONTRACTS}"
STREAM = reference(ID, 5)


def command(type_: str = V2, **members: Any) -> dict[str, Any]:
    return {"$type": type_, "ScriptBody": "echo", "Files": [{"Name": "a", "Contents": STREAM}], **members}


def places(data: bytes) -> list[str]:
    """Those of a request, the same in whatever pieces it comes."""
    found = []
    for cuts in ((), range(len(data)), range(0, len(data), 7), range(0, len(data), 64)):
        walk = PlacedWalk(Kind.REQUEST, LIMITS)
        walk.start(data[:4])
        for piece in pieces(data[4:], cuts):
            walk.feed(piece)
        found.append([stream.place for stream in walk.message().streams])
    assert all(each == found[0] for each in found), found
    plain = DocumentWalk(Kind.REQUEST, LIMITS)
    plain.start(data[:4])
    plain.feed(data[4:])
    assert [stream.id for stream in plain.message().streams] == [ID] * len(found[0])
    return found[0]


def of(*params: Any) -> list[str]:
    return places(bson.encode(request(params)))


def test_an_upload() -> None:
    assert of("/tmp/file", reference(ID, 5, typed=True)) == [ARGUMENT]


@pytest.mark.parametrize("type_", [V2, V1, KUBERNETES, f"{CONTRACTS}.StartScriptCommand, {CONTRACTS}"])
def test_a_script(type_: str) -> None:
    assert of(command(type_)) == [FILES]
    assert of(command(type_, Files=[{"Contents": reference(ID, 5, typed=True)}, {"x": 1, "Contents": STREAM}])) == [FILES] * 2


@pytest.mark.parametrize(
    "params",
    [
        ("/tmp/file", STREAM),  # an argument has no declared type
        (reference(ID, 5, typed=True),),  # the first
        ("", "", reference(ID, 5, typed=True)),  # the third
        ("", {"Inner": reference(ID, 5, typed=True)}),
        ("", [reference(ID, 5, typed=True)]),
        (command("System.Object, mscorlib"),),
        (command("StartScriptCommandV2"),),
        (command(f"{V2}[]"),),
        (command(f"A`1[[{V2}]], B"),),
        (command("x" * 5000 + "." + V2),),  # longer than any name that is read
        ({key: value for key, value in command().items() if key != "$type"},),
        ({"ScriptBody": "", **command()},),  # it says its type, but not in front
        (command(Files=STREAM),),
        (command(Files={"0": {"Contents": STREAM}}),),
        (command(Files=[[STREAM]]),),
        (command(Files=[{"Content": STREAM}]),),
        (command(Files=[{"Contents": {"Contents": STREAM}}]),),
        (command(Files=[], More=[{"Contents": STREAM}]),),
        (command(Files=[], Inner=command()),),
        ("", command()),
    ],
)
def test_anywhere_else(params: Any) -> None:
    assert of(*params) == [""]


def test_arguments_that_are_no_array() -> None:
    assert places(bson.encode(request({"0": command(), "1": reference(ID, 5, typed=True)}))) == ["", ""]


FILE = document(element(3, "Contents", raw_reference(ID)))
FILES_OF = element(4, "Files", document(element(3, "0", FILE)))
TYPE = element(2, "$type", string(V2))


@pytest.mark.parametrize(
    "argument",
    [
        document(TYPE, FILES_OF, element(4, "Files", document())),
        document(TYPE, FILES_OF, element(4, "files", document())),
        document(TYPE, element(10, "FILES"), FILES_OF),
        document(TYPE, FILES_OF, element(2, "$type", string("x"))),
        document(TYPE, element(2, "$ref", string("1")), FILES_OF),
        document(TYPE, FILES_OF, element(4, "$values", document())),
        document(
            TYPE,
            element(
                4,
                "Files",
                document(element(3, "0", document(element(3, "Contents", raw_reference(ID)), element(10, "contents")))),
            ),
        ),
        document(TYPE, element(4, "Files", document(element(3, "0", document(element(10, "$id"), FILE[4:-1]))))),
    ],
)
def test_what_could_be_taken_for_another_on_the_way(argument: bytes) -> None:
    data = raw_request(params=element(4, "params", document(element(3, "0", argument))))
    assert places(data) == [""]


def test_real_ones_stand_where_they_should() -> None:
    found = set()
    for path in conversations():
        client = next(side for side, role in roles(path).items() if role.is_client)
        for envelope in (record for turn in turns(path) if turn.side is client for record in turn.records):
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                data = inflate.decompress(envelope)
            except zlib.error:  # a line, or of a stream
                continue
            if inflate.eof and REQUEST_TYPE.encode() in data:
                walk = PlacedWalk(Kind.REQUEST, LIMITS)
                walk.start(data[:4])
                walk.feed(data[4:])
                message = walk.message()
                assert walk.names == (message.service, message.method)
                found |= {(message.service, message.method, stream.place) for stream in message.streams}
    known = {each for each in found if each[0] in SERVICES}
    assert known == {("IFileTransferService", "UploadFile", ARGUMENT), ("IScriptServiceV2", "StartScript", FILES)}
