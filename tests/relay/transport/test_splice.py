import contextlib
import errno
import hashlib
import os
import random
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from changes import turns
from descriptors import no_descriptor_free
from tls_peer import socket_pair
from wires import Wires

from relay.transport import splice as splice_module
from relay.transport.connection import STALL
from relay.transport.pipes import PIPE
from relay.transport.poller import FEW, STRANGERS
from relay.transport.splice import End, How, Leg, Splice
from relay.transport.tcp import prepare_socket

SMALL = 8 * 1024  # bytes of a socket's buffers that fill up soon
ROUNDS = 20_000
RESET = struct.pack("ii", 1, 0)


class Joined:
    """Two connections that are joined: a test plays both peers, on nonblocking sockets. ends: what was called back."""

    def __init__(self, wires: Wires, buffers: int = 0, callers: int | None = None, source: str = "") -> None:
        self.wires = wires
        near, self.caller = socket_pair(buffers if callers is None else callers)
        far, self.tentacle = socket_pair(buffers)
        for sock in (near, far):
            prepare_socket(sock)
        self.ends: list[End] = []
        self.meetings = 0
        self.splice = Splice(wires.loop, near, far, self.ends.append, self._met, source)

    def _met(self) -> None:
        self.meetings += 1

    def close(self) -> None:
        self.splice.reset()
        self.caller.close()
        self.tentacle.close()

    @property
    def kept(self) -> int:
        """How many pipes nobody uses."""
        return len(self.wires.loop.pipes)

    async def receive(self, sock: socket.socket, count: int) -> bytes:
        """So many bytes, as they come."""
        found = b""
        for _ in range(ROUNDS):
            with contextlib.suppress(BlockingIOError):
                data = sock.recv(count - len(found))
                assert data, f"closed behind {len(found)} of {count} bytes"
                found += data
            if len(found) == count:
                return found
            await turns(1)
        raise AssertionError(f"{len(found)} of {count} bytes came")

    async def end(self, sock: socket.socket) -> str:
        """How it ends, and no byte before."""
        for _ in range(ROUNDS):
            try:
                assert sock.recv(1) == b""
            except BlockingIOError:
                await turns(1)
            except ConnectionResetError:
                return "rst"
            else:
                return "fin"
        raise AssertionError("it does not end")

    async def acknowledged(self, leg: Leg) -> None:
        """All that it has sent; a host may take 40 ms for a FIN."""
        for _ in range(ROUNDS):
            if not leg.undelivered:
                return
            await turns(1)
        raise AssertionError("it is not acknowledged")

    async def over(self) -> End:
        for _ in range(ROUNDS):
            if self.ends:
                break
            await turns(1)
        [end] = self.ends
        return end

    async def fill(self, sock: socket.socket, other: socket.socket) -> bytes:
        """One peer sends until nothing goes on any more, for the other does not read; what it has sent."""
        sent, still = b"", 0
        while still < 10:
            try:
                part = random.randbytes(16 * 1024)
                sent += part[: sock.send(part)]
                still = 0
            except BlockingIOError:
                still += 1
                await turns()
        return sent

    async def stall(self, sock: socket.socket) -> bytes:
        """The same, up to where the relay has to wait: it would still take a FIN."""
        sent = b""
        while self.kept or not sent:
            part = random.randbytes(1024)
            assert sock.send(part) == len(part)
            sent += part
            await turns()
        return sent


@pytest_twisted.async_yield_fixture
async def wires(nothing_left: None) -> AsyncIterator[Wires]:
    made = Wires()
    yield made
    await made.clean()


@pytest_twisted.async_yield_fixture
async def joined(wires: Wires) -> AsyncIterator[Joined]:
    made = Joined(wires, SMALL)
    yield made
    made.close()
    await turns()


@pytest_twisted.ensureDeferred
async def test_bytes_go_both_ways(joined: Joined) -> None:
    joined.caller.send(b"hello")
    assert await joined.receive(joined.tentacle, 5) == b"hello"
    joined.tentacle.send(b"welcome")
    assert await joined.receive(joined.caller, 7) == b"welcome"
    joined.caller.send(b"!")
    assert await joined.receive(joined.tentacle, 1) == b"!"
    assert (joined.splice.near.passed, joined.splice.far.passed) == (6, 7)
    assert joined.kept == 1, "one pipe is enough where nobody stalls, and it is kept"


@pytest_twisted.ensureDeferred
async def test_what_waited_in_the_socket_before(wires: Wires) -> None:
    near, caller = socket_pair()
    far, tentacle = socket_pair()
    caller.send(b"hello")
    splice = Splice(wires.loop, near, far, lambda end: None)
    joined_receive = Joined.receive
    assert await joined_receive(None, tentacle, 5) == b"hello"  # type: ignore[arg-type]  # it asks nothing of it
    splice.reset()
    caller.close()
    tentacle.close()


@pytest_twisted.ensureDeferred
async def test_when_the_first_byte_came(joined: Joined) -> None:
    joined.wires.clocked.advance(7)
    joined.tentacle.send(b"x")
    await joined.receive(joined.caller, 1)
    joined.wires.clocked.advance(7)
    joined.tentacle.send(b"y")
    await joined.receive(joined.caller, 1)
    assert (joined.splice.near.heard, joined.splice.far.heard) == (0, joined.wires.clocked.seconds() - 7)


@pytest_twisted.ensureDeferred
async def test_megabytes_both_ways_at_once(wires: Wires) -> None:
    joined = Joined(wires)
    bodies = [random.randbytes(8 * 1024 * 1024) for _ in range(2)]
    peers = [joined.caller, joined.tentacle]
    unsent = [memoryview(body) for body in bodies]
    hashes, counts = [hashlib.sha256(), hashlib.sha256()], [0, 0]
    while sum(counts) < sum(map(len, bodies)):
        for index, peer in enumerate(peers):
            with contextlib.suppress(BlockingIOError):
                unsent[index] = unsent[index][peer.send(unsent[index]) :] if unsent[index] else unsent[index]
            with contextlib.suppress(BlockingIOError):
                data = peer.recv(random.randint(1, 400_000))
                hashes[index].update(data)
                counts[index] += len(data)
        await turns(1)
    assert [each.digest() for each in hashes] == [hashlib.sha256(body).digest() for body in reversed(bodies)]
    assert (joined.splice.near.passed, joined.splice.far.passed) == tuple(map(len, bodies))
    for peer in peers:
        peer.close()
    assert (await joined.over()).how in (How.CLOSED, How.BROKEN)


@pytest.mark.parametrize("way", ["to the Tentacle", "to the caller"])
@pytest_twisted.ensureDeferred
async def test_a_slow_reader_stops_its_writer(joined: Joined, way: str) -> None:
    sender, reader = (joined.caller, joined.tentacle)[:: 1 if way == "to the Tentacle" else -1]
    sent = await joined.fill(sender, reader)
    assert len(sent) < PIPE + 20 * SMALL
    assert joined.kept == 0, "the pipe has the bytes"
    reader.send(b"the other way is free")
    assert await joined.receive(sender, 21) == b"the other way is free"
    assert await joined.receive(reader, len(sent)) == sent
    sender.send(b"and on")
    assert await joined.receive(reader, 6) == b"and on"
    assert not joined.ends


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_idle_has_two_descriptors(wires: Wires) -> None:
    joined = Joined(wires)
    joined.caller.send(b"x")
    await joined.receive(joined.tentacle, 1)
    before = len(os.listdir("/proc/self/fd"))
    more = [Joined(wires) for _ in range(10)]
    for each in more:
        each.caller.send(b"x")
        await each.receive(each.tentacle, 1)
    assert len(os.listdir("/proc/self/fd")) - before == 10 * 4, "two of ours, and two of the test's"
    for each in [joined, *more]:
        each.splice.reset()
        each.caller.close()
        each.tentacle.close()


# ---- strangers, and those who have answered -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_strangers_of_a_source_share_their_turns_whoever_they_are_joined_with(wires: Wires) -> None:
    crowd = [Joined(wires, source="192.0.2.1") for _ in range(FEW)]
    one = Joined(wires, source="192.0.2.2")
    for joined in (*crowd, one):
        joined.caller.send(b"hello")
    wires.loop.strangers.doRead()
    assert sum(bool(joined.splice.near.passed) for joined in crowd) == STRANGERS
    assert one.splice.near.passed == 5
    wires.loop.strangers.doRead()
    assert all(joined.splice.near.passed == 5 for joined in crowd)
    for joined in (*crowd, one):
        joined.close()
    await turns()


@pytest_twisted.ensureDeferred
async def test_whoever_answers_the_tentacle_has_met_it(joined: Joined) -> None:
    loop = joined.wires.loop
    joined.caller.send(b"hello")
    await joined.receive(joined.tentacle, 5)
    joined.tentacle.send(b"welcome")
    await joined.receive(joined.caller, 7)
    assert (joined.meetings, len(loop.strangers), len(loop.poller)) == (0, 2, 0)
    joined.caller.send(b"!")
    await joined.receive(joined.tentacle, 1)
    assert (joined.meetings, len(loop.strangers), len(loop.poller)) == (1, 0, 2)
    joined.tentacle.send(b"and so on")
    await joined.receive(joined.caller, 9)
    joined.caller.send(b"and on")
    await joined.receive(joined.tentacle, 6)
    assert joined.meetings == 1


@pytest_twisted.ensureDeferred
async def test_what_came_before_the_tentacles_first_byte_is_no_answer(joined: Joined) -> None:
    for part in (b"hello", b"and more of it", b"and more"):
        joined.caller.send(part)
        await joined.receive(joined.tentacle, len(part))
    joined.tentacle.send(b"welcome")
    await joined.receive(joined.caller, 7)
    assert joined.meetings == 0
    joined.caller.send(b"!")
    await joined.receive(joined.tentacle, 1)
    assert joined.meetings == 1


@pytest_twisted.ensureDeferred
async def test_a_hello_is_no_answer_to_one_who_speaks_first(wires: Wires) -> None:
    """What waits at the start is sent before anything could be answered, in whatever order it goes on."""
    near, caller = socket_pair()
    far, tentacle = socket_pair(SMALL)
    tentacle.send(b"welcome")
    caller.send(b"hello")
    met: list[bool] = []
    splice = Splice(wires.loop, near, far, lambda end: None, lambda: met.append(True))
    splice.far.readable()  # the poller may see it first
    await turns()
    assert (tentacle.recv(5), met) == (b"hello", [])
    caller.send(b"!")
    await turns()
    assert (tentacle.recv(5), met) == (b"!", [True])
    splice.reset()
    caller.close()
    tentacle.close()


@pytest_twisted.ensureDeferred
async def test_an_answer_that_stalls_goes_on(joined: Joined) -> None:
    """Its legs change pollers with bytes in a pipe."""
    joined.caller.send(b"hello")
    await joined.receive(joined.tentacle, 5)
    joined.tentacle.send(b"welcome")
    await joined.receive(joined.caller, 7)
    sent = await joined.fill(joined.caller, joined.tentacle)
    assert joined.meetings == 1
    assert await joined.receive(joined.tentacle, len(sent)) == sent
    joined.caller.send(b"and on")
    assert await joined.receive(joined.tentacle, 6) == b"and on"
    joined.tentacle.send(b"and back")
    assert await joined.receive(joined.caller, 8) == b"and back"


# ---- ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["caller", "tentacle"])
@pytest_twisted.ensureDeferred
async def test_half_a_close_is_half_a_close(joined: Joined, first: str) -> None:
    closer, other = (joined.caller, joined.tentacle)[:: 1 if first == "caller" else -1]
    closer.send(b"the last of it")
    closer.shutdown(socket.SHUT_WR)
    assert await joined.receive(other, 14) == b"the last of it"
    assert await joined.end(other) == "fin"
    for part in (b"an answer", b"and one more"):
        other.send(part)
        assert await joined.receive(closer, len(part)) == part
    await joined.acknowledged(joined.splice.near if first == "caller" else joined.splice.far)
    joined.wires.clocked.advance(100)
    await turns()
    other.send(b"late")
    assert await joined.receive(closer, 4) == b"late"
    assert not joined.ends
    other.shutdown(socket.SHUT_WR)
    assert await joined.end(closer) == "fin"
    assert await joined.over() == End(How.CLOSED)


@pytest_twisted.ensureDeferred
async def test_a_close_comes_behind_every_byte(joined: Joined) -> None:
    sent = await joined.fill(joined.caller, joined.tentacle)
    joined.caller.shutdown(socket.SHUT_WR)
    await turns()
    assert await joined.receive(joined.tentacle, len(sent)) == sent
    assert await joined.end(joined.tentacle) == "fin"
    assert not joined.ends


@pytest.mark.parametrize("first", ["the one who sends", "the other"])
@pytest_twisted.ensureDeferred
async def test_what_a_slow_reader_has_not_taken_outlives_both_closes(wires: Wires, first: str) -> None:
    """The sender's socket is shut both ways by then, and has bytes all the same."""
    joined = Joined(wires, SMALL, callers=0)
    sent = random.randbytes(64 * 1024)
    assert joined.caller.send(sent) == len(sent)
    await turns(10)
    closers = [joined.caller, joined.tentacle][:: 1 if first == "the one who sends" else -1]
    for sock in closers:
        sock.shutdown(socket.SHUT_WR)
        await turns(10)
    assert await joined.end(joined.caller) == "fin"
    assert not joined.ends
    assert await joined.receive(joined.tentacle, len(sent)) == sent
    assert await joined.end(joined.tentacle) == "fin"
    assert await joined.over() == End(How.CLOSED)
    joined.close()


@pytest_twisted.ensureDeferred
async def test_behind_both_closes_what_is_left_must_move(wires: Wires) -> None:
    joined = Joined(wires, SMALL, callers=0)
    joined.caller.send(bytes(64 * 1024))
    await turns(10)
    for sock in (joined.caller, joined.tentacle):
        sock.shutdown(socket.SHUT_WR)
        await turns(10)
    joined.wires.clocked.advance(STALL)
    joined.wires.clocked.advance(STALL)
    end = await joined.over()
    assert (end.how, end.leg) == (How.STALLED, joined.splice.far)
    joined.close()


@pytest.mark.parametrize("way", ["to the caller", "to the Tentacle"])
@pytest_twisted.ensureDeferred
async def test_what_was_said_before_a_reset_is_heard(joined: Joined, way: str) -> None:
    """Also where the other sends something in the same moment, and the relay finds out by that."""
    speaker, hearer = (joined.tentacle, joined.caller)[:: 1 if way == "to the caller" else -1]
    hearer.send(b"a record")
    speaker.send(b"an alert")
    speaker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    speaker.close()
    assert await joined.receive(hearer, 8) == b"an alert"
    assert await joined.end(hearer) == "rst"
    end = await joined.over()
    assert (end.how, end.leg) == (How.BROKEN, joined.splice.far if way == "to the caller" else joined.splice.near)


@pytest.mark.parametrize("who", ["near", "far"])
@pytest_twisted.ensureDeferred
async def test_a_reset_is_a_reset(joined: Joined, who: str) -> None:
    closer, other = (joined.caller, joined.tentacle)[:: 1 if who == "near" else -1]
    closer.send(b"hello")
    await joined.receive(other, 5)
    closer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    closer.close()
    assert await joined.end(other) == "rst"
    assert await joined.over() == End(How.BROKEN, getattr(joined.splice, who), "reset")


@pytest_twisted.ensureDeferred
async def test_a_close_to_one_who_has_reset_in_the_same_moment(joined: Joined) -> None:
    joined.caller.shutdown(socket.SHUT_WR)
    joined.tentacle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    joined.tentacle.close()
    assert await joined.over() == End(How.BROKEN, joined.splice.far, "reset")


@pytest.mark.parametrize("who", ["near", "far"])
@pytest_twisted.ensureDeferred
async def test_a_reset_while_it_is_not_read(joined: Joined, who: str) -> None:
    """Its bytes wait for the other, who takes nothing; the reset waits for nobody."""
    closer, other = (joined.caller, joined.tentacle)[:: 1 if who == "near" else -1]
    await joined.fill(closer, other)
    closer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    closer.close()
    assert (await joined.over()).how is How.BROKEN
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


@pytest_twisted.ensureDeferred
async def test_a_reset_is_not_taken_for_a_close_where_the_other_ends_in_the_same_moment(joined: Joined) -> None:
    await joined.fill(joined.caller, joined.tentacle)
    for sock in (joined.caller, joined.tentacle):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    assert await joined.over() == End(How.BROKEN, joined.splice.near, "reset")


@pytest_twisted.ensureDeferred
async def test_a_reset_behind_half_a_close(joined: Joined) -> None:
    joined.caller.shutdown(socket.SHUT_WR)
    assert await joined.end(joined.tentacle) == "fin"
    joined.caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    joined.caller.close()
    assert await joined.over() == End(How.BROKEN, joined.splice.near, "reset")
    with pytest.raises(BrokenPipeError):  # what a reset is behind a FIN
        joined.tentacle.send(b"x")


@pytest_twisted.ensureDeferred
async def test_whoever_closes_without_reading_resets_whoever_goes_on_writing(joined: Joined) -> None:
    """As it is on a direct connection: the kernel answers bytes for nobody with a reset."""
    joined.caller.close()
    assert await joined.end(joined.tentacle) == "fin"
    joined.tentacle.send(b"the reply, for nobody")
    assert await joined.over() == End(How.BROKEN, joined.splice.near, "reset")
    with pytest.raises(BrokenPipeError):
        joined.tentacle.send(b"x")


@pytest.mark.parametrize("who", ["near", "far"])
@pytest_twisted.ensureDeferred
async def test_behind_a_close_what_is_left_must_move(joined: Joined, who: str) -> None:
    closer, other = (joined.caller, joined.tentacle)[:: 1 if who == "near" else -1]
    await joined.stall(closer)
    joined.wires.clocked.advance(10 * STALL)  # a slow reader may take its time
    await turns()
    assert not joined.ends
    closer.shutdown(socket.SHUT_WR)
    await turns()
    joined.wires.clocked.advance(STALL)
    end = await joined.over()
    assert (end.how, end.leg) == (How.STALLED, joined.splice.far if who == "near" else joined.splice.near)
    assert "took nothing for 10 s" in end.detail
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert await joined.end(closer) == "rst"


@pytest_twisted.ensureDeferred
async def test_behind_a_close_a_slow_reader_that_reads_goes_on(joined: Joined) -> None:
    sent = await joined.stall(joined.caller)
    joined.caller.shutdown(socket.SHUT_WR)
    await turns()
    left = len(sent)
    while left:
        left -= len(await joined.receive(joined.tentacle, min(left, SMALL)))
        await turns(20)
        joined.wires.clocked.advance(STALL)
        assert not joined.ends
    assert await joined.end(joined.tentacle) == "fin"


@pytest_twisted.ensureDeferred
async def test_a_reset_of_ours(joined: Joined) -> None:
    joined.caller.send(b"hello")
    await joined.receive(joined.tentacle, 5)
    joined.splice.reset()
    joined.splice.reset()
    assert [await joined.end(sock) for sock in (joined.caller, joined.tentacle)] == ["rst", "rst"]
    assert not joined.ends


@pytest_twisted.ensureDeferred
async def test_no_descriptor_for_a_pipe(joined: Joined) -> None:
    joined.caller.send(b"hello")
    with no_descriptor_free():
        await turns()
    end = await joined.over()
    assert (end.how, end.leg, end.detail) == (How.DESCRIPTORS, None, "Too many open files")


@pytest_twisted.ensureDeferred
async def test_a_fault_of_ours_ends_this_connection_only(wires: Wires, joined: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Joined(wires)
    with monkeypatch.context() as patch:
        patch.setattr(splice_module, "PIPE", "a fault")
        joined.caller.send(b"hello")
        end = await joined.over()
    assert (end.how, end.leg) == (How.BROKEN, joined.splice.near)
    assert "a fault of the relay: TypeError" in end.detail
    other.caller.send(b"hello")
    assert await other.receive(other.tentacle, 5) == b"hello"
    other.splice.reset()
    other.caller.close()
    other.tentacle.close()
