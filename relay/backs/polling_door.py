"""The port that polling Tentacles dial, and who came to it until their handshake begins."""

import socket
from typing import Final, Protocol

from relay.backs.entrance import PollingEntrance
from relay.outcomes import Refusal
from relay.transport.arrival import HELLO_CLOSED, HELLO_LATE, Arrival
from relay.transport.clienthello import ClientHello
from relay.transport.connection import prepare_socket
from relay.transport.listener import Listener
from relay.transport.loop import Loop
from routing.table import RelayTimeouts

GATE_FULL: Final = 256  # callers that wait for their handshake, beyond which no more are accepted


class House(Protocol):
    """What stands behind the door: it counts."""

    def admit(self) -> bool:
        """Counts one more connection; False where there are too many."""

    def departed(self) -> None:
        """A connection that was admitted is closed."""

    def starved(self, error: OSError) -> None:
        """There was no descriptor for a caller; accepting pauses."""


class PollingDoor:
    """See above."""

    def __init__(
        self, loop: Loop, sock: socket.socket, timeouts: RelayTimeouts, entrance: PollingEntrance, house: House
    ) -> None:
        """sock: listening. The door owns it from now on."""
        self._loop = loop
        self._timeouts = timeouts
        self._entrance = entrance
        self._house = house
        self._arrivals: dict[Arrival, tuple[socket.socket, str]] = {}  # until their handshake begins
        self._listener = Listener(loop.reactor, sock, self._accepted, self._busy, house.starved)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def __len__(self) -> int:
        """How many have come and are not identified."""
        return len(self._arrivals) + len(self._entrance)

    def _busy(self) -> bool:
        return len(self._loop.gate) >= GATE_FULL

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        if not self._house.admit():
            sock.close()
            self._entrance.refused(Refusal.CONNECTIONS, peer, "too many connections")
            return
        opened = self._loop.reactor.seconds()
        try:
            prepare_socket(sock)
        except OSError as error:  # it has gone already
            sock.close()
            self._departed(Refusal.LEFT_EARLY, peer, str(error))
            return

        def arrived(hello: ClientHello) -> None:
            self._loop.gate.enter(lambda: self._begin(arrival, sock, peer, opened))

        def failed(why: str) -> None:
            del self._arrivals[arrival]
            reasons = {HELLO_LATE: Refusal.HELLO_TIMEOUT, HELLO_CLOSED: Refusal.LEFT_EARLY}
            self._departed(reasons.get(why, Refusal.NOT_TLS), peer, why)

        arrival = Arrival(self._loop.reactor, sock, self._timeouts.client_hello, arrived, failed)
        self._arrivals[arrival] = sock, peer

    def _begin(self, arrival: Arrival, sock: socket.socket, peer: str, opened: float) -> None:
        """Its turn to shake hands has come."""
        if self._arrivals.pop(arrival, None) is None:  # closed by a drain, while it waited
            return
        if self._loop.reactor.seconds() - opened > self._timeouts.identify:
            sock.close()
            late = "it had to wait too long for its handshake (relay.limits.handshakes)"
            self._departed(Refusal.IDENTIFY_TIMEOUT, peer, late)
            return
        self._entrance.enter(sock, peer, opened)

    def _departed(self, refusal: Refusal, peer: str, detail: str) -> None:
        self._house.departed()
        self._entrance.refused(refusal, peer, detail)

    def check(self, now: float) -> None:
        """Looks for whoever has waited too long; to be called now and then."""
        self._entrance.check(now, self._timeouts.identify)

    def drain(self) -> None:
        """No Tentacle comes in any more. Those that are in belong to their backs."""
        self._listener.stop()
        arrivals, self._arrivals = self._arrivals, {}
        for arrival, (sock, peer) in arrivals.items():
            if not arrival.stop():  # it waits for its handshake, and nobody else has the socket
                sock.close()
            self._departed(Refusal.DRAINING, peer, "the relay is draining")
        self._entrance.drain()
