"""One caller at a listening front, with everything around it in memory."""

from typing import Any

from admitted import admission, admitted
from exchange_scene import FakeBack, FakeLease
from fake_link import FakeLink
from halibut_bytes import REQUEST, RESPONSE, brought, deflated, frame, guid, reference, response
from tables import OCTOPUS, machine
from twisted.internet.task import Clock

from relay.call import Call
from relay.fronts.listening import ListeningFront
from relay.halibut.connection import Connection
from relay.halibut.events import Part
from relay.halibut.lines import CLIENT_IDENTITY, NEXT, PREAMBLE, SERVER_IDENTITY
from relay.halibut.roles import Role, State
from relay.outcomes import Outcome, Refusal
from routing.table import Machine, Octopus

PEER = "192.0.2.1:50000"
IDENTIFY = 60.0
ID = guid(7)
WITH_STREAM = deflated(response(reference(ID, 4, typed=True)))


class FakeDoor:
    """A Door that writes down what it is told."""

    def __init__(self, machine: Machine, limits: dict[str, int], peer: str = PEER) -> None:
        self.machine = machine
        self.admission = admission(*machine.octopus, **limits)
        self._peer = peer
        self.clock = Clock()
        self.clock.advance(1000)
        self.asked: list[str] = []
        self.backs = FakeBack([])
        self.calls: list[Call] = []
        self.refusals: list[tuple[Refusal, str]] = []
        self.gone: list[ListeningFront] = []

    def back(self, octopus: Octopus) -> FakeBack:
        self.asked.append(octopus.name)
        return self.backs

    def begin(self, octopus: Octopus) -> tuple[Outcome, str] | None:
        return self.admission.begin(octopus.name)

    def ended(self, call: Call) -> None:
        self.admission.end(call.octopus)
        self.calls.append(call)

    def not_begun(self, call: Call) -> None:
        self.calls.append(call)

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        assert peer == self._peer
        self.refusals.append((refusal, detail))

    def left(self, front: ListeningFront) -> None:
        self.gone.append(front)


class Visit:
    """One caller at a front, from the end of its handshake on."""

    def __init__(
        self, certificate: bytes | None = OCTOPUS, made: bool = True, limits: Any = (), peer: str = PEER, **options: Any
    ) -> None:
        self.door = FakeDoor(machine(**options), dict(limits), peer)
        self.visit = admitted(peer, self.door.clock.seconds(), self.door.admission)
        self.front = ListeningFront(self.door, self.visit)
        self.front.link = self.link = FakeLink(self.front, certificate)
        self._tentacles: dict[FakeLease, Connection] = {}
        if made:
            self.front.connectionMade()

    def says(self, *records: bytes) -> None:
        self.link.receive(*records)

    def hears(self) -> list[bytes]:
        """What was written since this was asked last."""
        written, self.link.written = self.link.written, []
        return written

    @property
    def lease(self) -> FakeLease:
        return self.door.backs.leases[-1]

    @property
    def outcomes(self) -> list[Outcome | None]:
        return [call.outcome for call in self.door.calls]

    @property
    def refusals(self) -> list[Refusal]:
        return [refusal for refusal, _ in self.door.refusals]

    def replies(self, data: bytes) -> None:
        """The Tentacle does, or begins to, or goes on."""
        codec = self._tentacles.setdefault(self.lease, brought(Role.DIALLING_CLIENT, State.REPLY))
        for event in codec.receive_data(data):
            assert isinstance(event, Part)
            self.lease.holder.reply_part(event)

    # ---- the usual way up to some point -----------------------------------------------------------------------------

    def identified(self) -> "Visit":
        self.says(PREAMBLE, CLIENT_IDENTITY)
        return self

    def answered(self) -> "Visit":
        self.identified().lease.ready()
        assert self.hears() == [SERVER_IDENTITY]
        return self

    def in_call(self) -> "Visit":
        self.answered().says(REQUEST)
        return self

    def in_reply(self) -> "Visit":
        self.in_call().replies(RESPONSE[:20])
        return self

    def among_streams(self) -> "Visit":
        self.in_call().replies(WITH_STREAM + frame(ID, b"body")[:26])
        return self

    def served(self) -> "Visit":
        self.in_call().replies(RESPONSE)
        assert self.hears() == [RESPONSE]
        return self

    def asked_again(self) -> "Visit":
        self.served().says(NEXT)
        return self

    def check(self, seconds: float) -> None:
        """Time goes by, and the door looks at it every 5 seconds."""
        for _ in range(int(seconds / 5)):
            self.door.clock.advance(5)
            if not self.door.gone:
                self.front.check(self.door.clock.seconds(), IDENTIFY)
