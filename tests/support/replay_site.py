"""A relay in this process that polls, is polled, or both, between an Octopus and a Tentacle that say what was recorded.

Real sockets and real TLS; the relay's clock stands still. So its own pauses and null messages come when a test says so.
"""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from changes import turns
from identities import identity
from puppet import Puppet
from recorded_calls import IDENTITY, SUBSCRIPTION
from service_site import OCTOPUS, Service
from street import Street
from tables import machine
from tls_peer import TlsPeer, client_side, server_side

from relay.halibut.lines import CLIENT_IDENTITY, NEXT, NULL_ENVELOPE, PREAMBLE, PROCEED, SERVER_IDENTITY
from routing.addresses import Address
from routing.table import HttpProxy, Machine

Peer = TlsPeer | Puppet
ANYWHERE = Address("127.0.0.1", 0)


class Place:
    """Where a peer listens for the relay, or a proxy in front of it."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])

    async def take(self) -> socket.socket:
        """The next connection of the relay's."""
        taken: list[socket.socket] = []
        await self._street.spin(lambda: taken or self._try(taken))
        return taken[0]

    def _try(self, taken: list[socket.socket]) -> bool:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken.append(sock)
        return True

    @property
    def dialled(self) -> bool:
        """The relay has come; whoever that was is turned away."""
        taken: list[socket.socket] = []
        self._try(taken)
        for sock in taken:
            sock.close()
        return bool(taken)

    def close(self) -> None:
        self._listener.close()


class ReplaySite:
    """front: polling or dialling, what the relay is to Octopus; back: polling or listening, what the Tentacle is.

    version: of TLS, on both legs. second_node: whether there are two; the other is had when the first is there. node: as the
    configuration names it, where that is not where it is: a proxy is asked for it, with these credentials.
    """

    def __init__(
        self,
        folder: Path,
        front: str,
        back: str,
        version: str = "TLSv1.3",
        *,
        node: Address | None = None,
        credentials: str = "",
        second_node: bool = False,
        **limits: int,
    ) -> None:
        self.front, self.back, self.version = front, back, version
        self.street = Street()
        self.reactor = self.street.reactor
        self.nodes, self.tentacles = Place(self.street), Place(self.street)
        self._second = Place(self.street) if second_node else None
        put_identities(folder / "state")
        entry = OCTOPUS
        if front == "polling":
            seconds = (self._second.address,) if self._second else ()
            entry = replace(entry, nodes=(node or self.nodes.address, *seconds))
        if node:
            file = folder / "credentials"
            file.touch(0o600)
            file.write_text(credentials, "utf-8")
            entry = replace(entry, proxy=HttpProxy(self.nodes.address, file if credentials else None))
        self.machine: Machine = machine(
            "kiosk7",
            tentacle=self.tentacles.address if back == "listening" else None,
            subscription=SUBSCRIPTION if "polling" in (front, back) else None,
            thumbprints=(identity("tentacle").thumbprint,),
            octopus=(entry,),
            door=ANYWHERE if front == "dialling" else None,
            polled_for=front == "polling",
            **limits,
        )
        self.relay = Service(folder, self.reactor, self.machine, back=ANYWHERE, back_octopus=entry)
        self.service = self.relay.service
        self.service.start()
        self._folder = folder
        self._peers: list[Peer] = []
        self._kept: list[Peer] = []  # those of a listening Tentacle
        self.octopus: Peer | None = None
        self.tentacle: Peer

    # ---- who comes and goes -----------------------------------------------------------------------------------------

    def listening(self, sock: socket.socket, who: str, puppet: bool = False) -> Peer:
        """The relay's connection, its handshake about to begin. puppet: it is a process of its own."""
        changes = self.street.changes
        peer: Peer
        if puppet:
            peer = Puppet(changes, sock, self._file(who), listens=True)
        else:
            peer = TlsPeer(changes, sock, server_side(self.version, identity(who)), listens=True)
        self._peers.append(peer)
        return peer

    async def poller(self, who: str = "tentacle", puppet: bool = False) -> Peer:
        """A Tentacle's connection that has shaken hands, and said nothing."""
        back = self.service.back_door
        assert back
        if not puppet:
            return await self.street.call(back, client_side(self.version, identity(who)))
        peer = Puppet(self.street.changes, self.street.connect(back), self._file(who), listens=False)
        self._peers.append(peer)
        await self.street.changes.until(lambda: peer.shaken)
        return peer

    def _file(self, who: str) -> Path:
        path = self._folder / f"{who}.pem"
        path.touch(0o600)
        path.write_bytes(identity(who).pem())
        return path

    async def tentacle_comes(self, puppet: bool = False) -> Peer:
        """One that the relay may give calls to."""
        if self.back == "polling":
            peer = await self.poller(puppet=puppet)
            peer.write(b"MX\n\n")
            peer.write(IDENTITY)
            await self.hears(peer, SERVER_IDENTITY)
        else:
            peer = self.listening(await self.tentacles.take(), "tentacle", puppet)
            self._kept.append(peer)
            await self.hears(peer, PREAMBLE, CLIENT_IDENTITY)
            peer.write(SERVER_IDENTITY)
        return peer

    async def octopus_comes(self, puppet: bool = False) -> Peer:
        """One that may send a request."""
        if self.front == "polling":
            place = self._second if self._second and self.octopus else self.nodes
            return await self.node_identifies(self.listening(await place.take(), "octopus", puppet))
        [door] = self.service.doors.values()
        peer = await self.street.call(door, client_side(self.version, identity("octopus")))
        peer.write(PREAMBLE)
        peer.write(CLIENT_IDENTITY)
        await self.hears(peer, SERVER_IDENTITY)
        return peer

    async def node_identifies(self, peer: Peer) -> Peer:
        await self.hears(peer, PREAMBLE, IDENTITY)
        peer.write(SERVER_IDENTITY)
        return peer

    async def open(self, puppet: str = "") -> None:
        """The Tentacle is there, and the node that is polled for it. An Octopus that dials comes when it has a call.

        puppet: octopus or tentacle, whichever is a process of its own.
        """
        self.tentacle = await self.tentacle_comes(puppet == "tentacle")
        if self.front == "polling":
            self.octopus = await self.octopus_comes(puppet == "octopus")
            await self.until(lambda: self.service.polls("kiosk7"))

    # ---- what they hear ---------------------------------------------------------------------------------------------

    async def takes(self, peer: Peer, count: int) -> list[bytes]:
        """So many bytes and not one more, as the records that brought them."""
        await self.street.changes.until(lambda: len(peer.data) >= count or peer.end)
        await turns(1)
        assert (len(peer.data), peer.end) == (count, None)
        found = [record.data for record in peer.records if record.data]
        peer.records.clear()
        return found

    async def hears(self, peer: Peer, *records: bytes) -> None:
        """These come, a record each, and nothing else."""
        assert await self.takes(peer, sum(map(len, records))) == list(records)

    async def calling(self) -> Peer:
        """The Octopus, which may send a request now."""
        if self.octopus is None:
            self.octopus = await self.octopus_comes()
        elif self.front == "dialling":
            self.octopus.write(NEXT)
            await self.hears(self.octopus, PROCEED)
        return self.octopus

    async def turn(self) -> None:
        """Both have a reply behind them. The Tentacle has said NEXT, where it polls, and the relay, where it does."""
        if self.back == "polling":
            await self.hears(self.tentacle, PROCEED)
        else:
            self.tentacle = await self._next_parked()
        if self.front == "polling":
            assert self.octopus
            self.octopus.write(PROCEED)
            await turns()

    async def _next_parked(self) -> Peer:
        """Where the next request goes: a connection that the relay has dialled, or asked again, while the last call ran."""
        places = [peer for peer in self._kept if peer is not self.tentacle and not peer.end]
        if not places:
            return await self.tentacle_comes()
        await self.street.spin(lambda: any(peer.data for peer in places))
        [peer] = [peer for peer in places if peer.data]
        await self.hears(peer, NEXT)
        peer.write(PROCEED)
        await turns()
        return peer

    async def null(self) -> None:
        """Half a minute without a call: each leg that polls has a null message of its own."""
        await self.advance(30)
        if self.back == "polling":
            await self.hears(self.tentacle, NULL_ENVELOPE)
            self.tentacle.write(NEXT)
            await self.hears(self.tentacle, PROCEED)
        if self.front == "polling":
            assert self.octopus
            self.octopus.write(NULL_ENVELOPE)
            await self.hears(self.octopus, NEXT)
            self.octopus.write(PROCEED)
            await turns()

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        await turns()

    async def until(self, condition: Callable[[], object]) -> None:
        await self.street.spin(condition)

    async def ended(self, peer: Peer) -> str:
        """How the relay ended it."""
        await self.street.changes.until(lambda: peer.end)
        peer.close()
        assert peer.end
        return peer.end

    async def clean(self) -> None:
        self.service.stop()
        await self.street.clean()
        for peer in self._peers:
            peer.close()
        for place in (self.nodes, self.tentacles, self._second):
            if place:
                place.close()
        await self.advance(100)
        assert self.reactor.timers == []
        assert (self.relay.metric("relay_connections"), self.relay.metric("relay_polls")) == (0, 0)


def put_identities(state: Path) -> None:
    """So that none has to be made."""
    for folder, name in (("machines", "kiosk7"), ("octopus", "production")):
        path = state / folder / f"{name}.pem"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.chmod(0o700)
        path.touch(0o600)
        path.write_bytes(identity(name).pem())
