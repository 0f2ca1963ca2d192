"""One connection that the relay dialled to a Tentacle: pinned, identified, proved, leased, idle, and proved again.

DIALLING --pinned--> IDENTIFYING --MX-SERVER--> LEASED --whole reply--> IDLE --next lease--> PROVING --PROCEED--> LEASED
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Protocol

from certs.sharing import Context
from certs.thumbprint import Thumbprint
from relay.halibut.connection import Connection
from relay.halibut.errors import RemoteProtocolError
from relay.halibut.events import Line, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.roles import Role
from relay.halibut.roles import State as Due
from relay.lease import Close
from relay.outcomes import DIAL_OUTCOMES, Outcome
from relay.transport.connection import TLSConnection
from relay.transport.dialler import Dial
from relay.transport.errors import DialError, WrongCertificateError
from relay.transport.loop import Loop
from routing.table import Machine


class State(Enum):
    DIALLING = "dialling"
    IDENTIFYING = "identifying"
    PROVING = "proving"
    LEASED = "leased"
    IDLE = "idle"
    CLOSED = "closed"


# Python 3.11 finds a name of the module for nothing, and a member of an Enum at the price of a call.
_DIALLING, _IDENTIFYING, _PROVING, _LEASED, _IDLE, _CLOSED = State
_NEXT, _TURN = Unit.NEXT, Due.TURN


class Owner(Protocol):
    """The pool that a connection belongs to."""

    def connection_ready(self, connection: "BackConnection") -> None:
        """It waits for a request."""

    def connection_part(self, connection: "BackConnection", part: Part) -> None:
        """A part of a reply."""

    def connection_body(self, connection: "BackConnection", count: int, done: Callable[[], None]) -> None:
        """The next ``count`` bytes belong to a reply's stream and may be pumped; done is to be called behind them."""

    def connection_closing(self, connection: "BackConnection") -> None:
        """Its Tentacle has closed while it was paused."""

    def connection_lost(self, connection: "BackConnection", before: State, outcome: Outcome, detail: str) -> None:
        """It is closed; in which state it was."""


class BackConnection:
    """See above. state: where it is; since: when it came there, where that matters (the reactor's clock)."""

    def __init__(self, loop: Loop, machine: Machine, context: Context, owner: Owner, connect: float) -> None:
        """Dials at once. connect: seconds for TCP and TLS."""
        self._loop = loop
        self._pins: tuple[Thumbprint, ...] = machine.thumbprints
        self._owner = owner
        self._codec = Connection(Role.DIALLING_CLIENT, Limits(envelope=machine.limits.envelope))
        self.link: TLSConnection | None = None
        self.more_frames = False  # the reply repeats a stream's id: nobody knows how many of its frames come (wire.md 5.5)
        self.state = _DIALLING
        self.since = loop.reactor.seconds()
        address = machine.tentacle
        assert address, "a polling Tentacle is not dialled"
        self._dial: Dial | None = Dial(
            loop, address.host, address.port, context, self, connect, self._dial_failed, machine=machine.name
        )

    # ---- until it is ready ------------------------------------------------------------------------------------------

    def _dial_failed(self, error: Exception) -> None:
        outcome = DIAL_OUTCOMES[error.reason] if isinstance(error, DialError) else Outcome.TLS
        self._lost(outcome, str(error))

    def connectionMade(self) -> None:
        assert self._dial
        link = self._dial.link
        assert link is not None
        self.link = link
        self._dial = None  # a relay has thousands of these, and each is kept for hours
        shown = link.peer_certificate
        if shown is None or not any(pin.matches(shown) for pin in self._pins):
            wrong = WrongCertificateError(str(Thumbprint.of(shown)) if shown else "")
            link.loseConnection()  # as Halibut does: a bare FIN without one byte (wire.md 1.5)
            self._lost(Outcome.WRONG_CERTIFICATE, str(wrong))
            return
        self.state = _IDENTIFYING
        link.write(self._codec.send(Unit.PREAMBLE))
        link.write(self._codec.send(Unit.CLIENT_IDENTITY))

    def shows(self, pins: Iterable[Thumbprint]) -> bool:
        """Whether its Tentacle has shown a certificate of one of these pins."""
        shown = self.link.peer_certificate if self.link else None
        return shown is not None and any(pin.matches(shown) for pin in pins)

    def prove(self) -> None:
        """Asks an idle one whether it still lives; connection_ready() or connection_lost() follows."""
        assert self.link is not None
        self.state = _PROVING
        self.since = self._loop.reactor.seconds()
        self.link.write(self._codec.send(_NEXT))

    # ---- in use -----------------------------------------------------------------------------------------------------

    def send(self, part: Part) -> None:
        """Writes a part of a request."""
        assert self.link is not None
        self._codec.forward(part)
        self.link.write(part.data)

    @property
    def reusable(self) -> bool:
        """A whole reply has come, nothing else may follow it, and the Tentacle waits for NEXT or END."""
        return self.state is _LEASED and self._codec.state is _TURN and not self.more_frames

    def rest(self) -> None:
        """Its exchange is over; it is idle from now on."""
        self.state = _IDLE
        self.since = self._loop.reactor.seconds()

    def dataReceived(self, data: bytes) -> None:
        try:
            events = self._codec.receive_data(data)
        except RemoteProtocolError as error:
            before = self.state
            self.close(Close.RST if self._codec.forwarding else Close.FIN)
            self._owner.connection_lost(self, before, Outcome.TENTACLE_BROKE, f"{error} (wire.md {error.rule})")
            return
        goes_on = False  # a message: only then may the next bytes be of a body
        for event in events:
            if type(event) is Part:
                message, goes_on = event.message, not event.last
                if message and message.streams:
                    self.more_frames = len({stream.id for stream in message.streams}) < len(message.streams)
                self._owner.connection_part(self, event)
            elif type(event) is Line:
                self.state = _LEASED
                self._owner.connection_ready(self)
            if self.state is _CLOSED:  # by an owner that takes no more of it
                return
        left = self._codec.body_left if goes_on else 0
        if left and self.state is _LEASED:
            self._owner.connection_body(self, left, lambda: self._codec.body_passed(left))

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self, close: Close) -> None:
        """Closes it, FIN or RST, without telling the owner. An idle one says END first (wire.md 1.10)."""
        if self.state is _CLOSED:
            return
        before, self.state = self.state, _CLOSED
        link = self.link
        if link is None:
            assert self._dial
            self._dial.cancel()
        elif close is Close.RST:
            link.abortConnection()
        else:
            if before is _IDLE:
                link.write(self._codec.send(Unit.END))
            link.loseConnection()

    def peerClosed(self) -> None:
        self._owner.connection_closing(self)

    def connectionLost(self, reason: Exception) -> None:
        detail = str(reason)
        try:
            self._codec.receive_end()
        except RemoteProtocolError as error:
            detail = str(error)
        outcome = Outcome.NOT_TRUSTED if self.state is _IDENTIFYING else Outcome.TENTACLE_GONE
        self._lost(outcome, detail)

    def _lost(self, outcome: Outcome, detail: str) -> None:
        before, self.state = self.state, _CLOSED
        self._owner.connection_lost(self, before, outcome, detail)
