"""What a listener answers to a browser: a Tentacle's page, another web page, or nothing (wire.md 2.5).

It is asked on a connection of its own, without a certificate, and only where a probe has failed: it tells a Tentacle that turns
us away from one that turns everybody away, and from what is no Tentacle.
"""

import re
from collections.abc import Generator
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError

from relay.halibut.words import Word
from relay.peers.errors import EndedError, PeerError
from relay.peers.tls import anonymous
from relay.probe.connecting import connect

WITHIN: Final = 5.0  # seconds
_MOST: Final = 16 * 1024  # bytes
QUESTION: Final = b"GET / HTTP/1.0\r\n\r\n"
# Halibut's default page, and what every page of a real Tentacle says (wire.md 2.5).
_MARKS: Final = (b"<html><body><p>Hello!</p></body></html>", b"Octopus Tentacle")
_SERVER: Final = re.compile(rb"^server:[ \t]*([!-~ ]{1,80})", re.IGNORECASE | re.MULTILINE)


class Page(Word):
    """Who answers."""

    TENTACLE = "a Tentacle's page"
    WEB = "another web page"
    OTHER = "something else"
    NOTHING = "nothing"


async def ask_page(reactor: Any, address: str, host: str, port: int) -> tuple[Page, str]:
    """Who answers, and what a web server calls itself. Raises nothing: where nobody can be asked, nobody answers."""
    asking = Deferred.fromCoroutine(_ask(reactor, address, host, port))
    timer = reactor.callLater(WITHIN, asking.cancel)
    try:
        answer = await asking
    except (CancelledError, ConnectError, EndedError, PeerError):
        answer = b""
    finally:
        if timer.active():
            timer.cancel()
    return judge(answer)


def judge(answer: bytes) -> tuple[Page, str]:
    """As `ask_page`, of an answer that has come."""
    if not answer:
        return Page.NOTHING, ""
    if not answer.startswith(b"HTTP/"):
        return Page.OTHER, ""
    server = _SERVER.search(answer)
    name = server[1].decode("ascii").strip() if server else ""
    return (Page.TENTACLE if any(mark in answer for mark in _MARKS) else Page.WEB), name


async def _ask(reactor: Any, address: str, host: str, port: int) -> bytes:
    tls = await connect(reactor, address, port, anonymous(host))
    wire = tls.wire
    try:
        await wire.handshaken()
        wire.send(QUESTION)
        return await wire.receive(whole_answer())
    finally:
        wire.finish()
        await wire.ended()


def whole_answer() -> Generator[None, bytes, bytes]:
    """A reader of all that comes, up to a bound."""
    came = b""
    try:
        while len(came) < _MOST:
            came += yield
    except EndedError:
        return came
    return came
