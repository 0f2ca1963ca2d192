"""What an exchange knows of a machine's Tentacle: where it is had from, and a claim on one connection (design, section 4)."""

from collections.abc import Callable
from typing import Protocol

from relay.call import Call
from relay.halibut.events import Part
from relay.halibut.words import Word
from relay.outcomes import Outcome
from relay.transport.interface import Link


class Close(Word):
    """What becomes of a leg when the exchange ends."""

    KEEP = "keep"  # it goes on: a caller to its next request, a back to its pool
    FIN = "fin"
    RST = "rst"
    RECEIVER = "receiver"  # FIN, but RST where the leg was among a message's streams (wire.md 5.7)
    GONE = "gone"  # it is closed already


class Lease(Protocol):
    """A claim on a back connection. It is cancelled by abort() at any time, and is over after abort() or release()."""

    @property
    def link(self) -> Link:
        """The connection, once ready."""

    @property
    def more_frames(self) -> bool:
        """The reply repeats a stream's id: more frames of it may come."""

    def send(self, part: Part) -> None:
        """Writes a part of the request."""

    def abort(self, close: Close) -> None:
        """Ends the claim, and the connection with it: FIN or RST."""

    def release(self) -> None:
        """Ends the claim after a whole reply; the connection may serve others."""


class LeaseHolder(Protocol):
    """Whoever acquired a lease."""

    def lease_ready(self) -> None:
        """A back connection waits for the request."""

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        """There is none to be had. The lease is over."""

    def reply_part(self, part: Part) -> None:
        """A part of the reply."""

    def reply_body(self, count: int, done: Callable[[], None]) -> None:
        """The next ``count`` bytes of the lease's link belong to a stream; done is to be called when they have gone by."""

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        """The connection has ended, or broke the protocol, after it was ready. The lease is over."""

    def back_closing(self) -> None:
        """The Tentacle has closed while its connection was paused; what it sent before may still be read."""


class Back(Protocol):
    """Where a machine's Tentacle is had from."""

    def acquire(self, call: Call, deadline: float, holder: LeaseHolder, again: bool = False) -> Lease:
        """Claims a connection. The holder is told later, never from within, and by the deadline (the reactor's clock).

        again: one that it had was lost before its request; it goes before all who wait.
        """
