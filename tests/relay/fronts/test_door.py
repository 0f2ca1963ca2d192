import errno
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from doorstep import TIMEOUTS, Doorstep
from halibut_bytes import REQUEST
from identities import identity
from tls_peer import FIN, RST, TlsPeer, client_side
from wires import Held

from relay.admission import Visit
from relay.halibut.lines import SERVER_IDENTITY
from relay.outcomes import Outcome, Refusal
from relay.page import PAGE
from relay.transport.listener import PAUSE
from routing.table import RelayLimits


@pytest_twisted.async_yield_fixture
async def step() -> AsyncIterator[Doorstep]:
    await turns()
    before = Held.now()
    made = Doorstep()
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


# ---- coming in ----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_caller_gets_through_to_its_machine(step: Doorstep) -> None:
    assert step.house.faces.made == 0
    caller = await step.acquiring()
    assert step.house.asked == [("web01", "production")]
    assert (step.route.callers, step.route.in_flight, step.house.faces.made) == (1, 1, 1)
    step.lease.ready()
    await step.changes.until(lambda: caller.data == SERVER_IDENTITY)
    caller.write(REQUEST)
    await step.street.spin(lambda: step.lease.link.written)
    assert step.lease.link.written == [REQUEST]
    caller.fin()
    await step.changes.until(lambda: step.house.calls)
    assert step.house.calls[0].outcome is Outcome.CANCELLED
    await step.inside(0)
    assert (step.route.callers, step.refusals) == (0, [])


@pytest_twisted.ensureDeferred
async def test_the_peer_s_address_is_in_the_call(step: Doorstep) -> None:
    caller = await step.acquiring()
    caller.close()
    await step.changes.until(lambda: step.house.calls)
    assert step.house.calls[0].peer.startswith("127.0.0.1:")


@pytest_twisted.ensureDeferred
async def test_a_caller_without_a_certificate_may_have_the_page(step: Doorstep) -> None:
    caller = await step.street.call(step.address)
    caller.write(b"HELLO\n\n")
    assert await step.street.ended(caller) == FIN
    assert caller.data == PAGE


@pytest.mark.parametrize("speaks_at", ["once", "last"])
@pytest_twisted.ensureDeferred
async def test_where_the_system_polls_no_more_sockets_no_place_is_lost(
    step: Doorstep, monkeypatch: pytest.MonkeyPatch, speaks_at: str
) -> None:
    ask = step.loop.strangers.ask

    def full(descriptor: int, polled: Any, events: int, sharing: str = "") -> None:
        if events:
            raise OSError(errno.ENOSPC, "No space left on device")
        ask(descriptor, polled, events, sharing)

    with monkeypatch.context() as patch:
        patch.setattr(step.loop.strangers, "ask", full)
        if speaks_at == "once":
            caller = await step.street.call(step.address, shakes=False)
            assert await step.street.ended(caller) in (FIN, RST)
        else:
            step.street.connect(step.address)
        await step.inside(0)
    assert step.house.admission.connections == step.house.admission.strangers == step.route.callers == 0
    step.street.reactor.advance(TIMEOUTS.client_hello)
    assert step.house.admission.connections == 0
    await step.street.call(step.address)


@pytest_twisted.ensureDeferred
async def test_beyond_the_limit_callers_are_closed_before_tls(step: Doorstep) -> None:
    step.house.admission.limits = RelayLimits(connections=0)
    caller = await step.street.call(step.address, shakes=False)
    assert await step.street.ended(caller) in (FIN, RST)
    assert caller.records == []
    assert step.refusals == [Refusal.CONNECTIONS]
    step.house.admission.limits = RelayLimits()
    await step.street.call(step.address)
    assert step.house.inside == 1


@pytest.mark.parametrize("how", ["silent", "waiting", "shaken"])
@pytest_twisted.ensureDeferred
async def test_a_stranger_makes_room_whatever_it_waits_for(how: str) -> None:
    step = Doorstep(handshakes=1 if how == "waiting" else 1000, strangers=1)
    if how == "silent":
        first: Any = step.street.connect(step.address)
        await step.inside(1)
    elif how == "waiting":
        (await step.street.call(step.address)).fin()
        await step.inside(0)
        first = await step.street.call(step.address, shakes=False)
        await step.street.spin(lambda: step.loop.gate.delayed)
    else:
        first = await step.street.call(step.address)
    before = len(step.refusals)
    visit = step.house.admission.admit("192.0.2.9:1", 0.0)  # of a source that has none
    assert isinstance(visit, Visit)
    assert (step.refusals[before:], step.house.inside) == ([Refusal.STRANGERS], 1)
    assert len(step.loop.gate) == 0
    if how == "silent":
        first.settimeout(5)
        assert first.recv(1) == b""
    else:
        assert await step.street.ended(first) in (FIN, RST)
    visit.departed()
    await step.clean()


@pytest_twisted.ensureDeferred
async def test_whoever_is_identified_makes_its_source_known(step: Doorstep) -> None:
    await step.acquiring()
    admission = step.house.admission
    assert (admission.strangers, admission.known, admission.callers("production"), admission.exchanges) == (0, 1, 1, 1)
    assert (len(step.loop.strangers), len(step.loop.poller)) == (1, 1)  # the door, and the caller


# ---- callers that do not get that far -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_caller_that_is_no_tls(step: Doorstep) -> None:
    caller = step.street.connect(step.address)
    await step.inside(1)
    caller.send(b"GET / HTTP/1.0\r\n\r\n")
    await step.inside(0)
    assert step.refusals == [Refusal.NOT_TLS]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_leaves_early(step: Doorstep) -> None:
    caller = step.street.connect(step.address)
    await step.inside(1)
    caller.close()
    await step.inside(0)
    assert step.refusals == [Refusal.LEFT_EARLY]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_resets_early(step: Doorstep) -> None:
    caller = step.street.connect(step.address)
    await step.inside(1)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()
    await step.inside(0)
    assert step.refusals == [Refusal.LEFT_EARLY]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_says_nothing(step: Doorstep) -> None:
    step.street.connect(step.address)
    await step.inside(1)
    await step.advance(TIMEOUTS.client_hello - 0.1)
    assert step.house.inside == 1
    await step.advance(0.1)
    assert step.house.inside == 0
    assert step.refusals == [Refusal.HELLO_TIMEOUT]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_fails_in_its_handshake(step: Doorstep) -> None:
    outgoing = ssl.MemoryBIO()
    hello = client_side("TLSv1.3").wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    caller = step.street.connect(step.address)
    await step.inside(1)
    caller.send(outgoing.read() + b"\x15\x03\x03\x00\x02\x02\x28")  # and an alert: handshake failure
    await step.inside(0)
    assert step.refusals == [Refusal.TLS]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_does_not_accept_our_certificate(step: Doorstep) -> None:
    caller = await step.street.call(step.address)
    caller.fin()
    await step.inside(0)
    assert step.refusals == [Refusal.CERTIFICATE_REFUSED]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_does_not_identify_itself(step: Doorstep) -> None:
    caller = await step.street.call(step.address, client_side("TLSv1.3", identity("octopus")))
    await step.advance(TIMEOUTS.identify)
    step.check()
    assert step.refusals == []
    await step.advance(0.1)
    step.check()
    assert step.refusals == [Refusal.IDENTIFY_TIMEOUT]
    assert await step.street.ended(caller) == FIN
    assert caller.data == b""


# ---- too many at once ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_without_a_descriptor_accepting_pauses_is_told_and_goes_on(
    step: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor(sock: socket.socket) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "accept", no_descriptor)
        caller = await step.street.call(step.address, shakes=False)
        await step.changes.until(lambda: step.house.starvations)
        await turns()
    assert [error.errno for error in step.house.starvations] == [errno.EMFILE]
    assert step.house.inside == 0
    await step.advance(PAUSE)
    await step.changes.until(lambda: caller.shaken)


@pytest_twisted.ensureDeferred
async def test_a_socket_that_is_dead_when_it_is_accepted(step: Doorstep, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(sock: socket.socket) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("relay.fronts.door.prepare_socket", gone)
    await step.street.call(step.address, shakes=False)
    await step.changes.until(lambda: step.house.refusals)
    assert step.refusals == [Refusal.LEFT_EARLY]
    assert (step.house.inside, step.house.departures) == (0, 1)


class SlowGate(Doorstep):
    """One handshake a second."""

    def __init__(self) -> None:
        super().__init__(handshakes=1)

    async def waiting(self) -> TlsPeer:
        """A caller whose ClientHello is here, and whose handshake has to wait."""
        (await self.street.call(self.address)).fin()
        await self.inside(0)
        caller = await self.street.call(self.address, shakes=False)
        await self.changes.until(lambda: self.house.inside == 1)
        await self.street.spin(lambda: self.loop.gate.delayed)
        return caller


@pytest_twisted.async_yield_fixture
async def slow() -> AsyncIterator[SlowGate]:
    await turns()
    before = Held.now()
    made = SlowGate()
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


@pytest_twisted.ensureDeferred
async def test_handshakes_wait_their_turn(slow: SlowGate) -> None:
    caller = await slow.waiting()
    assert not caller.shaken
    await slow.advance(1)
    await slow.changes.until(lambda: caller.shaken)


@pytest_twisted.ensureDeferred
async def test_whoever_waited_too_long_for_its_handshake_does_not_get_it(slow: SlowGate) -> None:
    caller = await slow.waiting()
    await slow.advance(TIMEOUTS.identify + 1)
    assert await slow.street.ended(caller) == FIN
    assert caller.records == []
    assert slow.refusals == [Refusal.CERTIFICATE_REFUSED, Refusal.IDENTIFY_TIMEOUT]


@pytest.mark.parametrize("how", ["drain", "stop"])
@pytest_twisted.ensureDeferred
async def test_whoever_waits_for_its_handshake_is_closed_by_the_end(slow: SlowGate, how: str) -> None:
    caller = await slow.waiting()
    getattr(slow, how)()
    slow.loop.gate.stop()  # as the service does
    assert await slow.street.ended(caller) == FIN
    assert caller.records == []
    await slow.inside(0)


# ---- draining, and the end ----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drain_closes_the_door_and_whoever_has_no_call(step: Doorstep) -> None:
    silent = step.street.connect(step.address)
    await step.inside(1)
    idle = await step.street.call(step.address)
    busy = await step.acquiring()
    step.lease.ready()
    await step.changes.until(lambda: busy.data)
    step.drain()
    assert await step.street.ended(idle) == FIN
    assert idle.data == b""
    await step.inside(1)
    assert step.refusals == [Refusal.DRAINING, Refusal.DRAINING]
    assert silent.fileno() > 0
    assert (step.door.arrivals, step.route.callers, step.route.in_flight) == (0, 1, 1)
    assert busy.end is None
    with pytest.raises(ConnectionRefusedError), socket.create_connection(step.address, 1):
        pass
    busy.fin()
    await step.inside(0)
    assert step.house.calls[-1].outcome is Outcome.CALLER_LEFT


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_calls_too(step: Doorstep) -> None:
    busy = await step.acquiring()
    step.lease.ready()
    await step.changes.until(lambda: busy.data)
    step.stop()
    assert step.house.calls[0].outcome is Outcome.STOPPED
    assert await step.street.ended(busy) == FIN
    step.stop()
    assert len(step.house.calls) == 1


@pytest_twisted.ensureDeferred
async def test_whoever_has_gone_leaves_nothing_for_the_collector(step: Doorstep) -> None:
    """In a storm 30 KB of each would wait for it."""
    caller = await step.street.call(step.address)
    [front] = step.route._fronts
    left = [weakref.ref(front), weakref.ref(front.link)]
    del front
    gc.disable()
    try:
        caller.fin()
        await step.inside(0)
        await turns()
        assert [each() for each in left] == [None, None]
    finally:
        gc.enable()
