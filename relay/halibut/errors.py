"""What can be wrong with a conversation, and whose fault it is.

    HalibutError
    +-- LocalProtocolError        we misused the codec: a bug of ours, never caused by bytes from the network
    +-- RemoteProtocolError       the peer broke the protocol: its connection ends
        +-- LineError             a preamble, identity or control line that cannot be (wire.md 2.2, 2.4, 3)
        +-- TurnError             bytes while it was not the peer's turn to speak (wire.md 3.5)
        +-- EnvelopeError         deflate or BSON that cannot be, or over a limit (wire.md 4)
        +-- SmugglingError        a document that two readers could read differently (wire.md 5.5)
        +-- StreamError           a data stream frame that does not fit its references (wire.md 5.2, 5.6)
        +-- UnexpectedEndError    the peer closed inside a unit or inside a message

Nothing else is ever raised for bytes from the network. After a RemoteProtocolError a connection only discards.
"""


class HalibutError(Exception):
    """Base of all errors of the codec."""


class LocalProtocolError(HalibutError):
    """The codec was asked for something that the protocol does not allow now."""


class RemoteProtocolError(HalibutError):
    """The peer broke a rule.

    Attributes: rule, the place in wire.md that it broke, such as ``"5.2"``; value, what came instead, at most 80 characters,
    None where it could be a secret: behind the identities, what is out of place may be a piece of a stream (wire.md 10.20).
    """

    def __init__(self, message: str, rule: str, value: object = None) -> None:
        shown = None if value is None else repr(value)[:80]
        super().__init__(message if shown is None else f"{message}: {shown}")
        self.rule = rule
        self.value = shown


class LineError(RemoteProtocolError):
    """A line that is too long, or says what nobody may say here."""


class TurnError(RemoteProtocolError):
    """Bytes from the peer while it has to wait for us."""


class EnvelopeError(RemoteProtocolError):
    """An envelope that is not one deflated BSON document, or is larger than allowed."""


class SmugglingError(EnvelopeError):
    """A document that a receiver could read in another way than this codec."""


class StreamError(RemoteProtocolError):
    """A data stream's frame with an unknown id, an impossible length, or another length at its end."""


class UnexpectedEndError(RemoteProtocolError):
    """The peer closed in the middle of something."""
