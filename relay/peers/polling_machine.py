"""Octopus's polling port: a queue per subscription, and the Tentacles that ask for its requests (wire.md 3.4, 6)."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred

from relay.halibut.lines import NULL_ENVELOPE, PROCEED, SERVER_IDENTITY
from relay.peers.accepting import Door
from relay.peers.connection import exchange, spool_to
from relay.peers.documents import timespan
from relay.peers.errors import ConnectingError, EndedError, PeerError, ServerError
from relay.peers.framing import Caller, OpenSink, next_or_end
from relay.peers.machine import Machine
from relay.peers.messages import Request, endpoint
from relay.peers.times import Clock, Reactor, Times
from relay.peers.tls import Identity
from relay.peers.wire import Wire


class Pending:
    """A request on its way to a poller. picked_by: the connection that took it; pickup: fails it if none does in time."""

    def __init__(self, request: Request, open_sink: OpenSink, queue: "Queue") -> None:
        self.request = request
        self.open_sink = open_sink
        self.picked_by: Wire | None = None
        self.pickup: DelayedCall | None = None
        self.done: Deferred[object] = Deferred(lambda _: self._cancelled())
        self._queue = queue
        self._unwanted = False

    def fail(self, error: BaseException) -> None:
        """Tell the caller, unless it has gone."""
        if not self.done.called and not self._unwanted:
            self.done.errback(error)

    def waits_no_longer(self) -> None:
        """It has been taken, or is not wanted any more."""
        if self.pickup is not None and self.pickup.active():
            self.pickup.cancel()

    def _cancelled(self) -> None:
        self._unwanted = True
        if self.picked_by is None:
            self._queue.remove(self)
        else:
            self.picked_by.abort()


class Queue:
    """One subscription's requests, oldest first; the poller that has waited longest takes the next one (wire.md 6.2)."""

    def __init__(self, uri: str, thumbprint: str, clock: Clock, times: Times) -> None:
        self.uri = uri
        self.thumbprint = thumbprint
        self._clock = clock
        self._times = times
        self._requests: deque[Pending] = deque()
        self._pollers: deque[Deferred[Pending | None]] = deque()

    def put(self, pending: Pending) -> None:
        """Hand the request to a waiting poller, or keep it until one comes; it fails after Times.pickup."""
        if self._pollers:
            self._pollers.popleft().callback(pending)
            return
        self._requests.append(pending)
        pending.pickup = self._clock.callLater(self._times.pickup, self._expire, pending)

    def remove(self, pending: Pending) -> None:
        """The caller no longer wants it."""
        if pending in self._requests:
            self._requests.remove(pending)
            pending.waits_no_longer()

    def take(self) -> Deferred[Pending | None]:
        """The oldest request, or None after Times.keep_alive. To be cancelled when the poller is gone."""
        waiting: Deferred[Pending | None] = Deferred(self._pollers.remove)
        if self._requests:
            waiting.callback(self._next())
            return waiting
        self._pollers.append(waiting)
        timer = self._clock.callLater(self._times.keep_alive, self._nothing, waiting)
        waiting.addBoth(_stopping, timer)
        return waiting

    def fail_all(self, reason: str) -> None:
        """Nobody will take what is queued."""
        while self._requests:
            self._next().fail(ConnectingError(reason, retry=False))

    def _next(self) -> Pending:
        pending = self._requests.popleft()
        pending.waits_no_longer()
        return pending

    def _nothing(self, waiting: "Deferred[Pending | None]") -> None:
        self._pollers.remove(waiting)
        waiting.callback(None)

    def _expire(self, pending: Pending) -> None:
        self._requests.remove(pending)
        pending.fail(
            ConnectingError(
                "A request was sent to a polling endpoint, but the polling endpoint did not collect the request within the "
                f"allowed time ({timespan(self._times.pickup)}), so the request timed out.",
                retry=False,
            )
        )


class PollingMachine(Machine):
    """Calls to one polling Tentacle."""

    def __init__(self, queue: Queue, clock: Clock, spool: Path) -> None:
        super().__init__(endpoint(queue.uri, queue.thumbprint), clock)
        self._queue = queue
        self._spool = spool

    async def call(self, service: str, method: str, *params: object, receive: OpenSink | None = None) -> object:
        """As Machine.call; ConnectingError where no poller takes the request within Times.pickup."""
        request = self.request(service, method, list(params))
        pending = Pending(request, receive or spool_to(self._spool), self._queue)
        self._queue.put(pending)
        return await pending.done


class PollingDoor:
    """The port that polling Tentacles dial."""

    def __init__(self, owner: Identity, clock: Clock, times: Times, on_violation: Callable[[PeerError], None]) -> None:
        self._clock = clock
        self._times = times
        self._queues: dict[str, Queue] = {}
        self._door = Door(owner, self._trusted, self._serve, clock, times, on_violation)

    def listen(self, reactor: Reactor, port: int, interface: str) -> int:
        """As Door.listen."""
        return self._door.listen(reactor, port, interface)

    def machine(self, subscription: str, thumbprint: str, spool: Path) -> PollingMachine:
        """The machine of that subscription; one queue for all its pollers, ids compared without case (wire.md 2.4, 6.1)."""
        uri = subscription.lower()
        queue = self._queues.setdefault(uri, Queue(uri, thumbprint, self._clock, self._times))
        return PollingMachine(queue, self._clock, spool)

    async def stop(self) -> None:
        """As Door.stop; what is still queued fails."""
        for queue in self._queues.values():
            queue.fail_all("Octopus stopped before a Tentacle collected the request")
        await self._door.stop()

    def _trusted(self) -> set[str]:
        return {queue.thumbprint for queue in self._queues.values()}

    async def _serve(self, wire: Wire, caller: Caller) -> None:
        if caller.subscription is None:
            raise wire.violate(PeerError("a client at the port for polling Tentacles", "2.3"))
        uri = caller.subscription.lower()
        # As in Halibut, whoever is trusted may poll for what nobody has called yet (wire.md 2.3).
        queue = self._queues.get(uri) or Queue(uri, wire.thumbprint or "", self._clock, self._times)
        if queue.thumbprint != wire.thumbprint:
            return
        wire.send(SERVER_IDENTITY)
        poller = _Poller(wire, queue)
        while True:
            pending = await poller.wait()
            if pending is None:
                wire.send(NULL_ENVELOPE)
            elif not await self._deliver(wire, queue, pending):
                return
            if not await wire.receive(next_or_end(), self._times.heartbeat):
                return
            wire.send(PROCEED)

    async def _deliver(self, wire: Wire, queue: Queue, pending: Pending) -> bool:
        """Whether the connection is still good afterwards; the caller hears of the outcome either way."""
        pending.picked_by = wire
        try:
            result = await exchange(wire, pending.request, queue.uri, self._times, pending.open_sink, may_end=True)
        except ServerError as error:
            pending.fail(error)
            return True
        except BaseException as error:
            pending.fail(error)
            return False
        if not pending.done.called:
            pending.done.callback(result)
        return True


class _Poller:
    """A poller that waits for a request, and is noticed when it goes."""

    def __init__(self, wire: Wire, queue: Queue) -> None:
        self._wire = wire
        self._queue = queue
        self._waiting: Deferred[Pending | None] | None = None
        wire.ended().addCallback(self._gone)

    async def wait(self) -> Pending | None:
        if self._wire.failure is not None:
            raise self._wire.failure
        self._waiting = self._queue.take()
        try:
            return await self._waiting
        except CancelledError as error:
            raise self._wire.failure or EndedError("the poller went away") from error
        finally:
            self._waiting = None

    def _gone(self, _: None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()


def _stopping(result: Pending | None, timer: DelayedCall) -> Pending | None:
    if timer.active():
        timer.cancel()
    return result
