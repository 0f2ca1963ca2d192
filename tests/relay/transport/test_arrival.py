import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from hellos import spoken
from tls_peer import TlsPeer, client_side, socket_pair
from wires import Wires

from relay.transport.arrival import HELLO_CLOSED, HELLO_LATE, Arrival
from relay.transport.clienthello import LARGEST, ClientHello
from relay.transport.loop import Loop

SECONDS = 10.0
HELLO = spoken(name="web01.relay.corp")


@dataclass
class Caller:
    """A caller that has connected, and what is heard of it. reads: how often the reactor found it readable."""

    changes: Changes
    loop: Loop
    ours: socket.socket
    theirs: socket.socket
    arrived: list[ClientHello] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reads: int = 0

    def begin(self) -> Arrival:
        made = Arrival(self.loop, self.ours, SECONDS, self._note(self.arrived), self._note(self.failed))
        read = made.readable

        def counted() -> None:
            self.reads += 1
            read()
            self.changes.changed()

        made.readable = counted
        made.begin()
        return made

    def _note(self, notes: list[Any]) -> Callable[[Any], None]:
        def note(what: object) -> None:
            notes.append(what)
            self.changes.changed()

        return note

    @property
    def heard(self) -> list[object]:
        return [*self.arrived, *self.failed]


@pytest_twisted.async_yield_fixture
async def caller(nothing_left: None) -> AsyncIterator[Caller]:
    ours, theirs = socket_pair()
    reactor = ClockedReactor()
    made = Caller(Changes(), Loop(reactor, 1000), ours, theirs)
    with ours, theirs:
        yield made
    made.loop.stop()
    assert not reactor.timers
    assert len(made.heard) <= 1, "it was told more than once"


@pytest_twisted.ensureDeferred
async def test_a_hello_is_read_and_left_where_it_is(caller: Caller) -> None:
    caller.begin()
    caller.theirs.send(HELLO + b"tail")
    await caller.changes.until(lambda: caller.heard)
    assert caller.heard == [ClientHello("web01.relay.corp")]
    assert caller.ours.recv(LARGEST) == HELLO + b"tail"


@pytest.mark.parametrize("sent", [HELLO, HELLO + b"tail"], ids=len)
@pytest_twisted.ensureDeferred
async def test_a_hello_that_is_there_already_waits_for_no_turn(caller: Caller, sent: bytes) -> None:
    caller.theirs.send(sent)
    caller.begin()
    assert caller.heard == [ClientHello("web01.relay.corp")]
    assert (len(caller.loop.strangers), caller.loop.reactor.timers) == (0, [])
    assert caller.ours.recv(LARGEST) == sent


@pytest_twisted.ensureDeferred
async def test_a_hello_of_which_a_part_is_there_already(caller: Caller) -> None:
    caller.theirs.send(HELLO[:100])
    caller.begin()
    assert caller.heard == []
    caller.theirs.send(HELLO[100:])
    await caller.changes.until(lambda: caller.heard)
    assert caller.heard == [ClientHello("web01.relay.corp")]
    assert caller.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest_twisted.ensureDeferred
async def test_what_is_there_already_and_is_no_hello(caller: Caller) -> None:
    caller.theirs.send(b"GET / HTTP/1.0\r\n\r\n")
    caller.begin()
    assert caller.heard == ["not TLS"]
    assert caller.ours.fileno() == -1


@pytest_twisted.ensureDeferred
async def test_a_hello_byte_by_byte_is_looked_at_where_its_record_may_be_whole(caller: Caller) -> None:
    caller.begin()
    for index in range(len(HELLO)):
        assert caller.heard == []
        caller.theirs.send(HELLO[index : index + 1])
        looks = min(index + 1, 5) + (index + 1 == len(HELLO))  # the record's header says how much comes
        await caller.changes.until(lambda looks=looks: caller.reads == looks)
        await turns()
        assert caller.reads == looks  # it does not turn round and round meanwhile
    assert caller.heard == [ClientHello("web01.relay.corp")]


@pytest_twisted.ensureDeferred
async def test_what_comes_behind_a_hello_in_pieces_is_read_as_ever(caller: Caller) -> None:
    caller.begin()
    caller.theirs.send(HELLO[:100])
    await caller.changes.until(lambda: caller.reads == 1)
    caller.theirs.send(HELLO[100:])
    await caller.changes.until(lambda: caller.heard)
    assert caller.ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest_twisted.ensureDeferred
async def test_openssl_takes_it_from_there(wires: Wires, version: str) -> None:
    ours, theirs = socket_pair()
    heard: list[ClientHello] = []

    def arrived(hello: ClientHello) -> None:
        heard.append(hello)
        end.link.accept()

    end = wires.end(ours, accepts=True)
    Arrival(wires.loop, ours, SECONDS, arrived, pytest.fail).begin()
    peer = TlsPeer(wires.changes, theirs, client_side(version), name="web01")
    wires.peers.append(peer)
    await wires.changes.until(lambda: end.receiver.made and peer.shaken)
    assert heard == [ClientHello("web01")]


@pytest.mark.parametrize("sent", [b"", HELLO[:1], HELLO[:50], HELLO[:-1]], ids=len)
@pytest_twisted.ensureDeferred
async def test_it_does_not_come_in_time(caller: Caller, sent: bytes) -> None:
    caller.begin()
    caller.theirs.send(sent)
    await caller.changes.until(lambda: caller.reads == bool(sent))
    caller.loop.reactor.advance(SECONDS - 0.01)
    assert caller.heard == []
    caller.loop.reactor.advance(0.02)
    assert caller.heard == [HELLO_LATE]
    assert caller.ours.fileno() == -1


@pytest.mark.parametrize("sent", [b"", HELLO[:1], HELLO[:50], HELLO[:-1]], ids=len)
@pytest.mark.parametrize("at_once", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_caller_closes_first(caller: Caller, sent: bytes, at_once: bool) -> None:
    """What had come stays readable behind the FIN: that must neither spin the reactor nor wait for the deadline."""
    caller.begin()
    caller.theirs.send(sent)
    if not at_once:
        await caller.changes.until(lambda: caller.reads == bool(sent))
    caller.theirs.shutdown(socket.SHUT_WR)
    await caller.changes.until(lambda: caller.heard)
    assert caller.heard == [HELLO_CLOSED]
    assert caller.reads <= 2
    assert caller.ours.fileno() == -1


@pytest.mark.parametrize("sent", [b"", HELLO[:50]], ids=len)
@pytest_twisted.ensureDeferred
async def test_the_caller_resets(caller: Caller, sent: bytes) -> None:
    caller.begin()
    caller.theirs.send(sent)
    await caller.changes.until(lambda: caller.reads == bool(sent))
    caller.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    caller.theirs.close()
    await caller.changes.until(lambda: caller.heard)
    assert caller.heard == [HELLO_CLOSED]


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", HELLO[:5] + bytes(50)], ids=len)
@pytest_twisted.ensureDeferred
async def test_what_is_no_hello_is_closed_without_a_byte(caller: Caller, sent: bytes) -> None:
    caller.begin()
    caller.theirs.send(sent)
    await caller.changes.until(lambda: caller.heard)
    assert caller.arrived == []
    assert caller.failed[0] not in (HELLO_CLOSED, HELLO_LATE)
    assert caller.ours.fileno() == -1
    with pytest.raises(ConnectionResetError):  # unread bytes: not FIN, and no alert
        caller.theirs.recv(1)


@pytest_twisted.ensureDeferred
async def test_a_hello_without_end(caller: Caller) -> None:
    caller.begin()
    record = b"\x16\x03\x01\x03\xe8"  # of 1000 bytes
    caller.theirs.send(record + b"\x01\xff\xff\xff" + bytes(996) + (record + bytes(1000)) * 40)
    await caller.changes.until(lambda: caller.heard)
    assert caller.failed == [f"a ClientHello of more than {LARGEST} bytes"]


@pytest_twisted.ensureDeferred
async def test_stopping_closes_it_without_a_word(caller: Caller) -> None:
    arrival = caller.begin()
    caller.theirs.send(HELLO[:50])
    await caller.changes.until(lambda: caller.reads)
    assert arrival.stop()
    assert caller.ours.fileno() == -1
    assert not arrival.stop()
    await turns()
    assert caller.heard == []


@pytest_twisted.ensureDeferred
async def test_stopping_behind_the_hello_leaves_the_socket_alone(caller: Caller) -> None:
    arrival = caller.begin()
    caller.theirs.send(HELLO)
    await caller.changes.until(lambda: caller.heard)
    assert not arrival.stop()
    assert caller.ours.fileno() != -1
