"""One machine as it is served: the callers who came for it, its polls of Octopus, and its connections to the Tentacle.

A route outlives changes of its machine's settings. Calls in flight end under the settings that they began with; callers go on
under the new ones where they are still trusted and would find the same door, and else close behind their call.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from certs.errors import CertificateError
from relay.admission import Visit
from relay.backs.listening import ListeningBack
from relay.backs.polling import PollingBack
from relay.call import Call
from relay.clock import Clock
from relay.faces import Faces
from relay.fronts.listening import ListeningFront
from relay.lease import Back
from relay.load import FailureKind, Load, NodePolls
from relay.outcomes import MACHINE_DRAINS, NOISE, SERVED, TROUBLE, NodeTrouble, Outcome, Refusal, SentAway
from relay.polls import House as PollsHouse
from relay.polls import Polls
from relay.transport.connection import TLSConnection
from relay.transport.loop import Loop
from relay.transport.tcp import close_unread
from routing.table import Machine, Octopus


class House(PollsHouse, Protocol):
    """What stands behind all routes."""

    def begin(self, octopus: str) -> tuple[Outcome, str] | None:
        """Counts one more exchange of a caller; what becomes of it instead, if it may not begin."""

    def end(self, octopus: str) -> None:
        """One that has begun is over."""

    def ended(self, call: Call) -> None:
        """An exchange is over."""

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left."""

    def node_troubled(self, machine: str, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        """A connection to a node could not be had, or has ended. It is dialled again."""

    def back_down(self, machine: str, octopus: str, outcome: Outcome, detail: str) -> None:
        """The Tentacle cannot be had, so no node is polled for it until it can."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed, a caller that was refused, or a node or Tentacle that could not be had.

    time: unix, seconds; word: how it ended, or why; peer: the caller, the node, or the Tentacle.
    """

    time: float
    kind: FailureKind
    word: Outcome | Refusal | NodeTrouble
    detail: str
    peer: str


class Route:
    """See above. machine: the settings in force."""

    def __init__(self, loop: Loop, machine: Machine, house: House) -> None:
        self._loop = loop
        self._house = house
        self._backs: dict[str, ListeningBack] = {}  # by octopus entry
        self._retired: list[ListeningBack | PollingBack] = []  # with the last exchanges of earlier settings
        self._fronts: set[ListeningFront] = set()
        self._served_at: float | None = None  # the reactor's clock
        self.clock: Clock = loop.reactor
        self.machine = machine
        self.own_back: PollingBack | None = None if machine.tentacle else PollingBack(loop.reactor, loop.alarms, machine)
        """The polling Tentacle's, for calls of every Octopus; None where it listens."""
        self._polls = Polls(loop, self, house)
        self.last_failure: Failure | None = None
        self.barred: SentAway | None = None
        """Why whoever comes is sent away, while that is so."""

    def start(self) -> None:
        """Polls Octopus, if it is to."""
        self._polls.renew()

    # ---- what doors and fronts ask and say --------------------------------------------------------------------------

    def enter(self, sock: socket.socket, visit: Visit) -> None:
        """A caller whose ClientHello waits in the socket. Both belong to the route from now on."""
        try:
            context = self._house.faces.server(self.machine.name)
        except CertificateError as error:  # of a key that nobody has needed before
            close_unread(sock)
            visit.departed()
            self.refused(Refusal.TLS, visit.peer, str(error))
            return
        front = ListeningFront(self, visit)
        front.link = link = TLSConnection(self._loop, sock, context, front)
        link.closed = visit.departed
        link.shares(self.machine.name)
        visit.leave, visit.stays = front.send_away, link.trusted
        self._fronts.add(front)
        try:
            link.accept(visit.source.name)
        except OSError:  # the system polls no more sockets
            front.stop()
            raise

    def back(self, octopus: Octopus) -> Back:
        """Where the machine's Tentacle is had from, for calls of this Octopus."""
        if self.own_back is not None:
            return self.own_back
        back = self._backs.get(octopus.name)
        if back is None:
            context = self._house.faces.client(octopus.name)
            back = self._backs[octopus.name] = ListeningBack(self._loop, self.machine, context)
        return back

    def begin(self, octopus: Octopus) -> tuple[Outcome, str] | None:
        """A caller's exchange; what becomes of it instead, if it may not begin."""
        return self._house.begin(octopus.name)

    def ended(self, call: Call) -> None:
        self._house.end(call.octopus)
        self.poll_ended(call)

    def not_begun(self, call: Call) -> None:
        self.poll_ended(call)

    def poll_ended(self, call: Call) -> None:
        if call.outcome in SERVED:
            self._served_at = call.ended
        elif call.outcome in TROUBLE:
            assert call.outcome
            self.last_failure = Failure(time.time(), "call", call.outcome, call.detail, call.peer)
        self._house.ended(call)

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        if refusal not in NOISE:
            self.last_failure = Failure(time.time(), "refusal", refusal, detail, peer)
        self._house.refused(refusal, self.machine.name, peer, detail)

    def left(self, front: ListeningFront) -> None:
        self._fronts.discard(front)

    def node_troubled(self, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        self.last_failure = Failure(time.time(), "node", trouble, detail, node)
        self._house.node_troubled(self.machine.name, octopus, node, trouble, detail)

    def back_down(self, octopus: str, outcome: Outcome, detail: str) -> None:
        self.last_failure = Failure(time.time(), "tentacle", outcome, detail, self.machine.uri)
        self._house.back_down(self.machine.name, octopus, outcome, detail)

    # ---- how it is --------------------------------------------------------------------------------------------------

    @property
    def callers(self) -> int:
        """Connections of callers."""
        return len(self._fronts)

    @property
    def in_flight(self) -> int:
        """Exchanges that have begun and not ended."""
        return sum(front.busy for front in self._fronts) + self._polls.busy

    @property
    def pollers(self) -> int:
        """Connections of its Tentacle, where that polls the relay."""
        return sum(len(back) for back in self._all_backs() if isinstance(back, PollingBack))

    @property
    def polls(self) -> int:
        """Connections with which the relay polls Octopus, those that nodes have accepted."""
        return self._polls.standing

    @property
    def nodes(self) -> list[NodePolls]:
        """How each Octopus node is polled."""
        return self._polls.nodes()

    @property
    def live(self) -> bool | None:
        """The Tentacle is there; None where nobody polls, so that only a call would tell."""
        if self.own_back is not None:
            return self.own_back.live
        return self._polls.live if self.machine.polled_for and not self.barred else None

    @property
    def back_connections(self) -> int:
        """Connections to the Tentacle."""
        return sum(map(len, self._all_backs()))

    @property
    def idle_back_connections(self) -> int:
        """Those of them that no exchange uses."""
        return sum(back.idle for back in self._all_backs()) + self._polls.parked

    @property
    def waiting(self) -> int:
        """Callers that wait for one."""
        return sum(back.waiting for back in self._all_backs()) + self._polls.waiting

    @property
    def load(self) -> Load:
        """All of these."""
        return Load(self.callers, self.in_flight, self.waiting, self.back_connections, self.pollers, self.polls)

    @property
    def last_success(self) -> float | None:
        """When a reply was last delivered whole, unix, seconds."""
        return None if self._served_at is None else time.time() - (self.clock.seconds() - self._served_at)

    def _all_backs(self) -> list[ListeningBack | PollingBack]:
        return [*self._backs.values(), *([self.own_back] if self.own_back is not None else []), *self._retired]

    # ---- a reload ---------------------------------------------------------------------------------------------------

    def change(self, machine: Machine, faces_before: Faces, cut: str = "") -> int:
        """Serves it by these settings, and by the identities in force, from now on.

        cut: why to close at once what is not allowed any more; if empty, it ends with its calls. Returns how many callers'
        connections were closed.
        """
        before, self.machine = self.machine, machine
        faces = self._house.faces
        for name in list(self._backs):
            if not (_same_tentacle(before, machine, name) and faces.same_to_tentacles(faces_before, name)):
                self._retire(name, ListeningBack.retire)
        if not (self.own_back is not None and _same_pollers(before, machine) and faces.same_to_pollers(faces_before)):
            self._retire_own(PollingBack.retire)
            self.own_back = None if machine.tentacle else PollingBack(self.clock, self._loop.alarms, machine)
        if self.own_back is not None:
            self.own_back.machine = machine
        if not self.barred:
            self._polls.renew()
        closed = self.cut_untrusted(cut) if cut else 0
        if self._fronts:
            stays = _same_door(before, machine) and faces.same_to_callers(faces_before, machine.name)
            for front in list(self._fronts):
                front.settle(stays)
        return closed

    def cut_untrusted(self, why: str) -> int:
        """Closes at once what the settings in force do not allow: callers, their calls, and calls with a Tentacle. How many."""
        pinless = {holder for back in self._retired for holder in back.holders_without(self.machine.thumbprints)}
        fronts = [front for front in self._fronts if not front.trusted or front.disallowed or front.holds(pinless)]
        for front in fronts:
            front.cut(why)
        return len(fronts) + self._polls.cut_untrusted(why, pinless)

    def _retire(self, octopus: str, how: Callable[[ListeningBack], None]) -> None:
        back = self._backs.pop(octopus)
        how(back)
        self._retired.append(back)

    def _retire_own(self, how: Callable[[PollingBack], None]) -> None:
        back, self.own_back = self.own_back, None
        if back is not None:
            how(back)
            self._retired.append(back)

    # ---- what operators do ------------------------------------------------------------------------------------------

    def drain(self, why: SentAway) -> None:
        """Sends away whoever comes; those without a call go now, the others after it."""
        self.barred = why
        self._polls.drain()
        picked_up = self._polls.busy > 0  # these calls have begun, though they may still wait for the Tentacle
        for name in list(self._backs):  # before the fronts: none dials for a caller that is about to be closed
            self._retire(name, ListeningBack.retire if picked_up else ListeningBack.stop)
        if why is not MACHINE_DRAINS:  # a machine that is drained has its Tentacle back at once when it is resumed
            self._retire_own(PollingBack.retire if picked_up else PollingBack.stop)
        if not picked_up:
            for back in self._retired:
                back.stop()
        for front in list(self._fronts):
            front.drain(why)

    def resume(self) -> None:
        """Lets callers in, and polls, again."""
        self.barred = None
        self._polls.renew()

    @property
    def drained(self) -> bool:
        """By an operator."""
        return self.barred is MACHINE_DRAINS

    def cut(self, why: str, octopus: str | None = None, again: bool = True) -> int:
        """Closes every connection at once, or those of one octopus entry; how many with Octopus there were.

        again: whoever was polled is polled again.
        """
        polls = self._polls.cut(why, octopus)
        for name in list(self._backs):  # before the fronts, as in drain(); whoever comes next gets a new pool
            if octopus in (None, name):
                self._retire(name, ListeningBack.stop)
        fronts = [front for front in self._fronts if octopus in (None, front.octopus)]
        for front in fronts:
            front.cut(why)
        if self.own_back is not None and octopus is None:
            self.own_back.close_idle()
        if again and not self.barred:
            self._polls.renew()
        return len(fronts) + polls

    # ---- time, and the end ------------------------------------------------------------------------------------------

    def check(self, now: float, identify: float) -> None:
        """Looks for whoever has waited too long, and forgets pools that are empty; to be called now and then."""
        if self._fronts:  # of thousands of machines, nearly all have nothing to look at
            for front in list(self._fronts):
                front.check(now, identify)
        self._polls.check(now)
        if self._retired:
            self._retired = [back for back in self._retired if len(back) or back.waiting]

    @property
    def empty(self) -> bool:
        """Nobody is there any more."""
        return not self._fronts and not len(self._polls) and not self.back_connections

    def stop(self) -> None:
        """Everybody goes now."""
        self._polls.stop()
        for back in self._all_backs():
            back.stop()
        for front in list(self._fronts):
            front.stop()


def _same_tentacle(before: Machine, after: Machine, octopus: str) -> bool:
    """Whether a pool of the machine's connections for this octopus entry is the same by both settings."""
    return any(entry.name == octopus for entry in after.octopus) and (
        (before.tentacle, before.thumbprints, before.limits, before.timeouts)
        == (after.tentacle, after.thumbprints, after.limits, after.timeouts)
    )


def _same_pollers(before: Machine, after: Machine) -> bool:
    """Whether a polling Tentacle's connection could have been made by either settings."""
    return (before.tentacle, before.subscription, before.thumbprints, before.limits) == (
        after.tentacle,
        after.subscription,
        after.thumbprints,
        after.limits,
    )


def _same_door(before: Machine, after: Machine) -> bool:
    """Whether a caller's connection could have been made by either settings."""
    same_target = before.target in (None, after.target)  # nobody can have come by one that is new
    return same_target and (before.door, before.host, before.limits.envelope) == (after.door, after.host, after.limits.envelope)
