"""How relay/transport/connection.py reads, pauses, and notices a close while it is paused."""

import pytest
import pytest_twisted
from changes import turns
from clocked_reactor import real
from tls_peer import RST, client_side
from wires import Wires

from relay.transport.connection import READS_PER_TURN
from relay.transport.errors import PeerClosedError
from relay.transport.openssl import RECORD

VERSIONS = ("TLSv1.2", "TLSv1.3")
LARGE = 1024 * 1024  # a socket buffer that holds many records


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_record_is_a_chunk(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version))
    sizes = [1, 17, RECORD, RECORD - 1, 5, RECORD]
    for size in sizes:
        peer.write(bytes(size))
    await wires.changes.until(lambda: len(end.receiver.data) == sum(sizes))
    assert [len(chunk) for chunk in end.receiver.chunks] == sizes


@pytest_twisted.ensureDeferred
async def test_a_record_in_pieces_is_a_chunk_when_it_is_whole(wires: Wires) -> None:
    end, peer = await wires.accepted()
    held: list[bytes] = []
    send, peer._flush = peer._flush, lambda: held.append(peer._outgoing.read())
    peer.write(b"whole")
    peer._flush = send
    record = b"".join(held)
    for index in range(len(record) - 1):
        peer.write_raw(record[index : index + 1])
        await turns()
        assert end.receiver.chunks == []
    peer.write_raw(record[-1:])
    await wires.changes.until(lambda: end.receiver.chunks == [b"whole"])


@pytest_twisted.ensureDeferred
async def test_one_turn_reads_so_much_and_no_more(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=LARGE)
    end.link.pause("until all is there")
    data = bytes(RECORD) * (READS_PER_TURN * 3)
    peer.write(data)
    await wires.changes.until(lambda: not peer.unsent)
    counts: list[int] = []

    def read(data: bytes) -> None:
        if len(end.receiver.chunks) == 1:
            real.callLater(0, lambda: counts.append(len(end.receiver.chunks)))

    end.receiver.on_data = read
    end.link.resume("until all is there")
    await wires.changes.until(lambda: len(end.receiver.data) == len(data))
    assert counts == [READS_PER_TURN]


@pytest_twisted.ensureDeferred
async def test_a_paused_link_reads_nothing_until_every_reason_is_taken_back(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.pause("one")
    end.link.pause("other")
    end.link.pause("one")
    peer.write(b"data")
    await wires.changes.until(lambda: not peer.unsent)
    end.link.resume("never given")
    end.link.resume("one")
    await turns()
    assert end.receiver.chunks == []
    end.link.resume("other")
    await wires.changes.until(lambda: end.receiver.chunks == [b"data"])
    end.link.resume("other")
    peer.write(b"more")
    await wires.changes.until(lambda: end.receiver.data == b"datamore")


@pytest_twisted.ensureDeferred
async def test_pausing_from_within_a_chunk_keeps_back_what_follows(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=LARGE)
    end.link.pause("until all is there")
    for size in (RECORD, RECORD, 100):
        peer.write(bytes(size))
    await wires.changes.until(lambda: not peer.unsent)
    end.receiver.on_data = lambda data: end.link.pause("enough")
    end.link.resume("until all is there")
    for count in (1, 2, 3):
        await wires.changes.until(lambda count=count: len(end.receiver.chunks) == count)
        await turns()
        assert len(end.receiver.chunks) == count
        end.link.resume("enough")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["fin", "reset", "close_notify"])
@pytest_twisted.ensureDeferred
async def test_a_paused_link_notices_the_close_and_keeps_what_came_before(wires: Wires, version: str, how: str) -> None:
    end, peer = await wires.accepted(client_side(version), buffers=LARGE)
    end.link.pause("backlog")
    data = bytes(range(250)) * 2_000  # more than one turn reads
    peer.write(data)
    await wires.changes.until(lambda: not peer.unsent)
    await turns()
    assert end.receiver.calls == ["made"]
    {"fin": peer.fin, "reset": peer.reset, "close_notify": peer.notify_and_fin}[how]()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    await turns()
    assert end.receiver.calls == ["made", "peer closed"]
    end.link.resume("backlog")
    await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.data == data
    assert isinstance(end.receiver.lost[0], PeerClosedError)


@pytest_twisted.ensureDeferred
async def test_an_event_from_before_the_pause_reads_nothing(wires: Wires) -> None:
    """One batch of events can hold both: another link's, which pauses this one, and this one's own."""
    end, peer = await wires.accepted()
    end.link.pause("backlog")
    peer.write(b"data")
    await wires.changes.until(lambda: not peer.unsent)
    end.link.readable()
    assert end.receiver.chunks == []
    end.link.resume("backlog")
    await wires.changes.until(lambda: end.receiver.chunks == [b"data"])


@pytest_twisted.ensureDeferred
async def test_a_close_is_noticed_at_once_where_it_came_before_the_pause(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.receiver.on_data = lambda data: end.link.pause("backlog")
    peer.write(b"data")
    peer.fin()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    assert end.receiver.calls == ["made", "data", "peer closed"]


@pytest_twisted.ensureDeferred
async def test_a_paused_link_whose_peer_has_closed_costs_no_turns(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.pause("backlog")
    peer.write(b"data")
    peer.reset()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    await turns(10)
    assert end.receiver.calls == ["made", "peer closed"]
    assert len(wires.loop.poller) == 0


@pytest_twisted.ensureDeferred
async def test_the_owner_may_close_when_it_hears_of_the_close(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.receiver.on_closed = end.link.loseConnection
    end.link.pause("backlog")
    peer.write(b"unread")
    peer.fin()
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made", "peer closed"]


@pytest_twisted.ensureDeferred
async def test_a_resumed_link_is_paused_again_before_it_reads(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.pause("one")
    peer.write(b"data")
    await wires.changes.until(lambda: not peer.unsent)
    end.link.resume("one")
    end.link.pause("two")
    await turns()
    assert end.receiver.chunks == []
    end.link.resume("two")
    await wires.changes.until(lambda: end.receiver.chunks == [b"data"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["fin", "reset", "close_notify"])
@pytest_twisted.ensureDeferred
async def test_each_end_of_the_peer_is_the_same_end(wires: Wires, version: str, how: str) -> None:
    end, peer = await wires.accepted(client_side(version))
    peer.write(b"last words")
    {"fin": peer.fin, "reset": peer.reset, "close_notify": peer.notify_and_fin}[how]()
    await wires.changes.until(lambda: end.receiver.lost)
    await turns()
    assert end.receiver.calls == ["made", "data", "lost"]
    assert isinstance(end.receiver.lost[0], PeerClosedError)
    assert str(end.receiver.lost[0]) == ("Connection reset by peer" if how == "reset" else "closed")
    assert len(end.closed) == 1


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_no_record_end_it(wires: Wires) -> None:
    end, peer = await wires.accepted()
    peer.write_raw(b"\x17\x03\x03\x00\x40" + bytes(64))
    await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.calls == ["made", "lost"]
    assert "mac" in str(end.receiver.lost[0])


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_fails_ends_its_connection_and_no_other(wires: Wires, capsys: pytest.CaptureFixture[str]) -> None:
    end, peer = await wires.accepted()
    other, its_peer = await wires.accepted()

    def fail(data: bytes) -> None:
        raise RuntimeError("a bug of ours")

    end.receiver.on_data = fail
    peer.write(b"data")
    await wires.changes.until(lambda: peer.end)
    assert peer.end == RST
    assert str(end.receiver.lost[0]) == "a bug of ours"
    its_peer.write(b"data")
    await wires.changes.until(lambda: other.receiver.data == b"data")
