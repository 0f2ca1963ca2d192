"""The front that Octopus dials: to each caller, the relay is the listening Tentacle of one machine (wire.md 2, 3.2).

Rules:
1. The preamble comes first. Whoever does not begin with MX gets the page; whoever does is judged by its certificate (2.3).
2. Whoever is refused sees a bare FIN and not one byte (1.7).
3. MX-SERVER and PROCEED are sent when a back is ready, and not before (design, rule 3).
4. Between exchanges a front holds nothing but its connection.
"""

from collections.abc import Container
from typing import Protocol

from relay.call import Call
from relay.clock import Clock
from relay.exchange import Exchange
from relay.exchange import State as ExchangeState
from relay.halibut.connection import Connection
from relay.halibut.errors import RemoteProtocolError
from relay.halibut.events import Line, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.roles import Role, State
from relay.judged import JudgedExchange
from relay.lease import Back, Close, LeaseHolder
from relay.outcomes import NOT_TRUSTED_NOW, RELAY_DRAINS, RULES_CHANGED, Outcome, Refusal, SentAway
from relay.page import PAGE
from relay.transport.errors import HandshakeError
from relay.transport.interface import Link
from routing.decide import Certificate, Denied, judge
from routing.rules import Grant, NotAllowed, Rules, host_of
from routing.table import Machine, Octopus


class Door(Protocol):
    """The machine that the caller came for, as it is served now."""

    machine: Machine

    @property
    def clock(self) -> Clock:
        """The reactor's."""

    def back(self, octopus: Octopus) -> Back:
        """Where the machine's Tentacle is had from, for calls of this Octopus."""

    def begin(self, octopus: Octopus) -> tuple[Outcome, str] | None:
        """One more exchange; what becomes of it instead, if it may not begin."""

    def ended(self, call: Call) -> None:
        """An exchange is over."""

    def not_begun(self, call: Call) -> None:
        """That was the end of it."""

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        """A caller was turned away, or left."""

    def left(self, front: "ListeningFront") -> None:
        """This front holds nothing any more."""


# Python 3.11 finds a name of the module for nothing, and a member of an Enum at the price of a call.
_NEXT, _PROCEED, _PROCEED_DUE, _KEEP = Unit.NEXT, Unit.PROCEED, State.PROCEED, Close.KEEP


class Visit(Protocol):
    """Its connection, as it is counted (see admission.Visit)."""

    peer: str
    opened: float

    def identified(self, octopus: Octopus, machine: Machine) -> SentAway | None:
        """It is this Octopus, and wants this machine. Why it may not stay, if it may not."""


class ListeningFront:
    """One caller. link is set by the door, before the handshake begins."""

    def __init__(self, door: Door, visit: Visit) -> None:
        self._door = door
        self._visit = visit
        self._peer = visit.peer
        self._codec = Connection(Role.LISTENING_SERVICE, Limits(envelope=door.machine.limits.envelope))
        self._certificate: bytes | None = None
        self._octopus: Octopus | None = None
        self._exchange: Exchange | None = None
        self._grant: Grant | None = None
        self._since = visit.opened
        self._heard = False
        self._last = False  # it closes behind this call
        self._closed = False
        self.link: Link

    # ---- what the link says -----------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self._certificate = self.link.peer_certificate

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        try:
            events = self._codec.receive_data(data)
        except RemoteProtocolError as error:
            self._broke(error)
            return
        goes_on = False  # a message: only then may the next bytes be of a body
        for event in events:
            if type(event) is Part:
                goes_on = not event.last
                self._part(event)
            elif type(event) is Line:
                self._line(event.unit)
            else:
                self.link.write(PAGE)
                self._close(Close.FIN)
            if self._closed:
                return
        left = self._codec.body_left if goes_on else 0
        if left and self._exchange:
            self._exchange.request_body(left, lambda: self._codec.body_passed(left))

    def peerClosed(self) -> None:
        """It is paused, because its Tentacle stalls, and the caller has closed: that is how Octopus cancels."""
        self._gone("closed")
        self._close(Close.RST)

    def connectionLost(self, reason: Exception) -> None:
        if isinstance(reason, HandshakeError):
            self._door.refused(Refusal.TLS, self._peer, str(reason))
        elif not self._heard:
            self._door.refused(Refusal.CERTIFICATE_REFUSED, self._peer, "closed behind the handshake without a byte")
        self._gone(str(reason))
        self._close(Close.GONE)

    # ---- lines ------------------------------------------------------------------------------------------------------

    def _line(self, unit: Unit) -> None:
        if unit is _NEXT or unit is Unit.CLIENT_IDENTITY:
            self._begin()
        elif unit is Unit.PREAMBLE:
            self._judge()
        else:  # END
            self._gone("END")
            self._close(Close.FIN)

    def _judge(self) -> None:
        """Is this one of the machine's Octopus servers? No answer but the close (wire.md 1.7)."""
        verdict = self._known_as()
        if isinstance(verdict, Denied):
            self._refuse(Refusal(verdict.reason), verdict.detail)
        elif refused := self._visit.identified(verdict, self._door.machine):
            self._refuse(refused.refusal, refused.detail)
        else:
            self._octopus = verdict

    def _begin(self) -> None:
        door, octopus = self._door, self._octopus
        assert octopus is not None
        if self._exchange:
            self._exchange.caller_turns()
        if self._closed:
            return
        machine = door.machine
        call = Call(machine.name, octopus.name, self._peer, door.clock.seconds())
        if refused := door.begin(octopus):
            self._not_begun(call, *refused)
            return
        back, ready = door.back(octopus), machine.timeouts.ready
        if machine.rules.restricts_methods:
            grant = self._granted(machine.rules, octopus)
            if not grant.everything:
                self._codec.take_limits(Limits(envelope=machine.limits.envelope, placed=True))
                self._exchange = JudgedExchange(door.clock, self, back, call, ready, door.ended, grant, self._names)
                return
        self._exchange = Exchange(door.clock, self, back, call, ready, door.ended)

    def _granted(self, rules: Rules, octopus: Octopus) -> Grant:
        """What this caller may do, by the rules in force."""
        if self._grant is None or self._grant.rules is not rules:
            self._grant = rules.grant(octopus.name, host_of(self._peer))
        return self._grant

    def _names(self) -> tuple[str, str] | None:
        return self._codec.names

    def _not_begun(self, call: Call, outcome: Outcome, detail: str) -> None:
        """A limit is reached: nothing of the call was heard yet, and Octopus tries again."""
        call.outcome, call.detail, call.ended = outcome, detail, self._door.clock.seconds()
        self._door.not_begun(call)
        self._close(Close.FIN)

    def _part(self, part: Part) -> None:
        if self._exchange:
            self._exchange.request_part(part)
        else:  # whoever would have it is gone
            self._refuse(Refusal.BROKE_PROTOCOL, "one more frame of a stream behind the reply (wire.md 5.5)")

    def _broke(self, error: RemoteProtocolError) -> None:
        detail = f"{error} (wire.md {error.rule})"
        exchange, self._exchange = self._exchange, None
        if exchange:
            exchange.caller_broke(detail)
            self._close(Close.RST if self.among_streams else Close.FIN)
        else:
            self._refuse(Refusal.BROKE_PROTOCOL, detail)

    def _refuse(self, refusal: Refusal, detail: str) -> None:
        self._door.refused(refusal, self._peer, detail)
        self._close(Close.FIN)

    # ---- what the exchange says -------------------------------------------------------------------------------------

    def answer(self) -> None:
        unit = _PROCEED if self._codec.state is _PROCEED_DUE else Unit.SERVER_IDENTITY
        self.link.write(self._codec.send(unit))

    def send(self, part: Part) -> None:
        self._codec.forward(part)
        self.link.write(part.data)

    @property
    def among_streams(self) -> bool:
        return self._codec.forwarding_streams

    def exchange_ended(self, close: Close) -> None:
        self._exchange = None
        self._since = self._door.clock.seconds()
        if close is _KEEP:
            if self._last:
                self._close(Close.FIN)
        elif close is not Close.GONE:
            self._close(close)

    # ---- the door, and time -----------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """It has an exchange, which has a back or waits for one."""
        return self._exchange is not None

    @property
    def octopus(self) -> str:
        """The name of its octopus entry; empty where it was not judged yet."""
        return self._octopus.name if self._octopus else ""

    @property
    def trusted(self) -> bool:
        """The machine trusts it, by the settings in force, or has not judged it yet."""
        return self._octopus is None or not isinstance(self._known_as(), Denied)

    def holds(self, leases: Container[LeaseHolder | None]) -> bool:
        """Whether its exchange is among these."""
        return self._exchange in leases

    def check(self, now: float, identify: float) -> None:
        """Closes what has waited too long; to be called now and then. identify: seconds for all up to the identity."""
        machine = self._door.machine
        if self._exchange:
            self._exchange.check_progress(now, machine.timeouts.front_idle)
        elif self._new:
            if now - self._since > identify:
                self._refuse(Refusal.IDENTIFY_TIMEOUT, f"not identified within {identify:.0f} s")
        elif now - self._since > machine.timeouts.front_idle:
            self._close(Close.FIN)

    # ---- what operators do ------------------------------------------------------------------------------------------

    def drain(self, why: SentAway = RELAY_DRAINS) -> None:
        """Closes it, unless a call is in flight: then its end will."""
        exchange = self._exchange
        if exchange is None and self._new:
            self._refuse(why.refusal, why.detail)
        elif exchange is None:
            self._close(Close.FIN)
        elif exchange.state is ExchangeState.ACQUIRING:
            exchange.stop(why.outcome, why.detail)
        else:
            self._last = True

    def send_away(self, why: SentAway) -> None:
        """It is a stranger, and makes room, at once. Where it was refused already, it only lingers."""
        if not self._closed:
            self._refuse(why.refusal, why.detail)
        self.link.abortConnection()

    def settle(self, stays: bool) -> None:
        """The machine's settings have changed: it is judged by the new ones, and no call begins without their trust.

        stays: the connection may go on as it is. Otherwise it closes behind its call, the first one if there was none yet:
        nobody is sent away because of a reload.
        """
        if self._octopus:
            octopus = self._known_as()
            if isinstance(octopus, Denied):
                self.drain(NOT_TRUSTED_NOW)
                return
            self._octopus = octopus
            self._grant = None
            self._judge_anew(octopus)
        if stays:
            return
        if self._exchange or self._new:
            self._last = True
        else:
            self._close(Close.FIN)

    def _judge_anew(self, octopus: Octopus) -> None:
        """A call that is not judged yet goes by the rules in force. One that would never be, and waits for a Tentacle, ends."""
        exchange = self._exchange
        if isinstance(exchange, JudgedExchange):
            exchange.regrant(self._granted(self._door.machine.rules, octopus))
        elif exchange and exchange.state is ExchangeState.ACQUIRING and not exchange.replacing and self.disallowed:
            exchange.stop(RULES_CHANGED.outcome, RULES_CHANGED.detail)

    @property
    def disallowed(self) -> bool:
        """Its call is one that the rules in force deny, or may become one: it was begun before them, and nobody judges it."""
        exchange, octopus = self._exchange, self._octopus
        if octopus is None or exchange is None:
            return False
        grant, request = self._granted(self._door.machine.rules, octopus), exchange.call.request
        if request:
            return isinstance(grant.permits(request.service, request.method), NotAllowed)
        return not (grant.everything or isinstance(exchange, JudgedExchange))

    def stop(self) -> None:
        """Closes it now, whatever it does."""
        cut = self.among_streams
        if self._exchange:
            self._exchange.stop()
        self._close(Close.FIN)
        if cut:  # the process may end before all that was written has gone out, and its FIN must not stand there (wire.md 5.7)
            self.link.abortConnection()

    def cut(self, why: str) -> None:
        """Closes it now, and nothing more goes out of what was written."""
        reset = self.among_streams or self.link.unread > 0
        if self._exchange:
            self._exchange.stop(Outcome.CUT, why)
        self._close(Close.FIN)
        if reset:
            self.link.abortConnection()

    @property
    def _new(self) -> bool:
        """It has not said who it is."""
        return self._codec.state in (State.PREAMBLE, State.IDENTITY)

    def _known_as(self) -> Octopus | Denied:
        certificate = Certificate(self._certificate) if self._certificate else None
        return judge(self._door.machine, certificate, host_of(self._peer))

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _gone(self, detail: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange:
            exchange.caller_gone(detail)

    def _close(self, close: Close) -> None:
        if self._closed:
            return
        self._closed = True
        if close is not Close.GONE:
            self.link.loseConnection(reset=close is Close.RST)
        self._door.left(self)
