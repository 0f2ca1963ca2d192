"""The polling Tentacle's loop (wire.md 3.3, 6.5), against a raw Octopus."""

import zlib
from itertools import pairwise

import bson
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock

from relay.halibut.lines import END, NEXT, NULL_ENVELOPE, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.peers.documents import deflate, encode
from relay.peers.messages import Request, endpoint
from relay.peers.times import pause


@pytest.fixture
def meet(raw_listen, new_tentacle, thumbprint):
    """A polling Tentacle with its waits on a Clock, the raw port that it polls, and that clock."""

    def make():
        clock, listener = Clock(), raw_listen("octopus")
        tentacle = new_tentacle(trusted=(), clock=clock)
        tentacle.poll("127.0.0.1", listener.port, thumbprint("octopus"), "poll://SQ-TENTAPOLL/")
        return tentacle, listener, clock

    return make


async def identified(listener, number=0):
    peer = await listener.peer(number)
    assert await peer.records(2) == [PREAMBLE, b"MX-SUBSCRIBER 1.0 poll://sq-tentapoll/\r\n\r\n"]
    peer.say(SERVER_IDENTITY)
    return peer


def request():
    made = Request.new(1, endpoint("poll://sq-tentapoll/", "A" * 40), "ICapabilitiesServiceV2", "GetCapabilities", [])
    return deflate(encode(made.document([])))


@pytest_twisted.ensureDeferred
async def test_nulls_and_requests(meet):
    tentacle, listener, _ = meet()
    peer = await identified(listener)
    peer.say(NULL_ENVELOPE)
    assert (await peer.records(3))[-1] == NEXT
    peer.say(PROCEED, request())
    reply, after = (await peer.records(5))[-2:]
    assert "SupportedCapabilities" in bson.decode(zlib.decompress(reply, -15))["Message"]["result"]
    assert after == NEXT
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_an_envelope_is_waited_for_one_minute(meet):
    tentacle, listener, clock = meet()
    peer = await identified(listener)
    while not any(call.getTime() == 60 for call in clock.getDelayedCalls()):
        await pause(reactor, 0)
    clock.advance(60)
    assert len(await peer.ended()) == 2
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("said", "rule"), [([END], "3"), ([NULL_ENVELOPE, PROCEED, PROCEED], "3"), ([NULL_ENVELOPE + b"x"], "2.7 a")]
)
async def test_breaches_end_the_connection_and_the_tentacle_comes_back(meet, said, rule):
    tentacle, listener, clock = meet()
    peer = await identified(listener)
    peer.say(*said)
    await peer.ended()
    assert [error.rule for error in tentacle.violations] == [rule]
    await dialled_again_after(clock, 5)
    await identified(listener, 1)


async def dialled_again_after(clock, seconds):
    """Wait until the Tentacle pauses, see for how long, and let it go on."""
    while not (waiting := [call for call in clock.getDelayedCalls() if call.func.__name__ == "callback"]):
        await pause(reactor, 0)
    wait = waiting[0].getTime() - clock.seconds()
    if seconds is not None:
        assert wait == pytest.approx(seconds)
    clock.advance(wait)
    return wait


@pytest_twisted.ensureDeferred
async def test_the_back_off_grows_to_two_minutes_and_starts_anew_after_mx_server(meet):
    _, listener, clock = meet()
    waits = []
    for number in range(12):
        peer = await listener.peer(number)
        await peer.records(2)
        peer.fin()
        await peer.ended()
        waits.append(await dialled_again_after(clock, None))
    assert waits[0] == pytest.approx(5)
    assert all(later > earlier - 1e-6 for earlier, later in pairwise(waits))
    assert waits[-1] == pytest.approx(120)
    (await identified(listener, 12)).fin()
    await dialled_again_after(clock, 5)


@pytest_twisted.ensureDeferred
async def test_a_wrong_octopus_gets_a_bare_end(raw_listen, new_tentacle, thumbprint):
    listener = raw_listen("intruder")
    tentacle = new_tentacle(trusted=())
    tentacle.poll("127.0.0.1", listener.port, thumbprint("octopus"), "poll://x/")
    assert await (await listener.peer()).ended() == []
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_stopping_ends_without_a_byte(meet):
    tentacle, listener, _ = meet()
    peer = await identified(listener)
    peer.say(NULL_ENVELOPE)
    await peer.records(3)
    await tentacle.stop()
    assert len(await peer.ended()) == 3
