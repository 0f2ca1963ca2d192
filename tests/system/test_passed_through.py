"""Machines that are passed through, by a real relay: peers that know nothing of it meet with their own certificates."""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_twisted
from exchanges import MIB
from identities import identity
from scripted import PATIENCE, Peer, client_hello, party
from system import HOST, Machine, Site, site
from twisted.internet import endpoints, protocol, reactor
from twisted.internet import ssl as twisted_ssl
from twisted.internet.defer import Deferred

from relay.peers.contracts import CAPABILITIES
from relay.peers.errors import ConnectingError, UnexpectedCertificateError
from relay.peers.octopus import Octopus
from relay.peers.tentacle import Tentacle

SIZE: Final = 200 * MIB
MOST: Final = 4 * MIB  # of memory
_BUFFERS: Final = [int(Path(f"/proc/sys/net/ipv4/tcp_{each}mem").read_text().split()[2]) for each in "rw"]
UNDERWAY: Final = 2 * sum(_BUFFERS) + MIB  # in the buffers of four sockets, which grow as the system allows
DRAIN: Final = 0.5
HELLO: Final = client_hello()


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("relay"), 1, passed=8) as made:
        yield made


@pytest.fixture
def machine(passed: Site) -> Iterator[Machine]:
    """One of them. Behind the test, the relay must hold what it held before it."""
    given = passed.passed.pop()
    passed.machines.append(given)
    yield given
    given.close()
    passed.relay.expect_rest()


def line(machine: Machine) -> dict[str, Any]:
    """The one of the access log."""
    [found] = machine.calls()
    return found


def free(machine: Machine) -> int:
    """The port of its Tentacle, for somebody else to listen there."""
    port = machine.port
    machine.down()
    return port


def joined(machine: Machine) -> tuple[socket.socket, socket.socket]:
    """A caller and its Tentacle, which exchange anything behind a hello."""
    caller = socket.create_connection(machine.address, PATIENCE)
    caller.sendall(HELLO)
    machine.listener.settimeout(PATIENCE)
    tentacle, _ = machine.listener.accept()
    tentacle.settimeout(PATIENCE)
    assert tentacle.recv(len(HELLO), socket.MSG_WAITALL) == HELLO
    return caller, tentacle


# ---- who meets whom -------------------------------------------------------------------------------------------------------


def test_the_relay_shows_nothing_of_its_own(machine: Machine) -> None:
    with ThreadPoolExecutor() as pool:
        accepting = pool.submit(machine.accept, face="octopus")
        caller = machine.call(face="tentacle")
        tentacle = accepting.result()
    caller.send(b"any protocol at all")
    tentacle.expect(b"any protocol at all")
    caller.half_close()  # a close would be a reset: OpenSSL's tickets are unread
    tentacle.expect_fin()
    tentacle.close()
    assert line(machine)["outcome"] == "ok"


async def call(port: int, shown: str, who: str, folder: Path) -> object:
    octopus = Octopus(reactor, party(who).pem(), spool=folder)
    try:
        return await octopus.machine(HOST, port, shown).call(CAPABILITIES, "GetCapabilities")
    finally:
        await octopus.stop()
        assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_octopus_and_tentacle_with_each_others_thumbprints(machine: Machine, tmp_path: Path) -> None:
    """The strict peers: what they refuse, they would refuse without a relay."""
    pinned = str(party("tentacle").thumbprint)
    tentacle = Tentacle(reactor, party("tentacle").pem(), [str(party("octopus").thumbprint)], tmp_path / "home")
    port = free(machine)
    assert await tentacle.listen(port) == port
    try:
        assert await call(machine.door, pinned, "octopus", tmp_path)
        with pytest.raises(UnexpectedCertificateError, match=pinned):
            await call(machine.door, "A" * 40, "octopus", tmp_path)
        with pytest.raises(ConnectingError):
            await call(machine.door, pinned, "intruder", tmp_path)
    finally:
        await tentacle.stop()
    assert not tentacle.violations
    allowed, *refused = machine.calls(3)
    assert allowed["outcome"] == "ok"
    for each in refused:  # whoever refuses closes, and where tickets or an answer come meanwhile, its system makes that a reset
        assert each["outcome"] in ("ok", "cancelled", "tentacle-gone")
    assert all(each["request_bytes"] and each["reply_bytes"] for each in machine.calls(3))


@pytest_twisted.ensureDeferred
async def test_stock_twisted_on_both_sides(machine: Machine) -> None:
    """Each sends a megabyte, and the other has it whole."""
    body = os.urandom(MIB)
    ends = [Megabyte(body), Megabyte(body)]
    made = twisted_ssl.CertificateOptions(certificate=identity("tentacle").certificate, privateKey=identity("tentacle").key)
    port = await endpoints.SSL4ServerEndpoint(reactor, free(machine), made, interface="127.0.0.1").listen(Once(ends[0]))
    options = twisted_ssl.CertificateOptions()
    await endpoints.SSL4ClientEndpoint(reactor, HOST, machine.door, options).connect(Once(ends[1]))
    for end in ends:
        await end.whole
    for end in ends:
        end.transport.loseConnection()
        await end.over
    await port.stopListening()
    assert line(machine)["outcome"] == "ok"
    assert line(machine)["request_bytes"] > MIB < line(machine)["reply_bytes"]


class Megabyte(protocol.Protocol):
    """Sends a body when it is connected, and expects the same."""

    transport: Any

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._got = b""
        self.whole: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._body)

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        if len(self._got) == len(self._body):
            assert self._got == self._body
            self.whole.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.over.callback(None)


class Once(protocol.Factory):
    """A factory for one connection."""

    noisy = False

    def __init__(self, made: protocol.Protocol) -> None:
        self._made = made

    def buildProtocol(self, address: object) -> protocol.Protocol:
        return self._made


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
def test_openssl_on_both_sides(machine: Machine, tmp_path: Path) -> None:
    pem = tmp_path / "tentacle.pem"
    pem.write_bytes(party("tentacle").pem())
    port = free(machine)
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pem), "-key", str(pem), "-www"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert server.stdout
        while server.stdout.readline().strip() != b"ACCEPT":
            assert server.poll() is None
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{machine.door}", "-quiet", "-ign_eof"],
            input=b"GET / HTTP/1.0\r\n\r\n", capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        shown = ssl.get_server_certificate((HOST, machine.door))
    finally:
        server.kill()
        server.wait(PATIENCE)
        if server.stdout:
            server.stdout.close()
    assert done.stdout.startswith(b"HTTP/1.0 200 ok")
    assert ssl.PEM_cert_to_DER_cert(shown) == party("tentacle").der


# ---- bytes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
def test_200_megabytes(machine: Machine, way: str) -> None:
    before = machine.relay.forget_peak()
    caller, tentacle = joined(machine)
    sender, receiver = (caller, tentacle) if way == "up" else (tentacle, caller)
    part = os.urandom(MIB)

    def send() -> None:
        for _ in range(SIZE // MIB):
            sender.sendall(part)
        sender.shutdown(socket.SHUT_WR)

    got, expected = hashlib.sha256(), hashlib.sha256(part * (SIZE // MIB))
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(send)
        while data := receiver.recv(MIB):
            got.update(data)
        sending.result()
    receiver.close()
    assert sender.recv(1) == b""
    sender.close()
    assert got.digest() == expected.digest()
    assert machine.relay.peak - before < MOST
    found = line(machine)
    assert found["outcome"] == "ok"
    assert (found["request_bytes"], found["reply_bytes"]) == (len(HELLO) + SIZE, 0) if way == "up" else (len(HELLO), SIZE)


def test_whoever_reads_nothing_stops_the_other(machine: Machine) -> None:
    before = machine.relay.forget_peak()
    machine.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # or it grows as the system allows
    pairs = [joined(machine) for _ in range(8)]
    for caller, _ in pairs:
        caller.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 2 * UNDERWAY:
                sent += caller.send(bytes(MIB))
        assert sent < UNDERWAY
    assert machine.relay.peak - before < MOST
    for caller, tentacle in pairs:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        caller.close()
        tentacle.close()
    machine.expect_outcomes(*["cancelled"] * 8)


# ---- the end --------------------------------------------------------------------------------------------------------------


def test_a_relay_that_is_stopped_waits_and_then_cuts(tmp_path: Path) -> None:
    with site(tmp_path, passed=1, relay={"timeouts": {"drain": f"{DRAIN}s"}}) as made:
        [machine] = made.passed
        caller, tentacle = joined(machine)
        made.relay.signal(signal.SIGTERM)
        made.relay.log.wait(event="draining")
        caller.sendall(b"still here")
        assert tentacle.recv(10, socket.MSG_WAITALL) == b"still here"
        made.relay.expect_stopped()
        for sock in (caller, tentacle):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            sock.close()
        assert line(machine)["outcome"] == "stopped"


def test_its_tentacle_is_not_there(machine: Machine) -> None:
    machine.down()
    with pytest.raises(ConnectionResetError):
        Peer.dial(machine.address)
    assert line(machine)["outcome"] == "refused"
