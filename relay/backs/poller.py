"""One connection of a polling Tentacle: identified, parked until there is a call for it, leased, and parked again.

    ARRIVING --its subscription is its own--> PARKED --lease--> LEASED --whole reply--> TURNING --NEXT--> PARKED
                                                  \\--null, every 30 s--> TURNING

Rules (wire.md 3.4, 6, 11.3):
1. Whoever may not poll sees a bare FIN and not one byte; whoever is not Halibut sees the page.
2. The null message goes out between calls only.
3. A parked connection is read all the time: its end is seen at once, and it is never chosen afterwards.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol

from certs.thumbprint import Thumbprint
from relay.clock import Clock
from relay.halibut.connection import Connection
from relay.halibut.errors import RemoteProtocolError
from relay.halibut.events import Line, NotHalibut, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.roles import Role
from relay.halibut.roles import State as Due
from relay.lease import Close
from relay.outcomes import Outcome, Refusal
from relay.page import PAGE
from relay.transport.errors import HandshakeError
from relay.transport.interface import Link

# NEXT behind the last of a reply's frames says that no more of them come (wire.md 5.5).
_REPLY_OVER: Final = Part(Unit.STREAM_CLOSING_LENGTH, b"", last=True, extra=True)


class State(Enum):
    ARRIVING = "arriving"
    PARKED = "parked"
    LEASED = "leased"
    TURNING = "turning"
    CLOSED = "closed"


class Owner(Protocol):
    """The back of the machine whose subscription it is."""

    @property
    def limits(self) -> Limits:
        """Of what the Tentacle says."""

    def connection_welcomed(self, connection: "PollerConnection") -> None:
        """It is this back's from now on, and waits for a call."""

    def connection_turned(self, connection: "PollerConnection") -> None:
        """It has said NEXT."""

    def connection_part(self, connection: "PollerConnection", part: Part) -> None:
        """A part of a reply."""

    def connection_body(self, connection: "PollerConnection", count: int, done: Callable[[], None]) -> None:
        """The next ``count`` bytes belong to a reply's stream and may be pumped; done is to be called behind them."""

    def connection_closing(self, connection: "PollerConnection") -> None:
        """Its Tentacle has closed while it was paused."""

    def connection_lost(self, connection: "PollerConnection", before: State, outcome: Outcome, detail: str) -> None:
        """It is closed; in which state it was."""


class Door(Protocol):
    """Where it came in."""

    def greeted(self, connection: "PollerConnection", certificate: bytes) -> None:
        """Its preamble has come, and it has shown this certificate (DER)."""

    def identified(self, connection: "PollerConnection", subscription: str, certificate: bytes) -> Owner | None:
        """It has said what it is. None: it was turned away, and is closed."""

    def refused(self, refusal: Refusal, peer: str, detail: str, certificate: bytes | None) -> None:
        """It was turned away, or left, before that. certificate: what it has shown, DER."""

    def left(self, connection: "PollerConnection") -> None:
        """It has gone, or belongs to a back now."""


class PollerConnection:
    """See above. link is set by the door, before the handshake begins.

    state: where it is; since: when it came there (the reactor's clock). served: it has had a call.
    """

    __slots__ = (
        "_clock",
        "_codec",
        "_door",
        "_heard",
        "_owner",
        "link",
        "more_frames",
        "peer",
        "served",
        "since",
        "state",
    )  # fmt: skip

    def __init__(self, clock: Clock, door: Door, peer: str, opened: float) -> None:
        self._clock = clock
        self._door = door
        self._codec = Connection(Role.LISTENING_CLIENT, Limits())
        self._owner: Owner | None = None
        self._heard = False
        self.link: Link
        self.peer = peer
        self.since = opened
        self.state = State.ARRIVING
        self.more_frames = False  # the reply repeats a stream's id: nobody knows how many of its frames come (wire.md 5.5)
        self.served = False

    # ---- what the back does -----------------------------------------------------------------------------------------

    def proceed(self) -> None:
        """PROCEED: it may wait for the next one."""
        self.link.write(self._codec.send(Unit.PROCEED))
        self.park()

    def park(self) -> None:
        """It waits from now on."""
        self.state = State.PARKED
        self.since = self._clock.seconds()

    def keep_alive(self) -> None:
        """A null message; NEXT is the answer."""
        self.link.write(self._codec.send_null())
        self.turn()

    def lease(self) -> None:
        """It belongs to a call from now on."""
        self.state = State.LEASED
        self.more_frames = False

    def turn(self) -> None:
        """NEXT is due from now on."""
        self.state = State.TURNING
        self.since = self._clock.seconds()

    @property
    def idle(self) -> bool:
        """Nothing of a call has been written to it since it was parked."""
        return self._codec.state is Due.REQUEST and not self._codec.forwarding

    @property
    def replied(self) -> bool:
        """A whole reply has come, and nothing else of it may follow."""
        return self._codec.state in (Due.TURN, Due.PROCEED) and not self.more_frames

    def shows(self, pins: Iterable[Thumbprint]) -> bool:
        """Whether its Tentacle has shown a certificate of one of these pins."""
        shown = self.link.peer_certificate
        return shown is not None and any(pin.matches(shown) for pin in pins)

    def send(self, part: Part) -> None:
        """Writes a part of a request."""
        self._codec.forward(part)
        self.link.write(part.data)

    # ---- what the link says -----------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """It has to speak first."""

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
                self._line(event)
            elif type(event) is NotHalibut:
                self.link.write(PAGE)
                self.leave()
            if self.state is State.CLOSED:
                return
        left = self._codec.body_left if goes_on else 0
        if left and self._owner is not None:
            self._owner.connection_body(self, left, lambda: self._codec.body_passed(left))

    def peerClosed(self) -> None:
        if self._owner is not None:
            self._owner.connection_closing(self)

    def connectionLost(self, reason: Exception) -> None:
        detail = str(reason)
        if self._owner is not None:
            try:
                self._codec.receive_end()
            except RemoteProtocolError as error:
                detail = str(error)
            self._lost(Outcome.TENTACLE_GONE, detail)
            return
        if isinstance(reason, HandshakeError):
            self._door.refused(Refusal.TLS, self.peer, detail, None)
        elif not self._heard:
            self._refused(Refusal.CERTIFICATE_REFUSED, "closed behind the handshake without a byte")
        self.leave(Close.GONE)

    # ---- events -----------------------------------------------------------------------------------------------------

    def _part(self, part: Part) -> None:
        assert self._owner is not None
        message = part.message
        if message and message.streams:
            self.more_frames = len({stream.id for stream in message.streams}) < len(message.streams)
        self._owner.connection_part(self, part)

    def _line(self, line: Line) -> None:
        if line.unit is Unit.PREAMBLE:
            shown = self.link.peer_certificate
            if shown is None:
                self.refuse(Refusal.NO_CERTIFICATE, "it showed no certificate")
            else:
                self._door.greeted(self, shown)
        elif line.unit is Unit.SUBSCRIBER_IDENTITY:
            certificate = self.link.peer_certificate
            assert certificate is not None
            owner = self._door.identified(self, line.subscription, certificate)
            if owner is not None:
                self._owner = owner
                self._codec.take_limits(owner.limits)
                self._door.left(self)
                self.link.write(self._codec.send(Unit.SERVER_IDENTITY))
                self.park()
                owner.connection_welcomed(self)
        elif line.unit is Unit.END:
            before = self.state
            self.close(Close.RST if self._codec.forwarding else Close.FIN)
            assert self._owner is not None
            self._owner.connection_lost(self, before, Outcome.TENTACLE_GONE, "END")
        else:
            self._next()

    def _next(self) -> None:
        assert self._owner is not None
        if self.state is State.LEASED and self.more_frames:
            self.more_frames = False
            self._owner.connection_part(self, _REPLY_OVER)
        if self.state is not State.CLOSED:
            self._owner.connection_turned(self)

    def _broke(self, error: RemoteProtocolError) -> None:
        detail = f"{error} (wire.md {error.rule})"
        if self._owner is None:
            self.refuse(Refusal.BROKE_PROTOCOL, detail)
            return
        before = self.state
        self.close(Close.RST if self._codec.forwarding else Close.FIN)
        self._owner.connection_lost(self, before, Outcome.TENTACLE_BROKE, detail)

    def refuse(self, refusal: Refusal, detail: str) -> None:
        """Turns it away, before it has said what it is."""
        self._refused(refusal, detail)
        self.leave()

    def _refused(self, refusal: Refusal, detail: str) -> None:
        certificate = self.link.peer_certificate
        shown = f"; {Thumbprint.of(certificate)} was shown" if certificate else ""
        self._door.refused(refusal, self.peer, detail + shown, certificate)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def close(self, close: Close) -> None:
        """Closes it, FIN or RST, without telling anybody. A listener says no END (wire.md 1.10)."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        if close is Close.RST:
            self.link.abortConnection()
        elif close is not Close.GONE:
            self.link.loseConnection()

    def leave(self, close: Close = Close.FIN) -> None:
        """Closes it before it belonged to a back."""
        self.close(close)
        self._door.left(self)

    def _lost(self, outcome: Outcome, detail: str) -> None:
        assert self._owner is not None
        before, self.state = self.state, State.CLOSED
        self._owner.connection_lost(self, before, outcome, detail)
