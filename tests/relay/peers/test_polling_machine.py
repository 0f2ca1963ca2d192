"""Octopus's polling port (wire.md 3.4, 6), against raw and real polling Tentacles."""

import zlib

import bson
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relay.halibut.lines import (
    CLIENT_IDENTITY,
    END,
    NEXT,
    NULL_ENVELOPE,
    PREAMBLE,
    PROCEED,
    SERVER_IDENTITY,
    subscriber_identity,
)
from relay.peers.documents import deflate, encode
from relay.peers.errors import ConnectingError, PeerError, TransferError
from relay.peers.messages import Response
from relay.peers.times import pause

POLL = "poll://SQ-TENTAPOLL/"


@pytest.fixture
def meet(new_octopus, raw_dial, thumbprint):
    """An Octopus, its machine, and a way to have raw pollers come that have been answered MX-SERVER."""

    async def make(**options):
        octopus = new_octopus(**options)
        port = await octopus.listen()
        machine = octopus.polling_machine(POLL, thumbprint("tentacle"))

        async def poller():
            peer = await raw_dial(port, "tentacle")
            peer.say(PREAMBLE, subscriber_identity("poll://sq-tentapoll/"))
            assert await peer.records(1) == [SERVER_IDENTITY]
            return peer

        return octopus, machine, poller

    return make


def calling(machine, method="Method"):
    return Deferred.fromCoroutine(machine.call("IService", method))


def message(record):
    return bson.decode(zlib.decompress(record, -15))["Message"]


def reply(request, result=None):
    return deflate(encode(Response(message(request)["id"], result).document([])))


@pytest_twisted.ensureDeferred
async def test_a_waiting_poller_gets_the_request_at_once_and_the_next_after_next(meet):
    octopus, machine, poller = await meet()
    peer = await poller()
    for number in range(3):
        call = calling(machine)
        request = (await peer.records(2 * number + 2))[-1]
        assert message(request)["endpoint"]["BaseUri"] == "poll://sq-tentapoll/"
        peer.say(reply(request, number), NEXT)
        assert await call == number
        assert (await peer.records(2 * number + 3))[-1] == PROCEED
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_requests_wait_in_order_for_a_poller(meet):
    _, machine, poller = await meet()
    calls = [calling(machine, f"Method{number}") for number in range(3)]
    peer = await poller()
    for number, call in enumerate(calls):
        request = (await peer.records(2 * number + 2))[-1]
        assert message(request)["method"] == f"Method{number}"
        peer.say(reply(request), NEXT)
        await call


@pytest_twisted.ensureDeferred
async def test_the_poller_that_has_waited_longest_takes_the_request(meet):
    _, machine, poller = await meet()
    first, second = await poller(), await poller()
    calls = [calling(machine, "A"), calling(machine, "B")]
    assert message((await first.records(2))[-1])["method"] == "A"
    assert message((await second.records(2))[-1])["method"] == "B"
    for peer, call in zip((first, second), calls, strict=True):
        peer.say(reply(peer.came[-1]))
        await call


@pytest_twisted.ensureDeferred
async def test_a_null_every_thirty_seconds(meet):
    clock = Clock()
    octopus, _, poller = await meet(clock=clock)
    peer = await poller()
    for number in range(3):
        clock.advance(29)
        assert len(peer.came) == 1 + 2 * number
        clock.advance(1)
        assert (await peer.records(2 + 2 * number))[-1] == NULL_ENVELOPE
        peer.say(NEXT)
        assert (await peer.records(3 + 2 * number))[-1] == PROCEED
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_next_is_waited_for_one_minute(meet):
    clock = Clock()
    _, _, poller = await meet(clock=clock)
    peer = await poller()
    clock.advance(30)
    await peer.records(2)
    clock.advance(60)
    assert await peer.ended() == [SERVER_IDENTITY, NULL_ENVELOPE]


@pytest_twisted.ensureDeferred
async def test_a_request_that_nobody_collects(meet):
    clock = Clock()
    _, machine, _ = await meet(clock=clock)
    call = calling(machine)
    clock.advance(119)
    assert not call.called
    clock.advance(1)
    with pytest.raises(ConnectingError, match=r"did not collect the request within the allowed time \(00:02:00\)"):
        await call


@pytest_twisted.ensureDeferred
async def test_a_poller_that_went_away_gets_no_request(meet):
    octopus, machine, poller = await meet()
    gone = await poller()
    gone.fin()
    await gone.ended()
    there = await poller()
    call = calling(machine)
    there.say(reply((await there.records(2))[-1], "done"))
    assert await call == "done"
    assert not octopus.violations


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("said", [[END], []], ids=["END", "a bare end"])
async def test_an_end_after_pickup_is_a_transfer_error(meet, said):
    octopus, machine, poller = await meet()
    peer = await poller()
    call = calling(machine)
    await peer.records(2)
    peer.say(*said)
    peer.fin()
    with pytest.raises(TransferError):
        await call
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_a_cancel_before_pickup_takes_the_request_back(meet):
    _, machine, poller = await meet()
    call = calling(machine)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    peer = await poller()
    again = calling(machine, "Second")
    assert message((await peer.records(2))[-1])["method"] == "Second"
    peer.say(reply(peer.came[-1]))
    await again


@pytest_twisted.ensureDeferred
async def test_a_cancel_after_pickup_closes_without_a_byte(meet):
    octopus, machine, poller = await meet()
    peer = await poller()
    call = calling(machine)
    await peer.records(2)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert len(await peer.ended()) == 2
    assert not octopus.violations


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("identity", "caller"),
    [
        (subscriber_identity("poll://sq-tentapoll/"), "intruder"),
        (subscriber_identity("poll://sq-tentapoll/"), None),
        (CLIENT_IDENTITY, "tentacle"),
    ],
)
async def test_who_may_not_poll_gets_not_one_byte(new_octopus, raw_dial, thumbprint, identity, caller):
    octopus = new_octopus()
    octopus.polling_machine(POLL, thumbprint("tentacle"))
    octopus.polling_machine("poll://another-one/", thumbprint("intruder"))
    peer = await raw_dial(await octopus.listen(), caller)
    peer.say(PREAMBLE, identity)
    assert await peer.ended() == []
    assert [error.rule for error in octopus.violations] == (["2.3"] if identity == CLIENT_IDENTITY else [])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("said", "rule"), [([NEXT], "3.5"), ([b"\0"], "3.5")])
async def test_bytes_of_a_parked_poller_are_a_breach(meet, said, rule):
    octopus, machine, poller = await meet()
    peer = await poller()
    peer.say(*said)
    await peer.ended()
    while not octopus.violations:
        await pause(reactor, 0)
    assert [error.rule for error in octopus.violations] == [rule]
    call = calling(machine)
    other = await poller()
    other.say(reply((await other.records(2))[-1]))
    await call


@pytest_twisted.ensureDeferred
async def test_a_breach_in_the_reply_is_told_to_the_caller(meet):
    octopus, machine, poller = await meet()
    peer = await poller()
    call = calling(machine)
    request = (await peer.records(2))[-1]
    peer.say(reply(request) + NEXT)
    with pytest.raises(PeerError) as error:
        await call
    assert error.value.rule == "2.7 a"
    assert list(octopus.violations) == [error.value]


@pytest_twisted.ensureDeferred
async def test_stopping_fails_what_is_queued(meet):
    octopus, machine, _ = await meet()
    call = calling(machine)
    await octopus.stop()
    with pytest.raises(ConnectingError, match="stopped"):
        await call


@pytest_twisted.ensureDeferred
async def test_whoever_is_trusted_may_poll_for_what_nobody_calls(new_octopus, raw_dial, thumbprint):
    octopus = new_octopus()
    octopus.polling_machine(POLL, thumbprint("tentacle"))
    peer = await raw_dial(await octopus.listen(), "tentacle")
    peer.say(PREAMBLE, subscriber_identity("poll://another/"))
    assert await peer.records(1) == [SERVER_IDENTITY]
    assert not octopus.violations
