"""A relay in this process, with callers and a Tentacle on real sockets, and what it writes."""

import select
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from changes import turns
from halibut_bytes import REQUEST, deflated, request, response
from identities import identity
from json_lines import JsonLines
from prometheus_client import CollectorRegistry
from scraped import sample
from street import Street
from tables import PRODUCTION, machine, table
from tls_peer import TlsPeer, client_side, server_side
from twisted.internet.defer import Deferred

from certs.store import IdentityStore
from relay.admin.access_log import AccessLog
from relay.admin.log import make_log
from relay.admin.metrics import Metrics
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE, SERVER_IDENTITY
from relay.reload import Changes
from relay.service import RelayService
from routing.addresses import Address
from routing.table import Machine, Table

OCTOPUS = replace(PRODUCTION, thumbprints=(identity("octopus").thumbprint,))
REQUEST_ID = request()["Message"]["id"]
REPLY = deflated(response(id=REQUEST_ID))
DRAIN = 30.0


class Service:
    """A relay in this process, and what it writes."""

    def __init__(self, folder: Path, reactor: Any, *machines: Machine, **options: Any) -> None:
        self._log, self._access = JsonLines(), JsonLines()
        self._folder = folder
        self._reactor = reactor
        self.made: list[str] = []
        store = IdentityStore(folder / "state", lambda identity, path: self.made.append(identity.name), pytest.fail)
        self.metrics = Metrics(CollectorRegistry())
        log = make_log(LineWriter(reactor, self._log), "debug")
        access_log = AccessLog("dc-east", LineWriter(reactor, self._access))
        self.service = RelayService(reactor, self.table(*machines, **options), store, log, access_log, self.metrics)

    def table(self, *machines: Machine, **options: Any) -> Table:
        """One for this relay: another configuration."""
        return table(self._folder, *machines, **{"drain": DRAIN, "source_handshakes": 1000, **options})

    def reload(self, *machines: Machine, now: bool = False, **options: Any) -> Changes:
        """It runs by another configuration."""
        return self.service.reload(self.service.read(self.table(*machines, **options)), now)

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of the log, those of one event or all."""
        self._reactor.advance(FLUSH_AFTER)
        return [line for line in self._log.found if event in (None, line["event"])]

    def access(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        self._reactor.advance(FLUSH_AFTER)
        return self._access.found

    def calls(self) -> list[str]:
        """The outcomes in it."""
        return [line["outcome"] for line in self.access()]

    def metric(self, name: str, **labels: str) -> float | None:
        return sample(self.metrics, name, **labels)


class Site:
    """A relay with one machine, callers at its door, and its Tentacle."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.street = Street()
        self.changes, self.reactor = self.street.changes, self.street.reactor
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        port = self._listener.getsockname()[1]
        self.machine = machine(
            tentacle=Address("127.0.0.1", port), thumbprints=(identity("tentacle").thumbprint,), octopus=(OCTOPUS,)
        )
        self.relay = Service(folder, self.reactor, self.machine, **options)
        self.service = self.relay.service
        self.service.start()
        self.address = self.service.doors["web01"]
        self.tentacles: list[TlsPeer] = []

    async def caller(self) -> TlsPeer:
        """One that has shaken hands."""
        return await self.street.call(self.address, client_side("TLSv1.3", identity("octopus")))

    async def accept(self) -> TlsPeer:
        """The Tentacle takes a dial, and trusts it."""
        tentacle = await self.take_dial()
        await self.hears(tentacle, PREAMBLE + CLIENT_IDENTITY)
        tentacle.write(SERVER_IDENTITY)
        return tentacle

    async def take_dial(self) -> TlsPeer:
        """The Tentacle takes a dial, shakes hands and says nothing."""
        await self.street.spin(self.dialled)
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        tentacle = TlsPeer(self.changes, sock, server_side("TLSv1.3", identity("tentacle")), listens=True)
        self.tentacles.append(tentacle)
        return tentacle

    def dialled(self) -> bool:
        """The relay has dialled the Tentacle, which has not accepted it yet."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def take_dials(self) -> list[socket.socket]:
        """What the relay has dialled by now; the Tentacle says nothing to it."""
        taken = []
        while self.dialled():
            taken.append(self._listener.accept()[0])
        return taken

    async def hears(self, peer: TlsPeer, data: bytes) -> None:
        """This comes, and nothing else."""
        await self.changes.until(lambda: len(peer.data) >= len(data))
        assert peer.data == data
        peer.records.clear()

    async def answered(self) -> tuple[TlsPeer, TlsPeer]:
        """A caller and its Tentacle, both ready for a request."""
        caller = await self.caller()
        caller.write(PREAMBLE)
        caller.write(CLIENT_IDENTITY)
        tentacle = await self.accept()
        await self.hears(caller, SERVER_IDENTITY)
        return caller, tentacle

    async def call(self, caller: TlsPeer, tentacle: TlsPeer, request: bytes = REQUEST, reply: bytes = REPLY) -> None:
        caller.write(request)
        await self.hears(tentacle, request)
        tentacle.write(reply)
        await self.hears(caller, reply)

    async def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        await turns()

    async def drained(self, stops: bool = False) -> list[bool]:
        """Begins a drain; the list is not empty when it is over. stops: the service then, in the same turn, as ``run`` does."""
        over: list[bool] = []

        async def drain() -> None:
            await self.service.drain()
            if stops:
                self.service.stop()
            over.append(True)

        Deferred.fromCoroutine(drain())
        await turns()
        return over

    async def clean(self) -> None:
        self.service.stop()
        await self.street.clean()
        for tentacle in self.tentacles:
            tentacle.close()
        self._listener.close()
        await self.advance(100)
        assert self.reactor.timers == []
        assert self.relay.metric("relay_connections") == 0
