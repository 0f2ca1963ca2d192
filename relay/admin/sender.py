"""Writes something long as fast as the other side takes it, and makes no more of it than that."""

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Sender:
    """consumer: a transport or a request. done: called behind the last piece, unless the connection is lost before it.

    sent: called with each piece that was written.
    """

    def __init__(
        self, consumer: Any, pieces: Iterator[bytes], done: Callable[[], None], sent: Callable[[], object] = lambda: None
    ) -> None:
        self._consumer = consumer
        self._pieces = pieces
        self._done = done
        self._sent = sent
        self._paused = True
        self._over = False

    def start(self) -> None:
        self._consumer.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and not self._over:
            piece = next(self._pieces, None)
            if piece is None:
                self._over = True
                self._consumer.unregisterProducer()
                self._done()
            else:
                self._sent()
                self._consumer.write(piece)

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._over = True
