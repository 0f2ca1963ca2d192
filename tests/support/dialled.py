"""Dials in memory: a test says what becomes of each, and then plays the Tentacle on a FakeLink."""

from collections.abc import Callable
from typing import Any

from fake_link import FakeLink
from halibut_bytes import RESPONSE
from tables import TENTACLE

from relay.halibut.lines import CLIENT_IDENTITY, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.transport.interface import Receiver


class FakeDial:
    """What stands for relay.transport.dialler.Dial."""

    def __init__(
        self,
        host: str,
        port: int,
        context: Any,
        receiver: Receiver,
        seconds: float,
        failed: Callable[[Exception], None],
        proxy: Any = None,
    ) -> None:
        self.address = host, port
        self.proxy = proxy
        self.context = context
        self.seconds = seconds
        self.cancelled = False
        self.link: FakeLink | None = None
        self._receiver = receiver
        self._failed = failed

    def cancel(self) -> None:
        self.cancelled = True

    # ---- what a test does -------------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        assert not self.cancelled
        self._failed(error)

    def connects(self, certificate: bytes | None = TENTACLE) -> FakeLink:
        """TCP and TLS stand; the Tentacle shows this certificate."""
        assert not self.cancelled
        self.link = FakeLink(self._receiver, certificate)
        self._receiver.connectionMade()
        return self.link

    def identifies(self) -> FakeLink:
        """It connects, and the Tentacle is ready."""
        link = self.connects()
        assert take(link) == [PREAMBLE, CLIENT_IDENTITY]
        link.receive(SERVER_IDENTITY)
        return link


class Dials(list[FakeDial]):
    """All that were made, in order."""

    def __call__(
        self,
        loop: Any,
        host: str,
        port: int,
        context: Any,
        receiver: Receiver,
        seconds: float,
        failed: Callable[[Exception], None],
        proxy: Any = None,
        machine: str = "",
    ) -> FakeDial:
        dial = FakeDial(host, port, context, receiver, seconds, failed, proxy)
        self.append(dial)
        return dial


def take(link: FakeLink) -> list[bytes]:
    """What was written to the Tentacle since this was asked last."""
    written, link.written = link.written, []
    return written


def replies(link: FakeLink, reply: bytes = RESPONSE) -> None:
    link.receive(reply)


def proceeds(link: FakeLink) -> None:
    """It is asked whether it lives, and does."""
    assert take(link) == [NEXT]
    link.receive(PROCEED)
