"""A listening Tentacle as Octopus sees it: a pool and an attempt loop (wire.md 7.1 to 7.3)."""

from collections.abc import Awaitable, Callable

from relay.peers.connection import OctopusConnection
from relay.peers.errors import ConnectingError, PeerError, ServerError
from relay.peers.framing import OpenSink
from relay.peers.machine import Machine
from relay.peers.messages import endpoint
from relay.peers.times import Clock, Times, pause

_POOL = 5


class ListeningMachine(Machine):
    """Calls to one listening Tentacle; parallel calls open parallel connections, at most 5 idle ones are kept."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[OctopusConnection]],
        uri: str,
        thumbprint: str,
        attempts: int,
        clock: Clock,
        times: Times,
    ) -> None:
        super().__init__(endpoint(uri, thumbprint), clock)
        self._connect = connect
        self._attempts = attempts
        self._times = times
        self._idle: list[tuple[float, OctopusConnection]] = []

    async def call(self, service: str, method: str, *params: object, receive: OpenSink | None = None) -> object:
        """As Machine.call; an attempt is repeated only where its request has not begun."""
        request = self.request(service, method, list(params))
        connection = await self._acquire()
        try:
            result = await connection.send(request, receive)
        except ServerError:
            self._release(connection)
            raise
        self._release(connection)
        return result

    async def close(self) -> None:
        """END to every pooled connection; waits until they are gone."""
        idle, self._idle = self._idle, []
        for _, connection in idle:
            await connection.end()

    async def _acquire(self) -> OctopusConnection:
        failures = 0
        while True:
            try:
                return await self._pooled_or_new()
            except ConnectingError as error:
                failures += 1
                if not error.retry or failures >= self._attempts:
                    raise
                if failures == 2:
                    await self.close()
            await pause(self._clock, self._times.retry_pause)

    async def _pooled_or_new(self) -> OctopusConnection:
        while self._idle:
            since, connection = self._idle.pop(0)
            if isinstance(connection.failure, PeerError):
                # It broke a rule while it was idle: this is the first moment to say so.
                raise connection.failure
            if connection.failure is not None:
                continue
            if self._clock.seconds() - since > self._times.pooled:
                await connection.end()
                continue
            try:
                await connection.prove()
            except BaseException:
                connection.end()
                raise
            return connection
        return await self._connect()

    def _release(self, connection: OctopusConnection) -> None:
        if len(self._idle) < _POOL:
            self._idle.append((self._clock.seconds(), connection))
        else:
            connection.end()
