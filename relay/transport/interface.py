"""What the rooms above know of a connection, and a connection of them. Fakes in memory offer the same."""

from collections.abc import Callable
from typing import Protocol


class Receiver(Protocol):
    """Whoever owns a link. All is called from the reactor, never from within a call of the owner's own to the link."""

    def connectionMade(self) -> None:
        """The handshake is done; the peer's certificate is known."""

    def dataReceived(self, data: bytes) -> None:
        """The plaintext of one TLS record, or of a part of one."""

    def peerClosed(self) -> None:
        """The peer has closed or reset while this link is paused. Bytes from before that may still be read by resuming."""

    def connectionLost(self, reason: Exception) -> None:
        """The end: nothing more can be read or written. Not called where we closed ourselves."""


class Link(Protocol):
    """One connection, open or closing."""

    backlogged: bool
    """Something that was written has not gone out yet."""

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate, DER; None where it showed none."""

    def shares(self, machine: str) -> None:
        """From now on it shares its turns with the other connections of this machine."""

    def write(self, data: bytes) -> None:
        """One unit, or a part of one: it shares no TLS record with what is written before or after it."""

    def flush(self) -> None:
        """What waits for other connections' records goes out now. Only then `backlogged` says all."""

    def pause(self, reason: str) -> None:
        """Reads nothing from now on, until each reason that was given is taken back."""

    def resume(self, reason: str) -> None:
        """Takes a reason back."""

    def notify_drained(self, callback: Callable[[], None]) -> None:
        """Calls back once, as soon as nothing is backlogged any more."""

    def pump(self, destination: "Link", count: int, done: Callable[[], None]) -> None:
        """Sends the next ``count`` bytes straight to destination, with backpressure, and calls back when they have gone."""

    @property
    def pump_left(self) -> int:
        """How many of them are still to come."""

    @property
    def unread(self) -> int:
        """How many bytes were written and the peer's system has not taken: a slow peer's megabytes in our kernel among them."""

    def end_if_cut_off(self) -> None:
        """connectionLost() follows where the peer's system has acknowledged nothing for 65 s, and should have."""

    def loseConnection(self, reset: bool = False) -> None:
        """Closes as soon as all that was written has gone out: with a bare FIN, or a reset. Resets where it does not go."""

    def abortConnection(self) -> None:
        """Closes at once, with RST; what was not sent is lost."""
