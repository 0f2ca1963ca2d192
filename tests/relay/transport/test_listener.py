import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from descriptors import no_descriptor_free

from relay.transport.listener import (
    ACCEPTS_PER_TURN,
    PAUSE,
    Listener,
    address_text,
    listening_socket,
    raise_descriptor_limit,
)
from relay.transport.poller import Poller


class Door:
    """A listener, and all that is heard of it. callers: our own sockets, which connected to it."""

    def __init__(self, host: str = "127.0.0.1", poller: Poller | None = None) -> None:
        self.changes = Changes()
        self.reactor = ClockedReactor()
        self.accepted: list[tuple[socket.socket, str]] = []
        self.starved: list[OSError] = []
        self.on_accepted: Callable[[], None] = lambda: None
        self.callers: list[socket.socket] = []
        self.listener = Listener(self.reactor, listening_socket(host, 0), self._accepted, self._starved, poller)

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        self.accepted.append((sock, peer))
        self.on_accepted()
        self.changes.changed()

    def _starved(self, error: OSError) -> None:
        self.starved.append(error)
        self.changes.changed()

    def call(self, host: str = "127.0.0.1") -> socket.socket:
        caller = socket.create_connection((host, self.listener.address[1]))
        self.callers.append(caller)
        return caller

    def close(self) -> None:
        self.listener.stop()
        for sock in [*self.callers, *(sock for sock, _ in self.accepted)]:
            sock.close()


@pytest_twisted.async_yield_fixture
async def door(nothing_left: None) -> AsyncIterator[Door]:
    made = Door()
    yield made
    made.close()
    assert not made.reactor.timers


@pytest_twisted.ensureDeferred
async def test_callers_are_accepted_with_their_address(door: Door) -> None:
    callers = [door.call() for _ in range(3)]
    await door.changes.until(lambda: len(door.accepted) == 3)
    assert [peer for _, peer in door.accepted] == [address_text(caller.getsockname()) for caller in callers]
    door.accepted[1][0].sendall(b"x")
    assert callers[1].recv(1) == b"x"


@pytest_twisted.ensureDeferred
async def test_one_turn_accepts_so_many_and_no_more(door: Door) -> None:
    for _ in range(ACCEPTS_PER_TURN + 3):
        door.call()
    door.listener.doRead()
    assert len(door.accepted) == ACCEPTS_PER_TURN
    door.listener.doRead()
    assert len(door.accepted) == ACCEPTS_PER_TURN + 3


@pytest_twisted.ensureDeferred
async def test_those_who_are_known_have_their_turn_between_two_callers(nothing_left: None) -> None:
    turns_had: list[int] = []

    class Known(Poller):
        def _look(self) -> bool:
            turns_had.append(len(door.accepted))
            return False

    known = Known(ClockedReactor())
    strangers = Poller(ClockedReactor(), known)
    door = Door(poller=strangers)
    try:
        for _ in range(3):
            door.call()
        door.listener.doRead()
        assert turns_had == [1, 2, 3]
    finally:
        door.close()
        strangers.stop()
        known.stop()


@pytest_twisted.ensureDeferred
async def test_without_descriptors_it_pauses_says_so_and_recovers(door: Door) -> None:
    door.call()
    with no_descriptor_free():
        await door.changes.until(lambda: door.starved)
        await turns()
        assert len(door.starved) == 1  # it does not turn round and round
        door.reactor.advance(PAUSE)
        await door.changes.until(lambda: len(door.starved) == 2)
    assert {error.errno for error in door.starved} == {errno.EMFILE}
    assert door.accepted == []
    door.reactor.advance(PAUSE)
    await door.changes.until(lambda: door.accepted)


@pytest_twisted.ensureDeferred
async def test_a_caller_that_has_gone_before_it_was_accepted_stops_no_other(door: Door) -> None:
    errors = [ConnectionAbortedError(errno.ECONNABORTED, "gone")]
    accept = door.listener._socket.accept

    class Listening:
        def __getattr__(self, name: str) -> object:
            return getattr(sock, name)

        def accept(self) -> object:
            if errors:
                raise errors.pop()
            return accept()

    sock, door.listener._socket = door.listener._socket, Listening()
    door.call()
    await door.changes.until(lambda: door.accepted)
    assert door.starved == []


@pytest.mark.parametrize("paused", [False, True])
@pytest_twisted.ensureDeferred
async def test_stopping_refuses_callers(door: Door, paused: bool) -> None:
    port = door.listener.address[1]
    door.call()
    if paused:
        with no_descriptor_free():
            await door.changes.until(lambda: door.starved)
    await turns()
    door.listener.stop()
    door.listener.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert not door.reactor.timers


@pytest_twisted.ensureDeferred
async def test_stopping_from_within_a_caller(door: Door) -> None:
    for _ in range(3):
        door.call()
    door.on_accepted = door.listener.stop
    await door.changes.until(lambda: door.accepted)
    await turns()
    assert len(door.accepted) == 1


@pytest_twisted.ensureDeferred
async def test_every_address_of_both_families(nothing_left: None) -> None:
    door = Door("")
    try:
        door.call("127.0.0.1")
        await door.changes.until(lambda: len(door.accepted) == 1)
        assert door.accepted[0][1].startswith("127.0.0.1:")
        if socket.has_dualstack_ipv6():
            door.call("::1")
            await door.changes.until(lambda: len(door.accepted) == 2)
            assert door.accepted[1][1].startswith("[::1]:")
    finally:
        door.close()


def test_every_address_where_there_is_only_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening_socket("", 0) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize(("host", "only_ipv6"), [("::", 1), ("::1", 1), ("", 0)])
def test_an_address_of_ipv6_takes_no_callers_of_ipv4_unless_every_one_was_asked_for(host: str, only_ipv6: int) -> None:
    with listening_socket(host, 0) as sock:
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == only_ipv6


def test_a_port_in_use() -> None:
    with listening_socket("127.0.0.1", 0) as sock:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="in use"):
            listening_socket("127.0.0.1", sock.getsockname()[1])
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_port_can_be_taken_again_at_once() -> None:
    with listening_socket("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = sock.accept()
            accepted.close()  # ours is the first close: it stays in TIME_WAIT
    listening_socket("127.0.0.1", port).close()


def test_an_address_that_is_not_this_hosts() -> None:
    with pytest.raises(OSError, match="assign"):
        listening_socket("192.0.2.1", 0)


@pytest.mark.parametrize(("host", "other"), [("", "127.0.0.1"), ("127.0.0.1", ""), ("0.0.0.0", "")])
def test_an_address_that_overlaps_with_one_of_our_own(host: str, other: str) -> None:
    """It is opened beside it where that is asked for, and the port is taken for everybody else, before and after."""
    with listening_socket(host, 0) as ours:
        port = ours.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listening_socket(other, port)
        with listening_socket(other, port, [ours]) as beside:
            assert [sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in (ours, beside)] == [0, 0]
            with pytest.raises(OSError, match="in use"):
                listening_socket(other, port)
            ours.close()
            socket.create_connection(("127.0.0.1", port), 5).close()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("::ffff:192.0.2.7", 10933, 0, 0), "192.0.2.7:10933"),
        (("2001:db8::ffff:1", 1, 0, 0), "[2001:db8::ffff:1]:1"),
        (("64:ff9b::192.0.2.7", 1, 0, 0), "[64:ff9b::192.0.2.7]:1"),
        (("fe80::1%eth0", 1, 0, 2), "[fe80::1%eth0]:1"),
    ],
)
def test_an_address_as_text(address: tuple[str | int, ...], text: str) -> None:
    assert address_text(address) == text


def test_the_limit_of_descriptors_is_raised_as_far_as_it_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard) - 1, hard))
        assert raise_descriptor_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert raise_descriptor_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
