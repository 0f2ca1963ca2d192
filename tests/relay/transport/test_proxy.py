"""A dial through an HTTP proxy, on real sockets: the tunnel, and each way in which a proxy may not give one."""

import base64
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from identities import identity
from recorder import Recorder
from tls_peer import TlsPeer, server_side
from wires import Held, Wires

from certs.contexts import client_context
from relay.transport.dialler import Dial
from relay.transport.errors import DialError, HandshakeError
from relay.transport.proxy import HEADER, Proxy

CAPTURES = Path(__file__).parents[2] / "captures"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


class FakeProxy:
    """A proxy that answers as it is told, and then is the Tentacle's or Octopus's end of the tunnel itself."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.sock: socket.socket | None = None
        self.port: int = self._listener.getsockname()[1]

    async def asked(self) -> bytes:
        """The request."""
        data = b""
        for _ in range(5000):
            try:
                if self.sock is None:
                    self.sock, _ = self._listener.accept()
                    self.sock.setblocking(False)
                data += self.sock.recv(65536)
            except BlockingIOError:
                await turns(1)
            if data.endswith(b"\r\n\r\n"):
                return data
        raise AssertionError(f"no request, but {data!r}")

    def answer(self, *pieces: bytes) -> None:
        assert self.sock
        for piece in pieces:
            self.sock.send(piece)

    def tunnel(self) -> TlsPeer:
        assert self.sock
        peer = TlsPeer(self._wires.changes, self.sock, server_side("TLSv1.3", identity("theirs")), listens=True)
        self._wires.peers.append(peer)
        self.sock = None
        return peer

    def close(self) -> None:
        if self.sock:
            self.sock.close()
            self.sock = None
        self._listener.close()


class Dialled:
    """A dial through that proxy, and what became of it."""

    def __init__(self, wires: Wires, port: int) -> None:
        self.receiver: Recorder = wires.recorder()
        self.failures: list[Exception] = []
        self.changes = wires.changes
        self.dial = Dial(
            wires.loop, "octopus-1", 10943, client_context(identity("ours")), self.receiver, 20.0, self._failed,
            proxy=Proxy("127.0.0.1", port),
        )  # fmt: skip

    def _failed(self, error: Exception) -> None:
        self.failures.append(error)
        self.changes.changed()

    async def failure(self) -> DialError:
        await self.changes.until(lambda: self.failures)
        [error] = self.failures
        assert isinstance(error, DialError)
        return error


@pytest_twisted.async_yield_fixture
async def site() -> AsyncIterator[tuple[Wires, FakeProxy]]:
    await turns()
    before = Held.now()
    wires = Wires()
    proxy = FakeProxy(wires)
    yield wires, proxy
    proxy.close()
    await wires.clean()
    await turns()
    assert Held.now().more_than(before) == ""


@pytest.mark.parametrize("whole", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_tunnel(site: tuple[Wires, FakeProxy], whole: bool) -> None:
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    assert await proxy.asked() == b"CONNECT octopus-1:10943 HTTP/1.0\r\nHost: octopus-1:10943\r\n\r\n"
    answer = b"HTTP/1.0 200 OK\r\nVia: proxy\r\n\r\n"
    for piece in [answer] if whole else [answer[at : at + 1] for at in range(len(answer))]:
        proxy.answer(piece)
        await turns()
    peer = proxy.tunnel()
    await wires.changes.until(lambda: dialled.receiver.made and peer.shaken)
    assert dialled.dial.link
    dialled.dial.link.write(b"through")
    await wires.changes.until(lambda: peer.data == b"through")
    assert dialled.failures == []
    dialled.dial.link.abortConnection()


@pytest.mark.parametrize(
    "folder", ["polling-through-proxy-head", "polling-through-proxy-4.4.8", "polling-through-proxy-password-head"]
)
def test_the_request_is_halibut_s_own(folder: str) -> None:
    asked, *_ = map(json.loads, (CAPTURES / folder / "proxy-1.jsonl").read_text().splitlines())
    recorded = base64.b64decode(asked["b64"])
    host, _, port = recorded.split(b" ")[1].decode().partition(":")
    header = recorded.partition(b"Basic ")[2].partition(b"\r\n")[0]
    credentials = base64.b64decode(header).decode()
    assert Proxy("proxy", 3128, credentials).request(host, int(port)) == recorded
    assert bool(credentials) is ("password" in folder)


def test_an_ipv6_address_keeps_its_brackets_and_the_password_is_not_shown() -> None:
    proxy = Proxy("::1", 3128, "user:secret")
    assert proxy.request("fe80::1", 443).startswith(b"CONNECT [fe80::1]:443 HTTP/1.0\r\nHost: [fe80::1]:443\r\n")
    assert "secret" not in f"{proxy} {proxy!r}"
    assert str(proxy) == "[::1]:3128"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "answered 403 Forbidden"),
        (b"HTTP/1.1 407 Authentication Required\r\nContent-Length: 0\r\n\r\n", "answered 407 Authentication Required"),
        (b"HTTP/1.0 503\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 302 \x1b[31mred\r\n\r\n", "answered 302 ?[31mred"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP: SSH-2.0-OpenSSH_9.2"),
        (b"HTTP/1.1\r\n\r\n", "no HTTP: HTTP/1.1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "no HTTP: HTTP/1.1 2000 OK"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (HEADER // 6), f"a header of more than {HEADER} bytes"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_no_tunnel(site: tuple[Wires, FakeProxy], answer: bytes, told: str) -> None:
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    await proxy.asked()
    proxy.answer(answer)
    error = await dialled.failure()
    assert (error.reason, str(error)) == ("proxy", f"the proxy: {told}")
    assert not dialled.receiver.made


@pytest.mark.parametrize(
    ("before", "told"), [(b"", "closed without an answer"), (b"HTTP/1.1 200", "closed after 12 bytes of its answer")]
)
@pytest_twisted.ensureDeferred
async def test_a_proxy_that_closes(site: tuple[Wires, FakeProxy], before: bytes, told: str) -> None:
    """Halibut itself spins for ever here (wire.md 8.3)."""
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    await proxy.asked()
    proxy.answer(before)
    await turns()
    assert proxy.sock
    proxy.sock.close()
    proxy.sock = None
    error = await dialled.failure()
    assert (error.reason, str(error)) == ("proxy", f"the proxy: {told}")


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_says_nothing(site: tuple[Wires, FakeProxy]) -> None:
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    await proxy.asked()
    wires.clocked.advance(20)
    error = await dialled.failure()
    assert (error.reason, str(error)) == ("proxy", "no answer of the proxy in time")


@pytest_twisted.ensureDeferred
async def test_what_follows_the_header_belongs_to_tls(site: tuple[Wires, FakeProxy]) -> None:
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    await proxy.asked()
    proxy.answer(TUNNEL + b"no record of TLS")
    await wires.changes.until(lambda: dialled.failures)
    assert isinstance(dialled.failures[0], HandshakeError)


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_closes_behind_its_answer(site: tuple[Wires, FakeProxy]) -> None:
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    await proxy.asked()
    proxy.answer(TUNNEL)
    proxy.close()
    await wires.changes.until(lambda: dialled.failures)
    assert isinstance(dialled.failures[0], HandshakeError)


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_is_not_there(site: tuple[Wires, FakeProxy]) -> None:
    wires, proxy = site
    proxy.close()
    dialled = Dialled(wires, proxy.port)
    assert (await dialled.failure()).reason == "refused"


@pytest_twisted.ensureDeferred
async def test_a_dial_is_given_up_while_the_proxy_thinks(site: tuple[Wires, FakeProxy]) -> None:
    wires, proxy = site
    dialled = Dialled(wires, proxy.port)
    await proxy.asked()
    dialled.dial.cancel()
    proxy.answer(TUNNEL)
    await turns(20)
    assert (dialled.failures, dialled.receiver.calls, wires.clocked.timers) == ([], [], [])
