import json
import re
import time
import uuid
from typing import Any

import pytest
from halibut_bytes import bounded
from hypothesis import given
from hypothesis import strategies as st
from json_lines import JsonLines
from twisted.internet.task import Clock

from relay.admin import access_log
from relay.admin.access_log import AccessLog, format_call, format_passed
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.call import Call
from relay.halibut.message import Kind, Message, Reference
from relay.outcomes import Outcome
from relay.passed import Passed

# In the order in which the head of access_log.py documents them.
FIELDS = [
    "time", "relay", "machine", "octopus", "peer", "service", "method", "activity", "outcome", "detail", "reused",
    "request_bytes", "request_streams", "reply_bytes", "reply_streams", "queue_ms", "dial_ms", "first_byte_ms", "total_ms",
]  # fmt: skip
ACTIVITY = uuid.UUID("8a4b1c9e-1111-4222-8333-000000000001")
STREAM = Reference(bytes(16), 5)
STAMP = "2026-11-24T12:00:00.123Z"


def whole_call(**changed: Any) -> Call:
    request = Message(Kind.REQUEST, "call 1", ACTIVITY.bytes_le, "IScriptServiceV2", "StartScript", streams=(STREAM,))
    fields: dict[str, Any] = {
        "machine": "web01",
        "octopus": "production",
        "peer": "192.0.2.1:50000",
        "began": 100.0,
        "served": 100.0015,
        "ready": 100.02,
        "requested": 100.5,
        "replied": 102.75,
        "ended": 103.0,
        "reused": True,
        "request": request,
        "reply": Message(Kind.RESPONSE, "call 1", streams=(STREAM, STREAM)),
        "request_bytes": 1234,
        "reply_bytes": 567,
        "outcome": Outcome.OK,
    }
    return Call(**{**fields, **changed})


def line(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(format_call(STAMP, '"dc-east"', call))
    assert list(found) == FIELDS
    return found


def test_a_whole_call() -> None:
    assert line(whole_call()) == {
        "time": STAMP,
        "relay": "dc-east",
        "machine": "web01",
        "octopus": "production",
        "peer": "192.0.2.1:50000",
        "service": "IScriptServiceV2",
        "method": "StartScript",
        "activity": str(ACTIVITY),
        "outcome": "ok",
        "detail": "",
        "reused": True,
        "request_bytes": 1234,
        "request_streams": 1,
        "reply_bytes": 567,
        "reply_streams": 2,
        "queue_ms": 1.5,
        "dial_ms": 18.5,
        "first_byte_ms": 2250.0,
        "total_ms": 3000.0,
    }


def test_a_caller_that_left_in_the_queue() -> None:
    found = line(
        Call("web01", "production", "192.0.2.1:50000", began=100.0, ended=107.5, outcome=Outcome.CALLER_LEFT, detail="closed")
    )
    assert {name: found[name] for name in FIELDS[5:]} == {
        "service": None,
        "method": None,
        "activity": None,
        "outcome": "caller-left",
        "detail": "closed",
        "reused": False,
        "request_bytes": 0,
        "request_streams": 0,
        "reply_bytes": 0,
        "reply_streams": 0,
        "queue_ms": 7500.0,
        "dial_ms": None,
        "first_byte_ms": None,
        "total_ms": 7500.0,
    }


def test_a_request_without_an_activity() -> None:
    assert line(whole_call(request=Message(Kind.REQUEST, "call 1", None, "IScriptService", "StartScript")))["activity"] is None


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_is_its_word(outcome: Outcome) -> None:
    assert line(whole_call(outcome=outcome))["outcome"] == outcome.value


@bounded(100)
@given(st.uuids())
def test_the_activity_is_shown_as_octopus_shows_it(activity: uuid.UUID) -> None:
    """wire.md 4.4: the bytes are in .NET's order."""
    request = Message(Kind.REQUEST, "call 1", activity.bytes_le, "IScriptService", "StartScript")
    assert line(whole_call(request=request))["activity"] == str(activity)


@bounded(200)
@given(st.text(st.characters(codec=None), max_size=50), st.text(max_size=50))
def test_whatever_a_caller_sends_stays_inside_its_string(service: str, method: str) -> None:
    """Among it quotes, new lines, other lines of a log, terminal sequences, and halves of surrogate pairs."""
    call = whole_call(request=Message(Kind.REQUEST, "call 1", None, service, method), detail=service + method)
    text = format_call(STAMP, '"dc-east"', call)
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text)
    assert (found["service"], found["method"], found["detail"]) == (service, method, service + method)
    assert list(found) == FIELDS


def test_nothing_that_could_be_a_secret_is_in_it() -> None:
    """wire.md 10.20. The call does not even know parameters and endpoint; its ids may hold what a script is called."""
    call = whole_call(
        request=Message(Kind.REQUEST, "secret-id", None, "IScriptService", "StartScript", unknown=("secret-member",))
    )
    assert "secret" not in format_call(STAMP, '"dc-east"', call)


@pytest.mark.parametrize(
    ("now", "stamp"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_521_600.9996, "2026-11-24T12:00:00.999Z"),
        (1_795_521_601.0, "2026-11-24T12:00:01.000Z"),
    ],
)
def test_lines_carry_the_time_of_their_end(monkeypatch: pytest.MonkeyPatch, now: float, stamp: str) -> None:
    clock, lines = Clock(), JsonLines()
    log = AccessLog('dc "east"', LineWriter(clock, lines))
    monkeypatch.setattr(time, "time", lambda: now)
    log.write(whole_call())
    log.write(whole_call(outcome=Outcome.CANCELLED))
    clock.advance(FLUSH_AFTER)
    first, second = lines.found
    assert (first["time"], first["relay"], first["outcome"]) == (stamp, 'dc "east"', "ok")
    assert (second["time"], second["outcome"]) == (stamp, "cancelled")


def passed(**changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "machine": "vault01", "door": "10.0.0.1:11001", "peer": "192.0.2.1:50000", "began": 100.0, "ready": 100.02,
        "replied": 100.12, "ended": 160.0, "request_bytes": 12, "reply_bytes": 34, "outcome": Outcome.CANCELLED,
        "detail": 'the caller\'s side: "reset"\n',
    }  # fmt: skip
    found: dict[str, Any] = json.loads(format_passed(STAMP, '"dc-east"', Passed(**{**fields, **changed})))
    return found


def test_a_connection_that_was_passed_through() -> None:
    assert passed() == {
        "time": STAMP, "relay": "dc-east", "machine": "vault01", "passthrough": True, "door": "10.0.0.1:11001",
        "peer": "192.0.2.1:50000", "outcome": "cancelled", "detail": 'the caller\'s side: "reset"\n', "request_bytes": 12,
        "reply_bytes": 34, "dial_ms": 20.0, "first_byte_ms": 100.0, "total_ms": 60000.0,
    }  # fmt: skip
    never = passed(ready=0.0, replied=0.0, outcome=Outcome.REFUSED)
    assert (never["dial_ms"], never["first_byte_ms"], never["outcome"]) == (None, None, "refused")


def test_its_fields_are_those_that_are_documented() -> None:
    head = access_log.__doc__ or ""
    described = re.findall(r"^    (\w+)  ", head.partition("`passthrough: true`")[2], re.MULTILINE)
    assert list(passed()) == described
