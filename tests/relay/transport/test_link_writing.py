"""What relay/transport/sending.py puts on the wire, and when."""

import pytest
import pytest_twisted
from changes import turns
from tls_peer import RST, TlsPeer, client_side
from wires import End, Wires

from relay.transport.errors import PeerClosedError
from relay.transport.openssl import RECORD

VERSIONS = ("TLSv1.2", "TLSv1.3")
SMALL = 8 * 1024  # a socket buffer that is soon full


def fill(end: End, peer: TlsPeer, least: int = 1) -> bytes:
    """The peer stops reading, and we write until that many bytes are left over; gives what was written."""
    peer.stop_reading()
    written = b""
    while end.link.unsent < least:
        chunk = bytes([len(written) % 251]) * 50_000
        end.link.write(chunk)
        written += chunk
    return written


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_each_write_is_a_record_of_its_own(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version))
    for size in (17, 400, 6):
        end.link.write(bytes(size))
    await wires.changes.until(lambda: len(peer.data) == 423)
    assert peer.sizes == [17, 400, 6]


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_each_write_is_a_record_of_its_own_also_while_the_socket_is_full(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version), buffers=SMALL)
    written = fill(end, peer)
    assert end.link.backlogged
    for size in (17, 400, 6, 20_000, 1):
        end.link.write(bytes(size))
    peer.read()
    await wires.changes.until(lambda: len(peer.data) == len(written) + 20_424)
    assert peer.data[: len(written)] == written
    assert peer.sizes[-6:] == [17, 400, 6, RECORD, 20_000 - RECORD, 1]
    assert set(peer.sizes[:-6]) == {RECORD, 50_000 % RECORD}  # as few records as can be, in each write


@pytest_twisted.ensureDeferred
async def test_the_peer_reads_units_one_by_one_while_more_are_written(wires: Wires) -> None:
    """Whatever the socket takes in which turn, no record holds parts of two units."""
    end, peer = await wires.accepted(buffers=SMALL)
    sizes = [1 + (index * 7919) % 3000 for index in range(400)]
    due = list(sizes)

    def write_some() -> None:
        while due and not end.link.backlogged:
            for size in due[:7]:  # one more than once while backlogged
                end.link.write(bytes(size))
            del due[:7]
        if due:
            end.link.notify_drained(write_some)

    write_some()
    await wires.changes.until(lambda: len(peer.data) == sum(sizes))
    assert peer.sizes == sizes


@pytest_twisted.ensureDeferred
async def test_what_is_larger_than_a_record_is_split_as_little_as_can_be(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.write(bytes(40_000))
    await wires.changes.until(lambda: len(peer.data) == 40_000)
    assert peer.sizes == [RECORD, RECORD, 40_000 - 2 * RECORD]


@pytest_twisted.ensureDeferred
async def test_a_write_goes_out_at_once(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.write(b"MX-SERVER 1.0\r\n\r\n")
    peer.doRead()  # in the same turn
    assert peer.data == b"MX-SERVER 1.0\r\n\r\n"
    assert not end.link.backlogged
    assert end.link.unsent == 0


@pytest_twisted.ensureDeferred
async def test_an_empty_write_is_no_record(wires: Wires) -> None:
    end, peer = await wires.accepted()
    before = len(peer.records)
    end.link.write(b"")
    end.link.write(b"x")
    await wires.changes.until(lambda: peer.data == b"x")
    assert [record.data for record in peer.records[before:] if record.data or record.type != 23] == [b"x"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_order_is_kept_and_drained_is_told_once_behind_all_of_it(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version), buffers=SMALL)
    written = fill(end, peer, least=120_000)
    told: list[tuple[int, bool]] = []

    def drained() -> None:
        told.append((end.link.unsent, end.link.backlogged))
        wires.changes.changed()

    end.link.notify_drained(drained)
    await turns()
    assert told == []
    peer.read()
    await wires.changes.until(lambda: told and len(peer.data) == len(written))
    assert peer.data == written
    assert told == [(0, False)]
    fill(end, peer)
    peer.read()
    await wires.changes.until(lambda: not end.link.backlogged)
    assert len(told) == 1


@pytest_twisted.ensureDeferred
async def test_unsent_shrinks_as_the_peer_reads(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=200_000)
    before = end.link.unsent
    seen: list[int] = []

    def look() -> None:
        seen.append(end.link.unsent)

    for _ in range(20):
        peer.doRead()
        await turns(1)
        look()
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < before


@pytest_twisted.ensureDeferred
async def test_what_the_kernel_still_holds_counts_as_unread(wires: Wires) -> None:
    """A slow peer empties the kernel's queue long before the socket takes more: that is progress as well."""
    end, peer = await wires.accepted(buffers=SMALL)
    end.link.write(b"MX-SERVER")  # with which the tickets go that it still holds
    await wires.changes.until(lambda: peer.data)
    peer.acknowledge()
    await turns()
    assert (end.link.unsent, end.link.unread) == (0, 0)
    fill(end, peer, least=200_000)
    assert end.link.unread > end.link.unsent
    end.link.abortConnection()
    assert end.link.unread == 0


@pytest_twisted.ensureDeferred
async def test_reading_goes_on_while_writing_has_to_wait(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer)
    peer.write(b"from the peer")
    await wires.changes.until(lambda: end.receiver.data == b"from the peer")
    assert end.link.backlogged


@pytest_twisted.ensureDeferred
async def test_a_failed_write_is_told_later_and_once(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.pause("so that no read shows it")
    peer.reset()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    before = list(end.receiver.calls)
    end.link.write(b"into the void")
    end.link.write(b"and on")
    assert end.receiver.calls == before  # not from within the write
    await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.calls == [*before, "lost"]
    assert isinstance(end.receiver.lost[0], PeerClosedError)
    await turns()
    assert len(end.receiver.lost) == 1


@pytest_twisted.ensureDeferred
async def test_the_peer_resets_while_much_is_unsent(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=100_000)
    end.link.notify_drained(lambda: pytest.fail("it has not drained"))
    peer.reset()
    await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.calls == ["made", "lost"]
    assert end.link.unsent == 0
    assert not end.link.backlogged


@pytest_twisted.ensureDeferred
async def test_the_peer_resets_a_paused_link_with_much_unsent(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=100_000)
    end.link.pause("backlog")
    peer.reset()
    await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.calls == ["made", "peer closed", "lost"]


@pytest_twisted.ensureDeferred
async def test_closing_behind_a_failed_write_is_an_end_without_a_word(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.pause("so that no read shows it")
    peer.reset()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    end.link.write(b"into the void")
    end.link.loseConnection()
    await turns()
    assert end.receiver.lost == []
    assert len(end.closed) == 1


@pytest_twisted.ensureDeferred
async def test_nothing_is_written_behind_the_close(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.write(b"END\r\n")
    end.link.loseConnection()
    end.link.write(b"more")
    await wires.changes.until(lambda: peer.end)
    assert peer.data == b"END\r\n"
    end.link.abortConnection()
    end.link.write(b"and more")
    assert peer.end != RST
