"""An exchange whose call is judged by its request's header, before a byte of it goes to a back (wire.md 5.5, design rule 7).

It differs from Exchange until the call is judged, and where it is denied:

1. Parts are kept until service and method have been read; they stand at the start of an envelope, and no caller gets to send
   more than KEPT bytes before them.
2. A call that is allowed goes on as any other, and its data streams may stand where its method has them, and nowhere else.
3. A call that is denied has no back any more: it is aborted, not pooled. The rest of the request is read and thrown away, then
   the caller gets an error reply, and its connection stays. From then on the exchange counts as DELIVERING.
"""

from collections.abc import Callable
from typing import Final

from relay.call import Call
from relay.clock import Clock
from relay.denial import denial
from relay.exchange import Caller, Exchange, State
from relay.halibut.error_reply import error_reply
from relay.halibut.events import Part, Unit
from relay.halibut.message import Kind, Message
from relay.halibut.placed import ARGUMENT, FILES
from relay.lease import Back, Close
from relay.outcomes import Outcome
from routing.rules import Grant, NotAllowed
from routing.services import compared

KEPT: Final = 192 * 1024  # compressed bytes; the first 64 KiB of a document are walked at once, and deflate may add to them
_NO_BACK: Final = "no back"
# Where a request's data streams are, and how many there may be (wire.md 9.1).
_SCRIPTS: Final = ("iscriptservice", "iscriptservicev2", "ikubernetesscriptservicev1")
_STREAMS: Final[dict[tuple[str, str], tuple[str, int | None]]] = {("ifiletransferservice", "uploadfile"): (ARGUMENT, 1)} | {
    (service, "startscript"): (FILES, None) for service in _SCRIPTS
}
_WITH_REPLY_STREAM: Final = ("ifiletransferservice", "downloadfile")


class JudgedExchange(Exchange):
    """See above. grant: what the caller may do. names: the service and method of the request that is coming in, once read."""

    __slots__ = ("_allowed", "_denied", "_discarded", "_grant", "_kept", "_kept_size", "_names")

    def __init__(
        self,
        clock: Clock,
        caller: Caller,
        back: Back,
        call: Call,
        ready: float,
        finished: Callable[[Call], None],
        grant: Grant,
        names: Callable[[], tuple[str, str] | None],
    ) -> None:
        self._grant = grant
        self._names = names
        self._kept: list[Part] = []
        self._kept_size = 0
        self._allowed = False
        self._denied = ""  # why, in words for the log
        self._discarded = 0  # bytes of a request that was denied
        super().__init__(clock, caller, back, call, ready, finished)

    # ---- the request ------------------------------------------------------------------------------------------------

    def request_part(self, part: Part) -> None:
        if self.state is State.ENDED:
            return
        message = part.message
        if message and not self._places_right(message):
            return
        if self._allowed:
            super().request_part(part)
        elif self._denied:
            self._discard(part)
        else:
            self._kept.append(part)
            self._kept_size += len(part.data)
            names = (message.service, message.method) if message else self._names()
            if names:
                self._judge(*names)
            elif self._kept_size > KEPT:
                self.stop(Outcome.CALLER_BROKE, f"no service and method within {KEPT} bytes of a request (wire.md 5.5)")

    def regrant(self, grant: Grant) -> None:
        """What the caller may do by other rules. A call that is judged already stays as it is."""
        if not (self._allowed or self._denied):
            self._grant = grant

    def _places_right(self, message: Message) -> bool:
        """Each data stream stands where this method has one. Of a call that is denied, none is ever looked at by a Tentacle."""
        if not message.streams or self._grant.everything or not self._permitted(message.service, message.method):
            return True
        call = compared(message.service, message.method)
        place, most = _STREAMS.get(call, ("", 0)) if call else ("", 0)
        ids = {stream.id for stream in message.streams}
        wrong = any(stream.place != place for stream in message.streams)
        if wrong or not place or len(ids) < len(message.streams) or (most is not None and len(ids) > most):
            self.stop(Outcome.CALLER_BROKE, "a data stream where this method has none (wire.md 5.5)")
            return False
        return True

    def _permitted(self, service: str, method: str) -> bool:
        return not isinstance(self._grant.permits(service, method), NotAllowed)

    def _judge(self, service: str, method: str) -> None:
        kept, self._kept = self._kept, []
        verdict = self._grant.permits(service, method)
        if isinstance(verdict, NotAllowed):
            self._deny(verdict, service, method)
        else:
            self._allowed = True
        for part in kept:
            self.request_part(part)

    def _deny(self, verdict: NotAllowed, service: str, method: str) -> None:
        self._denied = verdict.detail
        self.call.request = Message(Kind.REQUEST, service=service, method=method)
        self._lease.abort(Close.FIN)
        self.state = State.DELIVERING
        self._caller.link.resume(_NO_BACK)

    def _discard(self, part: Part) -> None:
        self._discarded += len(part.data)
        if part.message:
            self.call.request = part.message
        if part.last:
            self._reply()
        elif part.extra:
            self.stop(Outcome.CALLER_BROKE, "one more frame of a stream behind the reply (wire.md 5.5)")

    def _reply(self) -> None:
        call = self.call
        request = call.request
        assert request is not None
        data = error_reply(request.id, denial(call.machine, self._grant.rules, request.service, request.method))
        call.reply = Message(Kind.RESPONSE, request.id, failed=True)
        call.reply_bytes = len(data)
        self._caller.send(Part(Unit.ENVELOPE, data, call.reply, last=True))
        link = self._caller.link
        if link.backlogged:
            link.notify_drained(self._caller_drained)
        else:
            self._delivered()

    # ---- the reply --------------------------------------------------------------------------------------------------

    def reply_part(self, part: Part) -> None:
        message, request = part.message, self.call.request
        if message and message.streams and request and compared(request.service, request.method) != _WITH_REPLY_STREAM:
            self.stop(Outcome.TENTACLE_BROKE, "a data stream in the reply of a method that has none (wire.md 5.5)")
            return
        super().reply_part(part)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _position(self) -> tuple[int, ...]:
        return (*super()._position(), self._discarded, self._kept_size)

    def _close(self, outcome: Outcome, detail: str, caller_close: Close) -> None:
        if self._denied and outcome in (Outcome.ERROR_REPLY, Outcome.CANCELLED):  # or the caller left before it had its answer
            outcome, detail = Outcome.DENIED, f"{self._denied}; {detail}" if detail else self._denied
        super()._close(outcome, detail, caller_close)
