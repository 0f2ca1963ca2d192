"""A listening port, and the callers who came to it until their handshake begins. Each one's ClientHello says where it goes."""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from relay.fronts.porch import Desk, Porch
from relay.outcomes import CONNECT_CLOSES, RELAY_DRAINS, RELAY_FULL, Refusal, SentAway
from relay.transport.arrival import HELLO_CLOSED, HELLO_LATE, Arrival
from relay.transport.clienthello import LARGEST, ClientHello
from relay.transport.connection import prepare_socket
from relay.transport.listener import Listener
from relay.transport.loop import Loop
from routing.addresses import Address
from routing.table import RelayTimeouts

GATE_FULL: Final = 256  # callers that wait for their handshake, beyond which no more are accepted
_REASONS: Final = {HELLO_LATE: Refusal.HELLO_TIMEOUT, HELLO_CLOSED: Refusal.LEFT_EARLY}


class Route(Protocol):
    """A machine as it is served."""

    barred: SentAway | None
    """Why whoever comes is sent away, while that is so."""

    def enter(self, sock: socket.socket, peer: str, opened: float) -> None:
        """A caller whose ClientHello waits in the socket, which belongs to the route from now on. opened: when it came."""

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        """A caller was turned away."""


class House(Protocol):
    """What stands behind all doors."""

    @property
    def timeouts(self) -> RelayTimeouts:
        """Those in force."""

    def admit(self) -> bool:
        """Counts one more caller's connection; False where there are too many."""

    def departed(self) -> None:
        """A connection that was admitted is closed."""

    def starved(self, error: OSError) -> None:
        """There was no descriptor for a caller; accepting pauses."""

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left. machine: empty where nobody knows which one it came for."""


Guide = Callable[[ClientHello], Route | SentAway]
"""Where a caller goes who begins so."""


class ConnectGuide(Desk, Protocol):
    """Where callers go who come as to an HTTP proxy."""

    def find(self, target: str) -> Route | SentAway:
        """Where this target leads to."""


@dataclass(frozen=True, slots=True)
class _Visitor:
    """target: what it asked for by CONNECT; None where it did not."""

    sock: socket.socket
    peer: str
    opened: float
    target: str | None = None


class Door:
    """See above. asked: where the configuration wants it; machine: whose door it is, empty where it is the shared one."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        asked: Address,
        machine: str,
        guide: Guide,
        house: House,
        connect: ConnectGuide | None = None,
    ) -> None:
        """sock: listening. The door owns it from now on."""
        self._loop = loop
        self._house = house
        self._arrivals: dict[Arrival, _Visitor] = {}  # until their handshake begins
        self._listener = Listener(loop.reactor, sock, self._accepted, self._busy, house.starved)
        self.socket = sock
        self.asked = asked
        self._porch: Porch | None = None
        self.lead(machine, guide, connect)

    def lead(self, machine: str, guide: Guide, connect: ConnectGuide | None = None) -> None:
        """Whoever comes is guided so from now on, and whoever has come and not begun its handshake.

        connect: given, callers may also come as to an HTTP proxy.
        """
        self.machine = machine
        self._guide = guide
        self._connect = connect
        if connect and self._porch is None:
            self._porch = Porch(self._loop.reactor, connect)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._listener.address

    @property
    def arrivals(self) -> int:
        """How many callers have come and not begun their handshake."""
        return len(self._arrivals) + (len(self._porch) if self._porch else 0)

    # ---- coming in --------------------------------------------------------------------------------------------------

    def _busy(self) -> bool:
        return len(self._loop.gate) >= GATE_FULL

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        house = self._house
        porch = self._porch if self._connect else None
        admitted = house.admit()
        if not admitted and porch is None:
            sock.close()
            self._refused(RELAY_FULL.refusal, peer, RELAY_FULL.detail)
            return
        visitor = _Visitor(sock, peer, self._loop.reactor.seconds())
        try:
            prepare_socket(sock)
        except OSError as error:  # it has gone already
            sock.close()
            if admitted:
                house.departed()
            self._refused(Refusal.LEFT_EARLY, peer, str(error))
            return
        if porch is None:
            self._await_hello(visitor)
        elif admitted:
            porch.greet(sock, house.timeouts.client_hello, _Greeted(self, visitor))
        else:
            porch.turn_away(sock, _Greeted(self, visitor, admitted=False), RELAY_FULL)

    def _await_hello(self, visitor: _Visitor) -> None:
        house = self._house

        def arrived(hello: ClientHello) -> None:
            if self._find(arrival, hello) is not None:
                self._loop.gate.enter(lambda: self._begin(arrival, hello))

        def failed(why: str) -> None:
            del self._arrivals[arrival]
            house.departed()
            behind = "" if visitor.target is None else f" behind its CONNECT to {visitor.target}"
            self._refused(_REASONS.get(why, Refusal.NOT_TLS), visitor.peer, why + behind)

        left = max(0.0, visitor.opened + house.timeouts.client_hello - self._loop.reactor.seconds())
        arrival = Arrival(self._loop.reactor, visitor.sock, left, arrived, failed)
        self._arrivals[arrival] = visitor

    def _begin(self, arrival: Arrival, hello: ClientHello) -> None:
        """Its turn to shake hands has come."""
        if arrival not in self._arrivals:  # closed by a drain, while it waited
            return
        route = self._find(arrival, hello)  # again: a reload may have come between
        if route is None:
            return
        visitor = self._arrivals.pop(arrival)
        if self._loop.reactor.seconds() - visitor.opened > self._house.timeouts.identify:
            visitor.sock.close()
            self._house.departed()
            late = "it had to wait too long for its handshake (relay.limits.handshakes)"
            route.refused(Refusal.IDENTIFY_TIMEOUT, visitor.peer, late)
            return
        route.enter(visitor.sock, visitor.peer, visitor.opened)

    def _find(self, arrival: Arrival, hello: ClientHello) -> Route | None:
        """Where it goes; None where it was sent away: closed before a ServerHello (wire.md 11.1)."""
        found = self._guided(hello, self._arrivals[arrival].target)
        if isinstance(found, SentAway):
            why, refused = found, self._refused
        elif found.barred:
            why, refused = found.barred, found.refused
        else:
            return found
        visitor = self._arrivals.pop(arrival)
        with contextlib.suppress(OSError):
            visitor.sock.recv(LARGEST)  # a close with unread bytes would be a reset
        visitor.sock.close()
        self._house.departed()
        refused(why.refusal, visitor.peer, why.detail)
        return None

    def _guided(self, hello: ClientHello, target: str | None) -> Route | SentAway:
        if target is None:
            return self._guide(hello)
        return self._connect.find(target) if self._connect else CONNECT_CLOSES

    def _refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        self._house.refused(refusal, self.machine, peer, detail)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def stop(self, why: SentAway = RELAY_DRAINS) -> None:
        """No caller comes in any more, and those who have not begun their handshake go.

        One who may come as to an HTTP proxy has its answer first, within some seconds, or by close().
        """
        self._listener.stop()
        if self._porch:
            self._porch.stop(why)
        arrivals, self._arrivals = self._arrivals, {}
        for arrival, visitor in arrivals.items():
            if not arrival.stop():  # it waits for its handshake, and nobody else has the socket
                visitor.sock.close()
            self._house.departed()
            self._refused(why.refusal, visitor.peer, why.detail)

    def close(self) -> None:
        """The same, and nobody is waited for."""
        self.stop()
        if self._porch:
            self._porch.close(RELAY_DRAINS)


class _Greeted:
    """What becomes of a caller at the porch. admitted: whether it has a place in the house."""

    def __init__(self, door: Door, visitor: _Visitor, admitted: bool = True) -> None:
        self._door = door
        self._visitor = visitor
        self._admitted = admitted

    def tls(self) -> None:
        self._door._await_hello(self._visitor)

    def tunnel(self, target: str) -> None:
        self._door._await_hello(replace(self._visitor, target=target))

    def refused(self, refusal: Refusal, detail: str) -> None:
        self._door._refused(refusal, self._visitor.peer, detail)

    def closed(self) -> None:
        if self._admitted:
            self._door._house.departed()
