"""A Wire against raw peers: what is due, how fast, and how it ends. What breaks a unit is in test_framing."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relay.halibut.lines import CLIENT_IDENTITY, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.peers.dialling import Dial
from relay.peers.errors import EndedError, PeerError, StreamLengthError, TruncatedError
from relay.peers.framing import message, next_or_end, proceed
from relay.peers.messages import Request, endpoint
from relay.peers.streams import DataStream
from relay.peers.times import Times
from relay.peers.tls import Identity


@pytest_twisted.async_yield_fixture()
async def meet(raw_listen, pem, thumbprint):
    """An identified wire, the raw peer at its other end, and the violations it has told."""
    made = []

    async def make(clock=reactor, times=None):
        listener = raw_listen()
        violations = []
        dial = Dial(reactor, clock, times or Times(), violations.append)
        pin = thumbprint("tentacle").upper()
        dialled = Deferred.fromCoroutine(
            dial.connect(Identity(pem("octopus")), "127.0.0.1", listener.port, pin, CLIENT_IDENTITY)
        )
        peer = await listener.peer()
        assert await peer.records(2) == [PREAMBLE, CLIENT_IDENTITY]
        peer.say(SERVER_IDENTITY)
        made.append(await dialled)
        return made[-1], peer, violations

    yield make
    for wire in made:
        wire.abort()
        await wire.ended()


def request(*params):
    return Request.new(1, endpoint("https://h:1/", "A" * 40), "IService", "Method", list(params))


@pytest_twisted.ensureDeferred
async def test_units_of_one_turn_travel_in_records_of_their_own(meet):
    wire, peer, _ = await meet()
    wire.send(NEXT)
    wire.send(PROCEED)
    await wire.send_message(request(DataStream.of_bytes(b"x" * 20000)))
    came = (await peer.records(9))[2:]
    assert came[:2] == [NEXT, PROCEED]
    # envelope, id, length, body in two, closing length
    assert [len(record) for record in came[3:]] == [16, 8, 16384, 3616]


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_not_due_end_the_connection(meet):
    wire, peer, violations = await meet()
    peer.say(b"surprise")
    await peer.ended()
    await wire.ended()
    assert [(error.rule, error.data) for error in violations] == [("3.5", b"surprise")]
    with pytest.raises(PeerError, match="none are due"):
        wire.send(NEXT)
    with pytest.raises(PeerError, match="none are due"):
        await wire.receive(proceed())


@pytest_twisted.ensureDeferred
async def test_a_record_too_many_is_noticed_after_the_unit(meet):
    wire, peer, violations = await meet()
    peer.say(PROCEED, PROCEED)
    await wire.receive(proceed())
    await wire.ended()
    assert [error.data for error in violations] == [PROCEED]


@pytest_twisted.ensureDeferred
async def test_a_broken_unit_is_told_to_whoever_waits_and_once(meet):
    wire, peer, violations = await meet()
    peer.say(b"NEXT\n", b"more")
    with pytest.raises(PeerError) as error:
        await wire.receive(next_or_end())
    await wire.ended()
    assert violations == [error.value]


@pytest_twisted.ensureDeferred
async def test_an_end_between_units_is_orderly(meet):
    wire, peer, violations = await meet()
    waiting = wire.receive(next_or_end())
    peer.fin()
    assert await waiting is False
    with pytest.raises(EndedError):
        await wire.receive(proceed())
    assert violations == []


@pytest_twisted.ensureDeferred
async def test_close_notify_is_an_end_like_any_other(meet):
    wire, peer, violations = await meet()
    waiting = wire.receive(message(None))
    peer.transport.loseConnection()
    with pytest.raises(EndedError):
        await waiting
    assert violations == []


@pytest_twisted.ensureDeferred
async def test_an_end_in_the_middle_is_a_breach(meet):
    wire, peer, violations = await meet()
    waiting = wire.receive(message(None))
    peer.say(b"\xe3\x63")
    peer.fin()
    with pytest.raises(TruncatedError) as error:
        await waiting
    assert violations == [error.value]


@pytest_twisted.ensureDeferred
async def test_we_end_with_a_bare_fin_after_what_was_written(meet):
    wire, peer, _ = await meet()
    wire.send(NEXT)
    wire.finish()
    assert (await peer.ended())[-1] == NEXT
    await wire.ended()
    with pytest.raises(EndedError, match="we closed"):
        wire.send(NEXT)


@pytest_twisted.ensureDeferred
async def test_silence_ends_a_wait_and_each_record_starts_it_anew(meet):
    clock = Clock()
    wire, peer, violations = await meet(clock, Times(tcp=60))
    waiting = wire.receive(message(None), 300)
    clock.advance(299)
    assert not waiting.called
    peer.say(b"\xe3\x63")
    while clock.getDelayedCalls()[0].getTime() == 300:
        await _turn()
    clock.advance(59)
    assert not waiting.called
    clock.advance(1)
    with pytest.raises(EndedError, match="nothing moved for 60 s"):
        await waiting
    assert violations == []
    await wire.ended()


@pytest_twisted.ensureDeferred
async def test_a_cancelled_wait_closes_and_says_so(meet):
    wire, peer, violations = await meet()
    waiting = wire.receive(message(None))
    peer.say(b"\xe3\x63")
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await peer.ended()
    assert violations == []


def endless(given):
    """A stream of 1 GiB that counts what has been taken of it."""

    async def chunks():
        for _ in range(1 << 16):
            given.append(16384)
            yield bytes(16384)

    return DataStream(1 << 30, chunks)


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_slows_the_stream_and_a_stuck_one_ends_it(meet):
    clock = Clock()
    wire, peer, _ = await meet(clock)
    peer.transport.pauseProducing()
    given = []
    sending = Deferred.fromCoroutine(wire.send_message(request(endless(given))))
    before = -1
    while before != len(given):
        before = len(given)
        for _ in range(20):
            await _turn()
    # What the sockets of both sides and Twisted hold, far from 1 GiB.
    assert sum(given) < 32 << 20
    assert not sending.called
    clock.advance(60)
    with pytest.raises(EndedError, match="nothing moved"):
        await sending


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [4, 6])
async def test_a_stream_that_is_not_as_long_as_announced_is_our_own_error(meet, length):
    wire, _, _ = await meet()
    stream = DataStream(length, DataStream.of_bytes(b"hello").chunks)
    with pytest.raises(StreamLengthError):
        await wire.send_message(request(stream))


@pytest_twisted.ensureDeferred
async def test_progress_is_told_as_records_leave(meet):
    wire, _, _ = await meet()
    told = []
    await wire.send_message(request(DataStream.of_bytes(bytes(40000), lambda *now: told.append(now))))
    assert told == [(16384, 40000), (32768, 40000), (40000, 40000)]


@pytest_twisted.ensureDeferred
async def test_a_sink_that_fails_ends_the_connection_and_is_told(meet):
    wire, peer, violations = await meet()

    def full(_):
        raise OSError("disk full")

    sent = request(DataStream.of_bytes(b"x"))
    waiting = wire.receive(message(full))
    from relay.peers.documents import deflate, encode

    peer.say(deflate(encode(sent.document([]))))
    with pytest.raises(OSError, match="disk full"):
        await waiting
    await peer.ended()
    assert violations == []


def _turn():
    """One turn of the reactor."""
    done = Deferred()
    reactor.callLater(0, done.callback, None)
    return done
