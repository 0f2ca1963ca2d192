"""What is known of one exchange: for whoever moves it, logs it, or counts it."""

from dataclasses import dataclass

from relay.halibut.message import Kind, Message
from relay.outcomes import Outcome


@dataclass(slots=True)
class Call:
    """What is asked for, and when what happened; times in seconds of the reactor's clock, sizes in bytes.

    began: the caller's identity or NEXT. served: its turn came. ready: the back was. requested: the request's last byte went
    out. replied: the reply's first byte came.
    """

    machine: str
    octopus: str
    peer: str
    began: float
    served: float = 0.0
    ready: float = 0.0
    requested: float = 0.0
    replied: float = 0.0
    ended: float = 0.0
    reused: bool = False
    request: Message | None = None
    reply: Message | None = None
    request_bytes: int = 0
    reply_bytes: int = 0
    outcome: Outcome | None = None
    detail: str = ""

    @property
    def mismatched(self) -> bool:
        """The reply bears another id than the request, so it answers another call. It passes, and is counted (wire.md 11.3)."""
        request, reply = self.request, self.reply
        return request is not None and reply is not None and reply.kind is not Kind.NULL and reply.id != request.id

    @property
    def unknown(self) -> tuple[str, ...]:
        """Members of the two messages that no known Halibut has. They pass, and are counted (wire.md 5.5)."""
        return (self.request.unknown if self.request else ()) + (self.reply.unknown if self.reply else ())
