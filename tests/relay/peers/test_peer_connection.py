"""Octopus's calls on one connection, against a raw Tentacle."""

import uuid
import zlib

import bson
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relay.halibut.lines import END, NEXT, PROCEED, SERVER_IDENTITY
from relay.peers.documents import deflate, encode
from relay.peers.errors import ConnectingError, PeerError, ServerError, TransferError
from relay.peers.messages import ErrorReply, Response
from relay.peers.streams import CallbackSink, DataStream

ID = uuid.uuid4().bytes_le


@pytest.fixture
def meet(raw_listen, new_octopus, thumbprint):
    """An identified connection, the raw Tentacle, and the Octopus."""

    async def make(**options):
        listener, octopus = raw_listen(), new_octopus(**options)
        dialled = Deferred.fromCoroutine(octopus.connect("127.0.0.1", listener.port, thumbprint("tentacle")))
        peer = await listener.peer()
        await peer.records(2)
        peer.say(SERVER_IDENTITY)
        return await dialled, peer, octopus

    return make


def calling(connection, *params, **options):
    return Deferred.fromCoroutine(connection.call("IService", "Method", *params, **options))


async def request_id(peer, number=3):
    """The id of the request that came as the record of that number."""
    record = (await peer.records(number))[-1]
    return bson.decode(zlib.decompress(record, -15))["Message"]["id"]


def reply(id_, result=None, error=None):
    return deflate(encode(Response(id_, result, error).document([])))


@pytest_twisted.ensureDeferred
async def test_calls_on_one_connection(meet):
    connection, peer, octopus = await meet()
    for number in range(3):
        call = calling(connection)
        if number:
            assert (await peer.records(2 * number + 2))[-1] == NEXT
            peer.say(PROCEED)
        id_ = await request_id(peer, 2 * number + 3)
        assert id_.startswith(f"IService::MethodAsync[{number + 1}] / ")
        peer.say(reply(id_, number))
        assert await call == number
    await connection.end()
    assert (await peer.ended())[-1] == END
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_an_error_reply_leaves_the_connection_good(meet):
    connection, peer, _ = await meet()
    call = calling(connection)
    peer.say(reply(await request_id(peer), error=ErrorReply("m", "d", "T")))
    with pytest.raises(ServerError) as error:
        await call
    assert (error.value.message, error.value.details, error.value.halibut_error_type) == ("m", "d", "T")
    assert connection.failure is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sent", [b"", b"\xe3\x63"], ids=["before the reply", "inside the reply"])
async def test_an_end_after_the_request_is_a_transfer_error(meet, sent):
    connection, peer, _ = await meet()
    call = calling(connection)
    await request_id(peer)
    if sent:
        peer.say(sent)
    peer.fin()
    with pytest.raises(TransferError, match="after the request began"):
        await call


@pytest_twisted.ensureDeferred
async def test_an_end_instead_of_proceed_is_a_connecting_error(meet):
    connection, peer, octopus = await meet()
    call = calling(connection)
    peer.say(reply(await request_id(peer)))
    await call
    again = calling(connection)
    assert (await peer.records(4))[-1] == NEXT
    peer.fin()
    with pytest.raises(ConnectingError, match="before the request could begin"):
        await again
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_the_first_byte_of_a_reply_is_waited_for_five_minutes(meet):
    clock = Clock()
    connection, peer, _ = await meet(clock=clock)
    call = calling(connection)
    await request_id(peer)
    clock.advance(299)
    assert not call.called
    clock.advance(1)
    with pytest.raises(TransferError, match="nothing moved for 300 s"):
        await call


@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_closes_without_end(meet):
    connection, peer, octopus = await meet()
    call = calling(connection)
    await request_id(peer)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert len(await peer.ended()) == 3
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_an_abort_says_nothing(meet):
    connection, peer, octopus = await meet()
    await connection.abort()
    assert len(await peer.ended()) == 2
    assert connection.failure is not None
    assert not octopus.violations


def stream_reply(id_, *frame):
    document = Response(id_, DataStream(5, DataStream.of_bytes(b"").chunks, None, ID)).document([])
    return [deflate(encode(document)), *frame]


FIVE = (5).to_bytes(8, "little")

BREACHES = {
    "a reply before the request": (lambda id_: None, "3.5"),
    "another id": (lambda id_: [reply(id_[:-1] + "x")], "4.5"),
    "END": (lambda id_: [END], "3"),
    "a null message": (lambda id_: [deflate(encode({"Message": None}))], "4.5"),
    "a byte after the reply": (lambda id_: [reply(id_) + b"\0"], "2.7 a"),
    "the stream's id with the reply": (lambda id_: [stream_reply(id_)[0] + ID], "2.7 a"),
    "another stream": (lambda id_: stream_reply(id_, uuid.uuid4().bytes_le), "5.7"),
    "another closing length": (lambda id_: stream_reply(id_, ID, FIVE, b"hello", bytes(8)), "5.7"),
    "closing length with the body": (lambda id_: stream_reply(id_, ID, FIVE, b"hello" + FIVE), "2.7 a"),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("case", BREACHES)
async def test_breaches_in_a_reply(meet, case, tmp_path):
    says, rule = BREACHES[case]
    connection, peer, octopus = await meet()
    if case == "a reply before the request":
        peer.say(reply("x"))
        await peer.ended()
        call = calling(connection)
    else:
        call = calling(connection)
        peer.say(*says(await request_id(peer)))
    with pytest.raises(PeerError) as error:
        await call
    assert error.value.rule == rule
    assert list(octopus.violations) == [error.value]
    await peer.ended()
    assert list(tmp_path.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_results_stream_is_handed_on_as_it_comes(meet):
    connection, peer, _ = await meet()
    came = []
    call = calling(connection, receive=lambda reference: CallbackSink(came.append))
    id_ = await request_id(peer)
    peer.say(*stream_reply(id_, ID, FIVE, b"hel", b"lo", FIVE))
    assert await call == 5
    assert came == [b"hel", b"lo"]


@pytest_twisted.ensureDeferred
async def test_an_upload_cut_short_by_us_ends_the_connection(meet):
    connection, peer, _ = await meet()

    async def fails():
        yield b"hel"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        await calling(connection, DataStream(5, fails))
    assert (await peer.ended())[-1] == b"hel"
