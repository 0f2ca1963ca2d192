"""A door, the route that it leads to, and callers at it on real sockets. The Tentacle's side is in memory."""

from dataclasses import replace
from typing import Any

from admitted import admission
from changes import Changes, turns
from exchange_scene import FakeBack, FakeLease
from identities import identity
from street import Street
from tables import PRODUCTION, machine
from tls_peer import TlsPeer, client_side

from certs.contexts import server_context
from certs.sharing import Context
from relay.admission import Visit
from relay.call import Call
from relay.fronts.door import Door
from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE
from relay.lease import Back
from relay.outcomes import RELAY_DRAINS, Outcome, Refusal, SentAway
from relay.route import Route
from relay.transport.lanes import listening_sockets
from relay.transport.loop import Loop
from routing.addresses import Address
from routing.table import Octopus, RelayTimeouts

TIMEOUTS = RelayTimeouts(client_hello=10.0, identify=60.0)
OCTOPUS = replace(PRODUCTION, thumbprints=(identity("octopus").thumbprint,))
DOOR = Address("127.0.0.1", 0)


class FakeFaces:
    """Faces of which only the machine's is asked for. made: how often."""

    def __init__(self) -> None:
        self.made = 0

    def server(self, machine: str) -> Context:
        self.made += 1
        return server_context(identity(machine))


class FakeHouse:
    """A House, of doors and of routes, that writes down what it is told."""

    def __init__(self, changes: Changes, octopus: Octopus, limits: dict[str, int]) -> None:
        self._changes = changes
        self.timeouts = TIMEOUTS
        self.faces: Any = FakeFaces()
        self.departures = 0
        self.admission = admission(octopus, departed=self._departed, **limits)
        self.backs = FakeBack([])
        self.asked: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.refusals: list[tuple[Refusal, str, str]] = []
        self.refused_at: list[str] = []
        self.starvations: list[OSError] = []

    @property
    def inside(self) -> int:
        return self.admission.connections

    def admit(self, peer: str, opened: float) -> Visit | SentAway:
        visit = self.admission.admit(peer, opened)
        self._changes.changed()
        return visit

    def _departed(self) -> None:
        self.departures += 1
        self._changes.changed()

    def begin(self, octopus: str) -> tuple[Outcome, str] | None:
        return self.admission.begin(octopus)

    def end(self, octopus: str) -> None:
        self.admission.end(octopus)

    def starved(self, error: OSError) -> None:
        self.starvations.append(error)
        self._changes.changed()

    def back(self, machine: str, octopus: Octopus) -> FakeBack:
        self.asked.append((machine, octopus.name))
        self._changes.changed()
        return self.backs

    def ended(self, call: Call) -> None:
        self.calls.append(call)
        self._changes.changed()

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        assert peer.startswith("127.0.0.1:")
        self.refusals.append((refusal, peer, detail))
        self.refused_at.append(machine)
        self._changes.changed()


class FakeBackRoute(Route):
    """A Route whose Tentacle is the house's."""

    def back(self, octopus: Octopus) -> Back:
        assert isinstance(self._house, FakeHouse)
        return self._house.back(self.machine.name, octopus)


class Doorstep:
    """One door, its route, their house, and callers at it."""

    def __init__(self, handshakes: int = 1000, octopus: Octopus = OCTOPUS, **limits: int) -> None:
        """limits: of the relay, by their names."""
        self.street = Street()
        self.changes = self.street.changes
        self.house = FakeHouse(self.changes, octopus, limits)
        self.loop = Loop(self.street.reactor, handshakes)
        self.route = FakeBackRoute(self.loop, machine(octopus=(octopus,)), self.house)
        sockets = listening_sockets("127.0.0.1", 0)
        self.door = Door(self.loop, sockets, DOOR, "web01", lambda hello: self.route, self.house)
        self.address = self.door.address

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

    def check(self) -> None:
        self.route.check(self.street.reactor.seconds(), TIMEOUTS.identify)

    def drain(self) -> None:
        """As the service does."""
        self.door.stop()
        self.route.drain(RELAY_DRAINS)

    def stop(self) -> None:
        self.door.stop()
        self.route.stop()

    async def clean(self) -> None:
        self.stop()
        await self.street.clean()
        await self.advance(100)
        self.loop.stop()
        assert self.house.inside == 0, "admitted and departed do not agree"
        assert (self.door.arrivals, self.route.callers) == (0, 0)
        assert self.street.reactor.timers == []
