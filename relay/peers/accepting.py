"""The listening side of connections, up to the dialler's identity (wire.md 1.4, 1.7, 2.2 to 2.5)."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.peers.errors import EndedError, PeerError
from relay.peers.framing import PAGE, Caller, identity, preamble
from relay.peers.times import Clock, Reactor, Times
from relay.peers.tls import Identity, RecordTlsFactory
from relay.peers.wire import Wire

_log = Logger()

Serve = Callable[[Wire, Caller], Awaitable[None]]


class Door(Factory):
    """Accepts connections; whoever identified itself and is trusted is handed to serve, which answers MX-SERVER.

    trusted: upper-case thumbprints, looked up at each connection.
    """

    noisy = False

    def __init__(
        self,
        owner: Identity,
        trusted: Callable[[], set[str]],
        serve: Serve,
        clock: Clock,
        times: Times,
        on_violation: Callable[[PeerError], None],
    ) -> None:
        self._identity = owner
        self._trusted = trusted
        self._serve = serve
        self._clock = clock
        self._times = times
        self._on_violation = on_violation
        self._ports: list[Any] = []
        self._live: dict[Wire, Deferred[None]] = {}

    def listen(self, reactor: Reactor, port: int, interface: str) -> int:
        """Start listening; the port's number. Raises twisted.internet.error.CannotListenError."""
        listening = reactor.listenTCP(port, RecordTlsFactory(self._identity.listener(), self, self._clock), interface=interface)
        self._ports.append(listening)
        number: int = listening.getHost().port
        return number

    async def stop(self) -> None:
        """Stop listening, end every connection (a bare FIN, 1.10) and wait until all of it is gone."""
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        live = list(self._live.items())
        for wire, _ in live:
            wire.finish()
        for _, done in live:
            # Whoever waits for the wire has heard of its end; this is for a service that waits for something else.
            done.cancel()
        await DeferredList([done for _, done in live])
        await DeferredList([wire.ended() for wire, _ in live])

    def buildProtocol(self, addr: IAddress | None) -> Wire:
        """One connection."""
        wire = Wire(self._clock, self._times, self._on_violation)
        done = Deferred.fromCoroutine(self._accept(wire))
        self._live[wire] = done
        done.addBoth(self._done, wire)
        return wire

    def _done(self, result: Failure | None, wire: Wire) -> None:
        del self._live[wire]
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            _log.failure("A connection's service failed", result)

    async def _accept(self, wire: Wire) -> None:
        try:
            await wire.handshaken()
            if not await wire.receive(preamble()):
                for line in PAGE:
                    wire.send(line)
            elif wire.thumbprint in self._trusted():
                await self._serve(wire, await wire.receive(identity()))
        except (EndedError, PeerError):
            # Gone before it asked for anything, or a breach, which the wire has already told.
            return
        finally:
            wire.finish()
