"""The front that polls: for one machine, every node of one Octopus, with so many connections each (wire.md 6.7, 6.8).

Rules:
1. Nodes are polled while the machine's Tentacle is live, and not otherwise. Octopus then says of it what it says of any polling
   Tentacle that is down.
2. A connection that fails is dialled again after a pause that grows (6.5); each has its own, so that a node that is down holds
   up no other. One that the relay closed, because the Tentacle had gone, is dialled again when that one is back.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final, Protocol

from certs.sharing import Context
from relay.backoff import BackOff
from relay.call import Call
from relay.clock import Timer
from relay.fronts.dials import DialGate, Turn
from relay.fronts.poll import Poll, State
from relay.lease import Back
from relay.load import NodePolls
from relay.outcomes import NodeTrouble
from relay.transport.loop import Loop
from relay.transport.proxy import Proxy
from routing.addresses import Address
from routing.table import Machine, Octopus

AGAIN: Final = 1.0  # seconds between two dials of one connection, however often the Tentacle comes and goes


class LiveBack(Back, Protocol):
    """A back that knows whether its Tentacle is there: PollingBack, or ParkedBack around a listening one's."""

    @property
    def live(self) -> bool:
        """A connection to the Tentacle is parked or in use."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` each time that `live` may have changed; keeps the Tentacle ready until unwatch()."""

    def unwatch(self, changed: Callable[[], None]) -> None: ...


class House(Protocol):
    """Who hears of what the front does."""

    def ended(self, call: Call) -> None:
        """An exchange is over."""

    def poll_opened(self) -> None:
        """A connection to a node stands."""

    def poll_closed(self) -> None:
        """It is closed, and its descriptor is free."""

    def node_polled(self, machine: str, octopus: str, node: str) -> None:
        """A node has accepted a connection."""

    def node_troubled(self, machine: str, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        """A connection to a node could not be had, or has ended. It is dialled again."""


class _Seat:
    """One of the connections that shall stand, and what becomes of it: dialled, standing, or waiting for its next attempt."""

    __slots__ = ("back_off", "node", "not_before", "poll", "timer", "turn")

    def __init__(self, node: Address, back_off: BackOff) -> None:
        self.node = node
        self.back_off = back_off
        self.not_before = 0.0
        self.poll: Poll | None = None
        self.timer: Timer | None = None
        self.turn: Turn | None = None


class PollingFront:
    """See above. subscription: the machine's, as it shall travel. connections: to each node. gate: shared by all fronts.

    context gives the TLS context that shows the machine's identity for Octopus; made on first use.
    """

    def __init__(
        self,
        loop: Loop,
        machine: Machine,
        octopus: Octopus,
        nodes: tuple[Address, ...],
        subscription: str,
        connections: int,
        context: Callable[[], Context],
        back: LiveBack,
        gate: DialGate,
        random: Random,
        house: House,
        proxy: Proxy | None = None,
    ) -> None:
        """Raises ValueError for a subscription that cannot travel."""
        self.loop = loop
        self.machine = machine
        self.octopus = octopus
        self.nodes = nodes
        self.subscription = subscription
        self.back: LiveBack = back
        self.proxy = proxy
        self._context = context
        self._gate = gate
        self._house = house
        self._seats = [_Seat(node, BackOff(loop.reactor, random)) for node in nodes for _ in range(connections)]
        self._of: dict[Poll, _Seat] = {}
        self._troubles: dict[Address, tuple[NodeTrouble, str]] = {}
        self._wanted = False
        self._started = False

    # ---- from outside -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Polls from now on, as soon as the Tentacle is live."""
        self._wanted = self._started = True
        self.back.watch(self._update)
        self._update()

    @property
    def connections(self) -> int:
        """How many of them stand."""
        return sum(map(_stands, self._of))

    def polls(self) -> Iterator[NodePolls]:
        """How each node is polled."""
        wanted = len(self._seats) // len(self.nodes) if self.polling else 0
        for node in self.nodes:
            standing = sum(poll.node == node and _stands(poll) for poll in self._of)
            trouble, detail = self._troubles.get(node, (None, ""))
            yield NodePolls(self.octopus.name, str(node), standing, wanted, trouble, detail)

    def __len__(self) -> int:
        """How many there are, those that are being dialled among them."""
        return len(self._of)

    @property
    def busy(self) -> int:
        """How many requests are in flight, or wait for a back."""
        return sum(poll.busy for poll in self._of)

    def check(self, now: float) -> None:
        """Looks for whoever has waited too long; to be called now and then."""
        for poll in list(self._of):
            poll.check(now)

    def drain(self) -> None:
        """Picks up no request any more; those that it has go on, and their connections close behind the reply."""
        self._wanted = False
        if self._started:
            self._started = False
            self.back.unwatch(self._update)
        self._update()

    def cut(self, why: str, which: Callable[[Poll], bool] = lambda poll: True) -> int:
        """Closes connections now, calls among them; how many that were. They are dialled again, unless it was drained."""
        polls = [poll for poll in self._of if which(poll)]
        for poll in polls:
            poll.cut(why)
        return len(polls)

    def stop(self) -> int:
        """Everything ends now; how many connections that were."""
        polls = list(self._of)
        self.drain()
        for poll in polls:
            poll.stop()
        return len(polls)

    # ---- what polls ask and say -------------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        return self._context()

    @property
    def polling(self) -> bool:
        return self._wanted and self.back.live

    def ended(self, call: Call) -> None:
        self._house.ended(call)

    def poll_opened(self) -> None:
        self._house.poll_opened()

    def poll_closed(self) -> None:
        self._house.poll_closed()

    def poll_identified(self, poll: Poll) -> None:
        seat = self._of[poll]
        seat.back_off.reset()
        self._troubles.pop(poll.node, None)
        self._leave_gate(seat)
        self._house.node_polled(self.machine.name, self.octopus.name, str(poll.node))

    def poll_ended(self, poll: Poll, trouble: NodeTrouble | None, detail: str) -> None:
        seat = self._of.pop(poll)
        seat.poll = None
        self._leave_gate(seat)
        seat.not_before = self.loop.reactor.seconds() + (seat.back_off.pause() if self.polling else AGAIN)
        if trouble:
            self._troubles[poll.node] = trouble, detail
            self._house.node_troubled(self.machine.name, self.octopus.name, str(poll.node), trouble, detail)
        self._fill(seat)

    # ---- seats ------------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        """Each seat as it should be now."""
        for seat in self._seats:
            if self.polling:
                self._fill(seat)
            else:
                self._vacate(seat)

    def _fill(self, seat: _Seat) -> None:
        """It is dialled, or will be."""
        if not self.polling or seat.poll or seat.timer or seat.turn:
            return
        left = seat.not_before - self.loop.reactor.seconds()
        if left > 0:
            seat.timer = self.loop.reactor.callLater(left, self._due, seat)
        else:
            seat.turn = self._gate.enter(seat.node, lambda: self._dial(seat))

    def _due(self, seat: _Seat) -> None:
        seat.timer = None
        self._fill(seat)

    def _dial(self, seat: _Seat) -> None:
        poll = seat.poll = Poll(self, seat.node)
        self._of[poll] = seat

    def _vacate(self, seat: _Seat) -> None:
        """No request is wanted on it."""
        if seat.timer:
            seat.timer.cancel()
            seat.timer = None
        if seat.poll:
            seat.poll.withdraw()
        else:
            self._leave_gate(seat)

    @staticmethod
    def _leave_gate(seat: _Seat) -> None:
        if seat.turn:
            seat.turn.leave()
            seat.turn = None


def _stands(poll: Poll) -> bool:
    return poll.state not in (State.DIALLING, State.IDENTIFYING)
