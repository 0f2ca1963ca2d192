"""The listening Tentacle's state machine (wire.md 3.2), against a raw Octopus."""

import zlib

import bson
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, NULL_ENVELOPE, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.peers.documents import deflate, encode
from relay.peers.errors import TruncatedError
from relay.peers.messages import Request, Response, endpoint
from relay.peers.services import Service
from relay.peers.streams import DataStream


@pytest.fixture
def meet(new_tentacle, raw_dial):
    """A Tentacle and a raw Octopus that has been answered MX-SERVER."""

    async def make(**options):
        tentacle = new_tentacle(**options)
        peer = await raw_dial(await tentacle.listen())
        peer.say(PREAMBLE, CLIENT_IDENTITY)
        assert await peer.records(1) == [SERVER_IDENTITY]
        return tentacle, peer

    return make


def request(service, method, *params):
    """The units of a request without the streams' bodies, and its id."""
    streams = []
    made = Request.new(1, endpoint("https://h:1/", "A" * 40), service, method, list(params))
    return deflate(encode(made.document(streams))), made.id


def message(record):
    return bson.decode(zlib.decompress(record, -15))["Message"]


CAPABILITIES, _ = request("ICapabilitiesServiceV2", "GetCapabilities")


@pytest_twisted.ensureDeferred
async def test_calls_and_an_end(meet):
    tentacle, peer = await meet()
    for number in range(3):
        envelope, id_ = request("ICapabilitiesServiceV2", "GetCapabilities")
        peer.say(envelope)
        reply = message((await peer.records(2 * number + 2))[-1])
        assert reply["id"] == id_
        assert reply["result"]["SupportedCapabilities"] == ["IScriptService", "IFileTransferService", "IScriptServiceV2"]
        if number < 2:
            peer.say(NEXT)
            assert (await peer.records(2 * number + 3))[-1] == PROCEED
    peer.say(END)
    await peer.ended()
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_a_recorded_octopus_is_answered_as_it_was(meet, recording):
    """What the recorded Octopus sent until its download, whose file this Tentacle does not have."""
    tentacle, peer = await meet()
    recorded = recording("listening-head-to-head")[3:]
    said = [record for side, record in recorded if side == "dialler"]
    theirs = [record for side, record in recorded if side == "listener"]
    # capabilities, NEXT, an upload of 1000 bytes, NEXT, an upload of none
    for units in ([0], [1], [2, 3, 4, 5, 6], [7], [8, 9, 10, 11]):
        before = len(peer.came)
        peer.say(*(said[unit] for unit in units))
        await peer.records(before + 1)
    ours = peer.came[1:]
    assert len(ours) == 5
    for our, their in zip(ours, theirs, strict=False):
        if our == PROCEED:
            assert their == PROCEED
        else:
            ours_, theirs_ = message(our), message(their)
            assert list(ours_) == list(theirs_)
            assert ours_["id"] == theirs_["id"]
            assert list(ours_["result"]) == list(theirs_["result"])
            assert ours_["result"].get("Hash") == theirs_["result"].get("Hash")
            assert ours_["result"].get("Length") == theirs_["result"].get("Length")
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("said", [[END], [], [NULL_ENVELOPE]], ids=["END", "a bare end", "a null message"])
async def test_ends_instead_of_a_request(meet, said):
    tentacle, peer = await meet()
    peer.say(*said)
    if not said:
        peer.fin()
    assert await peer.ended() == [SERVER_IDENTITY]
    assert not tentacle.violations


STREAM = DataStream.of_bytes(b"hello")
FIVE = (5).to_bytes(8, "little")
UPLOAD, _ = request("IFileTransferService", "UploadFile", "f", STREAM)

BREACHES = {
    "NEXT instead of a request": ([NEXT], "3"),
    "a request and a byte": ([CAPABILITIES + b"\0"], "2.7 a"),
    "a request in the middle of nowhere": ([b"\xff" * 64], "4.1"),
    "a second request at once": ([CAPABILITIES, CAPABILITIES], "3"),
    "NEXT with the request": ([CAPABILITIES + NEXT], "2.7 a"),
    "a response": ([deflate(encode(Response("x").document([])))], "4.4"),
    "another stream": ([UPLOAD, DataStream.of_bytes(b"").id], "5.7"),
    "a body and its closing length": ([UPLOAD, STREAM.id, FIVE, b"hello" + FIVE], "2.7 a"),
    "another closing length": ([UPLOAD, STREAM.id, FIVE, b"hello", bytes(8)], "5.7"),
    "END in a body, too long": ([UPLOAD, STREAM.id, FIVE, b"h", END], "2.7 a"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("case", BREACHES)
async def test_breaches(meet, tmp_path, case):
    said, rule = BREACHES[case]
    tentacle, peer = await meet()
    peer.say(*said)
    await peer.ended()
    assert [error.rule for error in tentacle.violations] == [rule]
    assert list((tmp_path / "home/.spool").iterdir()) == []
    assert not (tmp_path / "home/f").exists()


@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_cut_leaves_nothing(meet, tmp_path):
    tentacle, peer = await meet()
    peer.say(UPLOAD, STREAM.id, FIVE, b"hel")
    peer.fin()
    await peer.ended()
    while not tentacle.violations:
        await _turn()
    assert isinstance(tentacle.violations[0], TruncatedError)
    assert list((tmp_path / "home/.spool").iterdir()) == []
    assert not (tmp_path / "home/f").exists()


class Slow:
    """A service whose call answers when told to."""

    def __init__(self):
        self.called, self.answer = Deferred(), Deferred()
        self.service = Service("ISlowService", "Slow", {"Wait": self.wait})

    async def wait(self):
        self.called.callback(None)
        return await self.answer


@pytest_twisted.ensureDeferred
async def test_bytes_during_a_call_are_a_breach(meet):
    slow = Slow()
    tentacle, peer = await meet(services=[slow.service])
    peer.say(request("ISlowService", "Wait")[0])
    await slow.called
    peer.say(NEXT)
    assert await peer.ended() == [SERVER_IDENTITY]
    assert [error.rule for error in tentacle.violations] == ["3.5"]
    slow.answer.callback("too late")


@pytest_twisted.ensureDeferred
async def test_a_call_goes_on_for_nobody(meet):
    slow = Slow()
    tentacle, peer = await meet(services=[slow.service])
    peer.say(request("ISlowService", "Wait")[0])
    await slow.called
    peer.fin()
    await peer.ended()
    slow.answer.callback("too late")
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_no_time_limit_during_a_call(meet):
    slow, clock = Slow(), Clock()
    _, peer = await meet(services=[slow.service], clock=clock)
    peer.say(request("ISlowService", "Wait")[0])
    await slow.called
    clock.advance(3600)
    slow.answer.callback("at last")
    assert message((await peer.records(2))[-1])["result"] == "at last"


@pytest_twisted.ensureDeferred
async def test_time_limits(meet):
    clock = Clock()
    _, peer = await meet(clock=clock)
    clock.advance(599)
    peer.say(CAPABILITIES)
    await peer.records(2)
    # Row 4 of 3.2: one minute for NEXT.
    clock.advance(59)
    peer.say(NEXT)
    await peer.records(3)
    peer.say(CAPABILITIES)
    await peer.records(4)
    clock.advance(60)
    assert len(await peer.ended()) == 4
    assert not peer.was_reset  # it closes silently


@pytest_twisted.ensureDeferred
async def test_ten_minutes_for_a_request(meet):
    clock = Clock()
    tentacle, peer = await meet(clock=clock)
    clock.advance(600)
    assert await peer.ended() == [SERVER_IDENTITY]
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_stopping_gives_up_a_call(meet):
    slow = Slow()
    tentacle, peer = await meet(services=[slow.service])
    peer.say(request("ISlowService", "Wait")[0])
    await slow.called
    await tentacle.stop()
    assert await peer.ended() == [SERVER_IDENTITY]


def test_thumbprints_and_subscriptions_are_checked(new_tentacle):
    with pytest.raises(ValueError, match="40 hex digits"):
        new_tentacle(trusted=["A"])
    tentacle = new_tentacle()
    with pytest.raises(ValueError, match="40 hex digits"):
        tentacle.poll("127.0.0.1", 1, "A", "poll://x/")
    with pytest.raises(ValueError, match="subscription"):
        tentacle.poll("127.0.0.1", 1, "A" * 40, "poll://x y/")


def _turn():
    """One turn of the reactor."""
    from twisted.internet import reactor

    from relay.peers.times import pause

    return pause(reactor, 0)
