"""A receiver of a link that writes down what it is told."""

from collections.abc import Callable

from changes import Changes


class Recorder:
    """A Receiver. calls: the names of what was called, in order; chunks: what dataReceived() brought; lost: the reasons.

    on_made, on_data, on_closed, on_lost may be set; each is called behind the recording.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.calls: list[str] = []
        self.chunks: list[bytes] = []
        self.lost: list[Exception] = []
        self.on_made: Callable[[], None] = lambda: None
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_closed: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def made(self) -> bool:
        return "made" in self.calls

    @property
    def peer_closed(self) -> bool:
        return "peer closed" in self.calls

    def connectionMade(self) -> None:
        self.calls.append("made")
        self.on_made()
        self._changes.changed()

    def dataReceived(self, data: bytes) -> None:
        self.calls.append("data")
        self.chunks.append(data)
        self.on_data(data)
        self._changes.changed()

    def peerClosed(self) -> None:
        self.calls.append("peer closed")
        self.on_closed()
        self._changes.changed()

    def connectionLost(self, reason: Exception) -> None:
        self.calls.append("lost")
        self.lost.append(reason)
        self.on_lost()
        self._changes.changed()
