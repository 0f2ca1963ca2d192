"""A machine that is passed through, as it is served: its callers, each joined with a connection of its own to the Tentacle.

What goes on inside is between the two: the relay knows neither calls nor their ends. So where callers have to go, nobody can
be let finish: whoever is still there when the time for that is over (relay.timeouts.drain) is cut.

Where limits.connections are open, strangers among them make room as they do in the whole relay (admission.py): or a few
ClientHellos would close the machine.
"""

import socket
import time
from collections import Counter
from typing import Final, Protocol

from relay.admission import Source, Visit
from relay.clock import Clock
from relay.faces import Faces
from relay.fronts.passthrough import PassthroughFront
from relay.load import Load, NodePolls
from relay.outcomes import MACHINE_DRAINS, NOISE, NOT_ALLOWED_NOW, SERVED, TROUBLE, Outcome, Refusal, SentAway
from relay.passed import Passed
from relay.route import Failure
from relay.transport.loop import Loop
from relay.transport.tcp import close_unread
from routing.rules import host_of
from routing.table import Machine, RelayTimeouts


class House(Protocol):
    """What stands behind all routes."""

    @property
    def timeouts(self) -> RelayTimeouts:
        """Those in force."""

    def passed(self, passed: Passed) -> None:
        """A connection that was passed through is over."""

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left."""


class PassthroughRoute:
    """See above. machine: the settings in force; whoever is there goes on under those that it began with."""

    own_back: Final = None  # its Tentacle listens

    def __init__(self, loop: Loop, machine: Machine, house: House) -> None:
        self._loop = loop
        self._house = house
        self._fronts: dict[PassthroughFront, None] = {}  # in the order in which they came
        self._served_at = 0.0  # the reactor's clock
        self.clock: Clock = loop.reactor
        self.machine = machine
        self.last_failure: Failure | None = None
        self.barred: SentAway | None = None
        """Why whoever comes is sent away, while that is so."""

    def start(self) -> None:
        """There is nothing to do before somebody comes."""

    # ---- what doors and fronts ask and say --------------------------------------------------------------------------

    def enter(self, sock: socket.socket, visit: Visit) -> None:
        """A caller whose ClientHello waits in the socket. Both belong to the route from now on."""
        most, rules = self.machine.limits.connections, self.machine.rules
        if not self._takes(visit.peer):
            detail = f"no item of allow is for {host_of(visit.peer)}{rules.where}"
            self._turn_away(sock, visit, Refusal.NOT_ALLOWED, detail)
        elif len(self._fronts) >= most and not self._make_room(visit.source):
            detail = f"{most} connections to its Tentacle are open (limits.connections)"
            self._turn_away(sock, visit, Refusal.MACHINE_CONNECTIONS, detail)
        else:
            front = PassthroughFront(self._loop, self, sock, visit)
            self._fronts[front] = None
            try:
                front.start()
            except Exception as error:
                front.failed(error)
                raise

    def _make_room(self, newcomer: Source) -> bool:
        """Sends away the oldest stranger of the source that has most of them here, if that has more than the newcomer's."""
        strangers = [front for front in self._fronts if front.stranger and not front.source.free]
        count = Counter(front.source for front in strangers)
        most = max(count.values(), default=0)
        if most <= count[newcomer]:
            return False
        front = next(front for front in strangers if count[front.source] == most)
        detail = f"it made room: {most} callers of {front.source.name} had not answered the Tentacle, the most of the machine"
        front.send_away(SentAway(Refusal.MACHINE_CONNECTIONS, detail))
        return True

    def _takes(self, peer: str) -> bool:
        return self.machine.rules.takes("", host_of(peer))

    def _turn_away(self, sock: socket.socket, visit: Visit, refusal: Refusal, detail: str) -> None:
        close_unread(sock)
        visit.departed()
        self.refused(refusal, visit.peer, detail)

    def ended(self, front: PassthroughFront, passed: Passed) -> None:
        self._fronts.pop(front, None)
        if passed.outcome in SERVED:
            self._served_at = passed.ended
        else:
            self._served_at = max(self._served_at, passed.replied)
        if passed.outcome in TROUBLE:
            assert passed.outcome
            self.last_failure = Failure(time.time(), "call", passed.outcome, passed.detail, passed.peer)
        self._house.passed(passed)

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        if refusal not in NOISE:
            self.last_failure = Failure(time.time(), "refusal", refusal, detail, peer)
        self._house.refused(refusal, self.machine.name, peer, detail)

    # ---- how it is --------------------------------------------------------------------------------------------------

    @property
    def callers(self) -> int:
        """Connections of callers."""
        return len(self._fronts)

    @property
    def back_connections(self) -> int:
        """Connections to the Tentacle: those that stand, and those that are dialled."""
        return len(self._fronts)

    @property
    def in_flight(self) -> int:
        """Connections that are joined: any of them may be in the middle of a call."""
        return sum(front.joined for front in self._fronts)

    @property
    def idle_back_connections(self) -> int:
        return 0

    @property
    def waiting(self) -> int:
        """Callers whose Tentacle is being dialled."""
        return sum(not front.joined for front in self._fronts)

    @property
    def pollers(self) -> int:
        return 0

    @property
    def polls(self) -> int:
        return 0

    @property
    def nodes(self) -> list[NodePolls]:
        return []

    @property
    def live(self) -> None:
        """Nobody polls, so only a connection would tell."""

    @property
    def load(self) -> Load:
        return Load(self.callers, self.in_flight, self.waiting, self.back_connections)

    @property
    def last_success(self) -> float | None:
        """When a Tentacle last answered a caller, or a connection last ended well; unix, seconds."""
        at = max([self._served_at, *(front.answered for front in self._fronts)])
        return time.time() - (self.clock.seconds() - at) if at else None

    # ---- a reload ---------------------------------------------------------------------------------------------------

    def change(self, machine: Machine, faces_before: Faces, cut: str = "") -> int:
        """Serves whoever comes by these settings from now on.

        cut: why to cut at once whom they do not allow. If it is empty, they have relay.timeouts.drain to end by themselves;
        strangers go at once, for no call is theirs yet. How many were cut.
        """
        self.machine = machine
        closed = self.cut_untrusted(cut) if cut else 0
        self._judge_anew()
        return closed

    def _judge_anew(self) -> None:
        """Whoever may not come by the rules in force has to go, and nobody else because of them."""
        refused = [front for front in self._fronts if not self._takes(front.peer)]
        for front in refused:
            if front.stranger:
                front.send_away(NOT_ALLOWED_NOW)
            else:
                front.leave_after(self._house.timeouts.drain, NOT_ALLOWED_NOW)
        if not self.barred:
            for front in self._fronts.keys() - set(refused):
                front.stay()

    def cut_untrusted(self, why: str) -> int:
        """Cuts at once who is at another Tentacle than that of the settings in force, or may not come by them. How many."""
        gone = [front for front in self._fronts if front.tentacle != self.machine.tentacle or not self._takes(front.peer)]
        for front in gone:
            front.cut(Outcome.CUT, why)
        return len(gone)

    # ---- what operators do ------------------------------------------------------------------------------------------

    def drain(self, why: SentAway) -> None:
        """Sends away whoever comes, and whose Tentacle is still dialled. The others are cut after relay.timeouts.drain."""
        self.barred = why
        for front in list(self._fronts):
            if front.joined:
                front.leave_after(self._house.timeouts.drain, why)
            else:
                front.cut(why.outcome, why.detail)

    def resume(self) -> None:
        """Lets callers in again."""
        self.barred = None
        for front in self._fronts:
            front.stay()
        self._judge_anew()

    @property
    def drained(self) -> bool:
        """By an operator."""
        return self.barred is MACHINE_DRAINS

    def cut(self, why: str, octopus: str | None = None, again: bool = True) -> int:
        """Cuts every connection at once; how many there were. None is known to be of an octopus entry."""
        return self._cut_all(Outcome.CUT, why) if octopus is None else 0

    def _cut_all(self, outcome: Outcome, why: str) -> int:
        fronts = list(self._fronts)
        for front in fronts:
            front.cut(outcome, why)
        return len(fronts)

    # ---- time, and the end ------------------------------------------------------------------------------------------

    def check(self, now: float, identify: float) -> None:
        """Looks for strangers that take too long; to be called now and then."""
        for front in list(self._fronts):
            front.check(now, identify)

    @property
    def empty(self) -> bool:
        """Nobody is there any more."""
        return not self._fronts

    def stop(self) -> None:
        """Everybody goes now."""
        self._cut_all(Outcome.STOPPED, "the relay has stopped")
