"""One connection that polls an Octopus node: to it, the relay is the polling Tentacle of one machine (wire.md 2, 3.3).

    DIALLING --pinned--> IDENTIFYING --MX-SERVER--> POLLING --request--> CALL --reply, NEXT--> TURNING --PROCEED--> POLLING
                                                       \\--null, NEXT--> TURNING

Rules:
1. The identity and NEXT go out while a back can be had, and not otherwise: whatever is picked up can be delivered (6.8).
2. What has been picked up while every back is busy waits unread, but for its first piece, at most 60 s; then its connection
   ends. Octopus may not assume then that nothing ran, as with a Tentacle that dies.
3. A node that says nothing for 60 s, neither request nor null, is given up.
"""

from collections.abc import Container
from enum import Enum
from typing import Final, Protocol

from certs.sharing import Context
from certs.thumbprint import Thumbprint
from relay.call import Call
from relay.exchange import Exchange
from relay.exchange import State as ExchangeState
from relay.halibut.connection import Connection
from relay.halibut.errors import RemoteProtocolError
from relay.halibut.events import Line, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Kind
from relay.halibut.roles import Role
from relay.halibut.roles import State as Due
from relay.judged import JudgedExchange
from relay.lease import Back, Close, LeaseHolder
from relay.outcomes import NodeTrouble, Outcome
from relay.transport.connection import TLSConnection
from relay.transport.dialler import Dial
from relay.transport.errors import DialError, WrongCertificateError
from relay.transport.loop import Loop
from relay.transport.proxy import Proxy
from routing.addresses import Address
from routing.table import Machine, Octopus

CONNECT: Final = 20.0  # seconds for the proxy, TCP and TLS
SILENT: Final = 60.0  # seconds in which a node has to say something, unless a call is in flight
PICKED_UP: Final = 60.0  # seconds that a request waits for a back
_EXTRA: Final = 1.0  # seconds for frames that repeat an id, behind a reply (wire.md 5.5)
_NULL: Final = 64  # bytes; a null message has 16, another deflater's a few more
_PICKED_UP: Final = "picked up"
_DIAL_TROUBLES: Final = {
    "resolve": NodeTrouble.RESOLVE,
    "refused": NodeTrouble.REFUSED,
    "unreachable": NodeTrouble.UNREACHABLE,
    "timeout": NodeTrouble.CONNECT_TIMEOUT,
    "descriptors": NodeTrouble.DESCRIPTORS,
    "proxy": NodeTrouble.PROXY,
}


class State(Enum):
    DIALLING = "dialling"
    IDENTIFYING = "identifying"
    POLLING = "polling"
    CALL = "call"
    TURNING = "turning"
    CLOSED = "closed"


class Owner(Protocol):
    """The front that the connection belongs to."""

    loop: Loop
    machine: Machine
    octopus: Octopus
    subscription: str
    proxy: Proxy | None

    @property
    def back(self) -> Back:
        """Where the machine's Tentacle is had from."""

    @property
    def context(self) -> Context:
        """Shows the machine's identity for Octopus."""

    @property
    def polling(self) -> bool:
        """Requests are wanted."""

    def poll_opened(self) -> None:
        """A connection stands; poll_closed() follows."""

    def poll_closed(self) -> None:
        """It is closed, and its descriptor is free."""

    def poll_identified(self, poll: "Poll") -> None:
        """The node has answered MX-SERVER."""

    def poll_ended(self, poll: "Poll", trouble: NodeTrouble | None, detail: str) -> None:
        """It is closed; None: by the relay, or with the call that it had."""

    def ended(self, call: Call) -> None:
        """An exchange is over."""


class Poll:
    """See above. It dials at once."""

    # A relay has thousands of these: what each of them keeps is counted.
    __slots__ = (
        "_clock",
        "_codec",
        "_dial",
        "_exchange",
        "_failing",
        "_heard",
        "_kept",
        "_owner",
        "_replied",
        "link",
        "node",
        "state",
    )  # fmt: skip

    def __init__(self, owner: Owner, node: Address) -> None:
        self._owner = owner
        self._clock = owner.loop.reactor
        limits = Limits(envelope=owner.machine.limits.envelope, placed=owner.machine.rules.restricts_methods)
        self._codec = Connection(Role.DIALLING_SERVICE, limits, subscription=owner.subscription)
        self._exchange: Exchange | None = None
        self._kept: list[Part] | None = []  # of a request that no back has yet; None: they go on as they come
        self._heard = self._clock.seconds()
        self._replied = 0.0
        self._failing = False  # it is about to end: that its call ends first may leave the Tentacle without a connection
        self.node = node
        self.link: TLSConnection
        self.state = State.DIALLING
        self._dial: Dial | None = Dial(
            owner.loop, node.host, node.port, owner.context, self, CONNECT, self._dial_failed, owner.proxy, owner.machine.name
        )

    # ---- until it polls ---------------------------------------------------------------------------------------------

    def _dial_failed(self, error: Exception) -> None:
        trouble = _DIAL_TROUBLES[error.reason] if isinstance(error, DialError) else NodeTrouble.TLS
        by = f" (through the proxy {self._owner.proxy})" if self._owner.proxy else ""
        self._end(Close.GONE, trouble, f"{error}{by}")

    def connectionMade(self) -> None:
        assert self._dial
        link = self._dial.link
        assert link is not None
        self.link = link
        self._dial = None
        self.state = State.IDENTIFYING
        self._owner.poll_opened()
        link.closed = self._owner.poll_closed
        shown = link.peer_certificate
        if shown is None or not any(pin.matches(shown) for pin in self._owner.octopus.thumbprints):
            wrong = WrongCertificateError(str(Thumbprint.of(shown)) if shown else "")
            self._end(Close.FIN, NodeTrouble.WRONG_CERTIFICATE, str(wrong))  # a bare FIN without one byte (wire.md 1.5)
            return
        self._heard = self._clock.seconds()
        link.write(self._codec.send(Unit.PREAMBLE))
        link.write(self._codec.send(Unit.SUBSCRIBER_IDENTITY))

    # ---- what the link says -----------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._heard = self._clock.seconds()
        try:
            events = self._codec.receive_data(data)
        except RemoteProtocolError as error:
            self._broke(f"{error} (wire.md {error.rule})")
            return
        goes_on = False  # a message: only then may the next bytes be of a body
        for event in events:
            if type(event) is Part:
                goes_on = not event.last
                self._part(event)
            elif type(event) is Line:
                self._line(event.unit)
            if self.state is State.CLOSED:
                return
        left = self._codec.body_left if goes_on else 0
        if left and self._exchange and self._kept is None:
            self._exchange.request_body(left, lambda: self._codec.body_passed(left))

    def peerClosed(self) -> None:
        """It is paused, for a back or by a Tentacle that stalls, and Octopus has closed: that is how it cancels."""
        self._fail(Close.RST, NodeTrouble.CLOSED, "closed in a call")

    def connectionLost(self, reason: Exception) -> None:
        if self.state is State.IDENTIFYING:
            why = f"it closed before MX-SERVER: it does not trust the machine's thumbprint, or limits connections ({reason})"
            self._fail(Close.GONE, NodeTrouble.NOT_TRUSTED, why)
        else:
            self._fail(Close.GONE, NodeTrouble.CLOSED, str(reason))

    # ---- events -----------------------------------------------------------------------------------------------------

    def _line(self, unit: Unit) -> None:
        if unit is Unit.SERVER_IDENTITY:
            self.state = State.POLLING
            self._owner.poll_identified(self)
        else:  # PROCEED
            self.state = State.POLLING

    def _part(self, part: Part) -> None:
        null = part.message is not None and part.message.kind is Kind.NULL
        if self.state is State.POLLING and null:
            self._kept = []
            self._turn()
        elif null:
            self._broke("a null message of more bytes than any has (wire.md 4.3)")
        elif self.state is State.TURNING:
            self._broke("one more frame of a stream behind the reply (wire.md 5.5)")
        elif self._kept is None:
            assert self._exchange is not None
            self._exchange.request_part(part)
        else:
            self._kept.append(part)
            if self.state is State.POLLING and (part.message or sum(len(kept.data) for kept in self._kept) > _NULL):
                self._begin()

    def _begin(self) -> None:
        """A request has been picked up."""
        owner = self._owner
        self.state = State.CALL
        self.link.pause(_PICKED_UP)
        call = Call(owner.machine.name, owner.octopus.name, str(self.node), self._clock.seconds())
        rules = owner.machine.rules
        if rules.restricts_methods:
            grant = rules.grant(owner.octopus.name, None)
            if not grant.everything:
                self._exchange = JudgedExchange(
                    self._clock, self, owner.back, call, PICKED_UP, owner.ended, grant, lambda: self._codec.names
                )
                return
        self._exchange = Exchange(self._clock, self, owner.back, call, PICKED_UP, owner.ended)

    def _turn(self) -> None:
        """A request was served, or there was none: the next one, if it is wanted."""
        if self._owner.polling:
            self.state = State.TURNING
            self.link.write(self._codec.send(Unit.NEXT))
        else:
            self.link.write(self._codec.send(Unit.END))
            self._end(Close.FIN, None, "")

    def _broke(self, detail: str) -> None:
        self._fail(Close.RST if self.among_streams else Close.FIN, NodeTrouble.BROKE_PROTOCOL, detail)

    def _fail(self, close: Close, trouble: NodeTrouble, detail: str) -> None:
        """The node has ended it, or broke the protocol."""
        exchange, self._exchange = self._exchange, None
        self._failing = True
        if exchange and trouble is NodeTrouble.BROKE_PROTOCOL:
            exchange.caller_broke(detail)
        elif exchange:
            exchange.caller_gone(detail)
        self._end(close, trouble, detail)

    # ---- what the exchange says -------------------------------------------------------------------------------------

    def answer(self) -> None:
        """The back is ready. Octopus hears nothing of it: it has sent its request already."""
        kept, self._kept = self._kept or [], None
        exchange = self._exchange
        assert exchange is not None
        for part in kept:
            exchange.request_part(part)
        self.link.resume(_PICKED_UP)

    def send(self, part: Part) -> None:
        self._codec.forward(part)
        self.link.write(part.data)
        if part.last:
            self._replied = self._clock.seconds()

    @property
    def among_streams(self) -> bool:
        return self._codec.forwarding_streams

    def exchange_ended(self, close: Close) -> None:
        self._exchange = None
        self._kept = []
        self._heard = self._clock.seconds()
        if close is Close.KEEP:
            self._turn()
        elif close is not Close.GONE:
            self._end(close, None, "the call ended without a reply")

    # ---- time, and the end ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """It has a request, which has a back or waits for one."""
        return self._exchange is not None

    def holds(self, leases: Container[LeaseHolder | None]) -> bool:
        """Whether its exchange is among these."""
        return self._exchange in leases

    def trusted_by(self, machine: Machine) -> bool:
        """The machine trusts this node, and for the same Octopus, or it has shown nothing yet."""
        shown = None if self.state in (State.DIALLING, State.CLOSED) else self.link.peer_certificate
        octopus = machine.octopus_of(shown) if shown else self._owner.octopus
        return octopus is not None and octopus.name == self._owner.octopus.name and machine.rules.takes(octopus.name, None)

    def check(self, now: float) -> None:
        """Gives up what has waited too long; to be called now and then."""
        exchange = self._exchange
        if exchange is None:
            if self.state is not State.DIALLING and now - self._heard > SILENT:
                self._end(Close.FIN, NodeTrouble.SILENT, f"nothing came for {SILENT:.0f} s")
            return
        exchange.check_progress(now, PICKED_UP)
        if exchange.state is ExchangeState.REPLY and self._codec.state is Due.TURN and now - self._replied >= _EXTRA:
            exchange.caller_turns()

    def withdraw(self) -> None:
        """No request is wanted any more: it closes, unless it has one. Octopus gets no END where it may be sending (1.10)."""
        if self._exchange is None and not self._failing:
            self._end(Close.FIN, None, "")

    def stop(self) -> None:
        """Closes it now, whatever it does."""
        cut = self.among_streams
        if self._exchange:
            self._exchange.stop()
        self._end(Close.FIN, None, "")
        if cut:  # the process may end before all that was written has gone out, and its FIN must not stand there (wire.md 5.7)
            self.link.abortConnection()

    def cut(self, why: str) -> None:
        """Closes it now, and nothing more goes out of what was written."""
        reset = self.state is not State.DIALLING and (self.among_streams or self.link.unread > 0)
        if self._exchange:
            self._exchange.stop(Outcome.CUT, why)
        self._end(Close.FIN, None, "")
        if reset:
            self.link.abortConnection()

    def _end(self, close: Close, trouble: NodeTrouble | None, detail: str) -> None:
        before, self.state = self.state, State.CLOSED
        if before is State.CLOSED:
            return
        self._kept = []
        if before is State.DIALLING:
            assert self._dial
            self._dial.cancel()
        elif close is not Close.GONE:
            self.link.loseConnection(reset=close is Close.RST)
        self._owner.poll_ended(self, trouble, detail)
