"""The strict Octopus behind a proxy: what it sends, and what it takes. Its calls: tests/system/test_connect_door.py."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relay.peers.errors import ConnectingError, PeerError, ProxyError
from relay.peers.tunnel import ANSWER_WITHIN, WebProxy

CAPTURES = Path(__file__).parents[2] / "captures"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Caller(Protocol):
    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.proxy.take(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.proxy.gone.callback(None)


@dataclass
class FakeProxy:
    """Answers as it is told. asked: what it was sent."""

    answer: bytes
    closes: bool = False
    asked: bytes = b""
    gone: Deferred[None] = field(default_factory=Deferred)

    def take(self, caller: Any, data: bytes) -> None:
        self.asked += data
        if not self.asked.endswith(b"\r\n\r\n"):
            return
        self._say(caller)

    def _say(self, caller: Any) -> None:
        caller.transport.write(self.answer)
        if self.closes:
            caller.transport.loseConnection()


@pytest_twisted.async_yield_fixture()
async def new_proxy():
    ports = []

    def new(*arguments: Any, **options: Any) -> tuple[FakeProxy, WebProxy]:
        proxy = FakeProxy(*arguments, **options)
        factory = Factory.forProtocol(_Caller)
        factory.noisy = False
        factory.proxy = proxy
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        ports.append(port)
        return proxy, WebProxy("127.0.0.1", port.getHost().port, "octo", "s3cret:x")

    yield new
    for port in ports:
        await maybeDeferred(port.stopListening)


def test_it_sends_what_octopus_was_recorded_to_send() -> None:
    lines = (CAPTURES / "listening-connect-200-headers" / "proxy.jsonl").read_text().splitlines()
    sent = base64.b64decode(json.loads(lines[0])["b64"])
    target = sent.split(b" ")[1].decode()
    assert WebProxy("p", 1, "octo", "s3cret:x").request(target) == sent
    lines = (CAPTURES / "listening-connect-200" / "proxy.jsonl").read_text().splitlines()
    sent = base64.b64decode(json.loads(lines[0])["b64"])
    assert WebProxy("p", 1).request(sent.split(b" ")[1].decode()) == sent
    assert b"cDo/" in WebProxy("p", 1, "p", "\u00e4").request("w:1")  # a question mark, as .NET's ASCII has it
    assert "s3cret" not in repr(WebProxy("p", 1, "octo", "s3cret"))


@pytest.mark.parametrize("status", [403, 407, 503])
@pytest_twisted.ensureDeferred
async def test_another_answer_than_200(status: int, new_proxy: Any, new_octopus: Any, thumbprint: Any) -> None:
    fake, proxy = new_proxy(f"HTTP/1.1 {status} Not for you\r\nContent-Length: 3\r\n\r\nno!".encode())
    octopus = new_octopus()
    with pytest.raises(ProxyError, match=f"responded with a {status} code - Not for you") as error:
        await octopus.connect("web01", 10933, thumbprint("tentacle"), proxy)
    assert (error.value.status, error.value.retry) == (status, True)
    assert not octopus.violations
    await fake.gone


@pytest.mark.parametrize(
    ("answer", "closes", "rule"),
    [
        (b"", True, "8.3"),
        (b"HTTP/1.1 403 Forbidden\r\n", True, "8.3"),
        (b"HTTP/1.1 200\r\n\r\n", False, "8.2"),  # no reason phrase: Halibut throws
        (b"SSH-2.0-x\r\n\r\n", False, "8.2"),
        (OK + b"\x16", False, "8.2"),  # an old Halibut takes it for a part of the answer
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 4000, False, "8.2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_answers_that_some_halibut_cannot_take(
    answer: bytes, closes: bool, rule: str, new_proxy: Any, new_octopus: Any, thumbprint: Any
) -> None:
    fake, proxy = new_proxy(answer, closes)
    octopus = new_octopus()
    with pytest.raises(PeerError) as error:
        await octopus.connect("web01", 10933, thumbprint("tentacle"), proxy)
    assert error.value.rule == rule
    assert list(octopus.violations) == [error.value]
    await fake.gone


@pytest_twisted.ensureDeferred
async def test_a_tunnel_that_closes_is_tried_again(new_proxy: Any, new_octopus: Any, thumbprint: Any) -> None:
    fake, proxy = new_proxy(OK, True)
    octopus = new_octopus()
    with pytest.raises(ConnectingError, match="before the request could begin") as error:
        await octopus.connect("web01", 10933, thumbprint("tentacle"), proxy)
    assert error.value.retry
    assert not isinstance(error.value, ProxyError)
    assert not octopus.violations
    await fake.gone


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_says_nothing(new_proxy: Any, new_octopus: Any, thumbprint: Any) -> None:
    clock = Clock()
    fake, proxy = new_proxy(b"HTTP/1.1 ")
    octopus = new_octopus(clock=clock)
    dialled = Deferred.fromCoroutine(octopus.connect("web01", 10933, thumbprint("tentacle"), proxy))
    while not fake.asked:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
    clock.advance(ANSWER_WITHIN)
    with pytest.raises(ConnectingError, match="the proxy said nothing for 15 s"):
        await dialled
    await fake.gone
