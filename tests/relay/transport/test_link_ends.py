"""How relay/transport/connection.py ends a connection that its owner closes (wire.md 1.10, 5.7)."""

import pytest
import pytest_twisted
from changes import turns
from tls_peer import ALERT, FIN, RST, TlsPeer, client_side
from wires import End, Wires

from relay.transport.connection import LINGER, LINGER_BYTES, STALL

VERSIONS = ("TLSv1.2", "TLSv1.3")
SMALL = 8 * 1024


def fill(end: End, peer: TlsPeer, least: int = 1) -> bytes:
    peer.stop_reading()
    written = b""
    while end.link.unsent < least:
        written += (chunk := bytes([len(written) % 251]) * 50_000)
        end.link.write(chunk)
    return written


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_close_is_a_bare_fin(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version))
    end.link.write(b"END\r\n")
    await wires.changes.until(lambda: peer.data == b"END\r\n")
    before = len(peer.records)
    end.link.loseConnection()
    await wires.changes.until(lambda: peer.end)
    assert peer.end == FIN
    assert peer.records[before:] == []  # not one more record, whatever is in it
    assert not peer.close_notify
    assert ALERT not in [record.type for record in peer.records]
    peer.close()
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_everything_that_was_written_arrives_before_the_fin(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    written = fill(end, peer, least=200_000)
    end.link.write(b"the last")
    end.link.loseConnection()
    await turns()
    assert not end.closed
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert peer.end == FIN
    assert peer.data == written + b"the last"
    peer.close()
    await wires.changes.until(lambda: end.closed)


@pytest_twisted.ensureDeferred
async def test_everything_arrives_although_the_peer_had_sent_what_nobody_read(wires: Wires) -> None:
    """A close with unread bytes would be a reset, and could destroy the last that we wrote."""
    end, peer = await wires.accepted()
    end.link.pause("nobody reads")
    peer.write(bytes(50_000))
    await wires.changes.until(lambda: not peer.unsent)
    peer.stop_reading()
    end.link.write(b"the page")
    end.link.loseConnection()
    await turns()
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert (peer.end, peer.data) == (FIN, b"the page")


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_closes_is_left_after_a_while(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.loseConnection()
    await wires.changes.until(lambda: peer.end)
    wires.clocked.advance(LINGER - 0.01)
    assert not end.closed
    wires.clocked.advance(0.02)
    assert end.closed
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_sends_on_and_on_is_left_after_so_much(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.loseConnection()
    await wires.changes.until(lambda: peer.end)
    peer.write_raw(bytes(LINGER_BYTES // 2))
    await wires.changes.until(lambda: not peer.unsent)
    await turns(10)
    assert not end.closed
    peer.write_raw(bytes(LINGER_BYTES))
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made"]


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest_twisted.ensureDeferred
async def test_the_peers_end_behind_ours_ends_the_wait(wires: Wires, how: str) -> None:
    end, peer = await wires.accepted()
    end.link.loseConnection()
    await wires.changes.until(lambda: peer.end)
    peer.write_raw(b"END, in clear: nobody reads it")
    {"fin": peer.fin, "reset": peer.reset}[how]()
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_takes_nothing_is_reset_after_a_while(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=100_000)
    end.link.loseConnection()
    wires.clocked.advance(STALL - 0.01)
    assert not end.closed
    wires.clocked.advance(0.02)
    assert end.closed
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert peer.end == RST
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_takes_a_little_now_and_then_is_not_reset(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    written = fill(end, peer, least=400_000)
    end.link.loseConnection()
    for _ in range(3):
        left = end.link.unsent
        peer.read()
        await wires.changes.until(lambda left=left: end.link.unsent < left)
        peer.stop_reading()
        wires.clocked.advance(STALL)
        assert not end.closed
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert (peer.end, peer.data) == (FIN, written)


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_close_by_reset(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version))
    end.link.write(b"a part of a body")
    await wires.changes.until(lambda: peer.data)
    end.link.loseConnection(reset=True)
    assert end.closed
    await wires.changes.until(lambda: peer.end)
    assert peer.end == RST
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_a_close_by_reset_waits_for_what_was_written(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=100_000)
    end.link.loseConnection(reset=True)
    await turns()
    assert not end.closed
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert peer.end == RST
    assert len(end.closed) == 1
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_an_abort_is_a_reset_at_once(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=100_000)
    end.link.abortConnection()
    assert end.closed
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert peer.end == RST
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_an_abort_in_the_middle_of_a_close(wires: Wires) -> None:
    flushing, its_peer = await wires.accepted(buffers=SMALL)
    fill(flushing, its_peer, least=100_000)
    flushing.link.loseConnection()
    flushing.link.abortConnection()
    lingering, peer = await wires.accepted()
    lingering.link.loseConnection()
    lingering.link.abortConnection()
    assert [len(flushing.closed), len(lingering.closed)] == [1, 1]
    await wires.changes.until(lambda: peer.end)


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest_twisted.ensureDeferred
async def test_the_peer_leaves_while_we_still_send(wires: Wires, how: str) -> None:
    """We have closed: we hear no more of it, also where a write fails."""
    end, peer = await wires.accepted(buffers=SMALL)
    fill(end, peer, least=100_000)
    end.link.loseConnection()
    {"fin": peer.close, "reset": peer.reset}[how]()  # close(): with unread bytes, which is a reset by the kernel's own hand
    await wires.changes.until(lambda: end.closed)
    await turns()
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_a_half_close_of_the_peer_does_not_stop_what_is_being_sent(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    written = fill(end, peer, least=100_000)
    end.link.loseConnection()
    peer.fin()
    await turns()
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert (peer.end, peer.data) == (FIN, written)
    await wires.changes.until(lambda: end.closed)


@pytest.mark.parametrize("reset", [False, True])
@pytest_twisted.ensureDeferred
async def test_closing_a_connection_whose_peer_has_gone_already(wires: Wires, reset: bool) -> None:
    end, peer = await wires.accepted()
    end.link.pause("so that no read shows it")
    peer.reset()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    end.link.loseConnection(reset=reset)
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made", "peer closed"]


@pytest_twisted.ensureDeferred
async def test_closing_from_within_a_chunk_delivers_nothing_more(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.pause("until all is there")
    for _ in range(5):
        peer.write(bytes(16 * 1024))
    await wires.changes.until(lambda: not peer.unsent)
    end.receiver.on_data = lambda data: end.link.loseConnection()
    end.link.resume("until all is there")
    await wires.changes.until(lambda: peer.end)
    peer.close()
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made", "data"]


@pytest_twisted.ensureDeferred
async def test_closing_twice_is_closing_once(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.loseConnection()
    end.link.loseConnection(reset=True)
    await wires.changes.until(lambda: peer.end)
    assert peer.end == FIN


@pytest_twisted.ensureDeferred
async def test_a_closed_connection_is_let_go_of_by_the_poller(wires: Wires) -> None:
    end, _ = await wires.accepted()
    other, _ = await wires.accepted()
    assert (len(wires.loop.poller), len(wires.loop.strangers)) == (0, 2)
    for each in (end, other):
        each.link.trusted()
    assert (len(wires.loop.poller), len(wires.loop.strangers)) == (2, 0)
    end.link.abortConnection()
    assert len(wires.loop.poller) == 1
    other.link.pause("still asked for its peer's close")
    assert len(wires.loop.poller) == 1


@pytest_twisted.ensureDeferred
async def test_whoever_is_identified_is_read_among_those_who_are(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.trusted()
    end.link.trusted()
    peer.write(b"request")
    await wires.changes.until(lambda: end.receiver.data == b"request")
    end.link.abortConnection()
    end.link.trusted()  # nothing comes of it any more
    assert (len(wires.loop.poller), len(wires.loop.strangers)) == (0, 0)


@pytest.mark.parametrize("taken", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_waits_for_its_peer_is_counted_until_it_is_taken_or_given_up(wires: Wires, taken: bool) -> None:
    end, peer = await wires.accepted()
    fill(end, peer, 100_000)
    assert wires.loop.buffered == end.link.unsent >= 100_000
    end.link.write(b"more")
    assert wires.loop.buffered == end.link.unsent
    if taken:
        peer.read()
        await wires.changes.until(lambda: not end.link.unsent)
    else:
        end.link.abortConnection()
    assert wires.loop.buffered == 0
