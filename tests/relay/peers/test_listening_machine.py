import zlib

import bson
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.peers.documents import deflate, encode
from relay.peers.errors import ConnectingError, PeerError, ServerError, TransferError
from relay.peers.messages import Response
from relay.peers.services import Service
from relay.peers.times import Times


class Slow:
    """A service whose method answers when told to."""

    def __init__(self):
        self.calls = []
        self.service = Service("ISlowService", "Slow", {"Wait": self.wait})

    def wait(self):
        self.calls.append(Deferred())
        return self.calls[-1]


@pytest_twisted.ensureDeferred
async def test_one_connection_serves_calls_one_after_the_other(pair, monkeypatch):
    octopus, _, machine = pair
    dialled = []
    connect = octopus.connect
    monkeypatch.setattr(octopus, "connect", lambda *where: dialled.append(where) or connect(*where))
    for _ in range(3):
        await machine.get_capabilities()
    with pytest.raises(ServerError):
        await machine.call("IMissingService", "Anything")
    await machine.get_capabilities()
    assert len(dialled) == 1


@pytest_twisted.ensureDeferred
async def test_parallel_calls_open_connections_and_five_are_kept(new_octopus, new_tentacle, monkeypatch):
    slow, octopus = Slow(), new_octopus()
    tentacle = new_tentacle(services=[slow.service])
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    dialled = []
    connect = octopus.connect
    monkeypatch.setattr(octopus, "connect", lambda *where: dialled.append(where) or connect(*where))

    async def seven_calls():
        calls = [Deferred.fromCoroutine(machine.call("ISlowService", "Wait")) for _ in range(7)]
        while len(slow.calls) < 7:
            await _turn()
        for waiting in slow.calls:
            waiting.callback("done")
        slow.calls.clear()
        return [result for _, result in await DeferredList(calls)]

    assert await seven_calls() == ["done"] * 7
    assert len(dialled) == 7
    assert await seven_calls() == ["done"] * 7
    assert len(dialled) == 7 + 2
    assert not octopus.violations
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_an_old_connection_is_ended_and_replaced(new_octopus, new_tentacle, monkeypatch):
    clock, octopus, tentacle = Clock(), None, new_tentacle()
    octopus = new_octopus(clock=clock)
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    dialled = []
    connect = octopus.connect
    monkeypatch.setattr(octopus, "connect", lambda *where: dialled.append(where) or connect(*where))
    await machine.get_capabilities()
    clock.advance(541)
    await machine.get_capabilities()
    assert len(dialled) == 2
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_a_connection_that_ended_while_idle_is_replaced(new_octopus, new_tentacle):
    clock, octopus = Clock(), new_octopus()
    tentacle = new_tentacle(clock=clock)
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    await machine.get_capabilities()
    # Row 4 of wire.md 3.2: an idle Tentacle waits one minute for NEXT.
    clock.advance(60)
    while machine._idle[0][1].failure is None:
        await _turn()
    await machine.get_capabilities()
    assert not octopus.violations
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_five_attempts_one_second_apart(raw_listen, new_octopus, thumbprint):
    clock, listener = Clock(), raw_listen()
    octopus = new_octopus(clock=clock)
    machine = octopus.machine("127.0.0.1", listener.port, thumbprint("tentacle"), attempts=5)
    call = Deferred.fromCoroutine(machine.get_capabilities())
    for number in range(5):
        peer = await listener.peer(number)
        assert await peer.records(2) == [PREAMBLE, CLIENT_IDENTITY]
        peer.fin()
        await peer.ended()
        while not call.called and not any(waiting.getTime() == clock.seconds() + 1 for waiting in clock.getDelayedCalls()):
            await _turn()
        clock.advance(1)
    with pytest.raises(ConnectingError):
        await call


@pytest_twisted.ensureDeferred
async def test_one_attempt_unless_told_otherwise_and_none_after_the_request(raw_listen, new_octopus, thumbprint):
    listener, octopus = raw_listen(), new_octopus()
    machine = octopus.machine("127.0.0.1", listener.port, thumbprint("tentacle"))
    call = Deferred.fromCoroutine(machine.get_capabilities())
    (await listener.peer(0)).fin()
    with pytest.raises(ConnectingError):
        await call
    persistent = octopus.machine("127.0.0.1", listener.port, thumbprint("tentacle"), attempts=5)
    call = Deferred.fromCoroutine(persistent.get_capabilities())
    peer = await listener.peer(1)
    await peer.records(2)
    peer.say(SERVER_IDENTITY)
    await peer.records(3)
    peer.fin()
    with pytest.raises(TransferError):
        await call


@pytest_twisted.ensureDeferred
async def test_bytes_to_an_idle_connection_are_told_at_the_next_call(new_octopus, raw_listen, thumbprint):
    listener, octopus = raw_listen(), new_octopus()
    machine = octopus.machine("127.0.0.1", listener.port, thumbprint("tentacle"))
    call = Deferred.fromCoroutine(machine.call("IMissingService", "Anything"))
    peer = await listener.peer()
    await answer(peer)
    assert await call is None
    peer.say(PROCEED)
    await peer.ended()
    with pytest.raises(PeerError, match="none are due"):
        await machine.get_capabilities()


@pytest_twisted.ensureDeferred
async def test_a_pooled_connection_that_does_not_proceed_is_replaced(new_octopus, raw_listen, thumbprint):
    listener, octopus = raw_listen(), new_octopus(times=Times(retry_pause=0))
    machine = octopus.machine("127.0.0.1", listener.port, thumbprint("tentacle"), attempts=2)
    first = Deferred.fromCoroutine(machine.call("IService", "Method"))
    peer = await listener.peer()
    await answer(peer)
    await first
    second = Deferred.fromCoroutine(machine.call("IService", "Method"))
    assert (await peer.records(4))[-1] == NEXT
    peer.fin()
    await answer(await listener.peer(1))
    assert await second is None
    # END, if it arrives, is all that followed NEXT.
    assert (await peer.ended())[4:] in ([], [END])


@pytest_twisted.ensureDeferred
async def test_stopping_octopus_says_end(new_octopus, new_tentacle):
    tentacle, octopus = new_tentacle(), new_octopus()
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    await machine.get_capabilities()
    await octopus.stop()
    assert not tentacle.violations
    assert machine._idle == []


async def answer(peer):
    """Identify as a Tentacle and answer the first request with null."""
    await peer.records(2)
    peer.say(SERVER_IDENTITY)
    request = (await peer.records(3))[-1]
    id_ = bson.decode(zlib.decompress(request, -15))["Message"]["id"]
    peer.say(deflate(encode(Response(id_).document([]))))


def _turn():
    """One turn of the reactor."""
    done = Deferred()
    reactor.callLater(0, done.callback, None)
    return done
