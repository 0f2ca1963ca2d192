"""Peers, raw peers that say whatever a test wants, and the recordings, for the tests of relay/peers."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol

from relay.peers.octopus import Octopus
from relay.peers.tentacle import Tentacle
from relay.peers.tls import Identity, RecordTlsFactory, anonymous

CAPTURES = Path(__file__).parents[2] / "captures"


class RawPeer(Protocol):
    """One side of a TLS connection without any manners. came: the other side's records, one by one. was_reset: its end."""

    def __init__(self):
        self.came = []
        self.lost = self.was_reset = False
        self._wants = []
        self._ends = []

    def connectionMade(self):
        tls = self.transport
        ended = tls.connectionLost  # it does not tell a bare FIN from a reset

        def look(reason):
            self.was_reset = not reason.check(ConnectionDone)
            ended(reason)

        tls.connectionLost = look

    def dataReceived(self, data):
        self.came.append(data)
        self._look()

    def connectionLost(self, reason):
        self.lost = True
        self._look()

    def say(self, *units):
        """Each unit as a write, and so a record, of its own."""
        for unit in units:
            self.transport.write(unit)

    def fin(self):
        self.transport.finish()

    def records(self, count):
        """Fires with the first count records, or with what there was when the connection ended."""
        done = Deferred()
        self._wants.append((count, done))
        self._look()
        return done

    def ended(self):
        """Fires with everything that came, when the connection is gone."""
        return self.records(1 << 60)

    def _look(self):
        wants, self._wants = self._wants, []
        for count, done in wants:
            if len(self.came) >= count or self.lost:
                done.callback(self.came[:count])
            else:
                self._wants.append((count, done))


@dataclass
class RawListener:
    """A port whose connections are RawPeers."""

    port: int
    _peers: list[RawPeer] = field(default_factory=list)
    _wants: list[Deferred] = field(default_factory=list)

    def peer(self, number=0):
        """Fires with the connection of that number, once it has sent something."""
        done = Deferred()
        self._wants.append((number, done))
        self.look()
        return done

    def add(self, peer):
        self._peers.append(peer)
        peer.records(1).addCallback(lambda _: self.look())
        return peer

    def look(self):
        wants, self._wants = self._wants, []
        for number, done in wants:
            if len(self._peers) > number and (self._peers[number].came or self._peers[number].lost):
                done.callback(self._peers[number])
            else:
                self._wants.append((number, done))


@pytest.fixture(scope="session")
def pem() -> Callable[[str], bytes]:
    return lambda name: (CAPTURES / "certs" / f"{name}.pem").read_bytes()


@pytest.fixture(scope="session")
def thumbprint() -> Callable[[str], str]:
    return lambda name: (CAPTURES / "certs" / f"{name}.thumb").read_text().strip()


@pytest.fixture(scope="session")
def recording():
    """(from, record) of each line of a recording that has bytes; from is ``dialler`` or ``listener``."""

    def read(folder: str, name: str = "conn-1") -> list[tuple[str, bytes]]:
        lines = map(json.loads, (CAPTURES / folder / f"{name}.jsonl").read_text().splitlines())
        return [(line["from"], base64.b64decode(line["b64"])) for line in lines if "b64" in line]

    return read


@pytest_twisted.async_yield_fixture()
async def new_octopus(pem, tmp_path) -> AsyncIterator[Callable[..., Octopus]]:
    """Makes Octopus nodes, and stops them at the end."""
    made = []

    def new(**options) -> Octopus:
        made.append(Octopus(reactor, pem("octopus"), spool=tmp_path, **options))
        return made[-1]

    yield new
    for octopus in made:
        await octopus.stop()


@pytest_twisted.async_yield_fixture()
async def new_tentacle(pem, thumbprint, tmp_path) -> AsyncIterator[Callable[..., Tentacle]]:
    """Makes Tentacles that trust the Octopus of the recordings, in tmp_path/home, and stops them at the end."""
    made = []

    def new(**options) -> Tentacle:
        options = {"trusted": [thumbprint("octopus")], **options}
        made.append(Tentacle(reactor, pem("tentacle"), home=tmp_path / "home", **options))
        return made[-1]

    yield new
    for tentacle in made:
        await tentacle.stop()


@pytest_twisted.async_yield_fixture()
async def pair(new_octopus, new_tentacle):
    """A listening Tentacle and the Octopus that dials it: (octopus, tentacle, machine). Neither may break a rule."""
    octopus, tentacle = new_octopus(), new_tentacle()
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    yield octopus, tentacle, machine
    assert not octopus.violations
    assert not tentacle.violations


@pytest_twisted.async_yield_fixture()
async def polling_pair(new_octopus, new_tentacle):
    """As pair, the Tentacle polling."""
    octopus, tentacle = new_octopus(), new_tentacle(trusted=())
    machine = octopus.polling_machine("poll://SQ-TENTAPOLL/", tentacle.thumbprint)
    tentacle.poll("127.0.0.1", await octopus.listen(), octopus.thumbprint, "poll://SQ-TENTAPOLL/")
    yield octopus, tentacle, machine
    assert not octopus.violations
    assert not tentacle.violations


@pytest_twisted.async_yield_fixture()
async def raw_dial(pem):
    """Dials a port as that identity (None: without a certificate); gives the RawPeer."""
    made = []

    async def dial(port: int, name: str | None = "octopus", host: str = "127.0.0.1") -> RawPeer:
        side = anonymous(host) if name is None else Identity(pem(name)).dialler(host)
        factory = RecordTlsFactory(side, Factory.forProtocol(RawPeer), reactor)
        made.append((await HostnameEndpoint(reactor, host, port).connect(factory)).wrappedProtocol)
        return made[-1]

    yield dial
    for peer in made:
        if not peer.lost:
            peer.transport.abortConnection()
            await peer.ended()


@pytest_twisted.async_yield_fixture()
async def raw_listen(pem):
    """Listens as that identity; gives the RawListener."""
    made = []

    def listen(name: str = "tentacle") -> RawListener:
        listener = RawListener(0)
        factory = Factory.forProtocol(lambda: listener.add(RawPeer()))
        port = reactor.listenTCP(0, RecordTlsFactory(Identity(pem(name)).listener(), factory, reactor), interface="127.0.0.1")
        listener.port = port.getHost().port
        made.append((port, listener))
        return listener

    yield listen
    for port, listener in made:
        await maybeDeferred(port.stopListening)
        for peer in listener._peers:
            if not peer.lost:
                peer.transport.abortConnection()
                await peer.ended()
