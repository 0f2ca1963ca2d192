"""A relay in this process with a CONNECT door, and callers at it on raw sockets."""

import base64
import ssl
from pathlib import Path

from changes import turns
from identities import identity
from service_site import OCTOPUS, Service
from street import Street
from tables import machine
from tls_peer import FIN, RST, TlsPeer, client_side

from certs.thumbprint import Thumbprint
from relay.fronts.tunnel_answers import ESTABLISHED
from routing.addresses import Address
from routing.table import ConnectDoor, Machine

FRONT = Address("127.0.0.1", 0)
TARGET = "web01.internal:10933"


def targeted(name: str, target: str, host: str | None = None) -> Machine:
    host_name, _, port = target.rpartition(":")
    wanted = Address(host_name, int(port))
    return machine(name, target=wanted, host=host, door=None, octopus=(OCTOPUS,), tentacle=Address("127.0.0.1", 1))


def asking(target: str = TARGET, credentials: str | None = None, version: str = "1.0") -> bytes:
    """What Octopus sends (wire.md 8.1)."""
    lines = [f"CONNECT {target} HTTP/{version}", f"Host: {target}"]
    if credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def client_hello(name: str | None = None) -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = client_side("TLSv1.3").wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("it was not asked for more")


class Visitor:
    """A caller on a raw socket. data: what came; end: None, FIN or RST."""

    def __init__(self, street: Street, address: tuple[str, int]) -> None:
        self._street = street
        self.sock = street.connect(address)
        self.data = b""
        self.end: str | None = None

    async def says(self, data: bytes) -> None:
        await self._street.spin(self._connected)
        self.sock.sendall(data)

    def _connected(self) -> bool:
        try:
            self.sock.getpeername()
        except OSError:
            return False
        return True

    def look(self) -> bytes:
        """Takes what is there."""
        try:
            while self.end is None:
                data = self.sock.recv(65536)
                self.data += data
                if not data:
                    self.end = FIN
        except BlockingIOError:
            pass
        except ConnectionError:
            self.end = RST
        return self.data

    async def answered(self) -> bytes:
        """The whole header of the answer, and what has come behind it."""
        await self._street.spin(lambda: b"\r\n\r\n" in self.look())
        return self.data

    async def ended(self, how: str = FIN) -> bytes:
        """All that came until the relay closed; then it closes, too. how: RST where it has not read all."""
        await self._street.spin(lambda: self.look() is not None and self.end)
        self.sock.close()
        assert self.end == how
        return self.data


class ConnectCorner:
    """Two machines behind the CONNECT door, web01 with a name as well; `users`: what is in the file of credentials."""

    def __init__(self, folder: Path, users: str | None = None, **options: int) -> None:
        self.street = Street()
        self.credentials = folder / "users"
        if users is not None:
            self.credentials.touch(0o600)
            self.credentials.write_text(users)
        self.connect = ConnectDoor(self.credentials if users is not None else None)
        self.machines = (targeted("web01", TARGET, "web01.relay.corp"), targeted("web02", "2001:db8::2:10933"))
        self.relay = Service(folder, self.street.reactor, *self.machines, front=FRONT, connect=self.connect, **options)
        self.service = self.relay.service
        self.service.start()

    @property
    def address(self) -> tuple[str, int]:
        address = self.service.shared_door
        assert address
        return address

    @property
    def connections(self) -> float | None:
        return self.relay.metric("relay_connections")

    async def visitor(self, data: bytes = b"") -> Visitor:
        """Somebody who says this, and has been accepted."""
        loop = self.service._loop
        assert loop
        before = len(loop.strangers)
        made = Visitor(self.street, self.address)
        if data:
            await made.says(data)
        await self.street.spin(lambda: len(loop.strangers) > before or made.look() or made.end)
        return made

    async def gets(self, data: bytes, how: str = FIN) -> bytes:
        """All that somebody gets who says this, until the relay closes."""
        return await (await self.visitor(data)).ended(how)

    async def through(self, data: bytes, shakes: bool = True) -> TlsPeer:
        """Somebody who says this, is let through and begins TLS."""
        visitor = await self.visitor(data)
        assert await visitor.answered() == ESTABLISHED
        peer = TlsPeer(self.street.changes, visitor.sock, client_side("TLSv1.3", identity("octopus")), name="ignored.example")
        self.street.callers.append(peer)
        if shakes:
            await self.street.changes.until(lambda: peer.shaken)
        return peer

    def shown(self, caller: TlsPeer) -> str:
        """Whose certificate a caller was shown."""
        certificate = caller.tls.getpeercert(binary_form=True)
        assert certificate
        thumbprint = Thumbprint.of(certificate)
        return next(name for name in self.service.routes if self.service.faces.of_machine(name).thumbprint == thumbprint)

    def refusals(self) -> list[tuple[str, str]]:
        """Reasons and details in the log, each of a kind once."""
        return [(line["reason"], line["detail"]) for line in self.relay.log("caller refused")]

    async def advance(self, seconds: float) -> None:
        self.street.reactor.advance(seconds)
        await turns()

    async def clean(self) -> None:
        self.service.stop()
        await self.street.clean()
        await self.advance(100)
        assert self.street.reactor.timers == []
        assert self.connections == 0
