"""The socket-to-socket pump of relay/transport/connection.py."""

import pytest
import pytest_twisted
from changes import turns
from fake_link import FakeLink
from tls_peer import TlsPeer
from wires import End, Wires

from relay.transport.connection import READS_PER_TURN
from relay.transport.openssl import RECORD

SMALL = 8 * 1024
DATA = bytes(range(256)) * 4096  # 1 MiB


class Done:
    """Counts how often a pump was done, and notes what had gone by then."""

    def __init__(self, wires: Wires, destination: FakeLink | None = None) -> None:
        self._changes = wires.changes
        self._destination = destination
        self.sent: list[bytes] = []

    def __call__(self) -> None:
        self.sent.append(self._destination.data if self._destination else b"")
        self._changes.changed()

    def __len__(self) -> int:
        return len(self.sent)


async def two_legs(wires: Wires) -> tuple[End, TlsPeer, End, TlsPeer]:
    """A leg that is read, its peer, and a slow leg that is written to, with its peer."""
    source, sender = await wires.accepted()
    destination, taker = await wires.dialled(buffers=SMALL)
    write = destination.link.write

    def watched(data: bytes) -> None:
        write(data)
        wires.changes.changed()

    destination.link.write = watched
    return source, sender, destination, taker


@pytest_twisted.ensureDeferred
async def test_the_count_is_pumped_and_the_rest_is_received(wires: Wires) -> None:
    source, sender = await wires.accepted()
    destination = FakeLink()
    done = Done(wires, destination)
    source.link.pump(destination, 400, done)
    assert source.link.pump_left == 400
    sender.write(b"p" * 400 + b"r" * 600)  # one record; nothing else makes the socket readable
    await wires.changes.until(lambda: source.receiver.data)
    assert destination.data == b"p" * 400
    assert source.receiver.data == b"r" * 600
    assert done.sent == [b"p" * 400]
    assert source.link.pump_left == 0


@pytest_twisted.ensureDeferred
async def test_records_are_pumped_as_they_came(wires: Wires) -> None:
    source, sender = await wires.accepted()
    destination = FakeLink()
    done = Done(wires, destination)
    sizes = [1, 4096, RECORD, 17, RECORD]
    source.link.pump(destination, sum(sizes), done)
    for size in sizes:
        sender.write(bytes(size))
    sender.write(b"behind")
    await wires.changes.until(lambda: source.receiver.data == b"behind")
    assert [len(record) for record in destination.written] == sizes
    assert len(done) == 1


@pytest_twisted.ensureDeferred
async def test_many_pumps_within_one_record_need_no_other_event(wires: Wires) -> None:
    """More than one turn reads, from a record that OpenSSL has decrypted already: the socket stays silent."""
    source, sender = await wires.accepted()
    destination = FakeLink()
    count = READS_PER_TURN * 3 + 1
    done: list[int] = []

    def again() -> None:
        done.append(len(destination.written))
        if len(done) < count:
            source.link.pump(destination, 1, again)

    source.link.pump(destination, 1, again)
    sender.write(bytes(count) + b"rest")
    await wires.changes.until(lambda: source.receiver.data)
    assert done == list(range(1, count + 1))
    assert source.receiver.data == b"rest"


@pytest_twisted.ensureDeferred
async def test_pausing_behind_a_pump_keeps_the_rest_of_its_record(wires: Wires) -> None:
    source, sender = await wires.accepted()
    destination = FakeLink()
    done = Done(wires)
    source.link.pump(destination, 4, lambda: (source.link.pause("judging"), done()))
    sender.write(b"bodyrest")
    await wires.changes.until(lambda: len(done))
    await turns()
    assert source.receiver.chunks == []
    source.link.resume("judging")
    await wires.changes.until(lambda: source.receiver.data == b"rest")


@pytest_twisted.ensureDeferred
async def test_a_slow_destination_slows_the_source_and_memory_stays_flat(wires: Wires) -> None:
    source, sender, destination, taker = await two_legs(wires)
    done = Done(wires)
    source.link.pump(destination.link, len(DATA), done)
    taker.stop_reading()
    sender.write(DATA + b"behind it")
    await wires.changes.until(lambda: destination.link.backlogged)
    left = source.link.pump_left
    await turns(20)
    assert source.link.pump_left == left  # it has stopped
    assert 0 < destination.link.unsent <= RECORD
    most: list[int] = []
    write = destination.link.write

    def measured(data: bytes) -> None:
        write(data)
        most.append(destination.link.unsent)

    destination.link.write = measured
    taker.read()
    await wires.changes.until(lambda: source.receiver.data)
    await wires.changes.until(lambda: len(taker.data) == len(DATA))
    assert taker.data == DATA
    assert source.receiver.data == b"behind it"
    assert max(most) <= RECORD
    assert len(done) == 1


@pytest_twisted.ensureDeferred
async def test_the_sender_leaves_in_the_middle(wires: Wires) -> None:
    source, sender, destination, taker = await two_legs(wires)
    source.link.pump(destination.link, 1000, lambda: pytest.fail("it is not done"))
    sender.write(b"x" * 300)
    sender.fin()
    await wires.changes.until(lambda: source.receiver.lost)
    await wires.changes.until(lambda: len(taker.data) == 300)
    assert source.link.pump_left == 700
    assert source.receiver.calls == ["made", "lost"]
    assert destination.receiver.lost == []


@pytest_twisted.ensureDeferred
async def test_the_sender_leaves_while_the_destination_is_slow(wires: Wires) -> None:
    source, sender, destination, taker = await two_legs(wires)
    source.link.pump(destination.link, len(DATA), lambda: pytest.fail("it is not done"))
    taker.stop_reading()
    sender.write(DATA[:-1])
    sender.fin()
    await wires.changes.until(lambda: destination.link.backlogged and source.link.pump_left)
    taker.read()
    await wires.changes.until(lambda: source.receiver.lost)
    await wires.changes.until(lambda: len(taker.data) == len(DATA) - 1)
    assert taker.data == DATA[:-1]
    assert source.link.pump_left == 1


@pytest_twisted.ensureDeferred
async def test_the_close_of_the_sender_is_noticed_while_the_destination_is_slow(wires: Wires) -> None:
    source, sender, destination, taker = await two_legs(wires)
    taker.stop_reading()
    source.link.pump(destination.link, len(DATA), lambda: pytest.fail("it is not done"))
    sender.write(DATA[: len(DATA) // 8])
    await wires.changes.until(lambda: destination.link.backlogged)
    sender.reset()
    await wires.changes.until(lambda: source.receiver.peer_closed)
    assert source.receiver.lost == []
    source.link.abortConnection()
    destination.link.abortConnection()
    await wires.changes.until(lambda: source.closed and destination.closed)


@pytest_twisted.ensureDeferred
async def test_the_taker_leaves_in_the_middle(wires: Wires) -> None:
    source, sender, destination, taker = await two_legs(wires)
    source.link.pump(destination.link, len(DATA), lambda: pytest.fail("it is not done"))
    taker.stop_reading()
    sender.write(DATA)
    await wires.changes.until(lambda: destination.link.backlogged)
    left = source.link.pump_left
    assert left > 0
    taker.reset()
    await wires.changes.until(lambda: destination.receiver.lost)
    await turns(5)
    assert source.link.pump_left == left  # paused still: its owner ends it
    assert source.receiver.calls == ["made"]
    source.link.abortConnection()
    assert source.link.pump_left == left


@pytest_twisted.ensureDeferred
async def test_closing_the_source_from_within_done(wires: Wires) -> None:
    source, sender = await wires.accepted()
    destination = FakeLink()
    source.link.pump(destination, 4, source.link.abortConnection)
    sender.write(b"bodyrest")
    await wires.changes.until(lambda: source.closed)
    assert destination.data == b"body"
    assert source.receiver.calls == ["made"]
