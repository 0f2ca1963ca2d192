import gc
from collections.abc import Callable

import pytest
from exchange_scene import (
    BEGAN,
    ID,
    READY,
    REPLY,
    REQUEST,
    STREAM,
    Scene,
    acquiring,
    caller_gone,
    envelope,
    frame,
    in_call,
    ready,
    relay_stops,
    reply_message,
    request_message,
    tentacle_gone,
)

from relay.exchange import State
from relay.halibut.message import Kind, Message
from relay.outcomes import Outcome


@pytest.fixture
def scene() -> Scene:
    return Scene()


# ---- one call -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [lambda scene: scene.lease.reply(REPLY), caller_gone, tentacle_gone, relay_stops])
def test_at_its_end_it_lets_go_of_its_lease(scene: Scene, end: Callable[[Scene], None]) -> None:
    """The lease holds it: if each held the other, only the collector could free them."""
    in_call(scene)
    assert any(scene.exchange is holder for holder in gc.get_referrers(scene.lease))
    end(scene)
    assert scene.exchange.state is State.ENDED
    assert not any(scene.exchange is holder for holder in gc.get_referrers(scene.lease))


def test_a_call_without_streams(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(envelope(b"req"), envelope(b"uest", request_message(), last=True))
    scene.lease.reply(envelope(b"rep"), envelope(b"ly", reply_message(), last=True))
    assert scene.story == [
        "acquire",
        "answer",
        "to tentacle: envelope b'req'",
        "to tentacle: envelope b'uest'",
        "to caller: envelope b'rep'",
        "to caller: envelope b'ly'",
        "release",
        "finished ok",
        "caller keep",
    ]


def test_a_call_with_streams_both_ways_keeps_each_unit_apart(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(envelope(b"request", request_message(streams=STREAM)), *frame(b"body"))
    scene.lease.reply(envelope(b"reply", reply_message(streams=STREAM)), *frame(b"back"))
    length = (4).to_bytes(8, "little")
    assert scene.lease.link.written == [b"request", ID, length, b"body", length]
    assert scene.caller.link.written == [b"reply", ID, length, b"back", length]
    assert scene.outcome is Outcome.OK


def test_nothing_is_said_to_the_caller_before_the_back_is_ready(scene: Scene) -> None:
    assert scene.take_story() == ["acquire"]
    scene.lease.ready()
    assert scene.take_story() == ["answer"]


def test_the_deadline_counts_from_the_call_s_begin(scene: Scene) -> None:
    assert scene.lease.deadline == BEGAN + READY


def test_an_error_reply_goes_through_like_any_other(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(REQUEST)
    scene.lease.reply(envelope(b"failed", reply_message(failed=True), last=True))
    assert scene.take_story()[-4:] == ["to caller: envelope b'failed'", "release", "finished error-reply", "caller keep"]


def test_a_reply_with_another_id_passes_and_the_call_says_so(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(REQUEST)
    scene.lease.reply(envelope(b"other", reply_message("call 2"), last=True))
    assert scene.caller.link.data == b"other"
    assert scene.outcome is Outcome.OK
    assert scene.call.mismatched


@pytest.mark.parametrize("reply", [reply_message("call 1"), Message(Kind.NULL)])
def test_its_own_reply_or_a_null_one_is_not_another_call_s(scene: Scene, reply: Message) -> None:
    scene.lease.ready()
    scene.request(REQUEST)
    assert not scene.call.mismatched
    scene.lease.reply(envelope(b"own", reply, last=True))
    assert not scene.call.mismatched


def test_bytes_messages_and_times_of_a_call(scene: Scene) -> None:
    scene.clock.advance(1)
    scene.lease.ready()
    scene.clock.advance(2)
    scene.request(envelope(b"request", request_message(streams=STREAM)), *frame(b"body"))
    scene.clock.advance(4)
    scene.lease.reply(envelope(b"reply"))
    scene.clock.advance(8)
    scene.lease.reply(envelope(b"!", reply_message(), last=True))
    [call] = scene.finished
    assert call is scene.call
    assert (call.request_bytes, call.reply_bytes) == (7 + 16 + 8 + 4 + 8, 6)
    assert (call.request, call.reply) == (request_message(streams=STREAM), reply_message())
    assert [call.ready, call.requested, call.replied, call.ended] == [BEGAN + 1, BEGAN + 3, BEGAN + 7, BEGAN + 15]
    assert call.detail == ""


# ---- a back that is lost before the request -----------------------------------------------------------------------------


def test_a_back_that_is_lost_before_the_request_is_replaced_unnoticed(scene: Scene) -> None:
    scene.lease.ready()
    scene.clock.advance(3)
    scene.lease.lose()
    assert scene.take_story() == ["acquire", "answer", "acquire"]
    assert scene.caller.link.reasons  # whatever the caller says now has to wait
    scene.request(envelope(b"req"), envelope(b"uest", request_message(), last=True))  # of a read that was under way
    assert scene.take_story() == []
    assert scene.call.request_bytes == 0
    scene.lease.ready()
    assert scene.take_story() == ["to tentacle: envelope b'req'", "to tentacle: envelope b'uest'"]
    assert not scene.caller.link.reasons
    scene.lease.reply(REPLY)
    assert scene.outcome is Outcome.OK
    assert scene.call.request_bytes == 7


def test_the_replacement_has_the_same_deadline(scene: Scene) -> None:
    scene.lease.ready()
    scene.clock.advance(3)
    scene.lease.lose()
    assert [lease.deadline for lease in scene.back.leases] == [BEGAN + READY] * 2


def test_a_back_is_replaced_once_and_not_again_and_again(scene: Scene) -> None:
    """A Tentacle that answers and closes, over and over, is not dialled in a loop (wire.md 11.4)."""
    scene.lease.ready()
    scene.lease.lose()
    scene.lease.ready()
    scene.take_story()
    scene.lease.lose(detail="closed again")
    assert scene.take_story() == ["finished tentacle-gone", "caller fin"]
    assert scene.call.detail == "closed again"


def test_no_replacement_is_asked_for_behind_the_deadline(scene: Scene) -> None:
    scene.lease.ready()
    scene.clock.advance(READY)
    scene.take_story()
    scene.lease.lose()
    assert scene.take_story() == ["finished tentacle-gone", "caller fin"]


def test_where_the_replacement_fails_the_caller_is_closed(scene: Scene) -> None:
    scene.lease.ready()
    scene.clock.advance(3)
    scene.lease.lose()
    scene.take_story()
    scene.lease.fail(Outcome.REFUSED)
    assert scene.take_story() == ["finished tentacle-gone", "caller fin"]  # it was told that one was ready
    assert scene.call.ready == 0.0  # of the back that counts there was none


def test_a_caller_that_leaves_while_the_back_is_replaced(scene: Scene) -> None:
    scene.lease.ready()
    scene.lease.lose()
    scene.request(envelope(b"req"))
    scene.take_story()
    scene.exchange.caller_gone("closed")
    assert scene.take_story() == ["abort fin", "finished caller-left", "caller gone"]


def test_behind_the_first_byte_no_other_back_is_tried(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(envelope(b"r"))
    scene.take_story()
    scene.lease.lose()
    assert scene.take_story() == ["finished tentacle-gone", "caller fin"]
    assert len(scene.back.leases) == 1


# ---- backpressure -------------------------------------------------------------------------------------------------------


def test_a_tentacle_that_does_not_read_pauses_the_caller(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(envelope(b"req"))
    assert not scene.caller.link.reasons
    scene.lease.link.fill()
    scene.request(envelope(b"uest", request_message(streams=STREAM)))
    assert scene.caller.link.reasons
    assert scene.lease.link.written == [b"req", b"uest"]  # and nothing is kept here
    scene.lease.link.drain()
    assert not scene.caller.link.reasons


def test_a_caller_that_does_not_read_pauses_the_tentacle(scene: Scene) -> None:
    in_call(scene)
    scene.caller.link.fill()
    scene.lease.reply(envelope(b"rep"))
    assert scene.lease.link.reasons
    assert scene.caller.link.written == [b"rep"]
    scene.caller.link.drain()
    assert not scene.lease.link.reasons
    scene.lease.reply(envelope(b"ly", reply_message(), last=True))
    assert scene.outcome is Outcome.OK


def test_a_caller_is_read_again_behind_an_exchange_whose_tentacle_never_drained(scene: Scene) -> None:
    """It answered before it had read everything; the caller's next turn has to be heard nevertheless."""
    scene.lease.ready()
    scene.lease.link.fill()
    scene.request(REQUEST)
    assert scene.caller.link.reasons
    scene.lease.reply(REPLY)
    assert scene.outcome is Outcome.OK
    assert not scene.caller.link.reasons


def test_a_slow_caller_gets_all_of_the_reply_though_the_tentacle_is_free_again(scene: Scene) -> None:
    in_call(scene)
    scene.caller.link.fill()
    scene.lease.reply(envelope(b"rep"))
    assert scene.lease.link.reasons
    scene.take_story()
    scene.lease.reply(envelope(b"ly", reply_message(), last=True))
    assert scene.take_story() == ["to caller: envelope b'ly'", "release"]
    assert not scene.lease.link.reasons  # the pool hears what it says
    assert scene.outcome is None
    scene.clock.advance(5)
    scene.caller.link.drain()
    assert scene.take_story() == ["finished ok", "caller keep"]
    assert scene.call.ended == BEGAN + 5


# ---- streams that go by in a pump ---------------------------------------------------------------------------------------


def test_a_stream_is_pumped_from_link_to_link_and_counted(scene: Scene) -> None:
    scene.lease.ready()
    parts = frame(b"")
    scene.request(envelope(b"request", request_message(streams=STREAM)), *parts[:2])
    done = scene.body("tentacle", 10)
    scene.caller.link.receive(b"01234", b"56")
    assert done() == 0
    scene.caller.link.receive(b"789")
    assert done() == 1
    assert scene.lease.link.written[3:] == [b"01234", b"56", b"789"]
    scene.request(parts[3])
    assert scene.exchange.state is State.CALL
    scene.lease.reply(envelope(b"reply", reply_message(streams=STREAM)), *parts[:2])
    done = scene.body("caller", 3)
    scene.lease.link.receive(b"abc")
    assert done() == 1
    scene.lease.reply(parts[3])
    assert scene.outcome is Outcome.OK
    assert (scene.call.request_bytes, scene.call.reply_bytes) == (7 + 24 + 10 + 8, 5 + 24 + 3 + 8)


@pytest.mark.parametrize("event", [caller_gone, tentacle_gone, relay_stops])
def test_a_request_s_stream_that_is_cut_short_counts_what_went_by(scene: Scene, event: Callable[[Scene], None]) -> None:
    scene.lease.ready()
    scene.request(envelope(b"request", request_message(streams=STREAM)), *frame(b"")[:2])
    scene.body("tentacle", 100)
    scene.caller.link.receive(b"0123456789")
    event(scene)
    assert scene.call.request_bytes == 7 + 24 + 10


@pytest.mark.parametrize("event", [caller_gone, tentacle_gone, relay_stops])
def test_a_reply_s_stream_that_is_cut_short_counts_what_went_by(scene: Scene, event: Callable[[Scene], None]) -> None:
    in_call(scene)
    scene.lease.reply(envelope(b"reply", reply_message(streams=STREAM)), *frame(b"")[:2])
    scene.body("caller", 100)
    scene.lease.link.receive(b"0123456789")
    event(scene)
    assert (scene.call.request_bytes, scene.call.reply_bytes) == (7, 5 + 24 + 10)


@pytest.mark.parametrize("state", [acquiring, ready, in_call])
def test_no_stream_is_pumped_outside_a_message(scene: Scene, state: Callable[[Scene], None]) -> None:
    state(scene)
    scene.body("tentacle", 10)
    scene.body("caller", 10)
    assert scene.caller.link.pump_left == 0
    assert scene.lease.link.pump_left == 0
