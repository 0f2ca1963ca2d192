"""The rooms that poll and are polled, in memory: a clock, links, dials, and what everybody is told."""

from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from admitted import admitted
from dialled import Dials, FakeDial, take
from fake_link import FakeLink
from tables import OCTOPUS, PRODUCTION, TENTACLE, machine
from twisted.internet.task import Clock

from relay.alarms import Alarms
from relay.backs.listening import ListeningBack
from relay.backs.parked import ParkedBack
from relay.backs.poller import PollerConnection
from relay.backs.polling import PollingBack
from relay.call import Call
from relay.fronts.dials import DialGate
from relay.fronts.listening import ListeningFront
from relay.fronts.poll import Poll
from relay.fronts.polling import PollingFront
from relay.halibut.lines import (
    CLIENT_IDENTITY,
    NEXT,
    NULL_ENVELOPE,
    PREAMBLE,
    PROCEED,
    SERVER_IDENTITY,
    subscriber_identity,
)
from relay.outcomes import NodeTrouble, Outcome, Refusal
from routing.addresses import Address
from routing.table import Machine, Octopus

SUBSCRIPTION = "poll://sq-tentapoll/"
IDENTITY = subscriber_identity(SUBSCRIPTION)
NODE = Address("octopus-1", 10943)


class Memory:
    """One machine, kiosk7. Dials of fronts and of backs are a test's to play."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.loop = cast("Any", SimpleNamespace(reactor=self.clock))
        self.machine: Machine = machine("kiosk7", **options)
        self.nodes, self.tentacles = Dials(), Dials()
        monkeypatch.setattr("relay.fronts.poll.Dial", self.nodes)
        monkeypatch.setattr("relay.backs.connection.Dial", self.tentacles)
        self.gate = DialGate(self.clock)
        self.calls: list[Call] = []
        self.refusals: list[tuple[Refusal, str]] = []
        self.story: list[str] = []
        self.draining = False
        self._living: list[FakeLink] = []
        self.polling = PollingBack(self.clock, Alarms(self.clock), self.machine)
        self.pool = ListeningBack(self.loop, self.machine, cast("Any", "context"))
        self.parked = ParkedBack(
            self.clock, cast("Any", self.pool), "kiosk7", "production", self.machine.timeouts.ready, Random(1), self._failed
        )

    def _failed(self, outcome: Outcome, detail: str) -> None:
        self.story.append(f"down: {outcome.value}: {detail}")

    # ---- House and Door ---------------------------------------------------------------------------------------------

    def begin(self, octopus: Octopus) -> tuple[Outcome, str] | None:
        """There is no limit here."""
        return None

    def ended(self, call: Call) -> None:
        self.calls.append(call)

    def poll_opened(self) -> None:
        """Counted elsewhere."""

    def poll_closed(self) -> None:
        """Counted elsewhere."""

    def node_polled(self, machine: str, octopus: str, node: str) -> None:
        assert (machine, octopus) == ("kiosk7", "production")
        self.story.append(f"polled {node}")

    def node_troubled(self, machine: str, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        assert (machine, octopus) == ("kiosk7", "production")
        self.story.append(f"{node} {trouble.value}: {detail}")

    def greeted(self, connection: PollerConnection, certificate: bytes) -> None:
        """Of a door."""

    def identified(self, connection: PollerConnection, subscription: str, certificate: bytes) -> PollingBack | None:
        assert subscription.lower() == SUBSCRIPTION
        if refusal := self.polling.refusal():
            self.refusals.append(refusal)
            connection.leave()
            return None
        return self.polling

    def refused(self, refusal: Refusal, peer: str, detail: str, certificate: bytes | None) -> None:
        self.refusals.append((refusal, detail))

    def left(self, connection: Any) -> None:
        """Of a door."""

    def back(self, octopus: Octopus) -> Any:
        """Of a door that Octopus dials: a polling Tentacle's."""
        return self.polling

    # ---- what a test does -------------------------------------------------------------------------------------------

    @property
    def outcomes(self) -> list[Outcome | None]:
        return [call.outcome for call in self.calls]

    def advance(self, seconds: float = 0.0) -> None:
        """Time goes by, in small steps where a Tentacle has to answer meanwhile."""
        step = 5.0 if self._living else seconds
        while seconds > step:
            self._step(step)
            seconds -= step
        self._step(seconds)

    def _step(self, seconds: float) -> None:
        self.clock.advance(seconds)
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
        for link in self._living:
            if link.written[-1:] == [NULL_ENVELOPE]:
                link.written.pop()
                link.receive(NEXT)
                assert link.written.pop() == PROCEED

    def told(self) -> list[str]:
        """The story since this was asked last."""
        story = list(self.story)
        self.story.clear()
        return story

    def poller(self, certificate: bytes | None = TENTACLE) -> FakeLink:
        """A Tentacle's connection whose handshake is done."""
        connection = PollerConnection(self.clock, self, "192.0.2.7:40000", self.clock.seconds())
        link = FakeLink(connection, certificate)
        connection.link = link
        connection.connectionMade()
        return link

    def parked_poller(self) -> FakeLink:
        link = self.poller()
        link.receive(PREAMBLE, IDENTITY)
        self.advance()
        assert take(link)[:1] == [SERVER_IDENTITY]
        return link

    def living_poller(self) -> FakeLink:
        """One that answers null messages by itself."""
        link = self.parked_poller()
        self._living.append(link)
        return link

    def front(self, *nodes: Address, connections: int = 1, back: Any = None, start: bool = True) -> PollingFront:
        front = PollingFront(
            self.loop,
            self.machine,
            PRODUCTION,
            nodes or (NODE,),
            SUBSCRIPTION,
            connections,
            cast("Callable[[], Any]", lambda: "context"),
            self.polling if back is None else back,
            self.gate,
            Random(1),
            self,
        )
        if start:
            front.start()
            self.advance()
        return front

    def caller(self) -> FakeLink:
        """An Octopus that dials the relay, identified."""
        front = ListeningFront(cast("Any", self), admitted("192.0.2.1:50000", self.clock.seconds()))
        front.link = link = FakeLink(front, OCTOPUS)
        front.connectionMade()
        link.receive(PREAMBLE, CLIENT_IDENTITY)
        self.advance()
        return link


def node_identifies(dial: FakeDial) -> FakeLink:
    """The node takes the relay's connection and wants no call yet."""
    link = dial.connects(OCTOPUS)
    assert take(link) == [PREAMBLE, IDENTITY]
    link.receive(SERVER_IDENTITY)
    return link


def node_proceeds(link: FakeLink) -> None:
    assert take(link) == [NEXT]
    link.receive(PROCEED)


def poll_of(link: FakeLink) -> Poll:
    return cast("Poll", link.receiver)
