"""The back of a polling Tentacle: the connections that poll the relay for one subscription, and the calls that wait for one.

Rules (wire.md 6.8, 11.3):
1. A call takes the connection that has waited longest. Without one it waits, in order, no longer than its deadline, and no
   more than ``limits.waiting`` at once do.
2. One that dies while it is parked, or before the call it was taken for has heard of it, costs that call nothing.
3. One that was taken and got no byte is parked again where it was: its Tentacle has noticed nothing.
4. Parked ones hear a null message every 30 s, and have 60 s for NEXT, as behind a reply; both may be up to half a second
   less, for those of all machines are looked at together (alarms.py).
5. At most ``limits.connections`` at once. Those beyond are turned away before MX-SERVER, and so is everybody once it is
   retired. One that owes NEXT for 5 s makes room for another: a Tentacle that has lost its connections comes back with new
   ones long before the old are given up.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from certs.thumbprint import Thumbprint
from relay.alarms import Alarms
from relay.backs.poller import PollerConnection, State
from relay.call import Call
from relay.clock import Clock, Timer
from relay.halibut.events import Part
from relay.halibut.limits import Limits
from relay.lease import Close, LeaseHolder
from relay.outcomes import Outcome, Refusal
from relay.transport.interface import Link
from routing.table import Machine

KEEP_ALIVE: Final = 30.0  # seconds between null messages; current Tentacles give up after 60
TURN: Final = 60.0  # seconds for NEXT, as Octopus has it (wire.md 7.5)
OVERDUE: Final = 5.0  # seconds for NEXT where another connection wants the place; a Tentacle that lives says it at once


class PollingLease:
    """A claim on a poller (see exchange.Lease). connection: None while it waits. told: its holder knows that it is ready."""

    __slots__ = ("_back", "call", "connection", "deadline", "holder", "timer", "told")

    def __init__(self, back: "PollingBack", call: Call, deadline: float, holder: LeaseHolder) -> None:
        self._back = back
        self.call = call
        self.deadline = deadline
        self.holder = holder
        self.connection: PollerConnection | None = None
        self.timer: Timer | None = None
        self.told = False

    @property
    def link(self) -> Link:
        assert self.connection is not None
        return self.connection.link

    @property
    def more_frames(self) -> bool:
        return self.connection is not None and self.connection.more_frames

    def send(self, part: Part) -> None:
        assert self.connection is not None
        self.connection.send(part)

    def abort(self, close: Close) -> None:
        self._back.aborted(self, close)

    def release(self) -> None:
        self._back.released(self)


class PollingBack:
    """See above."""

    def __init__(self, clock: Clock, alarms: Alarms, machine: Machine) -> None:
        """alarms: those of all machines."""
        self._clock = clock
        self._alarms = alarms
        self._waiting = machine.limits.waiting
        self._parked: deque[PollerConnection] = deque()  # the one that has waited longest in front
        self._turning: set[PollerConnection] = set()
        self._leases: dict[PollerConnection, PollingLease] = {}
        self._queue: deque[PollingLease] = deque()
        self._alarm: int | None = None
        self._watchers: list[Callable[[], None]] = []
        self._retired = False
        self._stopped = False
        self.machine = machine
        self.limits = Limits(envelope=machine.limits.envelope)

    def __len__(self) -> int:
        """How many connections there are: parked, in use, between two calls."""
        return len(self._parked) + len(self._turning) + len(self._leases)

    @property
    def parked(self) -> int:
        """How many of them wait for a call."""
        return len(self._parked)

    @property
    def idle(self) -> int:
        """How many of them no exchange uses."""
        return len(self._parked) + len(self._turning)

    @property
    def waiting(self) -> int:
        """How many calls wait for one."""
        return len(self._queue)

    @property
    def live(self) -> bool:
        """The Tentacle is there, and calls can be had for it (wire.md 6.8)."""
        return not self._retired and len(self) > 0

    def watch(self, changed: Callable[[], None]) -> None:
        """Calls ``changed`` each time that `live` may have changed."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        self._watchers.remove(changed)

    def _changed(self) -> None:
        for changed in list(self._watchers):
            changed()

    # ---- pollers ----------------------------------------------------------------------------------------------------

    def refusal(self) -> tuple[Refusal, str] | None:
        """Why one more connection may not come in; None where it may."""
        if self._retired:
            return Refusal.DRAINING, "the relay is draining"
        limit = self.machine.limits.connections
        if len(self) >= limit and not self._make_room():
            return Refusal.POLLERS, f"{limit} connections poll already (limits.connections of machine {self.machine.name})"
        return None

    def _make_room(self) -> bool:
        """Gives up the one that has owed NEXT for longest, if that is too long."""
        overdue = min(self._turning, key=lambda connection: connection.since, default=None)
        if overdue is None or self._clock.seconds() - overdue.since < OVERDUE:
            return False
        self._turning.discard(overdue)
        overdue.close(Close.RST)
        return True

    def connection_welcomed(self, connection: PollerConnection) -> None:
        self._wait(connection)
        if len(self) == 1:
            self._changed()

    def connection_turned(self, connection: PollerConnection) -> None:
        self._turning.discard(connection)
        if self._takes_nothing:
            connection.close(Close.FIN)
            self._gone()
        else:
            connection.proceed()
            self._wait(connection)

    def _wait(self, connection: PollerConnection) -> None:
        """It is parked, or has a call at once."""
        self._parked.append(connection)
        self._serve_queue()
        self._watch_time()

    # ---- claims -----------------------------------------------------------------------------------------------------

    def acquire(self, call: Call, deadline: float, holder: LeaseHolder, again: bool = False) -> PollingLease:
        lease = PollingLease(self, call, deadline, holder)
        if not again and len(self._queue) >= self._waiting:
            lease.timer = self._clock.callLater(0, self._refuse, lease)
        else:
            (self._queue.appendleft if again else self._queue.append)(lease)
            self._serve_queue()
            if lease.connection is None:
                lease.timer = self._clock.callLater(max(0.0, deadline - self._clock.seconds()), self._late, lease)
        return lease

    def _serve_queue(self) -> None:
        while self._queue and self._parked:
            lease, connection = self._queue.popleft(), self._parked.popleft()
            self._forget_timer(lease)
            self._leases[connection] = lease
            lease.connection = connection
            lease.call.served = self._clock.seconds()
            lease.call.reused = connection.served
            connection.lease()
            lease.timer = self._clock.callLater(0, self._tell, lease)

    def _tell(self, lease: PollingLease) -> None:
        lease.timer = None
        lease.told = True
        lease.holder.lease_ready()

    def _refuse(self, lease: PollingLease) -> None:
        lease.timer = None
        lease.holder.lease_failed(Outcome.QUEUE_FULL, f"{self._waiting} calls wait for this Tentacle")

    def _late(self, lease: PollingLease) -> None:
        """Its deadline has come, and there was no poller for it."""
        lease.timer = None
        self._queue.remove(lease)
        count = len(self)
        if count:
            lease.holder.lease_failed(Outcome.QUEUE_TIMEOUT, f"all {count} connections of the Tentacle were busy")
        else:
            lease.holder.lease_failed(Outcome.NO_POLLER, "the Tentacle did not poll the relay")

    def aborted(self, lease: PollingLease, close: Close) -> None:
        """Its holder gives it up, in whatever state it is."""
        self._forget_timer(lease)
        connection = lease.connection
        if connection is None:
            if lease in self._queue:
                self._queue.remove(lease)
        elif self._leases.pop(connection, None):
            if connection.idle and not self._retired:
                self._park_again(connection)
            else:
                connection.close(close)
                self._gone()
        self._end_if_retired()

    def _park_again(self, connection: PollerConnection) -> None:
        """It has waited since it was parked, and not only since now."""
        connection.state = State.PARKED
        waiting = list(self._parked)
        insort(waiting, connection, key=lambda parked: parked.since)
        self._parked = deque(waiting)
        self._serve_queue()
        self._forget_time()
        self._watch_time()

    def released(self, lease: PollingLease) -> None:
        """Its exchange is over. The connection is parked again when it says NEXT."""
        connection = lease.connection
        assert connection is not None
        del self._leases[connection]
        if connection.replied:
            connection.served = True
            connection.turn()
            self._turning.add(connection)
            self._watch_time()
        else:
            connection.close(Close.FIN)
            self._gone()
        self._end_if_retired()

    @staticmethod
    def _forget_timer(lease: PollingLease) -> None:
        if lease.timer:
            lease.timer.cancel()
            lease.timer = None

    # ---- what connections say ---------------------------------------------------------------------------------------

    def connection_part(self, connection: PollerConnection, part: Part) -> None:
        self._leases[connection].holder.reply_part(part)

    def connection_body(self, connection: PollerConnection, count: int, done: Callable[[], None]) -> None:
        self._leases[connection].holder.reply_body(count, done)

    def connection_closing(self, connection: PollerConnection) -> None:
        lease = self._leases.get(connection)
        if lease:
            lease.holder.back_closing()

    def connection_lost(self, connection: PollerConnection, before: State, outcome: Outcome, detail: str) -> None:
        lease = self._leases.pop(connection, None)
        if lease is None:
            self._forget(connection)
        elif lease.told:
            lease.holder.back_lost(outcome, detail)
        else:  # nobody knows of it yet: another, before anybody who came later
            self._forget_timer(lease)
            lease.connection = None
            lease.call.served, lease.call.reused = 0.0, False
            self._queue.appendleft(lease)
            lease.timer = self._clock.callLater(max(0.0, lease.deadline - self._clock.seconds()), self._late, lease)
            self._serve_queue()
        self._gone()

    def _forget(self, connection: PollerConnection) -> None:
        self._turning.discard(connection)
        if connection in self._parked:
            self._parked.remove(connection)

    def _gone(self) -> None:
        if not len(self):
            self._changed()

    # ---- time -------------------------------------------------------------------------------------------------------

    def _watch_time(self) -> None:
        """One alarm for all, set for what is due first; most calls in between never touch it."""
        if self._alarm is None and (self._parked or self._turning):
            due = [self._clock.seconds() + KEEP_ALIVE]  # so that no later one that is parked can be due before
            due += [connection.since + KEEP_ALIVE for connection in self._parked]
            due += [connection.since + TURN for connection in self._turning]
            self._alarm = self._alarms.set(self, min(due))

    def _forget_time(self) -> None:
        if self._alarm is not None:
            self._alarms.forget(self, self._alarm)
            self._alarm = None

    def wake(self, until: float) -> None:
        """Null messages for those that have waited, and the end of those that owe NEXT."""
        self._alarm = None
        for connection in [connection for connection in self._turning if connection.since + TURN < until]:
            self._turning.discard(connection)
            connection.close(Close.RST)
            self._gone()
        while self._parked and self._parked[0].since + KEEP_ALIVE < until:
            connection = self._parked.popleft()
            self._turning.add(connection)
            connection.keep_alive()
        self._watch_time()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close_idle(self) -> int:
        """Closes what is in no call now; how many that were. They come back if they may."""
        idle = [*self._parked, *self._turning]
        self._parked.clear()
        self._turning.clear()
        for connection in idle:
            connection.close(Close.FIN)
        self._forget_time()
        if idle:
            self._gone()
        return len(idle)

    def retire(self) -> None:
        """No poller is kept from now on; whoever has a claim, or waits for one, is served to the end of its exchange."""
        if not self._retired:
            self._retired = True
            self._changed()
        while self._parked:
            self._parked.popleft().close(Close.FIN)
        self._end_if_retired()

    def stop(self) -> None:
        """Whoever waits gets no connection any more, either; exchanges in flight go on until they are ended one by one."""
        self._stopped = True
        self.retire()

    @property
    def _takes_nothing(self) -> bool:
        return self._stopped or (self._retired and not self._queue)

    def _end_if_retired(self) -> None:
        """Those that owe NEXT could still take a call that waits, and nothing else."""
        if self._takes_nothing:
            self.close_idle()

    def holders_without(self, pins: Iterable[Thumbprint]) -> set[LeaseHolder]:
        """Whoever has a claim and no connection to a Tentacle that has shown a certificate of these pins."""
        pins = tuple(pins)
        unpinned = {lease.holder for lease in self._queue}
        return unpinned | {lease.holder for connection, lease in self._leases.items() if not connection.shows(pins)}
