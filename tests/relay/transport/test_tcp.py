"""Links that are cut, and peers that are only slow."""

from time import monotonic

import pytest
import pytest_twisted
from changes import turns
from scripted import vanish
from wires import End, Wires

from relay.transport.errors import PeerClosedError

SMALL = 8 * 1024  # a socket buffer that is soon full
MOMENT = 0.3  # seconds, in the place of 65
ANSWER = 0.05  # and in the place of 4


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.transport.connection.CUT_OFF", MOMENT)
    monkeypatch.setattr("relay.transport.tcp.ANSWER", ANSWER)


async def look_for(end: End, seconds: float) -> None:
    """All the time."""
    over = monotonic() + seconds
    while monotonic() < over and not end.receiver.lost:
        end.link.end_if_cut_off()
        await turns(1)


@pytest_twisted.ensureDeferred
async def test_a_peer_that_acknowledges_nothing_is_given_up(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.write(b"MX-SERVER")  # which acknowledges its handshake: or its system would send that again, and be heard
    await wires.changes.until(lambda: peer.data)
    peer.acknowledge()
    vanish(peer._socket)
    end.link.write(b"NEXT\r\n")
    await look_for(end, MOMENT - 0.1)
    assert not end.receiver.lost
    await look_for(end, 10)
    [reason] = end.receiver.lost
    assert isinstance(reason, PeerClosedError)
    assert end.link.gone


@pytest_twisted.ensureDeferred
async def test_so_is_one_while_the_link_is_paused_and_backlogged(wires: Wires) -> None:
    end, peer = await wires.accepted(buffers=SMALL)
    vanish(peer._socket)
    end.link.pause("backlog")
    while not end.link.backlogged:
        end.link.write(bytes(50_000))
    await look_for(end, 10)
    assert len(end.receiver.lost) == 1
    assert wires.loop.buffered == 0


@pytest_twisted.ensureDeferred
async def test_a_peer_that_has_no_room_is_not(wires: Wires) -> None:
    """What it had to drop is sent to it again and again, and each time its system says so."""
    end, peer = await wires.accepted(buffers=SMALL)
    peer.stop_reading()
    while not end.link.backlogged:
        end.link.write(bytes(50_000))
    await look_for(end, 4 * MOMENT)
    assert not end.receiver.lost


@pytest_twisted.ensureDeferred
async def test_one_that_has_acknowledged_everything_is_not(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.write(b"NEXT\r\n")
    await wires.changes.until(lambda: peer.data == b"NEXT\r\n")
    peer.acknowledge()
    vanish(peer._socket)
    await look_for(end, 2 * MOMENT)
    assert not end.receiver.lost


@pytest_twisted.ensureDeferred
async def test_a_link_that_is_closed_already_is_left_alone(wires: Wires) -> None:
    end, _ = await wires.accepted()
    end.link.abortConnection()
    end.link.end_if_cut_off()
    assert not end.receiver.lost
