import errno
import resource
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from descriptors import no_descriptor_free

from relay.transport.lanes import listening_sockets
from relay.transport.listener import ACCEPTS_PER_TURN, PAUSE, Listener, address_text, raise_descriptor_limit
from relay.transport.poller import STRANGERS, Poller


class Door:
    """A listener, and all that is heard of it. callers: our own sockets, which connected to it."""

    def __init__(self, host: str = "127.0.0.1", poller: Poller | None = None, lanes: int = 1) -> None:
        self.changes = Changes()
        self.reactor = ClockedReactor()
        self.accepted: list[tuple[socket.socket, str]] = []
        self.starved: list[OSError] = []
        self.on_accepted: Callable[[], None] = lambda: None
        self.callers: list[socket.socket] = []
        self.sockets = listening_sockets(host, 0, lanes=lanes)
        self.listener = Listener(self.reactor, self.sockets, self._accepted, self._starved, poller)

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        self.accepted.append((sock, peer))
        self.on_accepted()
        self.changes.changed()

    def _starved(self, error: OSError) -> None:
        self.starved.append(error)
        self.changes.changed()

    def call(self, host: str = "127.0.0.1", source: str = "") -> socket.socket:
        caller = socket.create_connection((host, self.listener.address[1]), 5, (source, 0) if source else None)
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
    door.listener.accept_from(door.sockets[0])
    assert len(door.accepted) == ACCEPTS_PER_TURN
    door.listener.accept_from(door.sockets[0])
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
        door.listener.accept_from(door.sockets[0])
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
    [sock] = door.sockets

    class Listening:
        def accept(self) -> object:
            if errors:
                raise errors.pop()
            return sock.accept()

    door.call()
    door.listener.accept_from(Listening())  # type: ignore[arg-type]
    assert len(door.accepted) == 1
    assert door.starved == []


class Several:
    """A door with lanes, two sources that do not share one, and nobody who looks for callers: turns are asked for."""

    def __init__(self) -> None:
        self.door = Door(lanes=8)
        self.door.listener._look_away()
        self.flood, self.other = self._apart()

    def _apart(self) -> tuple[str, str]:
        first = "127.0.1.1"
        lane = self._lane(first)
        return first, next(source for number in range(2, 99) if self._lane(source := f"127.0.1.{number}") != lane)

    def _lane(self, source: str) -> int:
        self.door.call(source=source)
        [lane] = [number for number in range(8) if self.turn(number)]
        return lane

    def turn(self, number: int) -> list[str]:
        """Who is accepted in a lane's turn."""
        before = len(self.door.accepted)
        self.door.listener.accept_from(self.door.sockets[number])
        return [peer.rpartition(":")[0] for _, peer in self.door.accepted[before:]]


@pytest_twisted.ensureDeferred
async def test_a_newcomer_does_not_stand_behind_the_flood_of_another_source(nothing_left: None) -> None:
    several = Several()
    try:
        for _ in range(20):
            several.door.call(source=several.flood)
        several.door.call(source=several.other)
        each = [peers for number in range(8) if (peers := several.turn(number))]
        assert sorted(each) == [[several.flood], [several.other]]
    finally:
        several.door.close()


@pytest_twisted.ensureDeferred
async def test_newcomers_of_many_sources_leave_turns_to_those_who_are_in(nothing_left: None) -> None:
    known = Poller(ClockedReactor())
    strangers = Poller(ClockedReactor(), known)
    door = Door(poller=strangers, lanes=32)
    try:
        for number in range(1, 65):
            door.call(source=f"127.0.1.{number}")
        strangers.doRead()
        assert len(door.accepted) == STRANGERS
        while len(door.accepted) < 64:
            before = len(door.accepted)
            strangers.doRead()
            assert len(door.accepted) > before
    finally:
        door.close()
        strangers.stop()
        known.stop()


@pytest_twisted.ensureDeferred
async def test_without_descriptors_all_lanes_pause_together_once(nothing_left: None) -> None:
    door = Door(lanes=8)
    try:
        for number in range(1, 33):
            door.call(source=f"127.0.1.{number}")
        with no_descriptor_free():
            await door.changes.until(lambda: door.starved)
            await turns()
            assert len(door.starved) == 1
            for sock in door.sockets:  # one that was ready at the same time
                door.listener.accept_from(sock)
            assert len(door.starved) == 1
        assert door.accepted == []
        door.reactor.advance(PAUSE)
        await door.changes.until(lambda: len(door.accepted) == 32)
    finally:
        door.close()


@pytest_twisted.ensureDeferred
async def test_stopping_closes_every_lane(nothing_left: None) -> None:
    door = Door(lanes=8)
    port = door.listener.address[1]
    door.listener.stop()
    for number in range(1, 33):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5, (f"127.0.1.{number}", 0))
    assert {sock.fileno() for sock in door.sockets} == {-1}
    door.close()


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
