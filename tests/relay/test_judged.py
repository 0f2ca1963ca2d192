"""A call under rules: nothing of it goes on before it is judged; one that is denied is answered, and its caller stays."""

import ipaddress
import zlib
from dataclasses import replace
from typing import Any

import bson
import pytest
from exchange_scene import FakeLease
from halibut_bytes import deflated, frame, guid, pieces, reference, request, response
from visit import PEER, Visit

from relay.exchange import SILENCE
from relay.halibut.lines import NEXT, PROCEED
from relay.judged import KEPT
from relay.outcomes import Outcome, Refusal
from routing.rules import Rule, Rules

RULES = Rules((Rule(("capabilities", "files")),), relay="dc-east", contact="the DMZ team")
ID = guid(7)
BODY = b"body" * 1000
COMMAND = {
    "$type": "Octopus.Shared.Contracts.StartScriptCommand, Octopus.Shared",
    "Files": [{"Contents": reference(ID, len(BODY))}],
}
SCRIPT = request((COMMAND,))
SCRIPT_ID = SCRIPT["Message"]["id"]
ALLOWED = deflated(request(service="ICapabilitiesServiceV2", method="GetCapabilities"))
UPLOAD = deflated(request(("/f", reference(ID, len(BODY), typed=True)), service="IFileTransferService", method="UploadFile"))
DENIED = deflated(request())


def visit(rules: Rules = RULES, **options: Any) -> Visit:
    return Visit(rules=rules, **options).answered()


def error(*records: bytes) -> dict[str, Any]:
    """The one reply in them."""
    (record,) = records
    message = bson.decode(zlib.decompress(record, -zlib.MAX_WBITS))["Message"]
    assert message["id"] == SCRIPT_ID
    assert message["result"] is None
    return message["error"]


def untouched(lease: FakeLease) -> bool:
    """Its Tentacle heard nothing, and its connection is not kept."""
    return lease.over and not lease.link.written and lease.link.ended == "fin"


def test_a_call_that_is_allowed_goes_on_as_it_came() -> None:
    there = visit()
    there.says(ALLOWED)
    assert there.lease.link.written == [ALLOWED]
    there.replies(deflated(response()))
    assert there.outcomes == [Outcome.OK]


def test_a_call_that_is_not_is_answered_and_the_next_one_works() -> None:
    there = visit()
    there.says(DENIED)
    assert untouched(there.lease)
    said = error(*there.hears())
    assert said["message"] == (
        "The relay dc-east did not pass this call on to the machine web01: running scripts is not allowed here. Nothing has "
        "run. Ask the DMZ team."
    )
    assert there.link.ended is None
    (call,) = there.door.calls
    assert (call.outcome, call.detail) == (Outcome.DENIED, "no item of allow lets this caller call IScriptService.StartScript")
    assert call.request is not None
    assert (call.request.service, call.request.method, call.request_bytes) == ("IScriptService", "StartScript", 0)
    there.says(NEXT)
    there.lease.ready()
    assert there.hears() == [PROCEED]
    there.says(ALLOWED)
    assert there.lease.link.written == [ALLOWED]


@pytest.mark.parametrize("level", [6, 0])
def test_its_streams_are_read_to_the_end_and_thrown_away(level: int) -> None:
    there = visit()
    data = deflated(SCRIPT, level) + frame(ID, BODY)
    *most, last = pieces(data, range(0, len(data), 700))
    there.says(*most)
    assert untouched(there.lease)
    assert there.hears() == []
    assert there.link.pump_left == 0
    there.says(last)
    assert "running scripts" in error(*there.hears())["message"]
    assert there.outcomes == [Outcome.DENIED]
    assert there.link.ended is None


def test_an_upload_that_is_allowed_goes_by_in_a_pump() -> None:
    there = visit()
    there.says(UPLOAD, ID, len(BODY).to_bytes(8, "little"), BODY, len(BODY).to_bytes(8, "little"))
    assert there.lease.link.data == UPLOAD + frame(ID, BODY)
    assert there.lease.link.written[-2] == BODY


def test_nothing_goes_on_before_service_and_method_are_read() -> None:
    """Byte by byte, and with a header that comes in front of a large body."""
    there = visit()
    large = deflated(request(("x" * 200_000,), service="IFileTransferService", method="DownloadFile"), level=0)
    header = large.index(b"DownloadFile")
    there.says(*pieces(large[:header], range(header)))
    assert there.lease.link.written == []
    there.says(large[header:100_000])
    assert there.lease.link.data == large[:100_000]  # before the rest of it has come
    there.says(large[100_000:])
    assert there.lease.link.data == large


def test_a_header_behind_a_large_body_is_not_waited_for() -> None:
    there = visit()
    message = request()["Message"]
    late = {"Message": {"params": ["x" * 2 * KEPT], **{key: value for key, value in message.items() if key != "params"}}}
    there.says(*pieces(deflated(late, level=0), range(0, 3 * KEPT, 16_000)))
    assert there.lease.link.written == []
    assert there.outcomes == [Outcome.CALLER_BROKE]
    assert there.link.ended == "fin"


def test_a_denied_call_of_a_large_body_is_answered_behind_it() -> None:
    there = visit()
    large = deflated(request(("x" * 300_000,)), level=0)
    there.says(large[:150_000])
    assert untouched(there.lease)
    assert there.hears() == []
    there.says(large[150_000:])
    assert error(*there.hears())


@pytest.mark.parametrize(
    ("params", "call"),
    [
        (("/f", reference(ID, 4)), ("IFileTransferService", "UploadFile")),
        ((reference(ID, 4, typed=True), "/f"), ("IFileTransferService", "UploadFile")),
        (("/f", reference(ID, 4, typed=True)), ("IFileTransferService", "DownloadFile")),
        (("/f", reference(ID, 4, typed=True)), ("ICapabilitiesServiceV2", "GetCapabilities")),
        ((COMMAND,), ("ICapabilitiesServiceV2", "GetCapabilities")),
    ],
)
def test_a_stream_where_the_method_has_none_ends_both_legs(params: Any, call: tuple[str, str]) -> None:
    there = visit()
    there.says(deflated(request(params, service=call[0], method=call[1])))
    assert untouched(there.lease)
    assert there.outcomes == [Outcome.CALLER_BROKE]
    assert there.link.ended == "fin"


def test_one_id_twice_ends_both_legs() -> None:
    files = [{"Contents": reference(ID, 4)}] * 2
    there = visit(Rules((Rule(("scripts",)),)))
    there.says(deflated(request(({**COMMAND, "Files": files},))))
    assert untouched(there.lease)
    assert there.outcomes == [Outcome.CALLER_BROKE]


def test_a_reply_with_a_stream_where_the_method_has_none_ends_both_legs() -> None:
    there = visit()
    there.says(ALLOWED)
    there.replies(deflated(response(reference(ID, 4, typed=True))))
    assert there.outcomes == [Outcome.TENTACLE_BROKE]
    assert there.link.ended is not None


def test_a_download_may_have_one() -> None:
    there = visit()
    there.says(deflated(request(("/f",), service="IFileTransferService", method="DownloadFile")))
    there.replies(deflated(response(reference(ID, 4, typed=True))) + frame(ID, b"body"))
    assert there.outcomes == [Outcome.OK]


def test_a_caller_that_leaves_before_its_answer_was_denied_all_the_same() -> None:
    there = visit()
    there.says(deflated(SCRIPT) + frame(ID, BODY)[:500])
    there.link.lose()
    assert there.outcomes == [Outcome.DENIED]
    assert untouched(there.lease)


def test_a_caller_that_goes_silent_in_a_denied_call_is_given_up() -> None:
    there = visit()
    there.says(deflated(SCRIPT) + frame(ID, BODY)[:500])
    there.check(SILENCE / 2)
    there.says(frame(ID, BODY)[500:600])
    there.check(SILENCE - 30)
    assert there.outcomes == []  # it moved
    there.check(60)
    assert there.outcomes == [Outcome.SILENT]


def test_an_answer_that_does_not_go_out_is_waited_for() -> None:
    there = visit()
    there.link.fill()
    there.says(DENIED)
    assert there.outcomes == []
    there.link.drain()
    assert there.outcomes == [Outcome.DENIED]


def test_a_back_that_is_lost_before_the_call_is_judged_is_replaced() -> None:
    there = visit()
    there.says(ALLOWED[:20])
    there.lease.lose()
    there.lease.ready()
    there.says(ALLOWED[20:])
    assert there.lease.link.data == ALLOWED


def test_a_call_that_is_denied_while_a_back_is_replaced() -> None:
    there = visit()
    there.lease.lose()
    there.link.reasons.clear()  # what was read already comes all the same
    there.says(DENIED)
    assert error(*there.hears())
    assert there.lease.over
    assert there.link.reasons == set()


# ---- who may come at all ----------------------------------------------------------------------------------------------------


def test_a_caller_that_no_item_is_for_is_closed_without_a_byte() -> None:
    rules = Rules((Rule(octopus=("staging",)), Rule(networks=(ipaddress.ip_network("10.0.0.0/8"),))))
    there = Visit(rules=rules).identified()
    assert there.hears() == []
    assert there.refusals == [Refusal.NOT_ALLOWED]
    assert there.door.refusals[0][1] == f"no item of allow is for octopus production from {PEER.partition(':')[0]}"
    assert there.link.ended == "fin"
    assert there.door.asked == []


def test_a_caller_that_may_do_everything_is_not_judged_by_its_requests() -> None:
    there = visit(Rules((Rule(("scripts",), octopus=("staging",)), Rule(octopus=("production",)))))
    there.says(deflated(request(service="IAny", method="Thing"))[:40])
    assert len(there.lease.link.data) == 40


def test_rules_of_a_reload_hold_from_the_next_call_on() -> None:
    there = Visit().in_call()
    there.door.machine = replace(there.door.machine, rules=RULES)
    there.front.settle(stays=True)
    there.replies(deflated(response(id=SCRIPT_ID)))
    assert there.outcomes == [Outcome.OK]
    there.hears()
    there.says(NEXT)
    there.lease.ready()
    assert there.hears() == [PROCEED]
    there.says(DENIED)
    assert error(*there.hears())
    assert there.outcomes == [Outcome.OK, Outcome.DENIED]


def test_a_caller_that_the_rules_of_a_reload_do_not_let_in_goes() -> None:
    there = Visit().served()
    there.door.machine = replace(there.door.machine, rules=Rules((Rule(octopus=("staging",)),)))
    assert not there.front.trusted
    there.front.settle(stays=True)
    assert there.link.ended == "fin"


def test_a_call_that_is_not_judged_yet_goes_by_the_rules_of_a_reload() -> None:
    there = Visit(rules=RULES).answered()
    there.hears()
    there.door.machine = replace(there.door.machine, rules=Rules((Rule(words=("IOtherService",)),)))
    there.front.settle(stays=True)
    there.says(ALLOWED)
    assert error(*there.hears())
    assert there.outcomes == [Outcome.DENIED]


def test_rules_come_while_a_call_waits_for_its_tentacle() -> None:
    there = Visit().identified()
    there.door.machine = replace(there.door.machine, rules=RULES)
    there.front.settle(stays=True)
    assert (there.outcomes, there.link.ended) == ([Outcome.CUT], "fin")


@pytest.mark.parametrize(
    ("stage", "rules", "disallowed"),
    [
        (Visit.answered, RULES, True),
        (Visit.answered, Rules(), False),
        (Visit.in_call, RULES, True),  # it is StartScript
        (Visit.in_call, Rules((Rule(words=("scripts",)),)), False),
        (Visit.served, RULES, False),
    ],
)
def test_what_the_rules_of_a_reload_would_deny_is_known(stage: Any, rules: Rules, disallowed: bool) -> None:
    there = stage(Visit())
    there.door.machine = replace(there.door.machine, rules=rules)
    assert there.front.disallowed is disallowed
