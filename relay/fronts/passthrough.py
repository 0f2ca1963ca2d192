"""The front that looks into nothing: a caller is joined with the machine's Tentacle, and TLS is theirs from end to end.

Rules:
1. The Tentacle is dialled when the caller's ClientHello is there. Whatever is no TLS does not come this far (fronts/door.py).
2. Where there is no connection to be had, the caller is closed before a ServerHello, and reset where the Tentacle's host has
   refused: the relay has accepted already, and this is as near as it comes to what a direct caller sees (wire.md 11.1).
3. Then everything passes, closes and resets as well (transport/splice.py).
4. A caller is a stranger until it has answered the Tentacle's first bytes, as everybody does who gets through a handshake: it
   has relay.timeouts.identify for that, and may have to make room. More than that the relay cannot know of it.
5. Behind that, no time limit of ours is in between: peers have their own, and a host that is gone is noticed by keep-alive
   after 65 s (wire.md 1.9).
"""

import socket
from typing import Protocol

from relay.admission import Source, Visit
from relay.clock import Clock, Timer
from relay.outcomes import DIAL_OUTCOMES, Outcome, Refusal, SentAway
from relay.passed import Passed
from relay.transport.dialler import TcpDial
from relay.transport.errors import DialError
from relay.transport.listener import address_text
from relay.transport.loop import Loop
from relay.transport.poller import CLOSED
from relay.transport.splice import End, How, Splice
from relay.transport.tcp import close_unread, reset_on_close
from routing.addresses import Address
from routing.table import Machine


class Door(Protocol):
    """The machine that the caller came for, as it is served now."""

    machine: Machine

    @property
    def clock(self) -> Clock:
        """The reactor's."""

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        """A caller was sent away while it was a stranger."""

    def ended(self, front: "PassthroughFront", passed: Passed) -> None:
        """It is over, and holds nothing any more."""


class PassthroughFront:
    """One caller, and its connection to the Tentacle. tentacle: where that was dialled; stranger: see rule 4."""

    def __init__(self, loop: Loop, door: Door, sock: socket.socket, visit: Visit) -> None:
        """sock: the caller's, prepared. It and the visit belong to the front from now on."""
        self._loop = loop
        self._door = door
        self._socket = sock
        self._fileno = sock.fileno()
        self._splice: Splice | None = None
        self._passed = Passed(door.machine.name, _own_address(sock), visit.peer, visit.opened)
        self._visit = visit
        visit.leave = self.send_away
        self._dial: TcpDial | None = None
        self._leaving: Timer | None = None
        self._ended = False
        self.stranger = True
        tentacle = door.machine.tentacle
        assert tentacle, "a polling Tentacle is not dialled"
        self.tentacle: Address = tentacle

    def start(self) -> None:
        """Dials the Tentacle."""
        self._loop.strangers.ask(self._fileno, self, CLOSED, self.source.name)
        seconds = self._door.machine.timeouts.connect
        self._dial = TcpDial(self._loop, self.tentacle.host, self.tentacle.port, seconds, self._stands, self._dial_failed)

    # ---- while the Tentacle is dialled: the poller's side -----------------------------------------------------------

    def readable(self) -> None:
        self.peer_closed()

    def writable(self) -> None:
        """It is not asked for."""

    def peer_closed(self) -> None:
        """The caller has not waited."""
        self._give_up(Outcome.CALLER_LEFT, "closed before the Tentacle was there", reset=True)

    def failed(self, error: Exception) -> None:
        self._give_up(Outcome.CALLER_LEFT, f"a fault of the relay: {type(error).__name__}: {error}", reset=True)

    # ---- the dial ---------------------------------------------------------------------------------------------------

    def _stands(self, sock: socket.socket) -> None:
        self._dial = None
        self._passed.ready = self._door.clock.seconds()
        try:
            self._splice = Splice(self._loop, self._socket, sock, self._over, self._met, self.source.name)
        except OSError as error:  # it has closed both
            self._end(Outcome.DESCRIPTORS, error.strerror or str(error))

    def _met(self) -> None:
        self.stranger = False
        self._visit.bounded()

    def _dial_failed(self, error: Exception) -> None:
        outcome = DIAL_OUTCOMES[error.reason] if isinstance(error, DialError) else Outcome.UNREACHABLE
        self._give_up(outcome, str(error), reset=outcome is Outcome.REFUSED)

    def _give_up(self, outcome: Outcome, detail: str, reset: bool) -> None:
        """There is no connection to the Tentacle, and the caller has not got a byte."""
        if self._ended:
            return
        if self._dial:
            self._dial.cancel()
            self._dial = None
        self._loop.strangers.ask(self._fileno, self, 0)
        if reset:
            reset_on_close(self._socket)
        close_unread(self._socket)
        self._end(outcome, detail)

    # ---- the end ----------------------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The caller's address."""
        return self._passed.peer

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return self._visit.source

    @property
    def joined(self) -> bool:
        """Its connection to the Tentacle stands."""
        return self._splice is not None

    @property
    def answered(self) -> float:
        """When the Tentacle's first byte came (the reactor's clock); 0 where none did."""
        return self._splice.far.heard if self._splice else 0.0

    def cut(self, outcome: Outcome, detail: str) -> None:
        """Ends it now: both sides are reset, or, without a connection to the Tentacle, the caller is closed."""
        if self._splice:
            self._splice.reset()
            self._end(outcome, detail)
        else:
            self._give_up(outcome, detail, reset=False)

    def send_away(self, why: SentAway) -> None:
        """The same of a stranger, which counts as refused, as at every other door."""
        try:
            self.cut(why.outcome, why.detail)
        finally:
            self._door.refused(why.refusal, self.peer, why.detail)

    def check(self, now: float, identify: float) -> None:
        """Sends it away where it has been a stranger for too long; to be called now and then. identify: seconds."""
        splice = self._splice
        if splice is None or not self.stranger or now - self._passed.ready <= identify:
            return
        if splice.far.heard:
            outcome, who = Outcome.CALLER_SILENT, "the caller did not answer the Tentacle"
        else:
            outcome, who = Outcome.READY_TIMEOUT, "the Tentacle sent nothing"
        self.send_away(SentAway(Refusal.IDENTIFY_TIMEOUT, f"{who} within {identify:.0f} s", outcome))

    def leave_after(self, seconds: float, why: SentAway) -> None:
        """It may end by itself for so long, and is cut then. Where it has to leave already, that holds."""
        if self._leaving is None and not self._ended:
            self._leaving = self._loop.reactor.callLater(seconds, self.cut, why.outcome, why.detail)

    def stay(self) -> None:
        """It need not leave any more."""
        timer, self._leaving = self._leaving, None
        if timer and timer.active():
            timer.cancel()

    def _over(self, end: End) -> None:
        splice = self._splice
        assert splice
        near = end.leg is splice.near
        if end.how is How.CLOSED:
            self._end(Outcome.OK, "")
        elif end.how is How.DESCRIPTORS:
            self._end(Outcome.DESCRIPTORS, end.detail)
        elif end.how is How.STALLED:
            self._end(Outcome.STALLED, f"{'the caller' if near else 'the Tentacle'} {end.detail}")
        elif near:
            self._end(Outcome.OK if splice.far.closing else Outcome.CANCELLED, f"the caller's side: {end.detail}")
        else:
            # A peer that has left needs no answer, and resets are how many a host says goodbye to it.
            self._end(Outcome.OK if splice.near.closing else Outcome.TENTACLE_GONE, f"the Tentacle's side: {end.detail}")

    def _end(self, outcome: Outcome, detail: str) -> None:
        if self._ended:
            return
        self._ended = True
        self.stay()
        passed, splice = self._passed, self._splice
        if splice:
            passed.request_bytes, passed.reply_bytes = splice.near.passed, splice.far.passed
            passed.replied = splice.far.heard
        passed.outcome, passed.detail, passed.ended = outcome, detail, self._door.clock.seconds()
        try:
            self._door.ended(self, passed)
        finally:  # whatever a log does, nobody's place is lost
            self._visit.departed()


def _own_address(sock: socket.socket) -> str:
    try:
        return address_text(sock.getsockname())
    except OSError:  # it has gone already, as the dial will find
        return ""
