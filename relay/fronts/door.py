"""A listening port, and the callers who came to it until their handshake begins. Each one's ClientHello says where it goes."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from relay.admission import Visit
from relay.fronts.porch import Desk, Porch
from relay.outcomes import CONNECT_CLOSES, RELAY_DRAINS, Refusal, SentAway
from relay.transport.arrival import HELLO_CLOSED, HELLO_LATE, Arrival
from relay.transport.clienthello import ClientHello
from relay.transport.listener import Listener
from relay.transport.loop import Loop
from relay.transport.tcp import close_unread, prepare_socket
from routing.addresses import Address
from routing.table import RelayTimeouts

_REASONS: Final = {HELLO_LATE: Refusal.HELLO_TIMEOUT, HELLO_CLOSED: Refusal.LEFT_EARLY}


class Route(Protocol):
    """A machine as it is served."""

    barred: SentAway | None
    """Why whoever comes is sent away, while that is so."""

    def enter(self, sock: socket.socket, visit: Visit) -> None:
        """A caller whose ClientHello waits in the socket. Both belong to the route from now on: it says visit.trusted() or
        visit.identified() when it knows who that is, visit.departed() when the socket is closed, and sets visit.leave
        and visit.stays.
        """

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        """A caller was turned away."""


class House(Protocol):
    """What stands behind all doors."""

    @property
    def timeouts(self) -> RelayTimeouts:
        """Those in force."""

    def admit(self, peer: str, opened: float) -> Visit | SentAway:
        """Counts one more caller's connection; why it is to be closed, where there are too many."""

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
    visit: Visit
    target: str | None = None


class Door:
    """See above. asked: where the configuration wants it; machine: whose door it is, empty where it is the shared one."""

    def __init__(
        self,
        loop: Loop,
        sockets: Sequence[socket.socket],
        asked: Address,
        machine: str,
        guide: Guide,
        house: House,
        connect: ConnectGuide | None = None,
    ) -> None:
        """sockets: listening, the lanes of one address. The door owns them from now on."""
        self._loop = loop
        self._house = house
        self._arrivals: dict[Arrival, _Visitor] = {}  # until their handshake begins
        self._at_gate: dict[Arrival, Callable[[], None]] = {}  # those of them that wait for that
        self._listener = Listener(loop.reactor, sockets, self._accepted, house.starved, loop.strangers)
        self.sockets = sockets
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
            self._porch = Porch(self._loop, connect)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._listener.address

    @property
    def arrivals(self) -> int:
        """How many callers have come and not begun their handshake."""
        return len(self._arrivals) + (len(self._porch) if self._porch else 0)

    # ---- coming in --------------------------------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        porch = self._porch if self._connect else None
        visit = self._house.admit(peer, self._loop.reactor.seconds())
        if isinstance(visit, SentAway) and porch is None:
            sock.close()
            self._refused(visit.refusal, peer, visit.detail)
            return
        try:
            prepare_socket(sock)
        except OSError as error:  # it has gone already
            sock.close()
            if isinstance(visit, Visit):
                visit.departed()
            self._refused(Refusal.LEFT_EARLY, peer, str(error))
            return
        if porch is None:
            assert isinstance(visit, Visit)
            self._await_hello(_Visitor(sock, peer, visit))
        elif isinstance(visit, Visit):
            guest = _Greeted(self, _Visitor(sock, peer, visit))
            try:
                greeting = porch.greet(sock, self._house.timeouts.client_hello, guest, visit.source.name)
            except OSError:  # the system polls no more sockets
                sock.close()
                visit.departed()
                raise
            visit.leave = greeting.stop
        else:
            porch.turn_away(sock, _NotAdmitted(self, peer), visit)

    def _await_hello(self, visitor: _Visitor) -> None:
        def arrived(hello: ClientHello) -> None:
            if self._find(arrival, hello) is not None:
                begin = self._at_gate[arrival] = lambda: self._begin(arrival, hello)
                self._loop.gate.enter(visitor.visit.source, begin)

        def failed(why: str) -> None:
            del self._arrivals[arrival]
            visitor.visit.departed()
            behind = "" if visitor.target is None else f" behind its CONNECT to {visitor.target}"
            self._refused(_REASONS.get(why, Refusal.NOT_TLS), visitor.peer, why + behind)

        left = max(0.0, visitor.visit.opened + self._house.timeouts.client_hello - self._loop.reactor.seconds())
        arrival = Arrival(self._loop, visitor.sock, left, arrived, failed, visitor.visit.source.name)
        visitor.visit.leave = lambda why: self._send_away(arrival, why)
        self._arrivals[arrival] = visitor
        try:
            arrival.begin()
        except OSError:  # the system polls no more sockets
            del self._arrivals[arrival]
            visitor.sock.close()
            visitor.visit.departed()
            raise

    def _begin(self, arrival: Arrival, hello: ClientHello) -> None:
        """Its turn to shake hands has come."""
        del self._at_gate[arrival]
        route = self._find(arrival, hello)  # again: a reload may have come between
        if route is None:
            return
        visitor = self._arrivals.pop(arrival)
        visit = visitor.visit
        if self._loop.reactor.seconds() - visit.opened > self._house.timeouts.identify:
            close_unread(visitor.sock)
            visit.departed()
            late = "it had to wait too long for its handshake (relay.limits.handshakes, source_handshakes)"
            route.refused(Refusal.IDENTIFY_TIMEOUT, visit.peer, late)
            return
        route.enter(visitor.sock, visit)

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
        close_unread(visitor.sock)
        visitor.visit.departed()
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
        for arrival in list(self._arrivals):
            self._send_away(arrival, why)

    def close(self) -> None:
        """The same, and nobody is waited for."""
        self.stop()
        if self._porch:
            self._porch.close(RELAY_DRAINS)

    def _send_away(self, arrival: Arrival, why: SentAway) -> None:
        visitor = self._arrivals.pop(arrival)
        begin = self._at_gate.pop(arrival, None)
        if begin:
            self._loop.gate.leave(visitor.visit.source, begin)
            close_unread(visitor.sock)
        else:
            arrival.stop()
        visitor.visit.departed()
        self._refused(why.refusal, visitor.peer, why.detail)


class _Greeted:
    """What becomes of a caller at the porch who has a place in the house."""

    def __init__(self, door: Door, visitor: _Visitor) -> None:
        self._door = door
        self._visitor = visitor

    def tls(self) -> None:
        self._door._await_hello(self._visitor)

    def tunnel(self, target: str) -> None:
        self._door._await_hello(replace(self._visitor, target=target))

    def refused(self, refusal: Refusal, detail: str) -> None:
        self._door._refused(refusal, self._visitor.peer, detail)

    def closed(self) -> None:
        self._visitor.visit.departed()


class _NotAdmitted:
    """What becomes of one who has none."""

    def __init__(self, door: Door, peer: str) -> None:
        self._door = door
        self._peer = peer

    def tls(self) -> None:
        raise AssertionError("it is never let in")

    def tunnel(self, target: str) -> None:
        raise AssertionError("it is never let in")

    def refused(self, refusal: Refusal, detail: str) -> None:
        self._door._refused(refusal, self._peer, detail)

    def closed(self) -> None:
        """It had no place."""
