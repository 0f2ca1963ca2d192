"""What is known of one connection that was passed through: for whoever moves it, logs it, or counts it."""

from dataclasses import dataclass

from relay.outcomes import Outcome


@dataclass(slots=True)
class Passed:
    """When what happened; times in seconds of the reactor's clock, sizes in bytes as the other side took them.

    door: the relay's own address that the caller came to. began: it came. ready: the Tentacle's host had taken the
    connection. replied: the Tentacle's first byte came. request_bytes: to the Tentacle; reply_bytes: to the caller.
    """

    machine: str
    door: str
    peer: str
    began: float
    ready: float = 0.0
    replied: float = 0.0
    ended: float = 0.0
    request_bytes: int = 0
    reply_bytes: int = 0
    outcome: Outcome | None = None
    detail: str = ""
