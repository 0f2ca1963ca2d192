import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from admitted import admitted
from fake_link import FIN, LOST, RST
from halibut_bytes import REQUEST, RESPONSE, deflated, frame, pieces, reference, request, single
from tables import OCTOPUS, OTHER_OCTOPUS, PRODUCTION, STAGING, STRANGER, machine
from visit import ID, IDENTIFY, PEER, Visit

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.outcomes import Outcome, Refusal, SentAway
from relay.page import PAGE
from relay.transport.errors import HandshakeError
from routing.table import OctopusLimits

# ---- who it is ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preamble", [PREAMBLE, b"MX\n\n", b"MX and more\r\n\r\n"])
@pytest.mark.parametrize("cut", [lambda data: [data], single, lambda data: pieces(data, [len(data) - 17])])
def test_a_trusted_octopus_is_answered_when_the_back_is_ready(preamble: bytes, cut: Callable[[bytes], list[bytes]]) -> None:
    visit = Visit()
    visit.says(*cut(preamble + CLIENT_IDENTITY))
    assert visit.door.asked == ["production"]
    assert visit.hears() == []
    visit.lease.ready()
    assert visit.hears() == [SERVER_IDENTITY]
    assert visit.refusals == []


def test_the_certificate_says_which_octopus_it_is() -> None:
    visit = Visit(OTHER_OCTOPUS).identified()
    assert visit.door.asked == ["staging"]
    visit.link.lose()
    [call] = visit.door.calls
    assert (call.machine, call.octopus, call.peer) == ("web01", "staging", PEER)


@pytest.mark.parametrize(("certificate", "refusal"), [(STRANGER, Refusal.UNTRUSTED), (None, Refusal.NO_CERTIFICATE)])
def test_whoever_has_no_certificate_of_ours_is_closed_without_a_byte(certificate: bytes | None, refusal: Refusal) -> None:
    visit = Visit(certificate)
    visit.says(PREAMBLE[:-1])
    assert visit.link.ended is None  # the preamble comes first
    visit.says(PREAMBLE[-1:] + CLIENT_IDENTITY)
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.refusals == [refusal]
    assert visit.door.asked == []


@pytest.mark.parametrize("limits", [{"callers": 1}, {"octopus": (replace(PRODUCTION, limits=OctopusLimits(callers=1)),)}])
def test_an_octopus_beyond_the_callers_of_a_limit_is_closed_without_a_byte(limits: dict[str, Any]) -> None:
    visit = Visit(**limits)
    first = admitted(PEER, 0, visit.door.admission)
    assert first.identified(visit.door.machine.octopus[0], visit.door.machine) is None
    visit.says(PREAMBLE, CLIENT_IDENTITY)
    assert (visit.hears(), visit.link.ended, visit.door.asked) == ([], FIN, [])
    assert visit.refusals == [Refusal.CALLERS if "callers" in limits else Refusal.OCTOPUS_CALLERS]


def test_a_call_beyond_the_exchanges_of_the_relay_is_closed_before_it_begins_and_told_as_one_that_failed() -> None:
    visit = Visit(limits={"exchanges": 1})
    assert visit.door.admission.begin("production") is None
    visit.says(PREAMBLE, CLIENT_IDENTITY)
    assert (visit.hears(), visit.link.ended, visit.door.asked) == ([], FIN, [])
    [call] = visit.door.calls
    assert (call.outcome, call.octopus, call.detail) == (
        Outcome.EXCHANGES, "production", "1 calls were under way (relay.limits.exchanges)",
    )  # fmt: skip
    assert call.ended == visit.door.clock.seconds()
    assert visit.door.admission.exchanges == 1


def test_the_end_of_a_call_leaves_its_place_to_the_next() -> None:
    visit = Visit(limits={"exchanges": 1}).identified()
    assert visit.door.admission.exchanges == 1
    visit.link.lose()
    assert (visit.outcomes, visit.door.admission.exchanges) == ([Outcome.CALLER_LEFT], 0)


def test_a_stranger_makes_room_at_once() -> None:
    visit = Visit()
    visit.front.send_away(SentAway(Refusal.STRANGERS, "it made room"))
    assert (bool(visit.link.ended), visit.refusals) == (True, [Refusal.STRANGERS])


def test_the_refusal_of_a_stranger_names_its_thumbprint() -> None:
    visit = Visit(STRANGER)
    visit.says(PREAMBLE)
    [(_, detail)] = visit.door.refusals
    assert detail == f"it showed {hashlib.sha1(STRANGER).hexdigest().upper()}, which is of no Octopus of this machine"


@pytest.mark.parametrize(
    "said",
    [
        b"MX-SUBSCRIBER 1.0 poll://sq-tentapoll/\r\n\r\n",
        b"MX-SERVER 1.0\r\n\r\n",
        b"MX-CLIENTS 1.0\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"x" * 2000,
        bytes(range(256)),
        NEXT,
        END,
        PROCEED,
    ],
)
@pytest.mark.parametrize("separately", [True, False])
def test_whatever_is_no_client_s_identity_is_closed_without_a_byte(said: bytes, separately: bool) -> None:
    visit = Visit()
    visit.says(*([PREAMBLE, said] if separately else [PREAMBLE + said]))
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.refusals == [Refusal.BROKE_PROTOCOL]
    assert visit.door.asked == []
    assert visit.door.calls == []


@pytest.mark.parametrize("certificate", [OCTOPUS, STRANGER, None])
@pytest.mark.parametrize(
    "said", [b"HELLO\n\n", b"HELLO\r\n\r\n", b"GET / HTTP/1.1\r\nHost: web01\r\n\r\n", b"POST /handshake\n\n", b"\n\n"]
)
@pytest.mark.parametrize("cut", [lambda data: [data], single])
def test_whoever_does_not_begin_with_mx_gets_the_page(
    certificate: bytes | None, said: bytes, cut: Callable[[bytes], list[bytes]]
) -> None:
    visit = Visit(certificate)
    visit.says(*cut(said))
    assert (visit.hears(), visit.link.ended) == ([PAGE], FIN)
    assert visit.refusals == []
    assert visit.door.gone == [visit.front]


@pytest.mark.parametrize("said", [[], [PREAMBLE[:3]], [PREAMBLE], [PREAMBLE, CLIENT_IDENTITY[:5]]])
def test_whoever_does_not_say_who_it_is_in_time_is_closed(said: list[bytes]) -> None:
    visit = Visit()
    visit.says(*said)
    visit.check(IDENTIFY)
    assert visit.link.ended is None
    visit.check(5)
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.refusals == [Refusal.IDENTIFY_TIMEOUT]
    assert visit.door.gone == [visit.front]


def test_the_handshake_counts_too() -> None:
    visit = Visit(made=False)
    visit.check(IDENTIFY + 5)
    assert visit.link.ended == FIN
    assert visit.refusals == [Refusal.IDENTIFY_TIMEOUT]


def test_a_caller_that_does_not_accept_our_certificate_is_told_apart() -> None:
    """wire.md 1.5: its handshake completes, and then comes a bare FIN."""
    visit = Visit()
    visit.link.lose()
    assert visit.refusals == [Refusal.CERTIFICATE_REFUSED]
    assert visit.door.gone == [visit.front]


def test_a_handshake_that_fails_is_told() -> None:
    visit = Visit(made=False)
    visit.link.lose(HandshakeError("no shared cipher"))
    assert visit.door.refusals == [(Refusal.TLS, "no shared cipher")]
    assert visit.door.gone == [visit.front]


@pytest.mark.parametrize("said", [[PREAMBLE[:3]], [PREAMBLE], [b"HEL"]])
def test_a_caller_that_changes_its_mind_is_nobody_s_fault(said: list[bytes]) -> None:
    visit = Visit()
    visit.says(*said)
    visit.link.lose()
    assert visit.refusals == []
    assert visit.door.gone == [visit.front]


# ---- calls --------------------------------------------------------------------------------------------------------------


def test_two_calls_on_one_connection_and_its_end() -> None:
    visit = Visit()
    visit.says(PREAMBLE, CLIENT_IDENTITY)
    visit.lease.ready()
    assert visit.hears() == [SERVER_IDENTITY]
    visit.says(REQUEST)
    assert visit.lease.link.written == [REQUEST]
    visit.replies(RESPONSE)
    assert visit.hears() == [RESPONSE]
    assert not visit.front.busy  # and holds no connection of a Tentacle
    visit.says(NEXT)
    assert len(visit.door.backs.leases) == 2
    assert visit.hears() == []
    visit.lease.ready()
    assert visit.hears() == [PROCEED]
    visit.says(REQUEST)
    visit.replies(RESPONSE)
    assert visit.hears() == [RESPONSE]
    visit.says(END)
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.outcomes == [Outcome.OK, Outcome.OK]
    assert visit.refusals == []
    assert visit.door.gone == [visit.front]


@pytest.mark.parametrize("stage", [Visit.identified, Visit.asked_again])
def test_where_no_back_is_to_be_had_the_caller_is_closed_without_a_byte(stage: Callable[[Visit], Visit]) -> None:
    visit = stage(Visit())
    visit.lease.fail(Outcome.REFUSED)
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.outcomes[-1] is Outcome.REFUSED
    assert visit.door.gone == [visit.front]


UPLOAD = deflated(request((reference(ID, 50_000, typed=True),))) + frame(ID, bytes(50_000))


@pytest.mark.parametrize("size", [7, 1000, 16384, 100_000])
def test_a_request_with_a_stream_goes_through_whole_however_it_is_cut(size: int) -> None:
    visit = Visit().answered()
    visit.says(*pieces(UPLOAD, range(0, len(UPLOAD), size)))
    assert visit.lease.link.data == UPLOAD
    visit.replies(RESPONSE)
    visit.says(NEXT)
    assert len(visit.door.backs.leases) == 2
    [call] = visit.door.calls
    assert call.request_bytes == len(UPLOAD)


def test_a_long_stream_is_pumped_past_the_codec() -> None:
    visit = Visit().answered()
    start = len(UPLOAD) - 50_000 - 8
    visit.says(UPLOAD[:start])
    assert visit.link.pump_left == 50_000
    visit.says(UPLOAD[start:-8])
    assert visit.link.pump_left == 0
    visit.says(UPLOAD[-8:])
    visit.replies(RESPONSE)
    assert visit.outcomes == [Outcome.OK]


def test_the_next_turn_before_the_reply_was_delivered_begins_a_call_of_its_own() -> None:
    """No honest caller can say it so early; it must not confuse the two calls."""
    visit = Visit().in_call()
    visit.link.fill()
    visit.replies(RESPONSE)
    visit.says(NEXT)
    visit.lease.ready()
    visit.link.drain()
    assert visit.hears() == [RESPONSE, PROCEED]
    visit.says(REQUEST)
    assert visit.lease.link.written == [REQUEST]
    visit.replies(RESPONSE)
    assert visit.outcomes == [Outcome.OK, Outcome.OK]


# ---- a caller that goes -------------------------------------------------------------------------------------------------

LEAVES = [
    (Visit.identified, Outcome.CALLER_LEFT, FIN),
    (Visit.answered, Outcome.CALLER_LEFT, FIN),
    (Visit.in_call, Outcome.CANCELLED, FIN),
    (Visit.in_reply, Outcome.CANCELLED, FIN),
    (Visit.among_streams, Outcome.CANCELLED, FIN),
    (Visit.asked_again, Outcome.CALLER_LEFT, FIN),
]


@pytest.mark.parametrize(("stage", "outcome", "back"), LEAVES)
@pytest.mark.parametrize("says_end", [True, False])
def test_a_caller_that_leaves(stage: Callable[[Visit], Visit], outcome: Outcome, back: str, says_end: bool) -> None:
    visit = stage(Visit())
    visit.hears()
    if says_end:
        visit.says(END)
    else:
        visit.link.lose()
    assert visit.outcomes[-1] is outcome
    assert visit.lease.link.ended == back
    assert visit.hears() == []
    assert visit.refusals == []
    assert visit.door.gone == [visit.front]
    assert visit.link.ended == (FIN if says_end else LOST)


def test_a_caller_that_leaves_inside_its_request_resets_the_tentacle() -> None:
    visit = Visit().answered()
    visit.says(REQUEST[:20])
    visit.link.lose()
    assert visit.outcomes == [Outcome.CANCELLED]
    assert visit.lease.link.ended == RST


@pytest.mark.parametrize("says_end", [True, False])
def test_a_caller_that_leaves_between_calls(says_end: bool) -> None:
    visit = Visit().served()
    if says_end:
        visit.says(END)
    else:
        visit.link.lose()
    assert visit.outcomes == [Outcome.OK]
    assert visit.refusals == []
    assert visit.door.gone == [visit.front]


def test_a_cancel_is_noticed_while_the_tentacle_has_stopped_reading() -> None:
    visit = Visit().answered()
    visit.lease.link.fill()
    visit.says(UPLOAD[:100])
    assert visit.link.reasons
    visit.link.lose()
    assert visit.outcomes == [Outcome.CANCELLED]
    assert visit.lease.link.ended == RST
    assert visit.link.ended == RST
    assert visit.door.gone == [visit.front]


def test_a_caller_that_does_not_take_what_a_closed_tentacle_had_left_is_reset() -> None:
    visit = Visit().in_call()
    visit.link.fill(1000)
    visit.replies(RESPONSE[:20])
    visit.lease.link.lose()
    visit.door.clock.advance(10)
    assert visit.outcomes == [Outcome.STALLED]
    assert visit.link.ended == RST
    assert visit.door.gone == [visit.front]


# ---- a caller that breaks the protocol ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Visit.identified, REQUEST),
        (Visit.identified, NEXT),
        (Visit.answered, NEXT),
        (Visit.answered, b"\xff" * 20),
        (Visit.answered, deflated(request(service=1))),
        (Visit.in_call, REQUEST),
        (Visit.in_call, NEXT),
        (Visit.in_reply, NEXT),
    ],
)
def test_a_violation_in_a_call_ends_it_and_is_told_once(stage: Callable[[Visit], Visit], said: bytes) -> None:
    visit = stage(Visit())
    visit.hears()
    visit.says(said)
    assert visit.outcomes == [Outcome.CALLER_BROKE]
    assert "(wire.md " in visit.door.calls[0].detail
    assert visit.refusals == []
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.lease.link.ended == FIN
    assert visit.door.gone == [visit.front]


def test_a_violation_among_a_reply_s_streams_resets_the_caller() -> None:
    visit = Visit().among_streams()
    visit.says(NEXT)
    assert visit.outcomes == [Outcome.CALLER_BROKE]
    assert visit.link.ended == RST


@pytest.mark.parametrize("said", [b"NEX\r\n", REQUEST, PROCEED, b"x" * 5000])
def test_a_violation_between_calls_is_a_refusal(said: bytes) -> None:
    visit = Visit().served()
    visit.says(said)
    assert visit.outcomes == [Outcome.OK]
    assert visit.refusals == [Refusal.BROKE_PROTOCOL]
    assert visit.link.ended == FIN
    assert visit.door.gone == [visit.front]


def test_a_frame_for_a_repeated_id_behind_the_reply_closes_the_caller() -> None:
    """wire.md 5.5: whoever would have it is gone."""
    visit = Visit().answered()
    twice = [reference(ID, 4, typed=True)] * 2
    visit.says(deflated(request(twice)) + frame(ID, b"body"))
    visit.replies(RESPONSE)
    visit.hears()
    visit.says(frame(ID, b"body"))
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.outcomes == [Outcome.OK]
    assert visit.refusals == [Refusal.BROKE_PROTOCOL]


# ---- time ---------------------------------------------------------------------------------------------------------------


def test_a_caller_that_is_idle_between_calls_is_closed_behind_front_idle() -> None:
    visit = Visit(front_idle=120).served()
    visit.check(120)
    assert visit.link.ended is None
    visit.check(5)
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.outcomes == [Outcome.OK]
    assert visit.refusals == []


def test_idleness_counts_from_the_end_of_the_call() -> None:
    visit = Visit(front_idle=120).in_call()
    visit.check(300)
    visit.replies(RESPONSE)
    visit.check(120)
    assert visit.link.ended is None


def test_a_caller_that_was_answered_and_sends_nothing_is_closed() -> None:
    visit = Visit(front_idle=120).answered()
    visit.check(130)
    assert visit.outcomes == [Outcome.CALLER_SILENT]
    assert visit.link.ended == FIN
    assert visit.lease.link.ended == FIN


def test_the_identify_deadline_is_not_for_callers_that_wait_for_their_tentacle() -> None:
    visit = Visit().identified()
    visit.check(300)
    assert visit.link.ended is None


# ---- draining, and the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[], [PREAMBLE]])
def test_draining_closes_whoever_has_no_call_without_a_byte(said: list[bytes]) -> None:
    visit = Visit()
    visit.says(*said)
    visit.front.drain()
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.refusals == [Refusal.DRAINING]
    assert visit.door.gone == [visit.front]


def test_draining_closes_whoever_is_between_calls() -> None:
    visit = Visit().served()
    visit.front.drain()
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.outcomes == [Outcome.OK]
    assert visit.refusals == []


@pytest.mark.parametrize("stage", [Visit.identified, Visit.asked_again])
def test_draining_closes_whoever_waits_for_a_tentacle_without_a_byte(stage: Callable[[Visit], Visit]) -> None:
    visit = stage(Visit())
    visit.front.drain()
    assert (visit.hears(), visit.link.ended) == ([], FIN)
    assert visit.outcomes[-1] is Outcome.STOPPED
    assert visit.lease.over


@pytest.mark.parametrize("stage", [Visit.answered, Visit.in_call, Visit.in_reply])
def test_draining_lets_a_call_end_and_closes_behind_it(stage: Callable[[Visit], Visit]) -> None:
    visit = stage(Visit())
    visit.front.drain()
    assert visit.link.ended is None
    if stage is Visit.answered:
        visit.says(REQUEST)
    visit.hears()
    visit.replies(RESPONSE[20:] if stage is Visit.in_reply else RESPONSE)
    assert visit.outcomes == [Outcome.OK]
    assert visit.link.ended == FIN
    assert visit.door.gone == [visit.front]


@pytest.mark.parametrize(
    ("stage", "outcomes", "end"),
    [
        (Visit.identified, [Outcome.STOPPED], FIN),
        (Visit.answered, [Outcome.STOPPED], FIN),
        (Visit.in_call, [Outcome.STOPPED], FIN),
        (Visit.in_reply, [Outcome.STOPPED], FIN),
        (Visit.among_streams, [Outcome.STOPPED], RST),
        (Visit.served, [Outcome.OK], FIN),
        (lambda visit: visit, [], FIN),
    ],
)
def test_a_stop_ends_everything_at_once(stage: Callable[[Visit], Visit], outcomes: list[Outcome], end: str) -> None:
    visit = stage(Visit())
    visit.hears()
    visit.front.stop()
    assert (visit.hears(), visit.link.ended) == ([], end)
    assert visit.outcomes == outcomes
    assert visit.door.gone == [visit.front]
    visit.front.stop()
    assert visit.door.gone == [visit.front]


# ---- a reload -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Visit, Visit.identified, Visit.answered, Visit.in_call, Visit.in_reply, Visit.served])
def test_settings_that_a_connection_fits_leave_it_as_it_is(stage: Callable[..., Visit]) -> None:
    visit = stage() if stage is Visit else stage(Visit())
    visit.front.settle(stays=True)
    assert (visit.link.ended, visit.refusals) == (None, [])
    assert visit.front.trusted


@pytest.mark.parametrize("stage", [Visit.identified, Visit.answered, Visit.in_call, Visit.in_reply])
def test_settings_that_it_does_not_fit_close_it_behind_its_call(stage: Callable[[Visit], Visit]) -> None:
    visit = stage(Visit())
    visit.front.settle(stays=False)
    assert visit.link.ended is None
    if stage is Visit.identified:
        visit.lease.ready()
    if stage in (Visit.identified, Visit.answered):
        visit.says(REQUEST)
    visit.replies(RESPONSE[20:] if stage is Visit.in_reply else RESPONSE)
    assert (visit.outcomes, visit.link.ended) == ([Outcome.OK], FIN)


def test_settings_that_it_does_not_fit_close_it_between_calls() -> None:
    visit = Visit().served()
    visit.front.settle(stays=False)
    assert (visit.hears(), visit.link.ended, visit.refusals) == ([], FIN, [])


@pytest.mark.parametrize("said", [[], [PREAMBLE]])
def test_whoever_has_made_no_call_makes_one(said: list[bytes]) -> None:
    visit = Visit()
    visit.says(*said)
    visit.front.settle(stays=False)
    assert visit.link.ended is None
    visit.says(*[PREAMBLE, CLIENT_IDENTITY][len(said) :])
    visit.lease.ready()
    visit.says(REQUEST)
    visit.replies(RESPONSE)
    assert (visit.outcomes, visit.link.ended) == ([Outcome.OK], FIN)


@pytest.mark.parametrize(
    ("stage", "outcomes", "end"),
    [
        (Visit.identified, [Outcome.CUT], FIN),
        (Visit.answered, [], None),
        (Visit.in_call, [], None),
        (Visit.served, [Outcome.OK], FIN),
        (Visit.asked_again, [Outcome.OK, Outcome.CUT], FIN),
    ],
)
def test_settings_that_do_not_trust_it_let_no_call_begin(
    stage: Callable[[Visit], Visit], outcomes: list[Outcome], end: str | None
) -> None:
    visit = stage(Visit())
    visit.hears()
    visit.door.machine = machine(octopus=(STAGING,))
    assert not visit.front.trusted
    visit.front.settle(stays=True)
    assert (visit.hears(), visit.outcomes, visit.link.ended) == ([], outcomes, end)
    if end is None:
        if stage is Visit.answered:
            visit.says(REQUEST)
        visit.replies(RESPONSE)
        assert (visit.outcomes, visit.link.ended) == ([Outcome.OK], FIN)


def test_settings_may_know_it_by_another_name() -> None:
    visit = Visit().served()
    assert visit.front.octopus == "production"
    visit.door.machine = machine(octopus=(replace(PRODUCTION, name="renamed"),))
    visit.front.settle(stays=True)
    visit.says(NEXT)
    assert visit.door.asked == ["production", "renamed"]
    assert visit.front.octopus == "renamed"


@pytest.mark.parametrize(
    ("stage", "outcomes", "end"),
    [
        (Visit.identified, [Outcome.CUT], FIN),
        (Visit.in_call, [Outcome.CUT], FIN),
        (Visit.among_streams, [Outcome.CUT], RST),
        (Visit.served, [Outcome.OK], FIN),
        (lambda visit: visit, [], FIN),
    ],
)
def test_a_cut_ends_everything_at_once_and_says_why(stage: Callable[[Visit], Visit], outcomes: list[Outcome], end: str) -> None:
    visit = stage(Visit())
    visit.hears()
    visit.front.cut("an operator")
    assert (visit.hears(), visit.link.ended, visit.outcomes) == ([], end, outcomes)
    if outcomes == [Outcome.CUT]:
        assert visit.door.calls[0].detail == "an operator"
    assert visit.door.gone == [visit.front]
