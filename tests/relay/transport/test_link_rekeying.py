"""Key updates (RFC 8446 4.6.3) and renegotiation (RFC 5246 7.4.1.1) of a connection of relay/transport/connection.py."""

import socket
from collections.abc import Awaitable, Callable

import pytest_twisted
from changes import turns
from openssl_peer import OpenSslPeer
from tls_peer import socket_pair
from wires import End, Wires

SMALL = 8 * 1024
LARGE = 1024 * 1024
DATA = bytes(range(256)) * 2000
ENOUGH = 4000  # answers to key updates, to fill a small socket


async def with_peer(wires: Wires, version: str, test: Callable[[End, OpenSslPeer], Awaitable[None]], buffers: int = 0) -> None:
    """Runs a test on a connection that OpenSSL has made to us."""
    ours, theirs = socket_pair(buffers)
    for sock, option in ((ours, socket.SO_RCVBUF), (theirs, socket.SO_SNDBUF)):
        sock.setsockopt(socket.SOL_SOCKET, option, LARGE)  # only what we send has to wait
    end = wires.end(ours, accepts=True)
    peer = OpenSslPeer(theirs, version)
    try:
        end.link.accept()
        await peer.shake()
        await wires.changes.until(lambda: end.receiver.made)
        await test(end, peer)
    finally:
        end.link.abortConnection()
        peer.close()


@pytest_twisted.ensureDeferred
async def test_keys_may_change_between_units(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        for count in range(1, 4):
            await peer.update_keys()
            await peer.write(b"to us")
            await wires.changes.until(lambda count=count: end.receiver.data == b"to us" * count)
            end.link.write(b"from us")
            await peer.read(len(b"from us") * count)
        assert peer.data == b"from us" * 3
        assert not end.receiver.lost

    await with_peer(wires, "TLSv1.3", test)


@pytest_twisted.ensureDeferred
async def test_keys_may_change_while_a_read_is_paused_and_in_the_middle_of_a_pump(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        end.link.pause("backlog")
        await peer.write(b"one")
        await peer.update_keys()
        await peer.write(b"two")
        end.link.resume("backlog")
        await wires.changes.until(lambda: end.receiver.data == b"onetwo")

    await with_peer(wires, "TLSv1.3", test)


async def block(end: End, peer: OpenSslPeer) -> list[None]:
    """The peer changes its keys and reads nothing, until our answers fill the socket. Gives an entry for each event of ours."""
    await peer.update_keys(ENOUGH)
    await peer.write(b"to us")
    await turns(20)
    assert end.receiver.data == b"", "the answers have not filled the socket"
    events: list[None] = []
    readable, writable = end.link.readable, end.link.writable
    end.link.readable = lambda: (events.append(None), readable())
    end.link.writable = lambda: (events.append(None), writable())
    return events


@pytest_twisted.ensureDeferred
async def test_an_answer_to_a_key_update_that_cannot_be_sent_waits_and_does_not_spin(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        events = await block(end, peer)
        await turns(50)
        assert len(events) <= 5  # the kernel may still find a little room
        end.receiver.on_data = lambda data: end.link.write(b"from us")
        await peer.read(len(b"from us"))
        assert end.receiver.data == b"to us"
        assert not end.receiver.lost

    await with_peer(wires, "TLSv1.3", test, SMALL)


@pytest_twisted.ensureDeferred
async def test_pausing_while_such_an_answer_waits(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        await block(end, peer)
        end.link.pause("backlog")
        end.link.write(b"from us")
        await peer.read(len(b"from us"))
        await turns(20)
        assert end.receiver.data == b""
        end.receiver.on_data = lambda data: end.link.write(b" again")
        end.link.resume("backlog")
        await peer.read(len(b"from us again"))
        assert (end.receiver.data, peer.data) == (b"to us", b"from us again")

    await with_peer(wires, "TLSv1.3", test, SMALL)


@pytest_twisted.ensureDeferred
async def test_closing_while_such_an_answer_waits(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        events = await block(end, peer)
        end.link.loseConnection()
        await turns(50)
        assert len(events) <= 5  # what was unread is thrown away, and nothing spins
        peer.close()
        await wires.changes.until(lambda: end.closed)
        assert end.receiver.calls == ["made"]

    await with_peer(wires, "TLSv1.3", test, SMALL)


@pytest_twisted.ensureDeferred
async def test_a_key_update_while_a_unit_is_half_sent(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        end.link.write(DATA)
        assert end.link.backlogged
        await peer.update_keys()
        await peer.write(b"to us")
        await wires.changes.until(lambda: end.receiver.data == b"to us")
        await peer.read(len(DATA))
        end.link.write(b"from us")
        await peer.read(len(DATA + b"from us"))
        assert peer.data == DATA + b"from us"

    await with_peer(wires, "TLSv1.3", test, SMALL)


@pytest_twisted.ensureDeferred
async def test_more_key_updates_while_a_unit_is_half_sent(wires: Wires) -> None:
    """OpenSSL would answer them in the middle of a record, and gives the connection up: told once, and without spinning."""

    async def test(end: End, peer: OpenSslPeer) -> None:
        end.link.write(DATA)
        await peer.update_keys(3)
        await wires.changes.until(lambda: end.receiver.lost)
        await turns()
        assert end.receiver.calls == ["made", "lost"]
        assert str(end.receiver.lost[0]) == "bad length"

    await with_peer(wires, "TLSv1.3", test, SMALL)


@pytest_twisted.ensureDeferred
async def test_another_handshake_is_refused(wires: Wires) -> None:
    async def test(end: End, peer: OpenSslPeer) -> None:
        await peer.write(b"before")
        await wires.changes.until(lambda: end.receiver.data == b"before")
        assert not await peer.shake_again()  # OpenSSL as a caller gives up then, with an alert
        await wires.changes.until(lambda: end.receiver.lost)
        assert end.receiver.calls == ["made", "data", "lost"]
        assert "alert" in str(end.receiver.lost[0])

    await with_peer(wires, "TLSv1.2", test)
