"""Moves one exchange between a front connection and a back connection: one request with its streams, and its reply.

    ACQUIRING --ready--> READY --request's first part--> REQUEST --its last--> CALL --reply's first part--> REPLY --its last-->
    DELIVERING --all of it sent--> ENDED

Rules (design, section 4):
1. Parts go out as they came, one record each, in the same turn of the reactor.
2. Whoever cannot write pauses whoever is read. Nothing is kept here but what one read gave while the back was lost.
3. Before the first byte of the request went to a back, another may be acquired, once: a Tentacle that answers and closes, over
   and over, is not dialled in a loop (wire.md 11.4). After the first byte, the exchange ends with that back.
4. Each end is told once, by a row of ENDS. The log and the metrics hear of it once.
"""

from collections.abc import Callable
from typing import Final, Protocol

from relay.call import Call
from relay.clock import Clock, Timer
from relay.halibut.events import Part
from relay.halibut.words import Word
from relay.lease import Back, Close
from relay.outcomes import Outcome
from relay.transport.interface import Link
from relay.transport.tcp import CUT_OFF

SILENCE: Final = 660.0  # seconds; Octopus gives up after 5 or 10 minutes without a reply (wire.md 3.5, 11.1)
STALL: Final = 10.0  # seconds without progress, after which a caller forfeits what a closed Tentacle had left
_BACKLOG: Final = "backlog"
_NO_BACK: Final = "no back"


class State(Word):
    ACQUIRING = "acquiring"
    READY = "ready"
    REQUEST = "request"
    CALL = "call"
    REPLY = "reply"
    DELIVERING = "delivering"
    ENDED = "ended"


# Python 3.11 finds a name of the module for nothing, and a member of an Enum at the price of a call.
_ACQUIRING, _READY, _REQUEST, _CALL, _REPLY, _DELIVERING, _ENDED = State
_OK, _KEEP = Outcome.OK, Close.KEEP


class Caller(Protocol):
    """The front connection of an exchange."""

    @property
    def link(self) -> Link:
        """The connection."""

    @property
    def among_streams(self) -> bool:
        """The caller has begun to receive a message's streams, and not all of them."""

    def answer(self) -> None:
        """Tells the caller that the back is ready: MX-SERVER or PROCEED."""

    def send(self, part: Part) -> None:
        """Writes a part of the reply."""

    def exchange_ended(self, close: Close) -> None:
        """The exchange is over; what becomes of the connection: KEEP, FIN, RST or GONE."""


class _Gone(Word):
    """What ends an exchange early."""

    CALLER = "caller"
    TENTACLE = "tentacle"
    RELAY = "relay"


# (state, who is gone): outcome unless another is given, then what becomes of the caller's leg and of the back's.
ENDS: Final[dict[tuple[State, _Gone], tuple[Outcome, Close, Close]]] = {
    (State.ACQUIRING, _Gone.CALLER): (Outcome.CALLER_LEFT, Close.GONE, Close.FIN),
    (State.READY, _Gone.CALLER): (Outcome.CALLER_LEFT, Close.GONE, Close.FIN),
    (State.REQUEST, _Gone.CALLER): (Outcome.CANCELLED, Close.GONE, Close.RST),
    (State.CALL, _Gone.CALLER): (Outcome.CANCELLED, Close.GONE, Close.FIN),
    (State.REPLY, _Gone.CALLER): (Outcome.CANCELLED, Close.GONE, Close.FIN),
    (State.DELIVERING, _Gone.CALLER): (Outcome.CANCELLED, Close.GONE, Close.GONE),
    (State.ACQUIRING, _Gone.TENTACLE): (Outcome.TENTACLE_GONE, Close.FIN, Close.GONE),
    (State.READY, _Gone.TENTACLE): (Outcome.TENTACLE_GONE, Close.FIN, Close.GONE),
    (State.REQUEST, _Gone.TENTACLE): (Outcome.TENTACLE_GONE, Close.FIN, Close.GONE),
    (State.CALL, _Gone.TENTACLE): (Outcome.TENTACLE_GONE, Close.FIN, Close.GONE),
    (State.REPLY, _Gone.TENTACLE): (Outcome.TENTACLE_GONE, Close.RECEIVER, Close.GONE),
    (State.ACQUIRING, _Gone.RELAY): (Outcome.STOPPED, Close.FIN, Close.FIN),
    (State.READY, _Gone.RELAY): (Outcome.STOPPED, Close.FIN, Close.FIN),
    (State.REQUEST, _Gone.RELAY): (Outcome.STOPPED, Close.FIN, Close.RST),
    (State.CALL, _Gone.RELAY): (Outcome.STOPPED, Close.FIN, Close.FIN),
    (State.REPLY, _Gone.RELAY): (Outcome.STOPPED, Close.RECEIVER, Close.FIN),
    (State.DELIVERING, _Gone.RELAY): (Outcome.STOPPED, Close.RECEIVER, Close.GONE),
}


class Exchange:
    """One exchange. finished(call) hears of its end, once, before the caller's leg does.

    The caller's connection calls request_part(), caller_gone() and caller_broke(); the lease calls what LeaseHolder says.
    """

    __slots__ = (
        "_answered",
        "_back",
        "_caller",
        "_clock",
        "_deadline",
        "_finished",
        "_held",
        "_lease",
        "_moved",
        "_moved_at",
        "_replaced",
        "_stall",
        "_whole",
        "call",
        "state",
    )  # fmt: skip

    def __init__(
        self, clock: Clock, caller: Caller, back: Back, call: Call, ready: float, finished: Callable[[Call], None]
    ) -> None:
        """ready: seconds within which the back has to be."""
        self._clock = clock
        self._caller = caller
        self._back = back
        self._deadline = call.began + ready
        self._finished = finished
        self._answered = False
        self._held: list[Part] = []
        self._stall: Timer | None = None
        self._replaced = False
        self._whole = False  # the reply is, and what may still come are frames that repeat an id
        self._moved: tuple[int, ...] = ()
        self._moved_at = call.began
        self.call = call
        self.state = _ACQUIRING
        self._lease = back.acquire(call, self._deadline, self)

    # ---- the back ---------------------------------------------------------------------------------------------------

    def lease_ready(self) -> None:
        self.call.ready = self._clock.seconds()
        self.state = _READY
        if not self._answered:
            self._answered = True
            self._caller.answer()
            return
        held, self._held = self._held, []
        for part in held:
            self.request_part(part)
        self._caller.link.resume(_NO_BACK)

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        # A caller that was told that a back is ready sees its connection close in the call, whatever the next one's trouble.
        self._end(_Gone.TENTACLE, Outcome.TENTACLE_GONE if self._answered else outcome, detail)

    def reply_part(self, part: Part) -> None:
        call = self.call
        if part.message:
            call.reply = part.message
        if self.state is _CALL:
            self.state = _REPLY
            call.replied = self._clock.seconds()
        call.reply_bytes += len(part.data)
        self._caller.send(part)
        link = self._caller.link
        if link.backlogged:
            self._lease.link.pause(_BACKLOG)
            link.notify_drained(self._caller_drained)
        if part.last:
            self._reply_whole()

    def back_closing(self) -> None:
        if self.state is _REPLY and self._stall is None:
            self._stall = self._clock.callLater(STALL, self._check_stall, self._position())

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        if self.state is _READY and not self._replaced and self._clock.seconds() < self._deadline:
            # Nothing was written to it yet, and the caller knows nothing of it.
            self._replaced = True
            self.state = _ACQUIRING
            self.call.ready = 0.0
            self._caller.link.pause(_NO_BACK)
            self._lease = self._back.acquire(self.call, self._deadline, self, again=True)
            return
        self._end(_Gone.TENTACLE, outcome, detail)

    def _caller_drained(self) -> None:
        if self.state is _REPLY:
            self._lease.link.resume(_BACKLOG)
        elif self.state is _DELIVERING:
            self._delivered()

    def _reply_whole(self) -> None:
        """The reply's last part is written; what may still come are frames that repeat an id."""
        lease, backlogged = self._lease, self._caller.link.backlogged
        if self._stall:
            self._cancel_stall()
        if lease.more_frames:
            self._whole = True
            return
        if backlogged:
            lease.link.resume(_BACKLOG)
        lease.release()
        self.state = _DELIVERING
        if not backlogged:
            self._delivered()

    def _delivered(self) -> None:
        reply = self.call.reply
        self._close(Outcome.ERROR_REPLY if reply and reply.failed else _OK, "", _KEEP)

    # ---- the caller -------------------------------------------------------------------------------------------------

    def request_part(self, part: Part) -> None:
        """A part of the request."""
        call = self.call
        if part.message:
            call.request = part.message
        if self.state is _ACQUIRING:
            self._held.append(part)
            return
        if self.state is _READY:
            self.state = _REQUEST
        elif self.state is _DELIVERING:  # the connection that would take it may serve another caller by now
            self._end(_Gone.RELAY, Outcome.CALLER_BROKE, "one more frame of a stream behind the reply (wire.md 5.5)")
            return
        call.request_bytes += len(part.data)
        self._lease.send(part)
        link = self._lease.link
        if link.backlogged:
            self._caller.link.pause(_BACKLOG)
            link.notify_drained(self._back_drained)
        if part.last:
            self.state = _CALL
            call.requested = self._clock.seconds()

    def _back_drained(self) -> None:
        if self.state is not _ENDED:
            self._caller.link.resume(_BACKLOG)

    def request_body(self, count: int, done: Callable[[], None]) -> None:
        """Lets that many bytes of a request's stream go straight to the back; ``done`` is called behind them."""
        if self.state is _REQUEST:
            self.call.request_bytes += count
            self._caller.link.pump(self._lease.link, count, done)

    def reply_body(self, count: int, done: Callable[[], None]) -> None:
        """The same for a reply's stream."""
        if self.state is _REPLY:
            self.call.reply_bytes += count
            self._lease.link.pump(self._caller.link, count, done)

    def caller_turns(self) -> None:
        """The caller goes on: it has the whole reply, and frames that may have followed (wire.md 5.5) do not come."""
        if self.state is _REPLY and self._whole:
            self._lease.abort(Close.FIN)
            self._delivered()
        elif self.state is _DELIVERING:
            self._delivered()

    def caller_gone(self, detail: str) -> None:
        """The caller's connection has ended, or its end was seen."""
        if self._whole:
            self.caller_turns()
        self._end(_Gone.CALLER, None, detail)

    def caller_broke(self, detail: str) -> None:
        """The caller broke the protocol; its connection is closed by itself."""
        self._end(_Gone.CALLER, Outcome.CALLER_BROKE, detail)

    # ---- the relay --------------------------------------------------------------------------------------------------

    @property
    def replacing(self) -> bool:
        """The caller was told that a back is ready, which is lost, and another one is acquired."""
        return self._answered and self.state is _ACQUIRING

    def stop(self, outcome: Outcome = Outcome.STOPPED, detail: str = "the relay stops") -> None:
        """Ends it now."""
        self._end(_Gone.RELAY, outcome, detail)

    def check_progress(self, now: float, idle: float) -> None:
        """Ends it where nothing has moved for SILENCE seconds, or, before the request, for idle; to be called now and then.

        Of a leg whose link was cut it hears from the leg, as soon as that is asked to look.
        """
        position = self._position()
        if position != self._moved:
            self._moved, self._moved_at = position, now
        elif self.state is _READY:
            if now - self.call.ready > idle:
                self._end(_Gone.RELAY, Outcome.CALLER_SILENT, f"no request within {idle:.0f} s")
        elif self.state is _ACQUIRING:
            return
        elif now - self._moved_at > SILENCE:
            self._end(_Gone.RELAY, Outcome.SILENT, f"nothing moved for {SILENCE:.0f} s")
        elif now - self._moved_at > CUT_OFF:
            self._caller.link.end_if_cut_off()
            if self.state in (_REQUEST, _CALL, _REPLY):
                self._lease.link.end_if_cut_off()

    def _position(self) -> tuple[int, ...]:
        """Changes with every byte that moves."""
        caller, call = self._caller.link, self.call
        back = (0, 0)
        if self.state not in (_ACQUIRING, _DELIVERING, _ENDED):
            link = self._lease.link
            back = (link.pump_left, link.unread)
        return (call.request_bytes, call.reply_bytes, caller.pump_left, caller.unread, *back)

    def _check_stall(self, before: tuple[int, ...]) -> None:
        """The Tentacle has closed: the caller gets what it had left as long as it takes it."""
        self._stall = None
        now = self._position()
        if now == before:
            self._caller.link.abortConnection()  # what waits for it would keep a FIN waiting too
            self._end(_Gone.RELAY, Outcome.STALLED, f"the caller took nothing for {STALL:.0f} s")
        else:
            self._stall = self._clock.callLater(STALL, self._check_stall, now)

    def _cancel_stall(self) -> None:
        if self._stall:
            self._stall.cancel()
            self._stall = None

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _end(self, gone: _Gone, outcome: Outcome | None, detail: str) -> None:
        if self.state is _ENDED:
            return
        usual, caller_close, back_close = ENDS[self.state, gone]
        self.call.request_bytes -= self._caller.link.pump_left  # of a body that the end cuts short
        if self.state is _REPLY:
            self.call.reply_bytes -= self._lease.link.pump_left
        if self.state is _CALL and back_close is Close.FIN:
            self._lease.link.flush()
            if self._lease.link.backlogged:
                back_close = Close.RST  # the request's end has not gone out: to wait for that would let it run
        if back_close is not Close.GONE:
            self._lease.abort(back_close)
        self._close(outcome or usual, detail, caller_close)

    def _close(self, outcome: Outcome, detail: str, caller_close: Close) -> None:
        if self._stall:
            self._cancel_stall()
        self.state = _ENDED
        self._held = []
        del self._lease  # it holds us: the two would wait for the collector, and every exchange begin on cold memory
        call = self.call
        call.outcome, call.detail, call.ended = outcome, detail, self._clock.seconds()
        self._finished(call)
        if caller_close is _KEEP:
            self._caller.link.resume(_BACKLOG)  # of a Tentacle that answered before it had read everything
        elif caller_close is Close.RECEIVER:
            caller_close = Close.RST if self._caller.among_streams else Close.FIN
        self._caller.exchange_ended(caller_close)
