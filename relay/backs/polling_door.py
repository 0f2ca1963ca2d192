"""The door that polling Tentacles come in by, those of all machines: each is served for its own subscription only.

Halibut itself ties neither a role nor a subscription to a certificate (wire.md 2.3). Here ``MX-SUBSCRIBER`` is answered only
where the certificate has a pin of the machine that owns the subscription (10.13); everybody else is closed before MX-SERVER.
"""

import socket
from collections.abc import Callable
from typing import Final, Protocol

from OpenSSL import SSL

from certs.thumbprint import Thumbprint
from relay.backs.poller import PollerConnection
from relay.backs.polling import PollingBack
from relay.outcomes import Refusal
from relay.transport.arrival import HELLO_CLOSED, HELLO_LATE, Arrival
from relay.transport.clienthello import ClientHello
from relay.transport.connection import TLSConnection, prepare_socket
from relay.transport.listener import Listener
from relay.transport.loop import Loop
from routing.subscriptions import same_for_all
from routing.table import RelayTimeouts

GATE_FULL: Final = 256  # callers that wait for their handshake, beyond which no more are accepted
_NOBODY: Final = ""  # the machine of whoever has not said yet what it is


class House(Protocol):
    """What stands behind the door: it counts, and it knows the subscriptions."""

    def admit(self) -> bool:
        """Counts one more connection; False where there are too many."""

    def departed(self) -> None:
        """A connection that was admitted is closed."""

    def starved(self, error: OSError) -> None:
        """There was no descriptor for a caller; accepting pauses."""

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left. machine: empty where it is not known."""

    def polling_back(self, subscription: str) -> PollingBack | None:
        """Whose subscription this is, in the spelling of routing.subscriptions; None where no machine has it."""


class PollingDoor:
    """See above. context gives the TLS context that shows the identity which Tentacles trust; made on first use."""

    def __init__(
        self, loop: Loop, sock: socket.socket, timeouts: RelayTimeouts, context: Callable[[], SSL.Context], house: House
    ) -> None:
        """sock: listening. The door owns it from now on."""
        self._loop = loop
        self._timeouts = timeouts
        self._context = context
        self._house = house
        self._arrivals: dict[Arrival, tuple[socket.socket, str]] = {}  # until their handshake begins
        self._callers: set[PollerConnection] = set()  # until they are identified
        self._clock = loop.reactor
        self._listener = Listener(loop.reactor, sock, self._accepted, self._busy, house.starved)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def __len__(self) -> int:
        """How many have not been identified yet."""
        return len(self._callers) + len(self._arrivals)

    # ---- coming in --------------------------------------------------------------------------------------------------

    def _busy(self) -> bool:
        return len(self._loop.gate) >= GATE_FULL

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        if not self._house.admit():
            sock.close()
            self.refused(Refusal.CONNECTIONS, peer, "too many connections")
            return
        opened = self._clock.seconds()
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
        if self._clock.seconds() - opened > self._timeouts.identify:
            sock.close()
            self._house.departed()
            self.refused(Refusal.IDENTIFY_TIMEOUT, peer, "it had to wait too long for its handshake (relay.limits.handshakes)")
            return
        connection = PollerConnection(self._clock, self, peer, opened)
        connection.link = link = TLSConnection(self._loop, sock, self._context(), connection)
        link.closed = self._house.departed
        self._callers.add(connection)
        link.accept()

    # ---- what connections ask and say -------------------------------------------------------------------------------

    def identified(self, connection: PollerConnection, subscription: str, certificate: bytes) -> PollingBack | None:
        """Whose it is, if it may be served."""
        back = self._house.polling_back(same_for_all(subscription))
        shown = Thumbprint.of(certificate)
        if back is None:
            self._turn_away(
                connection, Refusal.UNKNOWN_SUBSCRIPTION, _NOBODY, f"{subscription}: no machine has it; {shown} was shown"
            )
            return None
        machine = back.machine
        if not any(pin.matches(certificate) for pin in machine.thumbprints):
            pins = ", ".join(map(str, machine.thumbprints))
            self._turn_away(
                connection, Refusal.NOT_OWNER, machine.name, f"{subscription}: {shown} was shown, and its machine has {pins}"
            )
            return None
        if refusal := back.refusal():
            self._turn_away(connection, refusal[0], machine.name, f"{subscription}: {refusal[1]}")
            return None
        return back

    def _turn_away(self, connection: PollerConnection, refusal: Refusal, machine: str, detail: str) -> None:
        self._house.refused(refusal, machine, connection.peer, detail)
        connection.leave()

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        self._house.refused(refusal, _NOBODY, peer, detail)

    def left(self, connection: PollerConnection) -> None:
        self._callers.discard(connection)

    # ---- time, and the end ------------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Looks for whoever has waited too long; to be called now and then."""
        for connection in list(self._callers):
            if now - connection.since > self._timeouts.identify:
                connection.refuse(Refusal.IDENTIFY_TIMEOUT, f"not identified within {self._timeouts.identify:.0f} s")

    def drain(self) -> None:
        """No Tentacle comes in any more. Those that are in belong to their backs."""
        self._listener.stop()
        arrivals, self._arrivals = self._arrivals, {}
        for arrival, (sock, peer) in arrivals.items():
            if not arrival.stop():  # it waits for its handshake, and nobody else has the socket
                sock.close()
            self._house.departed()
            self.refused(Refusal.DRAINING, peer, "the relay is draining")
        for connection in list(self._callers):
            connection.refuse(Refusal.DRAINING, "the relay is draining")

    stop = drain
