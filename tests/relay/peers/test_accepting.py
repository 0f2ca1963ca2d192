"""What a listening peer answers to every kind of caller; the Tentacle stands for both."""

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE, SERVER_IDENTITY, subscriber_identity


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("preamble", [PREAMBLE, b"MX\n\n"])
async def test_a_trusted_caller_is_answered(new_tentacle, raw_dial, preamble):
    peer = await raw_dial(await new_tentacle().listen())
    peer.say(preamble, CLIENT_IDENTITY)
    assert await peer.records(1) == [SERVER_IDENTITY]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["browser-get", "handshake-post", "hello", "long-line-no-newline"])
@pytest.mark.parametrize("caller", ["octopus", None])
async def test_whoever_speaks_another_protocol_gets_the_recorded_page(new_tentacle, raw_dial, recording, name, caller):
    tentacle = new_tentacle()
    recorded = recording("odd-tentacle-head", name)
    peer = await raw_dial(await tentacle.listen(), caller)
    peer.say(*(record for side, record in recorded if side == "dialler"))
    assert await peer.ended() == [record for side, record in recorded if side == "listener"]
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("caller", ["intruder", None])
async def test_an_untrusted_caller_gets_a_bare_end(new_tentacle, raw_dial, caller):
    tentacle = new_tentacle()
    peer = await raw_dial(await tentacle.listen(), caller)
    peer.say(PREAMBLE, CLIENT_IDENTITY)
    assert await peer.ended() == []
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ([PREAMBLE + CLIENT_IDENTITY], "2.1"),
        ([PREAMBLE[:2], PREAMBLE[2:]], "2.1"),
        ([PREAMBLE, CLIENT_IDENTITY[:15], CLIENT_IDENTITY[15:]], "2.4"),
        ([PREAMBLE, b"MX-CLIENT 1.0\n\n"], "2.4"),
        ([PREAMBLE, subscriber_identity("poll://x/")], "2.3"),
    ],
)
async def test_another_introduction_is_a_breach_and_not_answered(new_tentacle, raw_dial, said, rule):
    tentacle = new_tentacle()
    peer = await raw_dial(await tentacle.listen())
    peer.say(*said)
    assert await peer.ended() == []
    assert [error.rule for error in tentacle.violations] == [rule]


@pytest_twisted.ensureDeferred
async def test_a_silent_caller_is_waited_for_one_minute(new_tentacle, raw_dial):
    clock = Clock()
    peer = await raw_dial(await new_tentacle(clock=clock).listen())
    peer.say(PREAMBLE, CLIENT_IDENTITY)
    assert await peer.records(1) == [SERVER_IDENTITY]
    silent = await raw_dial(await new_tentacle(clock=clock).listen())
    silent.say(b"M")
    # Two waits of a minute, and the first caller's wait of ten for its request.
    clock.advance(60)
    assert await silent.ended() == []
    assert not peer.lost


@pytest_twisted.ensureDeferred
async def test_stopping_ends_what_is_connected(new_tentacle, raw_dial):
    tentacle = new_tentacle()
    peer = await raw_dial(await tentacle.listen())
    peer.say(PREAMBLE, CLIENT_IDENTITY)
    await peer.records(1)
    await tentacle.stop()
    assert await peer.ended() == [SERVER_IDENTITY]
    assert not tentacle.violations
