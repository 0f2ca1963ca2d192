import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from descriptors import no_descriptor_free
from recorder import Recorder
from tls_peer import FIN, TlsPeer, server_side
from twisted.internet.address import IPv4Address, IPv6Address
from wires import Wires

from certs.contexts import client_context
from relay.transport.clienthello import read_client_hello
from relay.transport.dialler import Dial, TcpDial, is_address
from relay.transport.errors import DialError, HandshakeError, PeerClosedError
from relay.transport.lanes import listening_socket
from relay.transport.listener import Listener

SECONDS = 20.0
NAME = "web01.internal"


class Names:
    """A name resolver: addresses are what it gives, at once, or when a test says so."""

    def __init__(self, *addresses: str, waits: bool = False) -> None:
        self._addresses = addresses
        self._waits = waits
        self._asked: tuple[Any, int] | None = None

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        assert host == NAME
        self._asked = receiver, port
        if not self._waits:
            self.answer()

    def answer(self) -> None:
        assert self._asked
        receiver, port = self._asked
        receiver.resolutionBegan(self)
        for address in self._addresses:
            receiver.addressResolved((IPv6Address if ":" in address else IPv4Address)("TCP", address, port))
        receiver.resolutionComplete()


@dataclass
class Net:
    """A listener to be dialled, on 127.0.0.1 only, and what became of each dial."""

    wires: Wires
    port: int = 0
    accepted: list[socket.socket] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)
    receivers: list[Recorder] = field(default_factory=list)
    dials: list[Dial] = field(default_factory=list)

    def dial(self, host: str = "127.0.0.1", port: int = 0) -> Dial:
        receiver = self.wires.recorder()
        self.receivers.append(receiver)
        context = client_context(self.wires.ours)
        made = Dial(self.wires.loop, host, port or self.port, context, receiver, SECONDS, self._failed)
        self.dials.append(made)
        return made

    def _failed(self, error: Exception) -> None:
        self.failed.append(error)
        self.wires.changes.changed()

    def accept(self, sock: socket.socket, peer: str) -> None:
        self.accepted.append(sock)
        self.wires.changes.changed()

    async def taken(self) -> socket.socket:
        """The next dial's other end."""
        await self.wires.changes.until(lambda: self.accepted)
        sock = self.accepted.pop()
        sock.setblocking(False)
        return sock

    async def answered(self, version: str = "TLSv1.3") -> TlsPeer:
        """The next dial's other end, which shakes hands."""
        context = server_side(version, self.wires.theirs)
        peer = TlsPeer(self.wires.changes, await self.taken(), context, listens=True)
        self.wires.peers.append(peer)
        return peer

    async def failure(self) -> Exception:
        """Of the one dial there is."""
        await self.wires.changes.until(lambda: self.failed)
        await turns()
        [error] = self.failed
        assert [receiver.calls for receiver in self.receivers] == [[]], "told of a connection that there is not"
        assert not self.wires.clocked.timers
        return error


@pytest_twisted.async_yield_fixture
async def net(wires: Wires) -> AsyncIterator[Net]:
    made = Net(wires)
    listener = Listener(wires.clocked, [listening_socket("127.0.0.1", 0)], made.accept, lambda error: None)
    made.port = listener.address[1]
    yield made
    listener.stop()
    for sock in made.accepted:
        sock.close()
    for dial in made.dials:
        dial.cancel()
        if dial.link:
            dial.link.abortConnection()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest_twisted.ensureDeferred
async def test_an_address(net: Net, version: str) -> None:
    dial = net.dial()
    peer = await net.answered(version)
    await net.wires.changes.until(lambda: net.receivers[0].made and peer.shaken)
    assert dial.link is not None
    assert dial.link.peer_certificate == net.wires.theirs.der
    assert not net.wires.clocked.timers  # the deadline is over
    dial.link.write(b"MX-CLIENT 1.0\r\n")
    peer.write(b"MX-SERVER 1.0\r\n")
    await net.wires.changes.until(lambda: peer.data and net.receivers[0].data)
    peer.fin()
    await net.wires.changes.until(lambda: net.receivers[0].lost)
    assert net.receivers[0].calls == ["made", "data", "lost"]
    assert isinstance(net.receivers[0].lost[0], PeerClosedError)
    assert net.failed == []


@pytest.mark.parametrize(("host", "sent"), [(NAME, NAME), ("127.0.0.1", "")])
@pytest_twisted.ensureDeferred
async def test_the_name_that_is_sent(net: Net, host: str, sent: str) -> None:
    net.wires.clocked.nameResolver = Names("127.0.0.1")
    net.dial(host)
    sock = await net.taken()
    await turns()
    with sock:
        hello = read_client_hello(sock.recv(16 * 1024))
    assert hello is not None
    assert hello.server_name == sent


@pytest_twisted.ensureDeferred
async def test_a_name_by_the_systems_own_resolver(net: Net) -> None:
    net.dial("localhost")  # also where ::1 comes first: nobody listens there
    await net.answered()
    await net.wires.changes.until(lambda: net.receivers[0].made)


@pytest.mark.parametrize("addresses", [("127.0.0.2", "127.0.0.1"), ("255.255.255.255", "::1", "127.0.0.2", "127.0.0.1")])
@pytest_twisted.ensureDeferred
async def test_the_next_address_where_one_refuses(net: Net, addresses: tuple[str, ...]) -> None:
    net.wires.clocked.nameResolver = Names(*addresses)
    net.dial(NAME)
    await net.answered()
    await net.wires.changes.until(lambda: net.receivers[0].made)
    assert net.failed == []


@pytest_twisted.ensureDeferred
async def test_refused(net: Net) -> None:
    net.dial("127.0.0.2")
    error = await net.failure()
    assert isinstance(error, DialError)
    assert (error.reason, str(error)) == ("refused", "Connection refused")


@pytest_twisted.ensureDeferred
async def test_every_address_refused_is_tried_once(net: Net) -> None:
    net.wires.clocked.nameResolver = Names("127.0.0.2", "127.0.0.3", "127.0.0.2")
    net.dial(NAME)
    error = await net.failure()
    assert isinstance(error, DialError)
    assert error.reason == "refused"


@pytest.mark.parametrize("host", ["255.255.255.255", "fe80::1%nosuch", "2001:db8::1"])
@pytest_twisted.ensureDeferred
async def test_unreachable(net: Net, host: str) -> None:
    net.dial(host)
    assert net.failed == []  # never from within the dial itself
    if host == "2001:db8::1":  # there may be a route for it, though nobody is there
        await turns()
        net.wires.clocked.advance(SECONDS)
    error = await net.failure()
    assert isinstance(error, DialError)
    assert error.reason in ("unreachable", "timeout" if host == "2001:db8::1" else "unreachable")


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_resolve(net: Net) -> None:
    net.wires.clocked.nameResolver = Names()
    net.dial(NAME)
    assert net.failed == []
    error = await net.failure()
    assert isinstance(error, DialError)
    assert (error.reason, str(error)) == ("resolve", f"the name {NAME} does not resolve")


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_does_not_answer(net: Net) -> None:
    net.wires.clocked.nameResolver = names = Names("127.0.0.1", waits=True)
    net.dial(NAME)
    net.wires.clocked.advance(SECONDS)
    error = await net.failure()
    assert isinstance(error, DialError)
    assert (error.reason, str(error)) == ("timeout", "no name lookup in time")
    names.answer()  # too late: nobody is dialled
    await turns()
    assert net.accepted == []


@pytest_twisted.ensureDeferred
async def test_a_black_hole(net: Net) -> None:
    with socket.socket() as hole, socket.socket() as filler:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)  # one fits; the kernel lets the next one's SYN drop
        filler.connect(hole.getsockname())
        net.dial(port=hole.getsockname()[1])
        await turns()
        net.wires.clocked.advance(SECONDS - 0.01)
        assert net.failed == []
        net.wires.clocked.advance(0.02)
        error = await net.failure()
    assert isinstance(error, DialError)
    assert (error.reason, str(error)) == ("timeout", "no connection in time")


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_nobody_answers(net: Net) -> None:
    net.dial()
    with await net.taken():
        await turns()
        net.wires.clocked.advance(SECONDS)
        error = await net.failure()
    assert isinstance(error, HandshakeError)
    assert str(error) == "no TLS handshake in time"
    assert len(net.wires.loop.poller) == 0


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x15\x03\x03\x00\x02\x02\x28"])
@pytest_twisted.ensureDeferred
async def test_what_answers_is_no_tls(net: Net, answer: bytes) -> None:
    net.wires.clocked.nameResolver = Names("127.0.0.1", "127.0.0.1")
    net.dial(NAME)
    with await net.taken() as sock:
        sock.send(answer)
        sock.shutdown(socket.SHUT_WR)
        error = await net.failure()
    assert isinstance(error, HandshakeError)
    assert net.accepted == []  # the other address is not tried: somebody was there


@pytest_twisted.ensureDeferred
async def test_no_descriptor_is_free(net: Net) -> None:
    net.wires.clocked.nameResolver = Names("127.0.0.1", "127.0.0.2")
    with no_descriptor_free():
        net.dial(NAME)
        await net.wires.changes.until(lambda: net.failed)
    error = await net.failure()
    assert isinstance(error, DialError)
    assert error.reason == "descriptors"


@pytest_twisted.ensureDeferred
async def test_giving_up_while_the_name_is_looked_up(net: Net) -> None:
    net.wires.clocked.nameResolver = names = Names("127.0.0.1", waits=True)
    net.dial(NAME).cancel()
    assert not net.wires.clocked.timers
    names.answer()
    await turns()
    assert (net.failed, net.accepted) == ([], [])


@pytest_twisted.ensureDeferred
async def test_giving_up_while_it_connects(net: Net) -> None:
    net.dial().cancel()
    await turns()
    assert net.failed == []
    assert not net.wires.clocked.timers


@pytest_twisted.ensureDeferred
async def test_giving_up_behind_a_failure_that_is_not_told_yet(net: Net) -> None:
    net.wires.clocked.nameResolver = Names()
    net.dial(NAME).cancel()
    await turns()
    assert net.failed == []


@pytest_twisted.ensureDeferred
async def test_giving_up_in_the_handshake(net: Net) -> None:
    dial = net.dial()
    with await net.taken() as sock:
        await turns()
        assert sock.recv(16 * 1024)[:1] == b"\x16"  # a ClientHello, which we leave without an answer
        dial.cancel()
        dial.cancel()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    assert (net.failed, net.receivers[0].calls) == ([], [])
    assert len(net.wires.loop.poller) == 0


@pytest_twisted.ensureDeferred
async def test_giving_up_is_no_use_when_it_is_done(net: Net) -> None:
    dial = net.dial()
    peer = await net.answered()
    await net.wires.changes.until(lambda: net.receivers[0].made)
    dial.cancel()
    assert dial.link is not None
    dial.link.write(b"still open")
    await net.wires.changes.until(lambda: peer.data == b"still open")


@pytest_twisted.ensureDeferred
async def test_the_receiver_may_close_at_once(net: Net) -> None:
    dial = net.dial()

    def wrong_certificate() -> None:
        assert dial.link is not None
        dial.link.loseConnection()

    net.receivers[0].on_made = wrong_certificate
    peer = await net.answered()
    await net.wires.changes.until(lambda: peer.end)
    assert (peer.end, peer.data, peer.close_notify, peer.failure) == (FIN, b"", False, None)
    assert net.failed == []


@pytest.mark.parametrize(
    ("host", "answer"),
    [("10.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("web01", False), ("10.0.0", False), ("", False)],
)
def test_addresses_are_told_from_names(host: str, answer: bool) -> None:
    assert is_address(host) is answer


# ---- without TLS ----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_dial_by_tcp_alone(net: Net) -> None:
    stood: list[socket.socket] = []
    dial = TcpDial(net.wires.loop, "127.0.0.1", net.port, SECONDS, stood.append, net.failed.append)
    theirs = await net.taken()
    while not stood:
        await turns()
    stood[0].send(b"no TLS")
    theirs.setblocking(True)
    assert theirs.recv(6) == b"no TLS"
    dial.cancel()  # it is done, and the socket is somebody else's
    stood[0].send(b"!")
    assert theirs.recv(1) == b"!"
    for sock in (stood[0], theirs):
        sock.close()
    assert net.wires.clocked.timers == []


@pytest_twisted.ensureDeferred
async def test_a_dial_by_tcp_alone_fails_as_any_other(net: Net) -> None:
    for seconds in (0.0, 1.0, SECONDS):
        failed: list[Exception] = []
        net.wires.clocked.nameResolver = Names(waits=True)
        dial = TcpDial(net.wires.loop, NAME, net.port, SECONDS, lambda sock: pytest.fail("it stands"), failed.append)
        if seconds < SECONDS:
            dial.cancel()
        net.wires.clocked.advance(seconds)
        assert [str(error) for error in failed] == ["no name lookup in time"] * (seconds == SECONDS)
