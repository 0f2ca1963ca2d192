"""The rooms that poll and are polled, in this process, between strict peers on real sockets. The relay's clock stands still."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from admitted import admission
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from identities import identity
from tables import PRODUCTION, machine
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from certs.contexts import client_context, server_context
from certs.sharing import Context
from relay.admission import Visit
from relay.backs.entrance import PollingEntrance
from relay.backs.listening import ListeningBack
from relay.backs.parked import ParkedBack
from relay.backs.polling import PollingBack
from relay.call import Call
from relay.fronts.dials import DialGate
from relay.fronts.door import Door
from relay.fronts.polling import PollingFront
from relay.lease import Back
from relay.outcomes import NodeTrouble, Outcome, Refusal, SentAway
from relay.peers.octopus import Octopus
from relay.peers.poller import Poller
from relay.peers.services import Service
from relay.peers.tentacle import Tentacle
from relay.peers.times import Times
from relay.route import Route
from relay.transport.lanes import listening_sockets
from relay.transport.loop import Loop
from relay.transport.proxy import Proxy
from routing.addresses import Address
from routing.table import Machine, RelayTimeouts
from routing.table import Octopus as OctopusEntry

SUBSCRIPTION = "poll://sq-tentapoll/"
DOOR = Address("127.0.0.1", 0)
OCTOPUS = replace(PRODUCTION, thumbprints=(identity("octopus").thumbprint,))
QUICK = Times(backoff_min=0.05, backoff_max=0.2, retry_pause=0.05)


class Slow:
    """A service whose calls end when the test says so. calls: those that are under way, with their answers."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.calls: list[Deferred[object]] = []
        self.service = Service("ISlowService", "Slow", {"Wait": self._wait})

    async def _wait(self) -> object:
        answer: Deferred[object] = Deferred()
        self.calls.append(answer)
        self._changes.changed()
        return await answer


class PollingSite:
    """A relay of one machine, kiosk7, that is polled by its Tentacle or dials it, and polls Octopus nodes or is dialled."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.changes = Changes()
        self.reactor = ClockedReactor()
        self.loop = Loop(self.reactor, 1000)
        self.gate = DialGate(self.reactor)
        self.machine: Machine = machine("kiosk7", thumbprints=(identity("tentacle").thumbprint,), octopus=(OCTOPUS,), **options)
        self.slow = Slow(self.changes)
        self.calls: list[Call] = []
        self.refusals: list[tuple[Refusal, str, str]] = []
        self.troubles: list[tuple[NodeTrouble, str]] = []
        self.polled: list[str] = []
        self.down: list[tuple[Outcome, str]] = []
        self.inside = 0
        self.admission = admission(OCTOPUS, departed=self._departed)
        self.polling = PollingBack(self.reactor, self.loop.alarms, self.machine)
        self.back: Any = self.polling
        self.pool: ListeningBack | None = None
        self.fronts: list[PollingFront] = []
        self.octopuses: list[Octopus] = []
        self.tentacles: list[Tentacle] = []
        self._doors: list[Any] = []
        self._routes: list[Route] = []
        entrance = self._entrance = PollingEntrance(self.loop, lambda: server_context(identity("as octopus")), self)
        sockets = listening_sockets("127.0.0.1", 0)
        self.polling_door = Door(self.loop, sockets, DOOR, "", lambda hello: entrance, self)

    # ---- the House of every door, route and front -------------------------------------------------------------------

    timeouts = RelayTimeouts()

    @property
    def faces(self) -> Any:
        return _SiteFaces()

    def admit(self, peer: str, opened: float) -> Visit | SentAway:
        self.inside += 1
        return self.admission.admit(peer, opened)

    def _departed(self) -> None:
        self.inside -= 1
        self.changes.changed()

    def begin(self, octopus: str) -> tuple[Outcome, str] | None:
        return self.admission.begin(octopus)

    def end(self, octopus: str) -> None:
        self.admission.end(octopus)

    def starved(self, error: OSError) -> None:
        raise AssertionError(error)

    def ended(self, call: Call) -> None:
        self.calls.append(call)
        self.changes.changed()

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        self.refusals.append((refusal, machine, detail))
        self.changes.changed()

    poller_refused = refused

    def polling_machine(self, certificate: bytes) -> Machine | None:
        return self.machine if any(pin.matches(certificate) for pin in self.machine.thumbprints) else None

    def polling_back(self, subscription: str) -> PollingBack | None:
        return self.polling if subscription == SUBSCRIPTION else None

    def poll_opened(self) -> None:
        self.inside += 1

    def poll_closed(self) -> None:
        self.inside -= 1

    def node_polled(self, machine: str, octopus: str, node: str) -> None:
        assert (machine, octopus) == ("kiosk7", "production")
        self.polled.append(node)
        self.changes.changed()

    def node_troubled(self, machine: str, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        assert (machine, octopus) == ("kiosk7", "production")
        self.troubles.append((trouble, detail))
        self.changes.changed()

    # ---- who is there -----------------------------------------------------------------------------------------------

    @property
    def door_port(self) -> int:
        """Of the door that Octopus dials."""
        port: int = self._doors[0].address[1]
        return port

    def tentacle(self, name: str = "tentacle") -> Tentacle:
        """One that trusts the relay."""
        made = Tentacle(
            reactor,
            identity(name).pem(),
            [str(identity("as octopus").thumbprint)],
            self.folder / f"{name}{len(self.tentacles)}",
            services=[self.slow.service],
            times=QUICK,
        )
        self.tentacles.append(made)
        return made

    async def polling_tentacle(
        self, count: int = 1, name: str = "tentacle", subscription: str = SUBSCRIPTION
    ) -> tuple[Tentacle, list[Poller]]:
        """One that polls the relay, with so many connections."""
        tentacle = self.tentacle(name)
        pollers = self.poll(tentacle, count, subscription)
        if name == "tentacle":
            await self.spin(lambda: self.polling.parked == count)
        return tentacle, pollers

    def poll(self, tentacle: Tentacle, count: int = 1, subscription: str = SUBSCRIPTION) -> list[Poller]:
        port = self.polling_door.address[1]
        return [tentacle.poll("127.0.0.1", port, str(identity("as octopus").thumbprint), subscription) for _ in range(count)]

    async def listening_tentacle(self, port: int = 0) -> Tentacle:
        """One that the relay dials."""
        tentacle = self.tentacle()
        port = await tentacle.listen(port)
        self.machine = replace(self.machine, tentacle=Address("127.0.0.1", port))
        pool = self.pool = ListeningBack(self.loop, self.machine, client_context(identity("as octopus")))
        self.back = ParkedBack(
            self.reactor,
            pool,
            "kiosk7",
            "production",
            self.machine.timeouts.ready,
            Random(1),
            lambda outcome, detail: self.down.append((outcome, detail)),
        )
        return tentacle

    def octopus(self) -> Octopus:
        made = Octopus(reactor, identity("octopus").pem(), spool=self.folder, times=QUICK)
        self.octopuses.append(made)
        return made

    def dialling_octopus(self) -> Any:
        """Calls to the machine by the relay's door."""
        route = _SiteRoute(self.loop, self.machine, self)
        door = Door(self.loop, listening_sockets("127.0.0.1", 0), DOOR, "kiosk7", lambda hello: route, self)
        self._routes.append(route)
        self._doors.append(door)
        return self.octopus().machine("127.0.0.1", door.address[1], str(identity("as tentacle").thumbprint))

    async def nodes(self, count: int = 1, connections: int = 1, proxy: Proxy | None = None) -> list[Any]:
        """Calls to the machine by way of so many nodes, which the relay polls."""
        addresses, machines = [], []
        for _ in range(count):
            node = self.octopus()
            addresses.append(Address("127.0.0.1", await node.listen()))
            machines.append(node.polling_machine(SUBSCRIPTION, str(identity("as tentacle").thumbprint)))
        self.front(addresses, connections, proxy)
        return machines

    def front(self, nodes: list[Address], connections: int = 1, proxy: Proxy | None = None) -> PollingFront:
        front = PollingFront(
            self.loop,
            self.machine,
            OCTOPUS,
            tuple(nodes),
            SUBSCRIPTION,
            connections,
            lambda: client_context(identity("as tentacle")),
            self.back,
            self.gate,
            Random(1),
            self,
            proxy,
        )
        self.fronts.append(front)
        front.start()
        return front

    # ---- what a test does -------------------------------------------------------------------------------------------

    @property
    def outcomes(self) -> list[Outcome | None]:
        return [call.outcome for call in self.calls]

    async def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        for front in self.fronts:
            front.check(self.reactor.seconds())
        await turns()

    async def spin(self, condition: Callable[[], object]) -> None:
        """For what nobody tells of: lets the reactor go round until it holds."""
        for _ in range(20_000):
            if condition():
                return
            await turns(1)
        raise AssertionError(f"still not true; {self.refusals}, {self.troubles}, {self.outcomes}")

    async def nodes_notice(self) -> None:
        """No node holds a connection any more: until then it may send a request into one that the relay has closed."""
        await self.spin(lambda: not any(octopus._door._door._live for octopus in self.octopuses))

    async def clean(self, violations: bool = False) -> None:
        """Everything ends, and nobody may have broken a rule."""
        for tentacle in self.tentacles:
            await tentacle.stop()
        for octopus in self.octopuses:
            await octopus.stop()
        for front in self.fronts:
            front.stop()
        self.polling.stop()
        if self.pool:
            self.pool.stop()
        self._entrance.drain()
        for door in (self.polling_door, *self._doors):
            door.stop()
        for route in self._routes:
            route.stop()
        await turns()
        await self.advance(200)
        self.loop.stop()
        if not violations:
            assert [list(peer.violations) for peer in (*self.octopuses, *self.tentacles) if peer.violations] == []
        assert (self.inside, len(self.gate), self.gate.waiting) == (0, 0, 0)
        assert self.reactor.timers == []


class _SiteFaces:
    """Faces of which only the machine's is asked for."""

    def server(self, machine: str) -> Context:
        return server_context(identity("as tentacle"))


class _SiteRoute(Route):
    """A Route whose Tentacle is the site's."""

    def back(self, octopus: OctopusEntry) -> Back:
        assert isinstance(self._house, PollingSite)
        return self._house.back  # type: ignore[no-any-return]
