import errno
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_twisted
from changes import Changes, turns
from exchange_scene import FakeBack, FakeLease
from halibut_bytes import REQUEST
from identities import identity
from OpenSSL import SSL
from street import Street
from tables import PRODUCTION, machine
from tls_peer import FIN, RST, TlsPeer, client_side
from wires import Held

from certs.contexts import server_context
from relay.call import Call
from relay.fronts.door import GATE_FULL, PortDoor
from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE, SERVER_IDENTITY
from relay.outcomes import Outcome, Refusal
from relay.page import PAGE
from relay.transport.listener import PAUSE, listening_socket
from relay.transport.loop import Loop
from routing.table import Machine, Octopus, RelayTimeouts

TIMEOUTS = RelayTimeouts(client_hello=10.0, identify=60.0)
OCTOPUS = replace(PRODUCTION, thumbprints=(identity("octopus").thumbprint,))


class FakeHouse:
    """A House that writes down what it is told."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.full = False
        self.inside = 0
        self.departures = 0
        self.backs = FakeBack([])
        self.asked: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.refusals: list[tuple[Refusal, str, str]] = []
        self.starvations: list[OSError] = []

    def admit(self) -> bool:
        self.inside += not self.full
        self._changes.changed()
        return not self.full

    def departed(self) -> None:
        self.inside -= 1
        self.departures += 1
        self._changes.changed()

    def starved(self, error: OSError) -> None:
        self.starvations.append(error)
        self._changes.changed()

    def back(self, machine: Machine, octopus: Octopus) -> FakeBack:
        self.asked.append((machine.name, octopus.name))
        self._changes.changed()
        return self.backs

    def ended(self, call: Call) -> None:
        self.calls.append(call)
        self._changes.changed()

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        assert machine == "web01"
        assert peer.startswith("127.0.0.1:")
        self.refusals.append((refusal, peer, detail))
        self._changes.changed()


class Doorstep:
    """One door, its house, and callers at it."""

    def __init__(self, handshakes: int = 1000) -> None:
        self.street = Street()
        self.changes = self.street.changes
        self.house = FakeHouse(self.changes)
        self.loop = Loop(self.street.reactor, handshakes)
        self.contexts = 0
        sock = listening_socket("127.0.0.1", 0)
        self.door = PortDoor(self.loop, sock, machine(octopus=(OCTOPUS,)), TIMEOUTS, self._context, self.house)
        self.address = self.door.address

    def _context(self) -> SSL.Context:
        self.contexts += 1
        return server_context(identity("web01"))

    @property
    def refusals(self) -> list[Refusal]:
        return [refusal for refusal, _, _ in self.house.refusals]

    @property
    def lease(self) -> FakeLease:
        return self.house.backs.leases[-1]

    async def advance(self, seconds: float) -> None:
        self.street.reactor.advance(seconds)
        await turns()

    async def inside(self, count: int) -> None:
        """So many have been accepted."""
        await self.changes.until(lambda: self.house.inside == count)

    async def acquiring(self) -> TlsPeer:
        """A caller that waits for its Tentacle."""
        caller = await self.street.call(self.address, client_side("TLSv1.3", identity("octopus")))
        caller.write(PREAMBLE)
        caller.write(CLIENT_IDENTITY)
        await self.changes.until(lambda: self.house.asked)
        return caller

    async def clean(self) -> None:
        self.door.stop()
        await self.street.clean()
        await self.advance(100)
        self.loop.stop()
        assert self.house.inside == 0, "admitted and departed do not agree"
        assert len(self.door) == 0
        assert self.street.reactor.timers == []


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
    assert step.contexts == 0
    caller = await step.acquiring()
    assert step.house.asked == [("web01", "production")]
    assert (len(step.door), step.door.busy, step.contexts) == (1, 1, 1)
    step.lease.ready()
    await step.changes.until(lambda: caller.data == SERVER_IDENTITY)
    caller.write(REQUEST)
    await step.street.spin(lambda: step.lease.link.written)
    assert step.lease.link.written == [REQUEST]
    caller.fin()
    await step.changes.until(lambda: step.house.calls)
    assert step.house.calls[0].outcome is Outcome.CANCELLED
    await step.inside(0)
    assert (len(step.door), step.refusals) == (0, [])


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


@pytest_twisted.ensureDeferred
async def test_beyond_the_limit_callers_are_closed_before_tls(step: Doorstep) -> None:
    step.house.full = True
    caller = await step.street.call(step.address, shakes=False)
    assert await step.street.ended(caller) in (FIN, RST)
    assert caller.records == []
    assert step.refusals == [Refusal.CONNECTIONS]
    step.house.full = False
    await step.street.call(step.address)
    assert step.house.inside == 1


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
    step.door.check(step.street.reactor.seconds())
    assert step.refusals == []
    await step.advance(0.1)
    step.door.check(step.street.reactor.seconds())
    assert step.refusals == [Refusal.IDENTIFY_TIMEOUT]
    assert await step.street.ended(caller) == FIN
    assert caller.data == b""


# ---- too many at once ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_full_gate_leaves_callers_in_the_kernel_s_queue(step: Doorstep) -> None:
    for _ in range(GATE_FULL + 50):  # some go on before the listener looks
        step.loop.gate.enter(lambda: None)
    caller = await step.street.call(step.address, shakes=False)
    await step.street.spin(lambda: step.street.reactor.timers)  # the listener pauses
    assert step.house.inside == 0
    for _ in range(GATE_FULL + 50):
        await step.advance(0.001)
    await step.advance(PAUSE)
    await step.changes.until(lambda: caller.shaken)
    assert step.house.inside == 1


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
    assert await slow.street.ended(caller) in (FIN, RST)
    assert caller.records == []
    assert slow.refusals == [Refusal.CERTIFICATE_REFUSED, Refusal.IDENTIFY_TIMEOUT]


@pytest.mark.parametrize("how", ["drain", "stop"])
@pytest_twisted.ensureDeferred
async def test_whoever_waits_for_its_handshake_is_closed_by_the_end(slow: SlowGate, how: str) -> None:
    caller = await slow.waiting()
    getattr(slow.door, how)()
    slow.loop.gate.stop()  # as the service does
    assert await slow.street.ended(caller) in (FIN, RST)
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
    step.door.drain()
    assert step.door.draining
    assert await step.street.ended(idle) == FIN
    assert idle.data == b""
    await step.inside(1)
    assert step.refusals == [Refusal.DRAINING, Refusal.DRAINING]
    assert silent.fileno() > 0
    assert (len(step.door), step.door.busy) == (1, 1)
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
    step.door.stop()
    assert step.house.calls[0].outcome is Outcome.STOPPED
    assert await step.street.ended(busy) == FIN
    step.door.stop()
    assert len(step.house.calls) == 1
