import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_twisted
from admitted import admission
from changes import turns
from identities import identity
from street import Street
from tables import machine
from tls_peer import FIN, RST, TlsPeer, client_side
from wires import Held

from certs.contexts import server_context
from relay.admission import Visit
from relay.alarms import Alarms
from relay.backs.entrance import UNNAMED, PollingEntrance
from relay.backs.polling import PollingBack
from relay.fronts.door import Door
from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE, SERVER_IDENTITY
from relay.outcomes import Refusal, SentAway
from relay.page import PAGE
from relay.transport.lanes import listening_sockets
from relay.transport.loop import Loop
from routing.addresses import Address
from routing.table import Machine, RelayLimits, RelayTimeouts

TIMEOUTS = RelayTimeouts(client_hello=10.0, identify=60.0)
TENTACLE = client_side("TLSv1.3", identity("tentacle"))


def subscriber(subscription: str) -> bytes:
    return f"MX-SUBSCRIBER 1.0 {subscription}\r\n\r\n".encode()


class Doorstep:
    """The entrance behind its door, two machines' backs, and callers."""

    timeouts = TIMEOUTS

    def __init__(self) -> None:
        self.street = Street()
        self.changes, self.reactor = self.street.changes, self.street.reactor
        self.loop = Loop(self.reactor, 1000)
        self.admission = admission(departed=self.changes.changed)
        self.refusals: list[tuple[Refusal, str, str]] = []
        self.visits: list[Visit | SentAway] = []
        pins = (identity("tentacle").thumbprint,)
        self.kiosk = PollingBack(self.reactor, Alarms(self.reactor), machine("kiosk7", thumbprints=pins, connections=2))
        self.other = PollingBack(
            self.reactor, Alarms(self.reactor), machine("kiosk8", thumbprints=(identity("octopus").thumbprint,))
        )
        self.entrance = PollingEntrance(self.loop, lambda: server_context(identity("ours")), self)
        sockets = listening_sockets("127.0.0.1", 0)
        self.door = Door(self.loop, sockets, Address("127.0.0.1", 0), "", lambda hello: self.entrance, self)

    @property
    def inside(self) -> int:
        return self.admission.connections

    def admit(self, peer: str, opened: float) -> Visit | SentAway:
        visit = self.admission.admit(peer, opened)
        self.visits.append(visit)
        self.changes.changed()
        return visit

    def starved(self, error: OSError) -> None:
        raise AssertionError(error)

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        assert peer.startswith("127.0.0.1:")
        self.refusals.append((refusal, machine, detail))
        self.changes.changed()

    poller_refused = refused

    def polling_machine(self, certificate: bytes) -> Machine | None:
        return self.kiosk.machine if any(pin.matches(certificate) for pin in self.kiosk.machine.thumbprints) else None

    def polling_back(self, subscription: str) -> PollingBack | None:
        return {"poll://sq-one/": self.kiosk, "poll://sq-other/": self.other}.get(subscription)

    # ---- what a test does -------------------------------------------------------------------------------------------

    @property
    def words(self) -> list[Refusal]:
        return [refusal for refusal, _, _ in self.refusals]

    async def caller(self, context: ssl.SSLContext | None = TENTACLE, *said: bytes) -> TlsPeer:
        caller = await self.street.call(self.door.address, context)
        for record in said:
            caller.write(record)
        return caller

    async def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        await turns()

    @property
    def coming(self) -> int:
        """How many have come and are not identified."""
        return self.door.arrivals + len(self.entrance)

    def drain(self) -> None:
        """As the service does."""
        self.door.stop()
        self.entrance.drain()

    async def clean(self) -> None:
        self.drain()
        self.kiosk.stop()
        self.other.stop()
        await self.street.clean()
        await self.advance(100)
        self.loop.stop()
        assert (self.inside, self.coming, self.reactor.timers) == (0, 0, [])


@pytest_twisted.async_yield_fixture
async def step() -> AsyncIterator[Doorstep]:
    await turns()
    before = Held.now()
    made = Doorstep()
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


@pytest.mark.parametrize("spelled", ["poll://sq-one/", "POLL://SQ-ONE/", "poll://Sq-One"])
@pytest_twisted.ensureDeferred
async def test_a_tentacle_is_parked_for_its_subscription_in_any_case(step: Doorstep, spelled: str) -> None:
    caller = await step.caller(TENTACLE, PREAMBLE, subscriber(spelled))
    await step.changes.until(lambda: caller.data == SERVER_IDENTITY)
    assert (step.kiosk.parked, step.other.parked, step.coming, step.refusals) == (1, 0, 0, [])


@pytest_twisted.ensureDeferred
async def test_another_machine_s_tentacle_gets_not_one_byte(step: Doorstep) -> None:
    caller = await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-other/"))
    assert await step.street.ended(caller) in (FIN, RST)
    assert caller.data == b""
    shown, owner = identity("tentacle").thumbprint, identity("octopus").thumbprint
    assert step.refusals == [(Refusal.NOT_OWNER, "kiosk8", f"poll://sq-other/: {shown} was shown, and its machine has {owner}")]


@pytest_twisted.ensureDeferred
async def test_a_machines_tentacle_with_another_subscription_is_told_from_strangers(step: Doorstep) -> None:
    """As one has that `server-comms` gave a new one."""
    caller = await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-none/"))
    assert await step.street.ended(caller) in (FIN, RST)
    assert caller.data == b""
    shown = (
        f"{identity('tentacle').thumbprint} was shown, the one of machine kiosk7, which has {step.kiosk.machine.subscription}"
    )
    assert step.refusals == [(Refusal.UNKNOWN_SUBSCRIPTION, "kiosk7", f"poll://sq-none/: no machine has it; {shown}")]


@pytest_twisted.ensureDeferred
async def test_a_subscription_of_nobody_gets_not_one_byte(step: Doorstep) -> None:
    caller = await step.caller(client_side("TLSv1.3", identity("stranger")), PREAMBLE, subscriber("poll://sq-none/"))
    assert await step.street.ended(caller) in (FIN, RST)
    assert caller.data == b""
    detail = f"poll://sq-none/: no machine has it; {identity('stranger').thumbprint} was shown"
    assert step.refusals == [(Refusal.UNKNOWN_SUBSCRIPTION, "", detail)]


@pytest_twisted.ensureDeferred
async def test_a_stranger_that_names_no_subscription_is_closed_soon_behind_its_preamble(step: Doorstep) -> None:
    """As Octopus does (wire.md 11.3). One whose certificate is known may take its time."""
    stranger = await step.caller(client_side("TLSv1.3", identity("stranger")), PREAMBLE)
    await step.caller(TENTACLE, PREAMBLE)
    await turns(10)
    assert (step.coming, step.refusals) == (2, [])
    await step.advance(UNNAMED)
    assert await step.street.ended(stranger) == FIN
    assert (stranger.data, step.coming) == (b"", 1)
    why = "its certificate is of no machine whose Tentacle polls, and it named no subscription"
    assert step.refusals == [(Refusal.UNTRUSTED, "", f"{why}; {identity('stranger').thumbprint} was shown")]


@pytest_twisted.ensureDeferred
async def test_one_that_was_refused_and_lingers_makes_room_without_another_word(step: Doorstep) -> None:
    await step.caller(TENTACLE, PREAMBLE, b"HELLO\r\n\r\n")
    while not step.refusals:
        await turns()
    [visit] = step.visits
    assert isinstance(visit, Visit)
    assert step.inside == 1
    visit.leave(SentAway(Refusal.STRANGERS, "it made room"))
    assert (step.inside, step.words) == (0, [Refusal.BROKE_PROTOCOL])


@pytest_twisted.ensureDeferred
async def test_either_of_two_pins_will_do(step: Doorstep) -> None:
    pins = (identity("octopus").thumbprint, identity("tentacle").thumbprint)
    step.other.machine = replace(step.other.machine, thumbprints=pins)
    await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-other/"))
    await step.street.spin(lambda: step.other.parked)


@pytest_twisted.ensureDeferred
async def test_without_a_certificate_nobody_is_heard(step: Doorstep) -> None:
    caller = await step.caller(None, PREAMBLE)
    assert await step.street.ended(caller) in (FIN, RST)
    assert (caller.data, step.words) == (b"", [Refusal.NO_CERTIFICATE])


@pytest.mark.parametrize("said", [CLIENT_IDENTITY, b"MX-SUBSCRIBER 1.0\r\n\r\n", b"HELLO\r\n\r\n", subscriber("sq-one")])
@pytest_twisted.ensureDeferred
async def test_whoever_is_no_subscriber_is_closed(step: Doorstep, said: bytes) -> None:
    caller = await step.caller(TENTACLE, PREAMBLE, said)
    assert await step.street.ended(caller) in (FIN, RST)
    assert (caller.data, step.words) == (b"", [Refusal.BROKE_PROTOCOL])
    assert step.refusals[0][2].endswith(f"{identity('tentacle').thumbprint} was shown")


@pytest.mark.parametrize("said", [b"HELLO\n\n", b"POST /handshake HTTP/1.0\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_whoever_is_no_halibut_gets_the_page(step: Doorstep, said: bytes) -> None:
    """So does a Tentacle that looks for its Octopus before it polls (wire.md 2.5)."""
    caller = await step.caller(None, said)
    assert await step.street.ended(caller) == FIN
    assert (caller.data, step.refusals) == (PAGE, [])


@pytest_twisted.ensureDeferred
async def test_more_than_the_limit_and_those_at_a_drain_are_closed_before_mx_server(step: Doorstep) -> None:
    for _ in range(2):
        await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-one/"))
    await step.street.spin(lambda: step.kiosk.parked == 2)
    surplus = await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-one/"))
    assert await step.street.ended(surplus) in (FIN, RST)
    step.kiosk.stop()
    late = await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-one/"))
    assert await step.street.ended(late) in (FIN, RST)
    assert surplus.data == late.data == b""
    assert step.refusals == [
        (
            Refusal.POLLERS,
            "kiosk7",
            "poll://sq-one/: 2 connections poll already (limits.connections of machine kiosk7)",
        ),
        (Refusal.DRAINING, "kiosk7", "poll://sq-one/: the relay is draining"),
    ]


@pytest_twisted.ensureDeferred
async def test_a_house_that_is_full(step: Doorstep) -> None:
    step.admission.limits = RelayLimits(connections=0)
    caller = await step.street.call(step.door.address, TENTACLE, shakes=False)
    assert await step.street.ended(caller) in (FIN, RST)
    assert (caller.records, step.words) == ([], [Refusal.CONNECTIONS])


@pytest_twisted.ensureDeferred
async def test_whoever_says_nothing_is_closed_in_time(step: Doorstep) -> None:
    silent = step.street.connect(step.door.address)
    shaken = await step.caller(TENTACLE)
    half = await step.caller(TENTACLE, PREAMBLE)
    await turns(10)
    assert step.coming == 3
    await step.advance(10)
    assert step.words == [Refusal.HELLO_TIMEOUT]
    await step.advance(51)
    step.entrance.check(step.reactor.seconds(), TIMEOUTS.identify)
    for caller in (shaken, half):
        assert await step.street.ended(caller) in (FIN, RST)
    assert step.words[1:] == [Refusal.IDENTIFY_TIMEOUT] * 2
    assert step.coming == 0
    silent.close()


@pytest_twisted.ensureDeferred
async def test_whoever_does_not_accept_our_certificate_is_told_of(step: Doorstep) -> None:
    caller = await step.caller(TENTACLE)
    caller.fin()
    await step.changes.until(lambda: step.refusals)
    [(refusal, name, detail)] = step.refusals
    assert (refusal, name) == (Refusal.CERTIFICATE_REFUSED, "kiosk7")
    assert detail == f"closed behind the handshake without a byte; {identity('tentacle').thumbprint} was shown"


@pytest_twisted.ensureDeferred
async def test_a_stranger_that_does_not_is_nobodys_tentacle(step: Doorstep) -> None:
    caller = await step.caller(client_side("TLSv1.3", identity("stranger")))
    caller.fin()
    await step.changes.until(lambda: step.refusals)
    assert [(refusal, name) for refusal, name, _ in step.refusals] == [(Refusal.CERTIFICATE_REFUSED, "")]


@pytest_twisted.ensureDeferred
async def test_whoever_is_no_tls_or_leaves_early(step: Doorstep) -> None:
    caller = step.street.connect(step.door.address)
    await step.changes.until(lambda: step.inside == 1)
    caller.send(b"GET / HTTP/1.0\r\n\r\n")
    await step.changes.until(lambda: step.inside == 0)
    caller = step.street.connect(step.door.address)
    await step.changes.until(lambda: step.inside == 1)
    caller.close()
    await step.changes.until(lambda: step.inside == 0)
    assert step.words == [Refusal.NOT_TLS, Refusal.LEFT_EARLY]


@pytest_twisted.ensureDeferred
async def test_a_drain_closes_those_that_are_not_in_yet_and_no_other(step: Doorstep) -> None:
    parked = await step.caller(TENTACLE, PREAMBLE, subscriber("poll://sq-one/"))
    await step.street.spin(lambda: step.kiosk.parked)
    coming = await step.caller(TENTACLE, PREAMBLE)
    raw = step.street.connect(step.door.address)
    await step.changes.until(lambda: step.inside == 3)
    step.drain()
    assert await step.street.ended(coming) in (FIN, RST)
    await step.changes.until(lambda: step.inside == 1)
    assert (parked.end, step.kiosk.parked, step.words) == (None, 1, [Refusal.DRAINING] * 2)
    raw.close()
