import contextlib
import socket
from collections.abc import Iterator

import pytest
from identities import identity
from OpenSSL import SSL

from relay.transport import connection, openssl, sending
from relay.transport.openssl import RECORD, Inside, Receive, Send, fast, slow


class Ways:
    """To receive and to send, with what is inside of a connection."""

    def __init__(self, ways: tuple[Inside, Receive, Send]) -> None:
        self._inside, self._receive, self._send = ways

    def receive(self, tls: SSL.Connection, size: int) -> bytes:
        return self._receive(tls, self._inside(tls), size)

    def send(self, tls: SSL.Connection, data: bytes) -> int:
        return self._send(tls, self._inside(tls), data)


@pytest.fixture(params=[fast, slow])
def ways(request) -> Ways:
    return Ways(request.param())


@pytest.fixture
def pair() -> Iterator[tuple[SSL.Connection, SSL.Connection]]:
    shown = identity("tentacle")
    server = SSL.Context(SSL.TLS_METHOD)
    server.use_certificate(shown.certificate)
    server.use_privatekey(shown.key)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one, other = SSL.Connection(SSL.Context(SSL.TLS_METHOD), ours), SSL.Connection(server, theirs)
        one.set_connect_state()
        other.set_accept_state()
        for sock in (ours, theirs):
            sock.setblocking(False)
        waiting = [one, other]
        while waiting:
            for each in list(waiting):
                with contextlib.suppress(SSL.WantReadError):
                    each.do_handshake()
                    waiting.remove(each)
        yield one, other


def test_what_is_sent_is_received(ways, pair):
    one, other = pair
    for data in (b"NEXT\r\n\r\n", bytes(RECORD), b"x"):
        assert ways.send(one, data) == len(data)
        assert ways.receive(other, RECORD) == data


def test_no_more_than_is_asked_for(ways, pair):
    one, other = pair
    ways.send(one, b"0123456789")
    assert [ways.receive(other, 4), ways.receive(other, RECORD)] == [b"0123", b"456789"]


def test_never_more_than_a_record(pair):
    """The buffer behind it is no longer."""
    ways = Ways(fast())
    one, other = pair
    ways.send(one, bytes(RECORD))
    ways.send(one, b"next")
    assert [len(ways.receive(other, 10 * RECORD)), len(ways.receive(other, 10 * RECORD))] == [RECORD, 4]


def test_nothing_there(ways, pair):
    with pytest.raises(SSL.WantReadError):
        ways.receive(pair[0], RECORD)


def test_no_room(ways, pair):
    record = bytes(RECORD)

    def fill() -> None:
        for _ in range(10_000):
            ways.send(pair[0], record)

    with pytest.raises(SSL.WantWriteError):
        fill()


@pytest.mark.parametrize("politely", [True, False])
def test_the_peer_is_gone(ways, pair, politely):
    one, other = pair
    if politely:
        other.shutdown()
    other.sock_shutdown(socket.SHUT_RDWR)
    with pytest.raises(SSL.ZeroReturnError if politely else SSL.SysCallError):
        ways.receive(one, RECORD)


def test_garbage_is_an_error(ways):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tls = SSL.Connection(SSL.Context(SSL.TLS_METHOD), ours)
        tls.set_connect_state()
        theirs.sendall(b"no TLS at all, but long enough for a record's head")
        with pytest.raises(SSL.Error):
            ways.receive(tls, RECORD)


def test_the_fast_ones_are_used():
    """pyOpenSSL as it is now has what they need."""
    assert (sending.inside, connection.receive, sending.send) == (openssl.inside, openssl.receive, openssl.send)
    assert "fast" in connection.receive.__qualname__
