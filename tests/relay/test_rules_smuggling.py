"""Calls that no rule allows, hidden in ones that a rule does, against a Tentacle that reads as real ones do (wire.md 5.5).

Each attack is shown to be a real one: the Tentacle that hears it itself runs the call. Behind the relay it never does.
"""

import contextlib
from collections.abc import Iterator

import pytest
from halibut_bytes import (
    binary,
    bounded,
    deflated,
    document,
    element,
    frame,
    guid,
    pieces,
    raw_members,
    raw_reference,
    raw_request,
    string,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st
from lenient_tentacle import LenientTentacle, OutOfStepError
from visit import Visit

from relay.exchange import State
from relay.halibut.lines import DATA_STREAM_TYPE, NEXT
from relay.halibut.message import Kind
from routing.rules import Rule, Rules
from routing.services import compared

ALLOWED = Rules(
    (
        Rule(
            (
                "capabilities",
                "IScriptServiceV2.GetStatus",
                "IFileTransferService.UploadFile",
                "IScriptService.StartScript",
                "IScriptService.GetStatus",
            )
        ),
    )
)
WANTED = ("IScriptServiceV2", "StartScript")
PERMITTED = {("icapabilitiesservicev2", "getcapabilities"), ("iscriptservicev2", "getstatus")}
PERMITTED |= {("ifiletransferservice", "uploadfile"), ("iscriptservice", "startscript"), ("iscriptservice", "getstatus")}
SPELLED = NEXT + guid(3)[6:]  # the id of a frame that reads as a control line


def named(service: str = "IScriptServiceV2", method: str = "GetStatus") -> dict[str, bytes]:
    return {"service": element(2, "service", string(service)), "method": element(2, "method", string(method))}


def typed(id_: bytes = guid(7), length: int = 5, type_: str = DATA_STREAM_TYPE) -> bytes:
    """A reference that says what it is."""
    inner = raw_reference(id_, length)
    return document(element(2, "$type", string(type_)), inner[4:-1])


def through(*records: bytes) -> tuple[list[tuple[str, str]], Visit]:
    """What the Tentacle is made to run by what the relay passes on of this."""
    visit = Visit(rules=ALLOWED).answered()
    visit.says(*records)
    tentacle = LenientTentacle()
    for lease in visit.door.backs.leases:
        with contextlib.suppress(OutOfStepError):
            tentacle.hears(lease.link.data)
    return tentacle.ran, visit


def directly(data: bytes) -> list[tuple[str, str]]:
    """What it is made to run where nothing stands in between."""
    tentacle = LenientTentacle()
    with contextlib.suppress(OutOfStepError):
        tentacle.hears(data)
    return tentacle.ran


EVIL = deflated(raw_request(**named(*WANTED)))
HEADERS = {
    "a doubled method": raw_request(element(2, "method", string("StartScript")), **named()),
    "in another case": raw_request(element(2, "Method", string("StartScript")), **named()),
    "in capitals, in front": document(
        element(3, "Message", document(
            element(2, "METHOD", string("GetStatus")), *raw_members(Kind.REQUEST, named(*WANTED)),
        ))
    ),
    "another service": raw_request(element(2, "Service", string("IScriptServiceV2")), **named("IScriptService", "StartScript")),
    "a doubled Message": document(
        element(3, "Message", document(*raw_members(Kind.REQUEST, named()))),
        element(3, "message", document(*raw_members(Kind.REQUEST, named(*WANTED)))),
    ),
    "just so": raw_request(**named(*WANTED)),
    "in another case itself": raw_request(**named("iscriptservicev2", "STARTSCRIPT")),
}  # fmt: skip


@pytest.mark.parametrize("raw", HEADERS.values(), ids=HEADERS)
def test_a_second_header(raw: bytes) -> None:
    ran = directly(deflated(raw))
    assert [compared(*call) for call in ran] == [compared(*WANTED)]
    for level in (6, 0):
        envelope = deflated(raw, level)
        for records in ([envelope], pieces(envelope, range(0, len(envelope), 40)), pieces(envelope, range(len(envelope)))):
            ran, visit = through(*records)
            assert ran == []
            assert not visit.lease.link.written
            assert visit.lease.over


def test_a_second_header_behind_a_large_body_never_lets_the_request_become_whole() -> None:
    """The first one is judged, and what follows goes on as it comes; what the second one is part of does not."""
    params = element(4, "params", document(element(2, "0", string("x" * 200_000))))
    envelope = deflated(raw_request(element(2, "Method", string("StartScript")), **named(), params=params), 0)
    assert [compared(*call) for call in directly(envelope)] == [compared(*WANTED)]
    ran, visit = through(*pieces(envelope, range(0, len(envelope), 16_000)))
    assert ran == []
    assert visit.lease.link.written
    assert visit.lease.link.ended == "rst"
    assert [call.outcome.value for call in visit.door.calls if call.outcome] == ["caller-broke"]


PLACES = {
    "an unknown member of the argument": element(3, "0", document(element(3, "later", raw_reference(SPELLED)))),
    "an argument without a type": element(3, "1", raw_reference(SPELLED)),
    "files of an argument that starts nothing": element(
        3,
        "0",
        document(element(4, "Files", document(element(3, "0", document(element(3, "Contents", raw_reference(SPELLED))))))),
    ),
}


@pytest.mark.parametrize("argument", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("call", [("IScriptServiceV2", "GetStatus"), ("IScriptService", "StartScript")])
def test_a_frame_that_is_a_second_request(argument: bytes, call: tuple[str, str]) -> None:
    """The id reads as NEXT, and its rest, the length and the body as an envelope of nothing and another one."""
    nothing = b"\x00\x00\x00\xff\xff"
    id_ = NEXT + nothing * 2
    argument = argument.replace(SPELLED, id_)
    data = deflated(raw_request(**named(*call), params=element(4, "params", document(argument))))
    data += id_ + nothing + b"\x00\x00\x00" + b"\xff\xff" + EVIL
    assert directly(data) == [call, WANTED]
    ran, visit = through(data)
    assert ran == []
    assert not visit.lease.link.written


@pytest.mark.parametrize("argument", PLACES.values(), ids=PLACES)
def test_a_frame_that_no_receiver_expects_never_goes_on(argument: bytes) -> None:
    """Not even one whose id reads as nothing else."""
    argument = argument.replace(SPELLED, guid(9))
    params = element(4, "params", document(argument))
    data = deflated(raw_request(**named("IScriptService", "StartScript"), params=params))
    ran, visit = through(data + frame(guid(9), b"hello"))
    assert (ran, visit.lease.link.written) == ([], [])
    assert [call.detail for call in visit.door.calls] == ["a data stream where this method has none (wire.md 5.5)"]
    assert visit.link.ended is not None


# ---- whatever a caller makes up -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["service", "Service", "method", "METHOD", "params", "Params", "later", "$type", "Message", "id"])
CALLS = st.sampled_from(
    [
        *(
            pair
            for pair in [
                ("IScriptService", "StartScript"),
                ("IFileTransferService", "UploadFile"),
                ("IScriptServiceV2", "GetStatus"),
            ]
        ),
        WANTED,
    ]
)
COMMAND = "Octopus.Tentacle.Contracts.ScriptServiceV2.StartScriptCommandV2, Octopus.Tentacle.Contracts"
IDS = [guid(number) for number in range(20, 24)]
WORDS = st.sampled_from(
    ["IScriptServiceV2", "IScriptService", "IFileTransferService", "StartScript", "GetStatus", "UploadFile", COMMAND]
)


PROPER_UPLOAD = [(2, string("/tmp/f")), (3, typed(IDS[0], 4))]
_CONTENTS = [document(element(2, "Name", string("f")), element(3, "Contents", raw_reference(id_, 4))) for id_ in IDS[1:3]]
_FILES = document(*(element(3, str(index), item) for index, item in enumerate(_CONTENTS)))
PROPER_SCRIPT = [(3, document(element(2, "$type", string(COMMAND)), element(4, "Files", _FILES)))]


def values() -> st.SearchStrategy[tuple[int, bytes]]:
    """A BSON type and a value of it."""
    reference = st.sampled_from(IDS).flatmap(lambda id_: st.sampled_from([(3, raw_reference(id_, 4)), (3, typed(id_, 4))]))
    leaves = st.one_of(
        WORDS.map(lambda word: (2, string(word))),
        reference,
        st.just((10, b"")),
        st.sampled_from(IDS).map(lambda id_: (5, binary(id_, 4))),
    )
    files = st.lists(st.sampled_from(IDS), max_size=2).map(
        lambda ids: element(
            4,
            "Files",
            document(
                *(
                    element(3, str(index), document(element(3, "Contents", raw_reference(id_, 4))))
                    for index, id_ in enumerate(ids)
                )
            ),
        )
    )
    names = st.sampled_from(["Files", "files", "Contents", "contents", "0", "1", "$type", "$values", "id", "service", "method"])

    def containers(inner: st.SearchStrategy[tuple[int, bytes]]) -> st.SearchStrategy[tuple[int, bytes]]:
        members = st.lists(st.tuples(names, inner).map(lambda pair: element(pair[1][0], pair[0], pair[1][1])), max_size=3)
        command = st.tuples(files, members).map(
            lambda pair: (3, document(element(2, "$type", string(COMMAND)), pair[0], *pair[1]))
        )
        return st.one_of(command, st.tuples(st.sampled_from([3, 4]), members).map(lambda pair: (pair[0], document(*pair[1]))))

    return st.recursive(leaves, containers, max_leaves=8)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """An envelope with frames behind it, some for each reference that stands in it, and perhaps another request."""
    members = raw_members(Kind.REQUEST, named(*draw(CALLS)))
    arguments = draw(st.lists(values(), max_size=2))
    if draw(st.booleans()):
        arguments = draw(st.sampled_from([PROPER_UPLOAD, PROPER_SCRIPT])) + arguments[:1] * draw(st.booleans())
    params = document(*(element(type_, str(index), value) for index, (type_, value) in enumerate(arguments)))
    members[-1] = element(draw(st.sampled_from([4, 4, 4, 3])), "params", params)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        type_, value = draw(values())
        members.insert(draw(st.integers(0, len(members))), element(type_, draw(NAMES), value))
    raw = document(element(3, "Message", document(*members)))
    found = sorted((raw.find(id_), id_) for id_ in IDS if id_ in raw)
    frames = [frame(id_, draw(st.sampled_from([b"body", NEXT[:4], EVIL[:4]]))) for _, id_ in found]
    return deflated(raw) + b"".join(draw(st.permutations(frames)) if draw(st.booleans()) else frames)


def _sessions(draw: st.DrawFn) -> Iterator[bytes]:
    for _ in range(draw(st.integers(1, 3))):
        yield draw(requests())
        yield draw(st.sampled_from([b"", NEXT]))


@st.composite
def sessions(draw: st.DrawFn) -> list[bytes]:
    data = b"".join(_sessions(draw)) + draw(st.sampled_from([b"", EVIL, NEXT + EVIL]))
    return pieces(data, draw(st.lists(st.integers(1, len(data)), max_size=4)))


@bounded(100)
@given(sessions())
def test_nothing_that_a_caller_makes_up_runs_what_is_not_allowed(records: list[bytes]) -> None:
    ran, _ = through(*records)
    assert {compared(*call) for call in ran} <= PERMITTED
    assert len(ran) <= 1  # it was asked for one call, and has not answered it


@bounded(150)
@given(requests())
def test_what_goes_on_is_understood(data: bytes) -> None:
    """Where the relay takes a request for whole, the Tentacle does too: neither waits for a frame, nor has one left over."""
    visit = Visit(rules=ALLOWED).answered()
    visit.says(data)
    call = visit.front._exchange
    if call is not None and call.state is State.CALL:
        tentacle = LenientTentacle()
        tentacle.hears(visit.lease.link.data)
        assert len(tentacle.ran) == 1
