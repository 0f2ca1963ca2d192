"""A pool of connections to a Tentacle, its callers and what it dials, in memory."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from dialled import Dials, replies, take
from fake_link import FakeLink
from halibut_bytes import REQUEST, RESPONSE, guid
from tables import machine
from twisted.internet.task import Clock

from relay.backs.listening import ListeningBack, ListeningLease
from relay.call import Call
from relay.halibut.events import Part, Unit
from relay.halibut.message import Kind, Message
from relay.outcomes import Outcome

READY, CONNECT, PROVE, BACK_IDLE = 45.0, 20.0, 5.0, 50.0
ID = guid(7)


class Holder:
    """A LeaseHolder that writes down what it is told, and the lease that it has."""

    def __init__(self, pool: "Pool", name: str) -> None:
        self.call = Call("web01", "production", name, pool.clock.seconds())
        self.told: list[str] = []
        self.data = b""
        self.bodies: list[tuple[int, Callable[[], None]]] = []
        self.lease: ListeningLease = pool.back.acquire(self.call, self.call.began + READY, self)
        assert self.told == [], "told from within"

    def lease_ready(self) -> None:
        self.told.append("ready")

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"failed {outcome.value}: {detail}")

    def reply_part(self, part: Part) -> None:
        self.data += part.data

    def reply_body(self, count: int, done: Callable[[], None]) -> None:
        self.bodies.append((count, done))

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"lost {outcome.value}: {detail}")

    def back_closing(self) -> None:
        self.told.append("closing")

    # ---- what a test does -------------------------------------------------------------------------------------------

    def sends_request(self) -> None:
        self.lease.send(Part(Unit.ENVELOPE, REQUEST, Message(Kind.REQUEST), last=True))


class Pool:
    """A ListeningBack, and all that it dials."""

    def __init__(self, dials: Dials, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.dials = dials
        loop = cast("Any", SimpleNamespace(reactor=self.clock))
        self.back = ListeningBack(loop, machine(**options), cast("Any", "context"))

    def acquire(self, name: str = "caller") -> Holder:
        return Holder(self, name)

    def served(self) -> tuple[Holder, FakeLink]:
        """Somebody gets a new connection, and has its whole reply."""
        holder = self.acquire()
        link = self.dials[-1].identifies()
        assert holder.told == ["ready"]
        holder.sends_request()
        assert take(link) == [REQUEST]
        replies(link)
        assert holder.data == RESPONSE
        return holder, link

    def pooled(self, count: int = 1) -> list[FakeLink]:
        """So many idle connections, the one used first in front."""
        served = [self.served() for _ in range(count)]
        for holder, _ in served:
            holder.lease.release()
        assert (len(self.back), self.back.waiting) == (count, 0)
        return [link for _, link in served]

    def check_nothing_is_left(self) -> None:
        """No connection, nobody who waits, and no timer but those of the pool itself, which go with it."""
        assert (len(self.back), self.back.waiting) == (0, 0)
        self.back.stop()
        assert self.clock.getDelayedCalls() == []
