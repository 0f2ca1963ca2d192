"""A Tentacle's loop that polls one Octopus (wire.md 3.3, 6.5)."""

from collections.abc import Awaitable, Callable
from random import SystemRandom

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.halibut.lines import END, NEXT
from relay.peers.errors import ConnectingError, EndedError, PeerError
from relay.peers.framing import Incoming, OpenSink, message, proceed
from relay.peers.times import Clock, Times, pause
from relay.peers.wire import Wire

_log = Logger()


class Poller:
    """One polling connection, dialled again with back-off whenever it ends; each round makes one attempt. It starts at once.

    connect: gives a connection that has read MX-SERVER. answer: sends the reply to a request.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Wire]],
        answer: Callable[[Wire, Incoming], Awaitable[None]],
        open_sink: OpenSink,
        clock: Clock,
        times: Times,
    ) -> None:
        self._connect = connect
        self._answer = answer
        self._open_sink = open_sink
        self._clock = clock
        self._times = times
        # Fixed per client, as in Halibut: it keeps a fleet's reconnects apart.
        self._spread = 1 + SystemRandom().random()
        self._failing_since: float | None = None
        self._wire: Wire | None = None
        self._done = Deferred.fromCoroutine(self._run())
        self._done.addErrback(_unless_cancelled)

    async def stop(self) -> None:
        """End the loop and its connection; a call under way is given up."""
        self._done.cancel()
        await self._done
        if self._wire is not None:
            await self._wire.ended()

    async def _run(self) -> None:
        while True:
            try:
                self._wire = await self._connect()
                self._failing_since = None
                await self._poll(self._wire)
            except (ConnectingError, EndedError, PeerError) as error:
                _log.info("polling: {error}", error=error)
            await pause(self._clock, self._back_off())

    async def _poll(self, wire: Wire) -> None:
        try:
            while True:
                incoming = await wire.receive(message(self._open_sink), self._times.poll_request)
                if incoming.message is not None:
                    await self._answer(wire, incoming)
                wire.send(NEXT)
                await wire.receive(proceed(), self._times.heartbeat)
        finally:
            if wire.failure is None:
                wire.send(END)
            wire.finish()

    def _back_off(self) -> float:
        now = self._clock.seconds()
        if self._failing_since is None:
            self._failing_since = now
        elapsed = (now - self._failing_since) * self._spread
        return min(max(elapsed, self._times.backoff_min), self._times.backoff_max)


def _unless_cancelled(failure: Failure) -> None:
    if not isinstance(failure.value, CancelledError):
        _log.failure("A polling loop failed", failure)
