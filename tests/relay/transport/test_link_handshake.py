"""The handshake of relay/transport/connection.py, against the standard library's TLS."""

import contextlib
import os
import socket
import ssl
import struct

import pytest
import pytest_twisted
from changes import turns
from identities import identity
from OpenSSL import SSL
from tls_peer import FIN, TlsPeer, client_side, server_side, socket_pair
from wires import Wires

from certs.contexts import server_context
from relay.transport.clienthello import read_client_hello
from relay.transport.connection import TLSConnection
from relay.transport.errors import HandshakeError, PeerClosedError
from relay.transport.tcp import prepare_socket

VERSIONS = ("TLSv1.2", "TLSv1.3")
OTHER_FIRST = b"brainpoolP512r1tls13:X25519"  # groups: we have not the one that it begins with


def data_segments(peer: TlsPeer) -> int:
    """How many segments with data have come to it (linux/tcp.h, tcpi_data_segs_in)."""
    with socket.socket(fileno=os.dup(peer.fileno())) as sock:
        [count] = struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)
    return int(count)


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_caller_and_we_speak(wires: Wires, version: str) -> None:
    end, peer = await wires.accepted(client_side(version))
    assert (end.link.version, peer.tls.version()) == (version, version)
    assert peer.tls.getpeercert(binary_form=True) == wires.ours.der
    end.link.write(b"from us")
    peer.write(b"from the caller")
    await wires.changes.until(lambda: peer.data == b"from us" and end.receiver.data == b"from the caller")


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_listener_and_we_speak(wires: Wires, version: str) -> None:
    end, peer = await wires.dialled(version)
    assert (end.link.version, peer.tls.version()) == (version, version)
    assert end.link.peer_certificate == wires.theirs.der
    end.link.write(b"from us")
    peer.write(b"from the listener")
    await wires.changes.until(lambda: peer.data == b"from us" and end.receiver.data == b"from the listener")


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_the_certificate_that_a_caller_shows(wires: Wires, version: str) -> None:
    end, _ = await wires.accepted(client_side(version, identity("caller")))
    assert end.link.peer_certificate == identity("caller").der


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_caller_that_shows_no_certificate(wires: Wires, version: str) -> None:
    end, _ = await wires.accepted(client_side(version))
    assert end.link.peer_certificate is None


@pytest_twisted.ensureDeferred
async def test_our_certificate_is_shown_to_a_listener(wires: Wires) -> None:
    ours, theirs = socket_pair()
    dialling, accepting = wires.end(ours, accepts=False), wires.end(theirs, accepts=True)
    dialling.link.connect("")
    accepting.link.accept()
    await wires.changes.until(lambda: dialling.receiver.made and accepting.receiver.made)
    assert accepting.link.peer_certificate == wires.ours.der


@pytest.mark.parametrize("name", ["tentacle.internal", ""])
@pytest_twisted.ensureDeferred
async def test_the_name_that_is_sent(wires: Wires, name: str) -> None:
    ours, theirs = socket_pair()
    with theirs:
        wires.end(ours, accepts=False).link.connect(name)
        hello = read_client_hello(theirs.recv(16 * 1024))  # written through: it is there
    assert hello is not None
    assert hello.server_name == name


@pytest_twisted.ensureDeferred
async def test_tickets_travel_with_our_first_write(wires: Wires) -> None:
    end, peer = await wires.accepted()
    await turns()
    before = len(peer.records)
    segments = data_segments(peer)
    end.link.write(b"MX-SERVER")
    await wires.changes.until(lambda: peer.data)
    assert len(peer.records) - before > 1  # and none of them shares a record with it
    assert peer.sizes == [9]
    assert data_segments(peer) - segments == 1
    end.link.write(b"PROCEED")  # which nothing holds up
    await wires.changes.until(lambda: peer.sizes == [9, 7])


@pytest_twisted.ensureDeferred
async def test_tickets_travel_without_a_write_as_well(wires: Wires) -> None:
    _, peer = await wires.accepted()
    await turns()
    before = len(peer.records)
    await wires.changes.until(lambda: len(peer.records) > before)


@pytest_twisted.ensureDeferred
async def test_tickets_do_not_keep_a_close(wires: Wires) -> None:
    end, peer = await wires.accepted()
    end.link.loseConnection()
    await wires.changes.until(lambda: peer.end)
    assert (peer.end, peer.data) == (FIN, b"")


@pytest.mark.parametrize(
    ("version", "groups", "flights"),  # so many of ours are there at once, each behind one of the caller's
    [(SSL.TLS1_2_VERSION, b"X25519", 2), (SSL.TLS1_3_VERSION, b"X25519", 1), (SSL.TLS1_3_VERSION, OTHER_FIRST, 2)],
    ids=["TLSv1.2", "TLSv1.3", "TLSv1.3 asked to try again"],
)
@pytest_twisted.ensureDeferred
async def test_nothing_that_a_caller_waits_for_is_held(wires: Wires, version: int, groups: bytes, flights: int) -> None:
    ours, theirs = socket_pair()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    library = vars(SSL)["_lib"]
    assert library.SSL_CTX_set1_curves_list(vars(context)["_context"], groups) == 1
    end, caller = wires.end(ours, accepts=True), SSL.Connection(context, theirs)
    caller.set_connect_state()
    seen = 0
    with theirs:
        with pytest.raises(SSL.WantReadError):
            caller.do_handshake()
        for step in (end.link.accept, end.link.readable, end.link.readable):
            step()
            try:
                theirs.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                break
            seen += 1
            with contextlib.suppress(SSL.WantReadError):
                caller.do_handshake()
        assert seen >= flights
        assert end.receiver.made


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_data_right_behind_the_handshake(wires: Wires, version: str) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    peer = TlsPeer(wires.changes, theirs, client_side(version))
    wires.peers.append(peer)
    peer.on_shaken = lambda: peer.write(b"MX\r\n")  # with TLS 1.3 in one piece with the caller's Finished
    end.link.accept()
    await wires.changes.until(lambda: end.receiver.data)
    assert end.receiver.calls == ["made", "data"]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"])
@pytest_twisted.ensureDeferred
async def test_what_is_not_tls_fails_the_handshake(wires: Wires, garbage: bytes) -> None:
    ours, theirs = socket_pair()
    with theirs:
        end = wires.end(ours, accepts=True)
        theirs.send(garbage)
        end.link.accept()
        await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.calls == ["lost"]
    assert isinstance(end.receiver.lost[0], HandshakeError)
    assert len(end.closed) == 1


@pytest_twisted.ensureDeferred
async def test_a_caller_that_leaves_in_the_handshake(wires: Wires) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    peer = TlsPeer(wires.changes, theirs, client_side("TLSv1.3"))
    wires.peers.append(peer)
    peer.stop_reading()
    end.link.accept()
    peer.fin()
    await wires.changes.until(lambda: end.receiver.lost)
    assert isinstance(end.receiver.lost[0], HandshakeError)
    assert not end.receiver.made


@pytest_twisted.ensureDeferred
async def test_a_listener_that_resets_the_handshake(wires: Wires) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=False)
    peer = TlsPeer(wires.changes, theirs, server_side("TLSv1.3", wires.theirs), listens=True)
    end.link.connect("")
    peer.reset()
    await wires.changes.until(lambda: end.receiver.lost)
    assert isinstance(end.receiver.lost[0], HandshakeError)


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_cannot_be_written_at_once_goes_on_when_it_can(wires: Wires) -> None:
    ours, theirs = socket_pair(buffers=1)  # the system makes of it what it needs at the least: less than our certificates
    end = wires.end(ours, accepts=True)
    end.link.write(b"too early: nothing may be written before the handshake is done")
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    peer = TlsPeer(wires.changes, theirs, client_side("TLSv1.2"))
    wires.peers.append(peer)
    end.link.accept()
    await wires.changes.until(lambda: end.receiver.made and peer.shaken)
    assert peer.data == b""


@pytest_twisted.ensureDeferred
async def test_closing_in_the_handshake(wires: Wires) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    peer = TlsPeer(wires.changes, theirs, client_side("TLSv1.3"))
    wires.peers.append(peer)
    peer.stop_reading()
    end.link.accept()
    end.link.loseConnection()
    assert len(end.closed) == 1
    peer.read()
    await wires.changes.until(lambda: peer.end)
    assert end.receiver.calls == []


@pytest_twisted.ensureDeferred
async def test_pausing_in_the_handshake_holds_behind_it_and_still_notices_the_close(wires: Wires) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    end.link.pause("not yet")
    peer = TlsPeer(wires.changes, theirs, client_side("TLSv1.3"))
    wires.peers.append(peer)
    end.link.accept()
    await wires.changes.until(lambda: end.receiver.made and peer.shaken)
    peer.write(b"MX\r\n")
    peer.fin()
    await wires.changes.until(lambda: end.receiver.peer_closed)
    assert end.receiver.data == b""
    end.link.resume("not yet")
    await wires.changes.until(lambda: end.receiver.lost)
    assert end.receiver.data == b"MX\r\n"


@pytest_twisted.ensureDeferred
async def test_the_receiver_may_close_as_soon_as_the_handshake_is_done(wires: Wires) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=False)
    end.receiver.on_made = end.link.loseConnection  # as with a wrong certificate: a bare FIN without one byte (wire.md 1.5)
    peer = TlsPeer(wires.changes, theirs, server_side("TLSv1.3", wires.theirs), listens=True)
    wires.peers.append(peer)
    end.link.connect("")
    await wires.changes.until(lambda: peer.end)
    assert (peer.end, peer.data, peer.close_notify) == (FIN, b"", False)
    peer.close()
    await wires.changes.until(lambda: end.closed)
    assert end.receiver.calls == ["made"]


@pytest_twisted.ensureDeferred
async def test_it_can_be_handed_over_to_another_receiver(wires: Wires) -> None:
    end, peer = await wires.accepted()
    other = wires.recorder()
    end.link.belongs_to(other)
    peer.write(b"data")
    peer.fin()
    await wires.changes.until(lambda: other.lost)
    assert other.calls == ["data", "lost"]
    assert end.receiver.calls == ["made"]


@pytest.mark.parametrize("same_identity", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed(wires: Wires, version: str, same_identity: bool) -> None:
    context = client_side(version)
    first, peer = await wires.accepted(context)
    first.link.write(b"what follows a ticket, if there is one")
    await wires.changes.until(lambda: peer.data)
    session = peer.tls.session  # with TLS 1.3, OpenSSL sends tickets that it then does not take

    if not same_identity:
        wires.ours = identity("another")
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    offering = TlsPeer(wires.changes, theirs, context, session=session)
    wires.peers.append(offering)
    end.link.accept()
    await wires.changes.until(lambda: end.receiver.made and offering.shaken)
    assert not offering.tls.session_reused
    assert offering.tls.getpeercert(binary_form=True) == wires.ours.der


@pytest.mark.parametrize("version", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_tickets_of_a_listener_are_harmless_and_never_used(wires: Wires, version: str) -> None:
    context = server_side(version, wires.theirs)
    for _ in range(2):
        end, peer = await wires.dialled(version)
        peer.write(b"behind the tickets")
        await wires.changes.until(lambda end=end: end.receiver.data == b"behind the tickets")
        assert not peer.tls.session_reused
    assert context.session_stats()["hits"] == 0


@pytest_twisted.ensureDeferred
async def test_older_versions_are_not_spoken(wires: Wires) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    wires.peers.append(TlsPeer(wires.changes, theirs, context))
    end.link.accept()
    await wires.changes.until(lambda: end.receiver.lost)
    assert isinstance(end.receiver.lost[0], HandshakeError)


def test_sockets_are_prepared_as_halibut_prepares_its_own() -> None:
    one, other = socket_pair()
    with one, other:
        one.setblocking(True)
        prepare_socket(one)
        assert not one.getblocking()
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        times = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [one.getsockopt(socket.IPPROTO_TCP, time) for time in times] == [15, 5, 10]


@pytest_twisted.ensureDeferred
async def test_a_connection_has_no_more_attributes_than_share_their_names(wires: Wires) -> None:
    """CPython 3.11 keeps the names of 29 once for all; with one more, each leg has a dictionary of its own: 1.3 KB."""
    for end, _ in (await wires.accepted(), await wires.dialled()):
        assert len(vars(end.link)) <= 29


@pytest_twisted.ensureDeferred
async def test_a_caller_that_does_not_want_our_certificate_is_a_failed_handshake_or_a_close(wires: Wires) -> None:
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strict.check_hostname = False  # it trusts no certificate at all
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    peer = TlsPeer(wires.changes, theirs, strict)
    wires.peers.append(peer)
    end.link.accept()
    await wires.changes.until(lambda: end.receiver.lost)
    assert isinstance(end.receiver.lost[0], HandshakeError | PeerClosedError)
    assert "unknown ca" in str(end.receiver.lost[0])


@pytest_twisted.ensureDeferred
async def test_an_unused_connection_is_closed_without_having_shaken_hands(wires: Wires) -> None:
    ours, theirs = socket_pair()
    with theirs:
        prepare_socket(ours)
        link = TLSConnection(wires.loop, ours, server_context(wires.ours), wires.recorder())
        link.abortConnection()
        link.abortConnection()
        link.loseConnection()
        link.write(b"nowhere")
        link.pause("late")
        link.resume("late")
    assert link.unsent == 0


# ---- whose turns it has -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_caller_shares_its_source_s_turns_until_it_is_known_and_then_its_machine_s(wires: Wires) -> None:
    ours, theirs = socket_pair()
    end = wires.end(ours, accepts=True)
    end.link.shares("web01")
    shared: list[tuple[str, str]] = []
    for name, poller in (("strangers", wires.loop.strangers), ("known", wires.loop.poller)):

        def ask(descriptor: int, polled: object, events: int, sharing: str = "", name: str = name) -> None:
            if events:
                shared.append((name, sharing))

        poller.ask = ask  # type: ignore[method-assign, assignment]
    with theirs:
        end.link.accept("192.0.2.1")
        end.link.trusted()
        assert shared == [("strangers", "192.0.2.1"), ("known", "web01")]
        end.link.abortConnection()
