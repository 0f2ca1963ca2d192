from collections.abc import Callable

import pytest
from exchange_scene import (
    BEGAN,
    ID,
    REPLY,
    STREAM,
    Scene,
    acquiring,
    among_streams,
    caller_broke,
    caller_gone,
    delivering,
    envelope,
    frame,
    in_call,
    in_reply,
    in_request,
    lease_fails,
    ready,
    relay_stops,
    reply_message,
    request_message,
    tentacle_broke,
    tentacle_gone,
)
from fake_link import RST

from relay.exchange import SILENCE, STALL, State
from relay.halibut.events import Part, Unit
from relay.halibut.message import Reference
from relay.lease import Close
from relay.outcomes import Outcome
from relay.transport.tcp import CUT_OFF


@pytest.fixture
def scene() -> Scene:
    return Scene()


# ---- how it ends early --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "event", "ends"),
    [
        # Nothing was sent to the Tentacle yet: what was dialled for this caller is closed.
        (acquiring, caller_gone, ["abort fin", "finished caller-left", "caller gone"]),
        (ready, caller_gone, ["abort fin", "finished caller-left", "caller gone"]),
        # A cancel. Inside a request RST, because old Tentacles loop for ever on a FIN inside a stream (wire.md 5.7).
        (in_request, caller_gone, ["abort rst", "finished cancelled", "caller gone"]),
        (in_call, caller_gone, ["abort fin", "finished cancelled", "caller gone"]),
        (in_reply, caller_gone, ["abort fin", "finished cancelled", "caller gone"]),
        (among_streams, caller_gone, ["abort fin", "finished cancelled", "caller gone"]),
        (delivering, caller_gone, ["finished cancelled", "caller gone"]),
        # A caller that breaks the protocol is closed by its front, for the exchange it is gone.
        (acquiring, caller_broke, ["abort fin", "finished caller-broke", "caller gone"]),
        (ready, caller_broke, ["abort fin", "finished caller-broke", "caller gone"]),
        (in_request, caller_broke, ["abort rst", "finished caller-broke", "caller gone"]),
        (in_call, caller_broke, ["abort fin", "finished caller-broke", "caller gone"]),
        (in_reply, caller_broke, ["abort fin", "finished caller-broke", "caller gone"]),
        (among_streams, caller_broke, ["abort fin", "finished caller-broke", "caller gone"]),
        (delivering, caller_broke, ["finished caller-broke", "caller gone"]),
        # Octopus sees what it would see of the Tentacle: a close, and RST only inside a stream.
        (acquiring, lease_fails, ["finished refused", "caller fin"]),
        (in_request, tentacle_gone, ["finished tentacle-gone", "caller fin"]),
        (in_call, tentacle_gone, ["finished tentacle-gone", "caller fin"]),
        (in_reply, tentacle_gone, ["finished tentacle-gone", "caller fin"]),
        (among_streams, tentacle_gone, ["finished tentacle-gone", "caller rst"]),
        (in_call, tentacle_broke, ["finished tentacle-broke", "caller fin"]),
        (among_streams, tentacle_broke, ["finished tentacle-broke", "caller rst"]),
        (acquiring, relay_stops, ["abort fin", "finished stopped", "caller fin"]),
        (ready, relay_stops, ["abort fin", "finished stopped", "caller fin"]),
        (in_request, relay_stops, ["abort rst", "finished stopped", "caller fin"]),
        (in_call, relay_stops, ["abort fin", "finished stopped", "caller fin"]),
        (in_reply, relay_stops, ["abort fin", "finished stopped", "caller fin"]),
        (among_streams, relay_stops, ["abort fin", "finished stopped", "caller rst"]),
        (delivering, relay_stops, ["finished stopped", "caller fin"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_early_end(scene: Scene, state: Callable[[Scene], None], event: Callable[[Scene], None], ends: list[str]) -> None:
    state(scene)
    scene.take_story()
    event(scene)
    assert scene.take_story() == ends
    assert scene.exchange.state is State.ENDED
    assert scene.clock.getDelayedCalls() == []
    # it is told once, whatever comes behind
    caller_gone(scene)
    caller_broke(scene)
    relay_stops(scene)
    scene.caller.link.drain()
    assert scene.take_story() == []


@pytest.mark.parametrize("event", [caller_gone, caller_broke, tentacle_gone, relay_stops])
def test_an_early_end_says_why_and_when(scene: Scene, event: Callable[[Scene], None]) -> None:
    in_call(scene)
    scene.clock.advance(7)
    event(scene)
    assert scene.call.detail
    assert scene.call.ended == BEGAN + 7


@pytest.mark.parametrize(("event", "word"), [(caller_gone, "cancelled"), (relay_stops, "stopped")])
def test_a_request_whose_end_has_not_gone_out_never_arrives(scene: Scene, event: Callable[[Scene], None], word: str) -> None:
    in_call(scene)
    scene.lease.link.fill(1000)
    scene.take_story()
    event(scene)
    assert scene.take_story()[:2] == ["abort rst", f"finished {word}"]


@pytest.mark.parametrize("event", [caller_gone, relay_stops])
def test_one_whose_end_waits_for_others_records_never_arrives_where_it_does_not_go_out(
    scene: Scene, event: Callable[[Scene], None]
) -> None:
    in_call(scene)
    scene.lease.link.full = 1000
    scene.take_story()
    event(scene)
    assert scene.take_story()[0] == "abort rst"


# ---- a Tentacle that has closed, and a caller that is slow --------------------------------------------------------------


def stalled(scene: Scene) -> None:
    """The reply waits for the caller, and the Tentacle, which is paused for that, has closed."""
    in_call(scene)
    scene.caller.link.fill(1000)
    scene.lease.reply(envelope(b"rep"))
    scene.take_story()
    scene.lease.link.lose()


def test_a_caller_that_takes_nothing_from_a_closed_tentacle_is_reset(scene: Scene) -> None:
    stalled(scene)
    scene.clock.advance(STALL - 0.1)
    assert (scene.outcome, scene.caller.link.ended) == (None, None)
    scene.clock.advance(0.1)
    assert scene.caller.link.ended == RST  # at once: what it does not take would keep a FIN waiting too
    assert scene.take_story() == ["abort fin", "finished stalled", "caller fin"]
    assert scene.clock.getDelayedCalls() == []


def test_a_caller_that_takes_something_now_and_then_may_go_on(scene: Scene) -> None:
    stalled(scene)
    for _ in range(10):
        scene.caller.link.unsent -= 1
        scene.clock.advance(STALL)
    assert scene.outcome is None
    scene.clock.advance(STALL)
    assert scene.outcome is Outcome.STALLED


def test_a_reply_that_comes_whole_from_a_closed_tentacle_is_a_reply(scene: Scene) -> None:
    stalled(scene)
    scene.caller.link.drain()
    scene.lease.reply(envelope(b"ly", reply_message(), last=True))
    assert scene.take_story() == ["to caller: envelope b'ly'", "release", "finished ok", "caller keep"]
    assert scene.clock.getDelayedCalls() == []


def test_what_a_slow_caller_had_left_still_arrives_behind_the_reply(scene: Scene) -> None:
    """The reply is all here; the Tentacle's close concerns the pool only."""
    delivering(scene)
    scene.clock.advance(10 * STALL)
    assert scene.outcome is None
    scene.caller.link.drain()
    assert scene.outcome is Outcome.OK


# ---- silence ------------------------------------------------------------------------------------------------------------


def check_every_5_seconds(scene: Scene, seconds: float, idle: float = 600.0) -> None:
    for _ in range(int(seconds / 5)):
        scene.clock.advance(5)
        scene.exchange.check_progress(scene.clock.seconds(), idle)


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        (in_request, ["abort rst", "finished silent", "caller fin"]),
        (in_call, ["abort fin", "finished silent", "caller fin"]),
        (in_reply, ["abort fin", "finished silent", "caller fin"]),
        (delivering, ["finished silent", "caller fin"]),
    ],
)
def test_nothing_moves_for_11_minutes(scene: Scene, state: Callable[[Scene], None], ends: list[str]) -> None:
    state(scene)
    scene.take_story()
    check_every_5_seconds(scene, SILENCE)
    assert scene.take_story() == []
    check_every_5_seconds(scene, 10)
    assert scene.take_story() == ends


@pytest.mark.parametrize(
    ("state", "legs"), [(ready, (0, 0)), (in_request, (1, 1)), (in_call, (1, 1)), (in_reply, (1, 1)), (delivering, (1, 0))]
)
def test_where_nothing_moves_for_65_seconds_the_legs_are_looked_at(
    scene: Scene, state: Callable[[Scene], None], legs: tuple[int, int]
) -> None:
    state(scene)
    lease = scene.lease
    check_every_5_seconds(scene, CUT_OFF + 5)
    assert (scene.caller.link.looked_at, lease.link.looked_at) == (0, 0)
    check_every_5_seconds(scene, 5)
    assert (scene.caller.link.looked_at, lease.link.looked_at) == legs


def test_whatever_moves_is_progress(scene: Scene) -> None:
    scene.lease.ready()
    for _ in range(3):
        check_every_5_seconds(scene, 600)
        scene.request(envelope(b"r"))
    scene.request(envelope(b"request", request_message(streams=STREAM)), *frame(b"")[:2])
    scene.body("tentacle", 3)
    for _ in range(3):
        check_every_5_seconds(scene, 600)
        scene.caller.link.receive(b"b")
    scene.request(frame(b"")[3])
    check_every_5_seconds(scene, 600)
    scene.caller.link.fill(3)
    for _ in range(3):
        scene.lease.reply(envelope(b"r"))
        check_every_5_seconds(scene, 600)
    for _ in range(3):
        scene.caller.link.unsent -= 1
        check_every_5_seconds(scene, 600)
    assert scene.outcome is None


def test_an_acquisition_is_not_silence(scene: Scene) -> None:
    """Its own deadline ends it."""
    check_every_5_seconds(scene, 2 * SILENCE)
    assert scene.outcome is None


def test_a_caller_that_sends_no_request_is_closed_behind_front_idle(scene: Scene) -> None:
    scene.lease.ready()
    scene.take_story()
    check_every_5_seconds(scene, 60, idle=60)
    assert scene.take_story() == []
    check_every_5_seconds(scene, 5, idle=60)
    assert scene.take_story() == ["abort fin", "finished caller-silent", "caller fin"]
    assert scene.call.detail == "no request within 60 s"


# ---- ids that repeat (wire.md 5.5) --------------------------------------------------------------------------------------

TWICE = (Reference(ID, 4), Reference(ID, 4))


def whole_reply_with_more_to_come(scene: Scene) -> None:
    in_call(scene)
    scene.lease.more_frames = True
    scene.lease.reply(envelope(b"reply", reply_message(streams=TWICE)), *frame(b"body"))
    scene.take_story()


def test_more_frames_of_a_request_go_to_the_tentacle(scene: Scene) -> None:
    scene.lease.ready()
    scene.request(envelope(b"request", request_message(streams=TWICE)), *frame(b"body"))
    scene.request(*frame(b"more", extra=True))
    assert scene.lease.link.data.endswith(b"more" + (4).to_bytes(8, "little"))
    scene.lease.reply(REPLY)
    assert scene.outcome is Outcome.OK
    assert scene.call.request_bytes == 7 + 2 * (16 + 8 + 4 + 8)


def test_more_frames_of_a_reply_go_to_the_caller(scene: Scene) -> None:
    whole_reply_with_more_to_come(scene)
    assert scene.outcome is None
    scene.lease.reply(*frame(b"more", extra=True))
    assert scene.caller.link.data.endswith(b"more" + (4).to_bytes(8, "little"))
    assert scene.call.reply_bytes == 5 + 2 * (16 + 8 + 4 + 8)


def test_the_caller_s_next_turn_says_that_no_more_of_them_come(scene: Scene) -> None:
    whole_reply_with_more_to_come(scene)
    scene.exchange.caller_turns()
    assert scene.take_story() == ["abort fin", "finished ok", "caller keep"]


def test_a_caller_that_goes_away_behind_the_whole_reply_has_had_it(scene: Scene) -> None:
    whole_reply_with_more_to_come(scene)
    scene.exchange.caller_gone("END")
    assert scene.take_story() == ["abort fin", "finished ok", "caller keep"]


def test_a_tentacle_that_closes_in_the_place_of_more_frames_closes_the_caller(scene: Scene) -> None:
    whole_reply_with_more_to_come(scene)
    scene.lease.lose()
    assert scene.take_story() == ["finished tentacle-gone", "caller fin"]


def test_one_more_frame_behind_the_reply_never_reaches_a_released_connection(scene: Scene) -> None:
    """The connection may serve another caller by now."""
    scene.lease.ready()
    scene.request(envelope(b"request", request_message(streams=TWICE)), *frame(b"body"))
    scene.caller.link.fill()
    scene.lease.reply(REPLY)
    scene.take_story()
    written = list(scene.lease.link.written)
    scene.request(Part(Unit.STREAM_ID, ID, extra=True))
    assert scene.lease.link.written == written
    assert scene.take_story() == ["finished caller-broke", "caller fin"]


def test_a_caller_that_turns_before_it_has_all_of_the_reply_ends_that_exchange(scene: Scene) -> None:
    """No honest one can: its front begins another exchange on the same connection."""
    delivering(scene)
    scene.take_story()
    scene.exchange.caller_turns()
    assert scene.take_story() == ["finished ok", "caller keep"]
    scene.caller.link.drain()
    assert scene.take_story() == []


@pytest.mark.parametrize("state", [acquiring, ready, in_request, in_call, in_reply])
def test_it_is_not_the_caller_s_turn_before_the_whole_reply(scene: Scene, state: Callable[[Scene], None]) -> None:
    state(scene)
    scene.take_story()
    scene.exchange.caller_turns()
    assert scene.take_story() == []
    assert scene.outcome is None


def test_keep_is_for_callers_that_go_on(scene: Scene) -> None:
    in_call(scene)
    scene.lease.reply(REPLY)
    assert scene.caller.ends == [Close.KEEP]
