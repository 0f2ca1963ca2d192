"""The running relay: a route for each machine of a table, and doors that lead to them. It starts, reloads and stops whole."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Final

from twisted.internet.defer import Deferred

from certs.sharing import Context
from certs.store import IdentityStore
from relay import door_lines
from relay.admin.access_log import AccessLog
from relay.admin.limits import read_limits
from relay.admin.log import Log
from relay.admin.metrics import Metrics
from relay.admin.readings import IN_FLIGHT
from relay.admission import Admission
from relay.backs.entrance import PollingEntrance
from relay.backs.polling import PollingBack
from relay.call import Call
from relay.clock import Reactor, Timer
from relay.doors import BACK, SHARED, Doors
from relay.errors import NoSuchNameError, StartError
from relay.faces import Faces
from relay.fronts.dials import DialGate
from relay.operated import Operated
from relay.outcomes import MACHINE_DRAINS, MACHINE_GONE, RELAY_DRAINS, Refusal
from relay.reload import Changes, Follower, News, Step, compare
from relay.reports import Reports
from relay.route import Failure
from relay.routes import AnyRoute, can_serve, route_for
from relay.transport.loop import Loop
from routing.addresses import Address
from routing.table import Machine, Relay, RelayTimeouts, Table

__all__ = ["CHECK_EVERY", "Failure", "NoSuchNameError", "RelayService", "StartError"]

CHECK_EVERY: Final = 5.0  # seconds between two looks for whoever has waited too long
_CUT_BY_RELOAD: Final = "the configuration no longer allows it"
_LASTING: Final = ("name", "state")  # keys of `relay` that hold from start to stop


class RelayService(Operated):
    """The whole relay. start() either starts all of it or raises StartError.

    finished: called once when it has stopped.
    """

    def __init__(
        self, reactor: Reactor, table: Table, store: IdentityStore, log: Log, access_log: AccessLog, metrics: Metrics
    ) -> None:
        """Raises certs.errors.CertificateError where an identity cannot be had."""
        self._reactor = reactor
        self._store = store
        self._log = log
        self._metrics = metrics
        self._reports = reports = Reports(reactor, log, access_log, metrics)
        self.passed, self.refused, self.starved = reports.passed, reports.refused, reports.starved
        self.node_polled, self.node_troubled, self.back_down = reports.node_polled, reports.node_troubled, reports.back_down
        self.dials = DialGate(reactor)
        self.random = Random()  # noqa: S311 (of pauses, and of nothing secret)
        self._routes: dict[str, AnyRoute] = {}
        self._leaving: list[AnyRoute] = []  # removed by a reload, with calls in flight
        self._followers: list[Follower] = []
        self._open_polls = 0  # connections to nodes, until their descriptors are free
        self._timer: Timer | None = None
        self._empty: Deferred[None] | None = None
        self._loop: Loop | None = None
        self._doors: Doors | None = None
        self._entrance: PollingEntrance | None = None
        self.table = table
        self.admission = admission = Admission(table, lambda: self._loop.buffered if self._loop else 0, self._check_empty)
        self.admit, self.begin, self.end = admission.admit, admission.begin, admission.end
        self.faces = Faces.read(table, store)
        self.started = 0.0
        self.draining = False
        self.finished: Callable[[], None] = lambda: None

    # ---- start ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens every door, or none. Raises StartError."""
        limits = self.table.relay.limits
        loop = Loop(self._reactor, limits.handshakes, limits.source_handshakes)
        doors = Doors(loop, self)
        try:
            plan = doors.prepare(self.table)
        except StartError:
            loop.stop()
            raise
        self._loop, self._doors = loop, doors
        self._entrance = PollingEntrance(loop, self._context_at_entrance, self)
        self._routes = {machine.name: route_for(loop, machine, self) for machine in self.table.machines}
        plan.commit()
        self._declare()
        for route in self._routes.values():
            route.start()
        door_lines.say(self._log, self.table, self.faces, door_lines.with_line(self.table))
        door_lines.say_shared(self._log, self.table)
        self.started = time.time()
        self._timer = self._reactor.callLater(CHECK_EVERY, self._check)
        self._metrics.gauge("relay_connections", "Callers' connections that are open.", lambda: self.admission.connections)
        self._metrics.gauge("relay_exchanges_in_flight", IN_FLIGHT, self._in_flight)
        self._metrics.gauge("relay_back_connections", "Connections to Tentacles.", self._back_connections)
        self._metrics.gauge("relay_pollers", "Connections of polling Tentacles.", self._pollers)
        self._metrics.gauge("relay_polls", "Connections that poll Octopus.", self._polls)
        self._metrics.counter("relay_handshakes", "TLS handshakes begun with callers.", lambda: loop.gate.begun)
        self._metrics.counter(
            "relay_handshakes_delayed", "TLS handshakes with callers that had to wait.", lambda: loop.gate.delayed
        )
        read_limits(self._metrics, self.admission)
        self._metrics.gauge("relay_handshakes_waiting", "Callers that wait for their handshake.", lambda: len(loop.gate))

    def _declare(self) -> None:
        self._metrics.declare(self._routes, [machine.name for machine in self.table.machines if machine.passthrough])

    @property
    def doors(self) -> dict[str, tuple[str, int]]:
        """Where each machine's own door listens."""
        return self._doors.machines if self._doors else {}

    @property
    def shared_door(self) -> tuple[str, int] | None:
        """Where the shared door listens, if there is one."""
        door = self._doors.of(SHARED) if self._doors else None
        return door.address if door else None

    @property
    def back_door(self) -> tuple[str, int] | None:
        """Where polling Tentacles come in, if there is a door for them."""
        door = self._doors.of(BACK) if self._doors else None
        return door.address if door else None

    # ---- what doors and routes ask and say --------------------------------------------------------------------------

    @property
    def timeouts(self) -> RelayTimeouts:
        return self.table.relay.timeouts

    @property
    def routes(self) -> Mapping[str, AnyRoute]:
        return self._routes

    @property
    def hosts(self) -> Mapping[str, Machine]:
        return self.table.hosts

    @property
    def targets(self) -> Mapping[Address, Machine] | None:
        return self.table.targets if self.table.connect else None

    @property
    def entrance(self) -> PollingEntrance:
        assert self._entrance is not None
        return self._entrance

    def ended(self, call: Call) -> None:
        self._reports.ended(call)
        self.admission.called(call.peer, call.ended)

    def _context_at_entrance(self) -> Context:
        return self.faces.entrance()

    def polling_machine(self, certificate: bytes) -> Machine | None:
        return self.table.polling_machine(certificate)

    def polling_back(self, subscription: str) -> PollingBack | None:
        machine = self.table.subscriptions.get(subscription)
        return self._routes[machine.name].own_back if machine else None

    def poller_refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        route = self._routes.get(machine)
        if route:
            route.refused(refusal, peer, detail)
        else:
            self.refused(refusal, machine, peer, detail)

    def poll_opened(self) -> None:
        self._open_polls += 1

    def poll_closed(self) -> None:
        self._open_polls -= 1
        self._check_empty()

    def _check_empty(self) -> None:
        if not self.admission.connections and not self._open_polls and self._empty:
            self._reactor.callLater(0, self._emptied)  # its front has yet to hear of its end, and to say how the call ended

    def _emptied(self) -> None:
        """Whoever waits for the last connection to go need not wait any longer."""
        empty, self._empty = self._empty, None
        if empty:
            empty.callback(None)

    # ---- reload -----------------------------------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """It hears of every reload from now on, and can refuse it."""
        self._followers.append(follower)

    def read(self, table: Table) -> News:
        """What this table would bring, by its identities as files have them now. May run in a thread.

        Raises CertificateError, StartError.
        """
        faces = Faces.read(table, self._store, self.faces)
        doors = door_lines.with_other_line(self.table, self.faces, table, faces)
        return News(table, faces, compare(self.table, table, self.faces, faces), tuple(doors))

    def reload(self, news: News, now: bool = False) -> Changes:
        """Runs by this table from now on. All of it is taken in this turn of the reactor, or nothing of it.

        news: what read() said, with no reload in between. now: what is not allowed any more is cut at once, calls included.
        Raises StartError.
        """
        if self._loop is None or self.draining:
            raise StartError("the relay is stopping, and takes no other configuration")
        table, changes = news.table, news.changes
        _check_lasting(self.table.relay, table.relay)
        steps = self._prepare(table)
        before, faces_before = self.table, self.faces
        self.table, self.faces = table, news.faces
        self.admission.follow(table)
        self._loop.gate.pace(table.relay.limits.handshakes, table.relay.limits.source_handshakes)
        closed = self._take(changes, faces_before, now)
        self._declare()
        for step in steps:
            step.commit()
        door_lines.say(self._log, table, self.faces, news.doors)
        door_lines.say_shared(self._log, table, before)
        return replace(changes, closed=closed)

    def _prepare(self, table: Table) -> list[Step]:
        assert self._doors
        steps: list[Step] = []
        followers: list[Follower] = [self._doors, *self._followers]
        with contextlib.ExitStack() as abandoned:
            for follower in followers:
                step = follower.prepare(table)
                abandoned.callback(step.abandon)
                steps.append(step)
            abandoned.pop_all()
        return steps

    def _take(self, changes: Changes, faces_before: Faces, now: bool) -> int:
        """Makes the routes those of the table in force; how many callers' connections were cut."""
        assert self._loop
        closed = 0
        other_kind = [name for name in changes.changed if self._is_of_another_kind(name)]
        removed = [self._routes.pop(name) for name in (*changes.removed, *other_kind)]
        drained = {route.machine.name for route in removed if route.drained}
        self._leaving += removed
        if now:
            closed += sum(route.cut(_CUT_BY_RELOAD, again=False) for route in self._leaving)
            closed += sum(self._routes[name].cut_untrusted(_CUT_BY_RELOAD) for name in changes.unchanged)
        for route in removed:
            route.drain(MACHINE_GONE)
        changed = set(changes.changed)
        for machine in self.table.machines:
            if machine.name not in self._routes:
                route = self._routes[machine.name] = route_for(self._loop, machine, self)
                route.start()
                if machine.name in drained:  # it is of another kind now, and stays so all the same
                    route.drain(MACHINE_DRAINS)
            elif machine.name in changed:
                closed += self._routes[machine.name].change(machine, faces_before, _CUT_BY_RELOAD if now else "")
            else:
                self._routes[machine.name].machine = machine  # the same, but for the lines where it is declared
        return closed

    def _is_of_another_kind(self, name: str) -> bool:
        """It was passed through and is not any more, or the other way round: its callers cannot go on."""
        machine = self.table.machine(name)
        return machine is not None and not can_serve(self._routes[name], machine)

    # ---- time -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._timer = self._reactor.callLater(CHECK_EVERY, self._check)
        now = self._reactor.seconds()
        for route in self._all_routes():
            route.check(now, self.timeouts.identify)
        self.entrance.check(now, self.timeouts.identify)
        self._leaving = [route for route in self._leaving if not route.empty]
        self._reports.tick()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def start_drain(self) -> None:
        """Drains, and then stops; once."""
        if not self.draining:
            Deferred.fromCoroutine(self._drain_and_stop())  # an error of ours in it is Twisted's to log

    async def _drain_and_stop(self) -> None:
        try:
            await self.drain()
        finally:
            self.stop()

    async def drain(self) -> None:
        """Lets the calls in flight end, for as long as ``relay.timeouts.drain`` says; new ones find the doors closed."""
        self.draining = True
        self._log.info(
            "draining",
            exchanges=self._in_flight(),
            connections=self.admission.connections,
            passed_through=self._passed_through(),
        )
        if self._doors:
            self._doors.stop()
        for route in self._all_routes():
            route.drain(RELAY_DRAINS)
        self.entrance.drain()
        if self.admission.connections or self._open_polls:
            empty = self._empty = Deferred()
            timer = self._reactor.callLater(self.timeouts.drain, self._emptied)
            await empty
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Ends everything now, a drain among it; once."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            self._stop(loop)
        finally:
            self.finished()

    def _stop(self, loop: Loop) -> None:
        assert self._doors
        self._doors.close()
        for route in self._all_routes():
            route.stop()
        self.entrance.drain()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._reports.summarise()
        loop.stop()
        self._emptied()
        self._log.info("stopped")


def _check_lasting(before: Relay, after: Relay) -> None:
    for key in _LASTING:
        old, new = getattr(before, key), getattr(after, key)
        if old != new:
            raise StartError(f"relay.{key}: it is {old} in the running relay and {new} in the file, which takes a restart.")
