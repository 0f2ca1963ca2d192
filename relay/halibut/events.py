"""What the codec makes of a peer's bytes."""

from dataclasses import dataclass

from relay.halibut.message import Message
from relay.halibut.words import Word


class Unit(Word):
    """What may never share a TLS record with another (wire.md 2.7)."""

    PREAMBLE = "preamble"
    CLIENT_IDENTITY = "MX-CLIENT"
    SUBSCRIBER_IDENTITY = "MX-SUBSCRIBER"
    SERVER_IDENTITY = "MX-SERVER"
    NEXT = "NEXT"
    PROCEED = "PROCEED"
    END = "END"
    ENVELOPE = "envelope"
    STREAM_ID = "stream id"
    STREAM_LENGTH = "stream length"
    STREAM_BODY = "stream body"
    STREAM_CLOSING_LENGTH = "stream closing length"


@dataclass(frozen=True, slots=True)
class Line:
    """A preamble, identity or control line, whole. subscription: of a subscriber's identity, as received."""

    unit: Unit
    subscription: str = ""


@dataclass(frozen=True, slots=True)
class NotHalibut:
    """Whoever dialled did not begin with ``MX``: a browser, a probe, or Octopus looking for a thumbprint (wire.md 2.5, 2.6)."""


class Part:
    """Bytes of a message, to be forwarded in one TLS record, as they are.

    message: on the last part of the envelope, what it says. last: nothing of this message is due any more. extra: belongs to
    one more frame for a repeated id, behind the last (wire.md 5.5).
    """

    __slots__ = ("data", "extra", "last", "message", "unit")

    def __init__(
        self, unit: Unit, data: bytes, message: Message | None = None, last: bool = False, extra: bool = False
    ) -> None:
        self.unit = unit
        self.data = data
        self.message = message
        self.last = last
        self.extra = extra

    def __repr__(self) -> str:
        return (
            f"Part({self.unit.value}, {len(self.data)} bytes{', last' if self.last else ''}{', extra' if self.extra else ''})"
        )


Event = Line | NotHalibut | Part
