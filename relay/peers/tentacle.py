"""A strict Tentacle: listens, or polls, and does what it is asked (wire.md 3.2, 3.3)."""

from collections import deque
from collections.abc import Awaitable, Iterable
from pathlib import Path

from relay.halibut.lines import PROCEED, SERVER_IDENTITY, subscriber_identity
from relay.peers.accepting import Door
from relay.peers.connection import spool_to
from relay.peers.dialling import Dial
from relay.peers.errors import PeerError
from relay.peers.files import file_transfer
from relay.peers.framing import Caller, Incoming, message, next_or_end
from relay.peers.messages import Request
from relay.peers.poller import Poller
from relay.peers.script_services import ScriptServices
from relay.peers.services import Service, Services, capabilities
from relay.peers.times import Clock, Reactor, Times
from relay.peers.tls import Identity, parse_thumbprint
from relay.peers.wire import Wire

_VIOLATIONS = 100


class Tentacle:
    """One Tentacle.

    identity_pem: key and certificate. trusted: thumbprints of the Octopus servers that may call while it listens. home: a
    folder of its own, made if missing; files, scripts and half-received streams live there. services: further ones, for tests.
    times, clock: as for Octopus. violations: the latest breaches of the other sides.

    Raises ValueError for a PEM that is no identity or a thumbprint that is none, OSError for the home.
    """

    def __init__(
        self,
        reactor: Reactor,
        identity_pem: bytes,
        trusted: Iterable[str],
        home: Path,
        *,
        times: Times | None = None,
        clock: Clock | None = None,
        services: Iterable[Service] = (),
    ) -> None:
        self.violations: deque[PeerError] = deque(maxlen=_VIOLATIONS)
        self._reactor = reactor
        self._identity = Identity(identity_pem)
        self._trusted = {parse_thumbprint(thumbprint) for thumbprint in trusted}
        self._times = times or Times()
        self._clock = clock or reactor
        spool = home.resolve() / ".spool"
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open_sink = spool_to(spool)
        self._scripts = ScriptServices(reactor, self._clock, home.resolve() / "Work")
        self._services = Services([capabilities(), file_transfer(home), self._scripts.v1, self._scripts.v2, *services])
        self._door = Door(
            self._identity, lambda: self._trusted, self._listening, self._clock, self._times, self.violations.append
        )
        self._dial = Dial(reactor, self._clock, self._times, self.violations.append)
        self._pollers: list[Poller] = []

    @property
    def thumbprint(self) -> str:
        """40 upper-case hex digits."""
        return self._identity.thumbprint

    async def listen(self, port: int = 0, interface: str = "127.0.0.1") -> int:
        """Listen for Octopus; the port's number. Raises twisted.internet.error.CannotListenError."""
        return self._door.listen(self._reactor, port, interface)

    def poll(self, host: str, port: int, thumbprint: str, subscription: str) -> Poller:
        """Poll an Octopus until the poller, or the Tentacle, is stopped; each call is one more connection (wire.md 6.4).

        subscription: ``poll://…/``. Raises ValueError for a thumbprint or subscription that is none.
        """
        pin, introduction = parse_thumbprint(thumbprint), subscriber_identity(subscription.lower())

        def connect() -> Awaitable[Wire]:
            return self._dial.connect(self._identity, host, port, pin, introduction)

        poller = Poller(connect, self._answer, self._open_sink, self._clock, self._times)
        self._pollers.append(poller)
        return poller

    async def stop(self) -> None:
        """Kill the scripts, end every connection, and wait until all of it is gone."""
        for poller in self._pollers:
            await poller.stop()
        await self._door.stop()
        await self._scripts.stop()  # last: a call that was still under way could have started one

    async def _listening(self, wire: Wire, caller: Caller) -> None:
        if caller.subscription is not None:
            raise wire.violate(PeerError("a subscriber at a listening Tentacle", "2.3"))
        wire.send(SERVER_IDENTITY)
        while True:
            incoming = await wire.receive(message(self._open_sink, may_end=True), self._times.next_request)
            # A null message closes, too (wire.md 4.3).
            if incoming.message is None:
                return
            await self._answer(wire, incoming)
            if not await wire.receive(next_or_end()):
                return
            wire.send(PROCEED)

    async def _answer(self, wire: Wire, incoming: Incoming) -> None:
        try:
            if not isinstance(incoming.message, Request):
                raise wire.violate(PeerError("a response where a request is due", "4.4"))
            await wire.send_message(await self._services.answer(incoming.message))
        finally:
            for stream in incoming.streams:
                stream.discard()
