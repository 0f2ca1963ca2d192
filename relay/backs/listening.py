"""The back of a listening Tentacle: a pool of connections that the relay dials, for one machine and one Octopus.

Rules:
1. An idle connection is proved with NEXT and PROCEED before each exchange; one that does not answer is replaced by another,
   or by a dial, within the same call (wire.md 11.4: no request byte has left).
2. At most ``limits.connections`` at once. Callers beyond that wait in order, no longer than their deadline, and no more than
   ``limits.waiting`` at once do.
3. A connection that was ready and got no request is closed, never pooled: its Tentacle takes nothing but a request.
4. One that is idle longer than ``back_idle`` is closed with END; one that says anything while idle is dropped on sight.
"""

from collections import deque
from collections.abc import Callable, Iterable

from certs.sharing import Context
from certs.thumbprint import Thumbprint
from relay.backs.connection import BackConnection, State
from relay.call import Call
from relay.clock import Timer
from relay.halibut.events import Part
from relay.lease import Close, LeaseHolder
from relay.outcomes import Outcome
from relay.transport.connection import TLSConnection
from relay.transport.loop import Loop
from routing.table import Machine


class ListeningLease:
    """A claim on a connection of the pool (see exchange.Lease).

    connection: None while it waits in the queue. link: of the connection, once it is ready.
    """

    __slots__ = ("_pool", "call", "connection", "deadline", "holder", "link", "timer")
    link: TLSConnection

    def __init__(self, pool: "ListeningBack", call: Call, deadline: float, holder: LeaseHolder) -> None:
        self._pool = pool
        self.call = call
        self.deadline = deadline
        self.holder = holder
        self.connection: BackConnection | None = None
        self.timer: Timer | None = None

    @property
    def more_frames(self) -> bool:
        return self.connection is not None and self.connection.more_frames

    def send(self, part: Part) -> None:
        assert self.connection is not None
        self.connection.send(part)

    def abort(self, close: Close) -> None:
        self._pool.aborted(self, close)

    def release(self) -> None:
        self._pool.released(self)


class ListeningBack:
    """See above."""

    def __init__(self, loop: Loop, machine: Machine, context: Context) -> None:
        """context: shows the identity for this Octopus."""
        self._loop = loop
        self._machine = machine
        self._context = context
        self._idle: list[BackConnection] = []  # oldest first
        self._leases: dict[BackConnection, ListeningLease] = {}
        self._queue: deque[ListeningLease] = deque()
        self._prove_timer: Timer | None = None
        self._idle_timer: Timer | None = None
        self._retired = False
        self._stopped = False

    def __len__(self) -> int:
        """How many connections there are: dialled, in use, idle."""
        return len(self._idle) + len(self._leases)

    @property
    def idle(self) -> int:
        """How many of them rest."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many callers wait for one. One that is kept ready for polls has no caller (relay/backs/parked.py)."""
        return sum(lease.call.peer != "" for lease in self._queue)

    # ---- claims -----------------------------------------------------------------------------------------------------

    def acquire(self, call: Call, deadline: float, holder: LeaseHolder, again: bool = False) -> ListeningLease:
        lease = ListeningLease(self, call, deadline, holder)
        if not again and len(self._queue) >= self._machine.limits.waiting:
            lease.timer = self._loop.reactor.callLater(0, self._refuse, lease)
        elif (self._queue and not again) or not self._serve(lease):
            (self._queue.appendleft if again else self._queue.append)(lease)
            self._watch_deadline(lease)
        return lease

    def _serve(self, lease: ListeningLease) -> bool:
        """Gives it an idle connection to prove, or a dial; False where there may be none."""
        if self._idle:
            connection = self._idle.pop()  # the one used last: it is the likeliest to live
            lease.call.reused = True
            self._leases[connection] = lease
            lease.connection = connection
            connection.prove()
            lease.call.served = connection.since
            if self._prove_timer is None:
                self._watch_proofs()
            return True
        if len(self._leases) >= self._machine.limits.connections:
            return False
        now = self._loop.reactor.seconds()
        lease.call.reused = False
        lease.call.served = now
        connect = min(self._machine.timeouts.connect, max(0.0, lease.deadline - now))
        connection = BackConnection(self._loop, self._machine, self._context, self, connect)
        self._leases[connection] = lease
        lease.connection = connection
        self._watch_deadline(lease)
        return True

    def _serve_queue(self) -> None:
        while self._queue and not self._stopped and self._serve(self._queue[0]):
            self._queue.popleft()

    def _watch_deadline(self, lease: ListeningLease) -> None:
        """Only where it waits or dials; a proof is bounded by itself, and costs no timer."""
        if lease.timer is None:
            reactor = self._loop.reactor
            lease.timer = reactor.callLater(max(0.0, lease.deadline - reactor.seconds()), self._late, lease)

    def _refuse(self, lease: ListeningLease) -> None:
        lease.timer = None
        lease.holder.lease_failed(Outcome.QUEUE_FULL, f"{self._machine.limits.waiting} calls wait for this Tentacle")

    def _late(self, lease: ListeningLease) -> None:
        """Its deadline has come and it is not ready."""
        lease.timer = None
        waiting = lease.connection is None
        self._drop(lease, Close.FIN)
        if waiting:
            lease.holder.lease_failed(Outcome.QUEUE_TIMEOUT, f"all {self._machine.limits.connections} connections were busy")
        else:
            lease.holder.lease_failed(Outcome.READY_TIMEOUT, "the Tentacle did not identify itself in time")
        self._serve_queue()

    def aborted(self, lease: ListeningLease, close: Close) -> None:
        """Its holder gives it up, in whatever state it is."""
        self._drop(lease, close)
        self._serve_queue()

    def released(self, lease: ListeningLease) -> None:
        """Its exchange is over. The connection goes to whoever waits longest, or rests."""
        connection = lease.connection
        assert connection is not None
        del self._leases[connection]
        if not connection.reusable:
            connection.close(Close.FIN)
        else:
            connection.rest()
            self._idle.append(connection)
            if self._idle_timer is None:
                self._watch_idle()
        if self._queue:
            self._serve_queue()
        if self._retired:
            self._close_all_idle()

    def _drop(self, lease: ListeningLease, close: Close) -> None:
        self._forget_deadline(lease)
        connection = lease.connection
        if connection is None:
            if lease in self._queue:
                self._queue.remove(lease)
        elif self._leases.pop(connection, None):
            connection.close(close)

    @staticmethod
    def _forget_deadline(lease: ListeningLease) -> None:
        if lease.timer:
            lease.timer.cancel()
            lease.timer = None

    # ---- what connections say ---------------------------------------------------------------------------------------

    def connection_ready(self, connection: BackConnection) -> None:
        lease = self._leases[connection]
        if lease.timer:
            self._forget_deadline(lease)
        assert connection.link is not None
        lease.link = connection.link
        lease.holder.lease_ready()

    def connection_part(self, connection: BackConnection, part: Part) -> None:
        self._leases[connection].holder.reply_part(part)

    def connection_body(self, connection: BackConnection, count: int, done: Callable[[], None]) -> None:
        self._leases[connection].holder.reply_body(count, done)

    def connection_closing(self, connection: BackConnection) -> None:
        self._leases[connection].holder.back_closing()

    def connection_lost(self, connection: BackConnection, before: State, outcome: Outcome, detail: str) -> None:
        lease = self._leases.pop(connection, None)
        if lease is None:
            self._idle.remove(connection)
            return
        if before is State.PROVING:
            self._replace(lease)
        else:
            self._forget_deadline(lease)
            if before is State.LEASED:
                lease.holder.back_lost(outcome, detail)
            else:
                lease.holder.lease_failed(outcome, detail)
        self._serve_queue()

    def _replace(self, lease: ListeningLease) -> None:
        """The connection that it was to get was stale: another, before anybody who came later."""
        lease.connection = None
        self._queue.appendleft(lease)
        self._watch_deadline(lease)

    # ---- time -------------------------------------------------------------------------------------------------------

    def _watch_proofs(self) -> None:
        """One timer for all proofs, armed for the oldest; most are over long before, and never touch it."""
        self._prove_timer = self._loop.reactor.callLater(self._machine.timeouts.prove, self._check_proofs)

    def _check_proofs(self) -> None:
        self._prove_timer = None
        now, limit = self._loop.reactor.seconds(), self._machine.timeouts.prove
        proving = [connection for connection in self._leases if connection.state is State.PROVING]
        late = [connection for connection in proving if connection.since + limit <= now]
        if late:
            self.close_idle()  # they would keep the next caller waiting just as long
        for connection in reversed(late):  # each goes to the head of the queue: the one that came first last
            connection.close(Close.RST)
            self._replace(self._leases.pop(connection))
        left = [connection.since + limit - now for connection in proving if connection not in late]
        if left:
            self._prove_timer = self._loop.reactor.callLater(min(left), self._check_proofs)
        self._serve_queue()

    def _watch_idle(self) -> None:
        if self._idle_timer is None and self._idle:
            due = min(connection.since for connection in self._idle) + self._machine.timeouts.back_idle
            self._idle_timer = self._loop.reactor.callLater(max(0.0, due - self._loop.reactor.seconds()), self._check_idle)

    def _check_idle(self) -> None:
        self._idle_timer = None
        now, limit = self._loop.reactor.seconds(), self._machine.timeouts.back_idle
        for connection in [connection for connection in self._idle if connection.since + limit <= now]:
            self._idle.remove(connection)
            connection.close(Close.FIN)
        self._watch_idle()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close_idle(self) -> None:
        """Closes what nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close(Close.FIN)

    def retire(self) -> None:
        """No connection is kept from now on; whoever has a claim is served to the end of its exchange."""
        self._retired = True
        self._close_all_idle()

    def stop(self) -> None:
        """Whoever waits gets no connection any more, either; exchanges in flight go on until they are ended one by one."""
        self._stopped = True
        self.retire()
        if self._prove_timer:
            self._prove_timer.cancel()
            self._prove_timer = None

    def _close_all_idle(self) -> None:
        self.close_idle()
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None

    def holders_without(self, pins: Iterable[Thumbprint]) -> set[LeaseHolder]:
        """Whoever has a claim and no connection to a Tentacle that has shown a certificate of these pins."""
        pins = tuple(pins)
        unpinned = {lease.holder for lease in self._queue}
        return unpinned | {lease.holder for connection, lease in self._leases.items() if not connection.shows(pins)}
