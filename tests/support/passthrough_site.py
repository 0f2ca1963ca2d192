"""A relay in this process with a machine that is passed through, callers at its door, and its Tentacle on a raw socket."""

import contextlib
import socket
from pathlib import Path
from typing import Any

from changes import turns
from hellos import spoken
from identities import identity
from service_site import OCTOPUS, Service
from street import Street
from tables import machine
from tls_peer import TlsPeer, client_side, server_side
from twisted.internet.defer import Deferred

from routing.addresses import Address
from routing.table import Machine

HELLO = spoken()


class PassthroughSite:
    """options: of the table. machine: the one that is passed through; other: one that is not."""

    def __init__(self, folder: Path, *more: Machine, **options: Any) -> None:
        self.street = Street()
        self.changes, self.reactor = self.street.changes, self.street.reactor
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.machine = self.passed_through(self.listener)
        self.other = machine("web01", octopus=(OCTOPUS,))
        self.relay = Service(folder, self.reactor, self.machine, self.other, *more, **options)
        self.service = self.relay.service
        self.reactor.advance(1)  # 0 is never, to whoever takes times
        self.service.start()
        self._open: list[socket.socket] = [self.listener]
        self._peers: list[TlsPeer] = []

    @staticmethod
    def passed_through(listener: socket.socket | None = None, name: str = "vault01", **changed: Any) -> Machine:
        """A machine whose Tentacle is there."""
        if listener:
            changed["tentacle"] = Address("127.0.0.1", listener.getsockname()[1])
        return machine(name, passthrough=True, octopus=(), thumbprints=(), **changed)

    @property
    def address(self) -> tuple[str, int]:
        return self.service.doors["vault01"]

    def keep(self, sock: socket.socket) -> socket.socket:
        self._open.append(sock)
        return sock

    # ---- raw ends ---------------------------------------------------------------------------------------------------

    def caller(self, sent: bytes = HELLO, source: str = "") -> socket.socket:
        """Somebody who sends this and looks like TLS; nonblocking. source: an address of loopback that it comes from."""
        sock = self.keep(self.street.connect(self.address, source))
        Deferred.fromCoroutine(self.send(sock, sent))
        return sock

    async def send(self, sock: socket.socket, data: bytes) -> None:
        """All of it; the connection may only be about to stand."""
        for _ in range(2000):
            try:
                data = data[sock.send(data) :]
            except (BlockingIOError, ConnectionError):
                await turns(1)
            if not data:
                return
        raise AssertionError("it is not taken")

    async def accepted(self, listener: socket.socket | None = None) -> socket.socket:
        """The Tentacle's end of the relay's next dial."""
        for _ in range(5000):
            with contextlib.suppress(BlockingIOError):
                sock, _ = (listener or self.listener).accept()
                sock.setblocking(False)
                return self.keep(sock)
            await turns(1)
        raise AssertionError("the relay does not dial")

    async def joined(self, source: str = "") -> tuple[socket.socket, socket.socket]:
        """A caller and its Tentacle, with the hello at the other end."""
        caller = self.caller(source=source)
        tentacle = await self.accepted()
        assert await self.receive(tentacle, len(HELLO)) == HELLO
        return caller, tentacle

    async def met(self, source: str = "") -> tuple[socket.socket, socket.socket]:
        """The same, and each has answered the other: the caller is no stranger."""
        caller, tentacle = await self.joined(source)
        await self.send(tentacle, b"a flight")
        assert await self.receive(caller, 8) == b"a flight"
        await self.send(caller, b"its answer")
        assert await self.receive(tentacle, 10) == b"its answer"
        return caller, tentacle

    async def receive(self, sock: socket.socket, count: int) -> bytes:
        found = b""
        for _ in range(5000):
            with contextlib.suppress(BlockingIOError):
                data = sock.recv(count - len(found))
                assert data, f"closed behind {len(found)} of {count} bytes"
                found += data
            if len(found) == count:
                return found
            await turns(1)
        raise AssertionError(f"{len(found)} of {count} bytes came")

    async def end(self, sock: socket.socket) -> str:
        """How it ends, "fin" or "rst", and no byte before."""
        for _ in range(5000):
            try:
                assert sock.recv(1) == b"", "a byte before the end"
            except BlockingIOError:
                await turns(1)
            except ConnectionResetError:
                return "rst"
            else:
                return "fin"
        raise AssertionError("it does not end")

    # ---- ends that speak TLS ----------------------------------------------------------------------------------------

    async def tls(self, name: str | None = None, version: str = "TLSv1.3") -> tuple[TlsPeer, TlsPeer]:
        """A caller and its Tentacle who have shaken hands with each other."""
        door = self.service.shared_door if name else self.address
        assert door
        caller = await self.street.call(door, client_side(version, identity("octopus")), shakes=False, name=name)
        tentacle = TlsPeer(self.changes, await self.accepted(), server_side(version, identity("tentacle")), listens=True)
        self._peers.append(tentacle)
        await self.changes.until(lambda: caller.shaken and tentacle.shaken)
        return caller, tentacle

    # ---- what is written --------------------------------------------------------------------------------------------

    async def line(self) -> dict[str, Any]:
        """The one line of the access log."""
        for _ in range(5000):
            found = self.relay.access()
            if found:
                [line] = found
                return line
            await turns(1)
        raise AssertionError("nothing is logged")

    async def drained(self) -> list[bool]:
        """Begins a drain; the list is not empty when it is over."""
        over: list[bool] = []

        async def drain() -> None:
            await self.service.drain()
            over.append(True)

        Deferred.fromCoroutine(drain())
        await turns()
        return over

    async def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        await turns()

    async def clean(self) -> None:
        self.service.stop()
        await self.street.clean()
        for peer in self._peers:
            peer.close()
        for sock in self._open:
            sock.close()
        await self.advance(100)
        assert self.reactor.timers == []
        assert self.relay.metric("relay_connections") == 0
