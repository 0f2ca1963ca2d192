"""How long a peer waits (wire.md 3, 6.5, 7.5), in seconds. The defaults are Halibut's recommended values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Clock(Protocol):
    """What the peers need of a reactor to wait: the reactor itself, or a Clock of twisted.internet.task."""

    def seconds(self) -> float:
        """Now."""

    def callLater(self, delay: float, function: Callable[..., object], /, *args: object) -> Any:
        """An IDelayedCall."""


class Reactor(Clock, Protocol):
    """The Twisted reactor, as far as the peers use it."""

    def listenTCP(self, port: int, factory: Any, backlog: int = ..., interface: str = ...) -> Any:
        """An IListeningPort."""

    def spawnProcess(self, processProtocol: Any, executable: Any, args: Any = ..., env: Any = ..., path: Any = ...) -> Any:
        """An IProcessTransport."""


@dataclass(frozen=True, slots=True)
class Times:
    """Waits in seconds.

    connect: TCP connect. tcp: TLS, preamble, identity, gaps inside a message, one blocked write, a listening service's wait
    for NEXT. heartbeat: PROCEED, and a listening client's wait for NEXT. reply: first byte of a reply. poll_request: a polling
    Tentacle's next envelope. next_request: a listening service's next request. pooled: age at which Octopus drops an idle
    connection. retry_pause: between Octopus's attempts, and a polling Tentacle's. pickup: how long a request waits for a
    poller. keep_alive: between null messages. backoff_min, backoff_max: before a polling Tentacle dials again. close: from our
    FIN until the socket is given up.
    """

    connect: float = 60
    tcp: float = 60
    heartbeat: float = 60
    reply: float = 300
    poll_request: float = 60
    next_request: float = 600
    pooled: float = 540
    retry_pause: float = 1
    pickup: float = 120
    keep_alive: float = 30
    backoff_min: float = 5
    backoff_max: float = 120
    close: float = 5


def pause(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires after that many seconds; may be cancelled."""
    done: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, done.callback, None)
    return done
