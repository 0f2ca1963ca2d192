"""Builds the running relay from a routing table, and ends it: start, drain, stop."""

import errno
import socket
from collections.abc import Callable
from typing import Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred

from certs.contexts import client_context, server_context
from certs.identity import Identity
from certs.store import IdentityStore
from relay.admin.access_log import AccessLog
from relay.admin.log import Log, Repeats
from relay.admin.metrics import Metrics
from relay.backs.listening import ListeningBack
from relay.call import Call
from relay.clock import Reactor, Timer
from relay.fronts.door import PortDoor
from relay.outcomes import Outcome, Refusal
from relay.transport.listener import listening_socket
from relay.transport.loop import Loop
from routing.table import Machine, Octopus, Table

CHECK_EVERY: Final = 5.0  # seconds between two looks for whoever has waited too long
_SHOWN: Final = 40  # unknown members in a line of the log, and characters of each
_SIDES: Final = {Outcome.CALLER_BROKE: "caller", Outcome.TENTACLE_BROKE: "tentacle"}
# Ends that are somebody's trouble or fault: these are logged, the others stand in the access log only.
_TROUBLE: Final = frozenset(Outcome) - {
    Outcome.OK, Outcome.ERROR_REPLY, Outcome.CALLER_LEFT, Outcome.CANCELLED, Outcome.CALLER_SILENT, Outcome.STOPPED,
}  # fmt: skip
# Of a door that cannot be opened.
_REMEDIES: Final = {
    errno.EADDRINUSE: "Free the port, or give the machine another one in `port`.",
    errno.EADDRNOTAVAIL: "This host does not have that address: write one that it has in `port`, or the port alone.",
    errno.EACCES: "Ports below 1024 need the right CAP_NET_BIND_SERVICE: grant it, or choose another one in `port`.",
}
_OTHER_REMEDY: Final = "Give the machine another address or port in `port`."


class StartError(Exception):
    """The relay cannot start; nothing of it runs. The text says why, and what to do."""


class RelayService:
    """The whole relay. start() either starts all of it or raises StartError."""

    def __init__(
        self, reactor: Reactor, table: Table, store: IdentityStore, log: Log, access_log: AccessLog, metrics: Metrics
    ) -> None:
        """Raises certs.errors.CertificateError where an identity cannot be had."""
        self._reactor = reactor
        self._table = table
        self._log = log
        self._access_log = access_log
        self._metrics = metrics
        self._repeats = Repeats(reactor, log)
        self._doors: list[PortDoor] = []
        self._backs: dict[tuple[str, str], ListeningBack] = {}
        self._octopus_facing = {machine.name: store.machine(machine.name, machine.identity) for machine in table.machines}
        self._tentacle_facing = {octopus.name: store.octopus(octopus.name, octopus.identity) for octopus in table.octopus}
        for identity in self._octopus_facing.values():
            server_context(identity)  # only to know now whether OpenSSL takes it; the doors make theirs when they are used
        self._client_contexts = {name: client_context(identity) for name, identity in self._tentacle_facing.items()}
        self._connections = 0
        self._unknown_members: set[str] = set()
        self._timer: Timer | None = None
        self._empty: Deferred[None] | None = None
        self._loop: Loop | None = None

    # ---- start ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens every door, or none. Raises StartError."""
        opened = _open_all(self._table.machines)
        self._metrics.declare(machine.name for machine in self._table.machines)
        loop = self._loop = Loop(self._reactor, self._table.relay.limits.handshakes)
        for machine, sock in opened:
            context = _once(server_context, self._octopus_facing[machine.name])
            self._doors.append(PortDoor(loop, sock, machine, self._table.relay.timeouts, context, self))
            self._log.info(
                "door open",
                machine=machine.name,
                door=str(machine.door),
                tentacle=str(machine.tentacle),
                thumbprint_for_octopus=str(self._octopus_facing[machine.name].thumbprint),
            )
        self._timer = self._reactor.callLater(CHECK_EVERY, self._check)
        self._metrics.gauge("relay_connections", "Callers' connections that are open.", lambda: self._connections)
        self._metrics.gauge("relay_exchanges_in_flight", "Exchanges that have begun and not ended.", self._in_flight)
        self._metrics.gauge("relay_back_connections", "Connections to Tentacles.", lambda: sum(map(len, self._backs.values())))
        self._metrics.counter("relay_handshakes", "TLS handshakes begun with callers.", lambda: loop.gate.begun)
        self._metrics.counter("relay_handshakes_delayed", "Times that one had to wait.", lambda: loop.gate.delayed)
        self._metrics.gauge("relay_handshakes_waiting", "Callers that wait for their handshake.", lambda: len(loop.gate))

    def _in_flight(self) -> int:
        return sum(door.busy for door in self._doors)

    @property
    def doors(self) -> dict[str, tuple[str, int]]:
        """Where each machine's door listens."""
        return {door.machine.name: door.address for door in self._doors}

    # ---- what doors ask and say -------------------------------------------------------------------------------------

    def admit(self) -> bool:
        if self._connections >= self._table.relay.limits.connections:
            return False
        self._connections += 1
        return True

    def departed(self) -> None:
        self._connections -= 1
        if not self._connections and self._empty:
            self._reactor.callLater(0, self._emptied)  # its front has yet to hear of its end, and to say how the call ended

    def _emptied(self) -> None:
        """Whoever waits for the last connection to go need not wait any longer."""
        empty, self._empty = self._empty, None
        if empty:
            empty.callback(None)

    def starved(self, error: OSError) -> None:
        self._metrics.accept_pauses += 1
        self._repeats.say(("starved",), "accepting pauses: no file descriptor is free", error=error.strerror or str(error))

    def back(self, machine: Machine, octopus: Octopus) -> ListeningBack:
        key = machine.name, octopus.name
        back = self._backs.get(key)
        if back is None:
            assert self._loop is not None
            back = self._backs[key] = ListeningBack(self._loop, machine, self._client_contexts[octopus.name])
        return back

    def ended(self, call: Call) -> None:
        self._access_log.write(call)
        self._metrics.ended(call)
        if call.outcome in _TROUBLE:
            word = call.outcome.value if call.outcome else ""
            self._repeats.say(
                ("call", call.machine, word), "call failed", machine=call.machine, octopus=call.octopus, peer=call.peer,
                outcome=word, detail=call.detail, side=_SIDES.get(call.outcome) if call.outcome else None,
            )  # fmt: skip
        if call.mismatched:
            self._repeats.say(
                ("mismatched", call.machine), "a reply's id is not its request's", machine=call.machine, octopus=call.octopus,
                peer=call.peer, side="tentacle",
            )  # fmt: skip
        if call.unknown and call.machine not in self._unknown_members:
            self._unknown_members.add(call.machine)
            members = [name[:_SHOWN] for name in call.unknown[:_SHOWN]]
            self._log.info("a newer Halibut: unknown members pass", machine=call.machine, members=members)

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        self._metrics.refused(refusal)
        host = peer.rpartition(":")[0]
        self._repeats.say(
            ("refused", refusal.value, machine, host), "caller refused", reason=refusal.value, machine=machine, peer=peer,
            detail=detail,
        )  # fmt: skip

    # ---- time -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._timer = self._reactor.callLater(CHECK_EVERY, self._check)
        now = self._reactor.seconds()
        for door in self._doors:
            door.check(now)
        self._repeats.tick()

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Lets the calls in flight end, for as long as ``relay.timeouts.drain`` says; new ones find the doors closed."""
        self._log.info("draining", exchanges=self._in_flight(), connections=self._connections)
        for back in self._backs.values():  # before the doors: no back dials for a caller that is about to be closed
            back.stop()
        for door in self._doors:
            door.drain()
        if self._connections:
            empty = self._empty = Deferred()
            timer = self._reactor.callLater(self._table.relay.timeouts.drain, self._emptied)
            await empty
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Ends everything now, a drain among it; once."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        for back in self._backs.values():
            back.stop()
        for door in self._doors:
            door.stop()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._repeats.summarise()
        loop.stop()
        self._emptied()
        self._log.info("stopped")


def _open_all(machines: tuple[Machine, ...]) -> list[tuple[Machine, socket.socket]]:
    """A listening socket for each machine that has a door of its own, or none at all."""
    opened: list[tuple[Machine, socket.socket]] = []
    for machine in machines:
        if machine.door is None:
            continue
        try:
            opened.append((machine, listening_socket(machine.door.host, machine.door.port)))
        except OSError as error:
            for _, sock in opened:
                sock.close()
            raise StartError(
                f"machine {machine.name}: cannot listen on {machine.door}: {error.strerror or error}. "
                f"{_REMEDIES.get(error.errno or 0, _OTHER_REMEDY)}"
            ) from error
    return opened


def _once(make: Callable[[Identity], SSL.Context], identity: Identity) -> Callable[[], SSL.Context]:
    """A context that is made when it is first asked for, and kept."""
    made: list[SSL.Context] = []

    def get() -> SSL.Context:
        if not made:
            made.append(make(identity))
        return made[0]

    return get
