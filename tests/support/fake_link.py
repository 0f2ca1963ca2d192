"""A link in memory: what a test sees of one connection, and what it lets the peer do (relay/transport/interface.py)."""

from collections.abc import Callable

from relay.transport.errors import PeerClosedError
from relay.transport.interface import Link, Receiver

FIN = "fin"
RST = "rst"
LOST = "lost"


class FakeLink:
    """A Link, open from the start. It obeys the same rules as TLSConnection; a test stands for its peer.

    written: each unit as it was written, also while backlogged. reasons: why it is paused; empty where it is not.
    full: bytes of the last write that will wait behind flush(); 0: it has gone out already.
    looked_at: how often somebody asked whether it is cut off.
    ended: None while open; FIN or RST where its owner closed it, LOST where the peer did. receiver may be set later.
    """

    def __init__(self, receiver: Receiver | None = None, peer_certificate: bytes | None = None) -> None:
        self.receiver = receiver
        self.certificate = peer_certificate
        self.written: list[bytes] = []
        self.reasons: set[str] = set()
        self.backlogged = False
        self.unsent = 0
        self.full = 0
        self.looked_at = 0
        self.pump_left = 0
        self.pumped_to: Link | None = None
        self.ended: str | None = None
        self._pump_done: Callable[[], None] | None = None
        self._drained: Callable[[], None] | None = None
        self._waiting: list[bytes] = []
        self._lost: Exception | None = None

    # ---- the Link ---------------------------------------------------------------------------------------------------

    @property
    def peer_certificate(self) -> bytes | None:
        return self.certificate

    def write(self, data: bytes) -> None:
        if self.ended is None and data:
            self.written.append(bytes(data))
            if self.backlogged:
                self.unsent += len(data)

    def flush(self) -> None:
        """Fills it, if it is to show only now that it is full."""
        if self.full:
            self.fill(self.full)

    def pause(self, reason: str) -> None:
        self.reasons.add(reason)

    def resume(self, reason: str) -> None:
        self.reasons.discard(reason)

    def shares(self, machine: str) -> None:
        """It has no turns."""

    def notify_drained(self, callback: Callable[[], None]) -> None:
        self._drained = callback

    def pump(self, destination: Link, count: int, done: Callable[[], None]) -> None:
        self.pumped_to, self.pump_left, self._pump_done = destination, count, done

    def end_if_cut_off(self) -> None:
        self.looked_at += 1

    def loseConnection(self, reset: bool = False) -> None:
        """Ends it at once in a test's eyes, also while backlogged: what was written is in ``written``."""
        self._end(RST if reset else FIN)

    def abortConnection(self) -> None:
        self._end(RST)

    # ---- what a test does as the peer -------------------------------------------------------------------------------

    @property
    def data(self) -> bytes:
        """All that was written, joined."""
        return b"".join(self.written)

    def receive(self, *records: bytes) -> None:
        """The peer sends. What a pump is due goes there, record by record; a paused link keeps it until deliver()."""
        self._waiting += [record for record in records if record]
        self.deliver()

    def deliver(self) -> None:
        """Reads what waits, as the reactor would in its next turn, unless the link is paused or closed."""
        while self._waiting and not self.reasons and self.ended is None:
            data = self._waiting.pop(0)
            if self.pump_left:
                data, rest = data[: self.pump_left], data[self.pump_left :]
                if rest:
                    self._waiting.insert(0, rest)
                self._pumped(data)
            else:
                self._owner.dataReceived(data)
        if self._lost and not self.reasons and self.ended is None:
            self._end(LOST)
            self._owner.connectionLost(self._lost)

    def fill(self, unsent: int = 1) -> None:
        """The peer stops reading: what is written from now on is backlogged. unsent: bytes that wait already."""
        self.backlogged = True
        self.unsent = unsent

    def drain(self) -> None:
        """The peer reads again, and has read everything."""
        self.backlogged = False
        self.unsent = 0
        drained, self._drained = self._drained, None
        if drained and self.ended is None:
            drained()

    def lose(self, reason: Exception | None = None) -> None:
        """The peer closes or resets: the owner hears it at once, or by peerClosed() while paused, and the rest by deliver()."""
        if self.ended is not None:
            return
        self._lost = reason or PeerClosedError("closed")
        if self.reasons:
            self._owner.peerClosed()
        self.deliver()

    @property
    def unread(self) -> int:
        return self.unsent

    # ---- inside -----------------------------------------------------------------------------------------------------

    @property
    def _owner(self) -> Receiver:
        assert self.receiver is not None, "this FakeLink has no receiver yet: set link.receiver"
        return self.receiver

    def _pumped(self, data: bytes) -> None:
        destination = self.pumped_to
        assert destination is not None
        self.pump_left -= len(data)
        destination.write(data)
        if destination.backlogged:
            self.pause("backlog")
            destination.notify_drained(lambda: self.resume("backlog"))
        if not self.pump_left:
            done, self.pumped_to, self._pump_done = self._pump_done, None, None
            assert done is not None
            done()

    def _end(self, how: str) -> None:
        if self.ended is None:
            self.ended = how
            self.backlogged = False
            self.unsent = 0
            self.reasons.clear()
            self._waiting.clear()
            self._drained = self._pump_done = self.pumped_to = None
