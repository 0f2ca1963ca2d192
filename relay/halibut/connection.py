"""One end of a Halibut conversation: bytes of the peer in, events out; our units in, bytes out.

Rules:
1. The state is shared by both ends (roles.py). receive_data() moves it for the peer's units, send() and forward() for ours.
2. Every byte that is received is in exactly one event's unit; a message's bytes stand in its Parts as they came, and in order.
3. Input may be split and joined in any way. Parts keep the boundaries of the input, except that a frame's id and lengths
   are put together: they travel whole (wire.md 2.7).
4. After an error the connection only discards.
"""

from typing import Final

from relay.halibut import lines
from relay.halibut.envelope import EnvelopeReader
from relay.halibut.errors import (
    EnvelopeError,
    LineError,
    LocalProtocolError,
    RemoteProtocolError,
    TurnError,
    UnexpectedEndError,
)
from relay.halibut.events import Event, Line, NotHalibut, Part, Unit
from relay.halibut.frames import ID_SIZE, FrameReader
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message
from relay.halibut.plain import read_plain
from relay.halibut.roles import LISTENERS_TURN, MESSAGE, TURNS, Role, Side, State, Style
from relay.halibut.text import LineReader, PreambleReader, control_line, identity

_EMPTY_LINE: Final = b"\r\n"
_OURS: Final = {
    Unit.PREAMBLE: lines.PREAMBLE,
    Unit.CLIENT_IDENTITY: lines.CLIENT_IDENTITY,
    Unit.SERVER_IDENTITY: lines.SERVER_IDENTITY,
    Unit.NEXT: lines.NEXT,
    Unit.PROCEED: lines.PROCEED,
    Unit.END: lines.END,
}

_NEVER: Final[frozenset[State]] = frozenset()  # one for all: Python makes a new one each time, of 0.2 KB

# Python 3.11 finds a name of the module for nothing, and a member of an Enum at the price of a call.
_PREAMBLE, _IDENTITY, _ANSWER, _REQUEST, _REPLY, _TURN, _PROCEED, _ENDED = State
_ENVELOPE, _NULL = Unit.ENVELOPE, Kind.NULL

# Lines as real peers send them: one alone in a record.
_ALONE: Final = {
    lines.PREAMBLE: Line(Unit.PREAMBLE),
    lines.CLIENT_IDENTITY: Line(Unit.CLIENT_IDENTITY),
    lines.SERVER_IDENTITY: Line(Unit.SERVER_IDENTITY),
    lines.NEXT: Line(Unit.NEXT),
    lines.PROCEED: Line(Unit.PROCEED),
    lines.END: Line(Unit.END),
}


class Connection:
    """Our end of one connection, in one of the four roles.

    state: what is due.
    """

    __slots__ = ("_awaited", "_discarding", "_empty_lines", "_envelope", "_frames", "_held", "_identity", "_limits", "_line",
                 "_our_turn", "_ours", "_peer", "_preamble", "_role", "_sending", "_subscription", "_theirs",
                 "state")  # fmt: skip

    def __init__(self, role: Role, limits: Limits, subscription: str = "") -> None:
        """subscription: what a dialling service says it is; only for that role. Raises ValueError for an impossible one."""
        self._role = role
        self._awaited = Kind.RESPONSE if role.is_client else Kind.REQUEST
        self._limits = limits
        self._peer = Side.LISTENER if role.side is Side.DIALLER else Side.DIALLER
        self._ours, self._theirs = TURNS[role.style, role.side], TURNS[role.style, self._peer]
        # where a dialler that is our peer may only give up
        self._our_turn = LISTENERS_TURN[role.style] if role.side is Side.LISTENER else _NEVER
        self._subscription = lines.subscriber_identity(subscription) if role is Role.DIALLING_SERVICE else b""
        self._preamble = PreambleReader()
        self._line = LineReader(limits.line)
        self._identity: Line | None = None  # whose empty line is due
        self._empty_lines = 0
        self._envelope: EnvelopeReader | None = None
        self._frames: FrameReader | None = None
        self._held = b""  # the start of what may yet be either of two things: END or an envelope, an id or a line
        self._sending: Part | None = None  # the last part that we forwarded of a message that is not at its end
        self._discarding = False
        self.state = _PREAMBLE

    def take_limits(self, limits: Limits) -> None:
        """Other limits from now on: a listener learns from the dialler's identity whose they are."""
        self._limits = limits

    # ---- what we send -----------------------------------------------------------------------------------------------

    def send(self, unit: Unit) -> bytes:
        """The bytes of a line of ours, to be written in one record. Raises LocalProtocolError where it is not due."""
        if unit is MESSAGE:
            raise LocalProtocolError("an envelope is forwarded, part by part, not sent")
        if self._sending:
            raise LocalProtocolError(f"{unit.value} is not due, but the rest of a message")
        following = self._ours[self.state].get(unit)
        if following is None:
            raise LocalProtocolError(f"{unit.value} is not due, but {self.state.value}")
        self.state = following
        return _OURS.get(unit) or self._subscription

    def send_null(self) -> bytes:
        """A keep-alive for a polling Tentacle that waits (wire.md 4.3). Raises LocalProtocolError."""
        if self._role is not Role.LISTENING_CLIENT or self.state is not _REQUEST or self._sending:
            raise LocalProtocolError("a keep-alive goes from a listening client to a waiting poller only")
        self.state = _TURN
        return lines.NULL_ENVELOPE

    def forward(self, part: Part) -> None:
        """Notes that a part of a message, received elsewhere, goes out here. Raises LocalProtocolError where none is due."""
        if part.extra:
            return
        following = self._ours[self.state].get(MESSAGE)
        if following is None:
            raise LocalProtocolError(f"a message is not due, but {self.state.value}")
        if part.message and part.message.kind is _NULL and self.state is _REQUEST:
            raise LocalProtocolError("a keep-alive is not forwarded: send_null() makes one's own")
        if part.last:
            self._sending = None
            self.state = following
        else:
            self._sending = part

    @property
    def forwarding(self) -> bool:
        """A message of ours has begun and is not at its end."""
        return self._sending is not None

    @property
    def forwarding_streams(self) -> bool:
        """It is among its frames: a peer must not see a FIN there (wire.md 5.7)."""
        return self._sending is not None and (self._sending.unit is not Unit.ENVELOPE or self._sending.message is not None)

    # ---- what we receive --------------------------------------------------------------------------------------------

    @property
    def receiving(self) -> bool:
        """A unit of the peer, or a message of it, has begun and is not at its end."""
        frames = self._frames
        return bool(
            self._envelope
            or self._held
            or self._line.held
            or self._identity
            or (frames and (frames.due or frames.inside))
            or self._in_preamble
        )

    @property
    def _in_preamble(self) -> bool:
        return self.state is _PREAMBLE and self._preamble.begun

    @property
    def more_frames(self) -> bool:
        """The last message repeats an id: more of its frames may come, or not (wire.md 5.5)."""
        return self._frames is not None and (self._frames.more or self._frames.inside)

    @property
    def names(self) -> tuple[str, str] | None:
        """The service and method of the request that is coming in; None until both were read, and behind its envelope."""
        return self._envelope.names if self._envelope else None

    @property
    def body_left(self) -> int:
        """How many of the next bytes belong to a stream's body, and need not pass through here (see body_passed)."""
        return self._frames.body_left if self._frames else 0

    def body_passed(self, count: int) -> None:
        """So many bytes of the body went from the peer to where they belong without us. Raises LocalProtocolError."""
        if self._frames is None or not 0 < count <= self._frames.body_left:
            raise LocalProtocolError(f"{count} bytes of a body cannot have passed where {self.body_left} are left")
        self._frames.body_passed(count)

    def receive_data(self, data: bytes) -> list[Event]:
        """What the peer's bytes say. Raises RemoteProtocolError; what came before the offence is then lost with it."""
        if self._discarding or self.state is _ENDED:
            return []
        if not (self._envelope or self._frames or self._held):
            alone = self._receive_alone(data)
            if alone:
                return [alone]
        events: list[Event] = []
        try:
            offset = 0
            while offset < len(data):
                offset = self._receive(data, offset, events)
        except RemoteProtocolError:
            self._discarding = True
            raise
        return events

    def receive_end(self) -> list[Event]:
        """The peer has closed. Raises UnexpectedEndError where that cuts a unit or a message short (wire.md 1.10)."""
        if self._discarding or self.state is _ENDED:
            return []
        self._discarding = True
        if self.state is _PREAMBLE and (event := self._preamble.end()):
            return [event]
        if self.receiving:
            raise UnexpectedEndError(f"closed inside {self._place()}", "1.10")
        return []

    def _place(self) -> str:
        if self.state is _PREAMBLE:
            return "the preamble"
        if self._envelope:
            return "an envelope"
        return "a line" if self._held or self._line.held or self._identity else "a message's streams"

    def _receive_alone(self, data: bytes) -> Event | None:
        """What nearly every read is: one control line, or one plain message. None: anything else; nothing has changed then."""
        due = self._theirs[self.state]
        following = due.get(MESSAGE)
        if following:
            plain = read_plain(self._awaited, data, self._limits)
            if plain is None or plain[1] != len(data):
                return None
            self.state = following
            return Part(_ENVELOPE, data, plain[0], True)
        line = _ALONE.get(data)
        if line is None or self._empty_lines or self._identity or self._line.held or self._in_preamble:
            return None
        following = due.get(line.unit)
        if following is None:
            return None
        self.state = following
        return line

    def _receive(self, data: bytes, offset: int, events: list[Event]) -> int:
        """Takes one step; the offset of what is left."""
        if self._envelope:
            return self._receive_envelope(data, offset, events)
        frames = self._frames
        if frames and (frames.due or frames.inside):
            return self._receive_frame(frames, data, offset, events)
        if MESSAGE in self._theirs[self.state]:
            return self._begin_message(data, offset, events)
        if frames:
            return self._receive_frame_or_line(frames, data, offset, events)
        if self.state in self._our_turn:
            return self._receive_giving_up(data, offset, events)
        if self.state is _PREAMBLE and self._peer is Side.DIALLER:
            return self._receive_preamble(data, offset, events)
        return self._receive_line(data, offset, events)

    def _receive_preamble(self, data: bytes, offset: int, events: list[Event]) -> int:
        event, offset = self._preamble.feed(data, offset)
        if event is None:
            return offset
        events.append(event)
        if isinstance(event, NotHalibut):
            self._discarding = True
            self.state = _ENDED
            return len(data)
        self.state = self._theirs[_PREAMBLE][Unit.PREAMBLE]
        return offset

    def _receive_line(self, data: bytes, offset: int, events: list[Event]) -> int:
        """An identity with its empty line, or a control line behind any number of empty ones."""
        due = self._theirs[self.state]
        if not due:
            raise TurnError(f"bytes while {self.state.value} is due", "3.5")
        if self._held:  # of a line that began when it was our turn
            self._line.feed(self._held, 0)
            self._held = b""
        text, offset = self._line.feed(data, offset)
        if text is None:
            return offset
        if self._identity:
            if text:
                raise LineError("an identity without an empty line behind it", "2.4", text)
            line, self._identity = self._identity, None
        elif self.state is _IDENTITY or (self.state is _ANSWER and self._peer is Side.LISTENER):
            self._identity = identity(text)
            return offset
        else:
            unit = control_line(text)
            if unit is None:
                self._count_empty_line()
                return offset
            line = Line(unit)
        if line.unit not in due:
            raise LineError(f"{line.unit.value} while {self.state.value} is due", "3")
        if line.unit is Unit.END:
            return self._receive_end_line(data, events)
        self.state = due[line.unit]
        self._empty_lines = 0
        events.append(line)
        return offset

    def _receive_end_line(self, data: bytes, events: list[Event]) -> int:
        """What stands behind END counts no more, in the same piece or in the next."""
        self.state = self._theirs[self.state][Unit.END]
        events.append(_ALONE[lines.END])
        return len(data)

    def _receive_giving_up(self, data: bytes, offset: int, events: list[Event]) -> int:
        """It is our turn; a dialler may still send END, and empty lines before it. Anything else is told from these at once."""
        word = lines.END if (self._held or data[offset:])[0] == lines.END[0] else _EMPTY_LINE
        held = self._held + data[offset : offset + len(word) - len(self._held)]
        if not word.startswith(held):
            raise TurnError(f"bytes while {self.state.value} is due", "3.5")
        offset += len(held) - len(self._held)
        self._held = b"" if held == word else held
        if held == lines.END:
            return self._receive_end_line(data, events)
        if held == _EMPTY_LINE:
            self._count_empty_line()
        return offset

    def _count_empty_line(self) -> None:
        self._empty_lines += 1
        if self._empty_lines > self._limits.line:
            raise LineError(f"more than {self._limits.line} empty lines", "3")

    def _begin_message(self, data: bytes, offset: int, events: list[Event]) -> int:
        """A message is due. A dialler may send END in its place, which no envelope begins with."""
        if self._peer is Side.DIALLER and (self._held or data[offset] == lines.END[0]):
            held = self._held + data[offset : offset + len(lines.END) - len(self._held)]
            if lines.END.startswith(held):
                offset += len(held) - len(self._held)
                self._held = held
                if held == lines.END:
                    self._held = b""
                    return self._receive_end_line(data, events)
                return offset
        self._frames = None
        self._envelope = EnvelopeReader(self._awaited, self._limits)
        if self._held:
            held, self._held = self._held, b""
            self._receive_envelope(held, 0, events)
            return offset
        return self._receive_envelope(data, offset, events)

    def _receive_envelope(self, data: bytes, offset: int, events: list[Event]) -> int:
        envelope = self._envelope
        assert envelope is not None
        taken = envelope.feed(data[offset:] if offset else data)
        part = data if taken == len(data) else data[offset : offset + taken]
        message = envelope.message
        if message is None:
            events.append(Part(_ENVELOPE, part))
            return offset + taken
        self._envelope = None
        if message.streams:
            self._frames = FrameReader(message.streams, self._limits)
            events.append(Part(_ENVELOPE, part, message))
        else:
            self._message_ends(message)
            events.append(Part(_ENVELOPE, part, message, last=True))
        return offset + taken

    def _message_ends(self, message: Message | None) -> None:
        if message and message.kind is _NULL and self.state is _REQUEST:
            if self._role.style is not Style.POLLING:
                raise EnvelopeError("a null message where a request is due", "4.3")
            self.state = _TURN
            return
        self.state = self._theirs[self.state][MESSAGE]

    def _receive_frame_or_line(self, frames: FrameReader, data: bytes, offset: int, events: list[Event]) -> int:
        """Behind a message that repeats an id: one more frame for it, or what follows a message without one."""
        before = len(self._held)
        held = self._held + data[offset : offset + ID_SIZE - before]
        if not frames.may_begin(held):
            self._frames = None
            self._held = b""
            position = 0
            while position < before:
                position = self._receive(held[:before], position, events)
            return len(data) if self.state is _ENDED else offset
        self._held = held if len(held) < ID_SIZE else b""
        if not self._held:
            self._receive_frame(frames, held, 0, events)
        return offset + len(held) - before

    def _receive_frame(self, frames: FrameReader, data: bytes, offset: int, events: list[Event]) -> int:
        part, offset = frames.feed(data, offset)
        if part:
            events.append(part)
            if part.last:
                self._message_ends(None)
            if not (frames.due or frames.more or frames.inside):
                self._frames = None
        return offset
