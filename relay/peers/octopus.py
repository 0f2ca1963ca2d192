"""A strict Octopus: dials listening Tentacles, is polled by the others (wire.md 3.1, 3.4)."""

from collections import deque
from pathlib import Path
from tempfile import gettempdir

from relay.halibut.lines import CLIENT_IDENTITY
from relay.peers.connection import OctopusConnection
from relay.peers.dialling import Dial, base_uri
from relay.peers.errors import PeerError
from relay.peers.listening_machine import ListeningMachine
from relay.peers.polling_machine import PollingDoor, PollingMachine
from relay.peers.times import Clock, Reactor, Times
from relay.peers.tls import Identity, parse_thumbprint
from relay.peers.tunnel import WebProxy

_VIOLATIONS = 100


class Octopus:
    """One Octopus node.

    identity_pem: key and certificate. times: its waits. clock: what measures them, the reactor if not given. spool: the folder
    where results' data streams arrive. violations: the latest breaches of the other sides, whatever else came of them.

    Raises ValueError for a PEM that is no identity.
    """

    def __init__(
        self,
        reactor: Reactor,
        identity_pem: bytes,
        *,
        times: Times | None = None,
        clock: Clock | None = None,
        spool: Path | None = None,
    ) -> None:
        self.violations: deque[PeerError] = deque(maxlen=_VIOLATIONS)
        self._reactor = reactor
        self._identity = Identity(identity_pem)
        self._times = times or Times()
        self._clock = clock or reactor
        self._spool = spool or Path(gettempdir())
        self._dial = Dial(reactor, self._clock, self._times, self.violations.append)
        self._machines: list[ListeningMachine] = []
        self._door = PollingDoor(self._identity, self._clock, self._times, self.violations.append)

    @property
    def thumbprint(self) -> str:
        """40 upper-case hex digits."""
        return self._identity.thumbprint

    async def connect(self, host: str, port: int, thumbprint: str, proxy: WebProxy | None = None) -> OctopusConnection:
        """One connection to a listening Tentacle, identified and ready for a request; the caller closes it. proxy: the way.

        Raises ConnectingError, UnexpectedCertificateError, PeerError; ValueError for a thumbprint that is none.
        """
        pin = parse_thumbprint(thumbprint)
        wire = await self._dial.connect(self._identity, host, port, pin, CLIENT_IDENTITY, proxy)
        return OctopusConnection(wire, base_uri(host, port), pin, self._times, self._spool)

    async def discover(self, host: str, port: int, proxy: WebProxy | None = None) -> str:
        """The thumbprint that a listener shows to anyone (wire.md 2.6). Raises ConnectingError."""
        return await self._dial.discover(host, port, proxy)

    def machine(
        self, host: str, port: int, thumbprint: str, *, attempts: int = 1, proxy: WebProxy | None = None
    ) -> ListeningMachine:
        """A listening Tentacle, with a pool. attempts: per call; a real Octopus makes 5 (wire.md 7.3). proxy: the way there.

        Raises ValueError for a thumbprint that is none.
        """
        pin = parse_thumbprint(thumbprint)

        async def connect() -> OctopusConnection:
            return await self.connect(host, port, pin, proxy)

        machine = ListeningMachine(connect, base_uri(host, port), pin, attempts, self._clock, self._times)
        self._machines.append(machine)
        return machine

    async def listen(self, port: int = 0, interface: str = "127.0.0.1") -> int:
        """Let Tentacles poll; the port's number. Raises twisted.internet.error.CannotListenError."""
        return self._door.listen(self._reactor, port, interface)

    def polling_machine(self, subscription: str, thumbprint: str) -> PollingMachine:
        """A polling Tentacle; from now on its thumbprint is trusted. Raises ValueError for a thumbprint that is none."""
        return self._door.machine(subscription, parse_thumbprint(thumbprint), self._spool)

    async def stop(self) -> None:
        """End every pooled connection (END, 1.10) and every poller's, and wait until all of it is gone."""
        for machine in self._machines:
            await machine.close()
        await self._door.stop()
