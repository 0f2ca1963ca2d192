"""A door of its own for one machine: a listening port, and the callers who came in by it."""

import socket
from collections.abc import Callable
from typing import Protocol

from OpenSSL import SSL

from relay.call import Call
from relay.exchange import Back
from relay.fronts.listening import ListeningFront
from relay.outcomes import Refusal
from relay.transport.arrival import HELLO_CLOSED, HELLO_LATE, Arrival
from relay.transport.clienthello import ClientHello
from relay.transport.connection import TLSConnection, prepare_socket
from relay.transport.listener import Listener
from relay.transport.loop import Loop
from routing.table import Machine, Octopus, RelayTimeouts

GATE_FULL = 256  # callers that wait for their handshake, beyond which no more are accepted


class House(Protocol):
    """What stands behind all doors: it counts, and it knows the backs."""

    def admit(self) -> bool:
        """Counts one more caller's connection; False where there are too many."""

    def departed(self) -> None:
        """A connection that was admitted is closed."""

    def starved(self, error: OSError) -> None:
        """There was no descriptor for a caller; accepting pauses."""

    def back(self, machine: Machine, octopus: Octopus) -> Back:
        """Where the machine's Tentacle is had from, for calls of this Octopus."""

    def ended(self, call: Call) -> None:
        """An exchange is over."""

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left."""


class PortDoor:
    """See above. context gives the TLS context that shows the machine's identity; it is made on first use."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        machine: Machine,
        timeouts: RelayTimeouts,
        context: Callable[[], SSL.Context],
        house: House,
    ) -> None:
        """sock: listening. The door owns it from now on."""
        self._loop = loop
        self._timeouts = timeouts
        self._context = context
        self._house = house
        self._arrivals: dict[Arrival, tuple[socket.socket, str]] = {}  # until their handshake begins
        self._fronts: set[ListeningFront] = set()
        self.clock = loop.reactor
        self.machine = machine
        self.draining = False
        self._listener = Listener(loop.reactor, sock, self._accepted, self._busy, house.starved)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def __len__(self) -> int:
        """How many callers are in."""
        return len(self._fronts) + len(self._arrivals)

    # ---- coming in --------------------------------------------------------------------------------------------------

    def _busy(self) -> bool:
        return len(self._loop.gate) >= GATE_FULL

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        if not self._house.admit():
            sock.close()
            self.refused(Refusal.CONNECTIONS, peer, "too many connections")
            return
        opened = self.clock.seconds()
        try:
            prepare_socket(sock)
        except OSError as error:  # it has gone already
            sock.close()
            self._house.departed()
            self.refused(Refusal.LEFT_EARLY, peer, str(error))
            return

        def arrived(hello: ClientHello) -> None:
            self._loop.gate.enter(lambda: self._begin(arrival, sock, peer, opened))

        def failed(why: str) -> None:
            del self._arrivals[arrival]
            self._house.departed()
            reasons = {HELLO_LATE: Refusal.HELLO_TIMEOUT, HELLO_CLOSED: Refusal.LEFT_EARLY}
            self.refused(reasons.get(why, Refusal.NOT_TLS), peer, why)

        arrival = Arrival(self._loop.reactor, sock, self._timeouts.client_hello, arrived, failed)
        self._arrivals[arrival] = sock, peer

    def _begin(self, arrival: Arrival, sock: socket.socket, peer: str, opened: float) -> None:
        """Its turn to shake hands has come."""
        if self._arrivals.pop(arrival, None) is None:  # closed by a drain, while it waited
            return
        if self.clock.seconds() - opened > self._timeouts.identify:
            sock.close()
            self._house.departed()
            self.refused(Refusal.IDENTIFY_TIMEOUT, peer, "it had to wait too long for its handshake (relay.limits.handshakes)")
            return
        front = ListeningFront(self, peer, opened)
        front.link = link = TLSConnection(self._loop, sock, self._context(), front)
        link.closed = self._house.departed
        self._fronts.add(front)
        link.accept()

    # ---- what fronts ask and say ------------------------------------------------------------------------------------

    def back(self, octopus: Octopus) -> Back:
        return self._house.back(self.machine, octopus)

    def ended(self, call: Call) -> None:
        self._house.ended(call)

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        self._house.refused(refusal, self.machine.name, peer, detail)

    def left(self, front: ListeningFront) -> None:
        self._fronts.discard(front)

    # ---- time, and the end ------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Looks for whoever has waited too long; to be called now and then."""
        for front in list(self._fronts):
            front.check(now, self._timeouts.identify)

    @property
    def busy(self) -> int:
        """How many exchanges are in flight."""
        return sum(front.busy for front in self._fronts)

    def drain(self) -> None:
        """No caller comes in any more; those without a call go now, the others after it."""
        self.draining = True
        self._listener.stop()
        arrivals, self._arrivals = self._arrivals, {}
        for arrival, (sock, peer) in arrivals.items():
            if not arrival.stop():  # it waits for its handshake, and nobody else has the socket
                sock.close()
            self._house.departed()
            self.refused(Refusal.DRAINING, peer, "the relay is draining")
        for front in list(self._fronts):
            front.drain()

    def stop(self) -> None:
        """Everybody goes now."""
        self.drain()
        for front in list(self._fronts):
            front.stop()
