"""A front, an exchange and a back without sockets: what is written to a link is dropped, and what comes is said by us."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

from benchmarks.messages import REQUEST, RESPONSE
from certs.identity import Identity
from relay.admission import Admission, Visit
from relay.backs.listening import ListeningBack
from relay.call import Call
from relay.clock import Clock
from relay.fronts.listening import ListeningFront
from relay.halibut import lines
from relay.halibut.events import Part
from relay.lease import Back, Lease
from relay.outcomes import Outcome, Refusal
from relay.transport.interface import Link, Receiver
from relay.transport.loop import Loop
from routing.load import load
from routing.table import Machine, Octopus, Table

OCTOPUS: Final = Identity.new("octopus", "Octopus Portal")
TENTACLE: Final = Identity.new("tentacle", "Octopus Tentacle")
ASKED: Final = REQUEST.read_bytes()
ANSWERED: Final = RESPONSE.read_bytes()
_PEER: Final = "192.0.2.1:50000"


def declared() -> Table:
    """A machine, by a configuration like any other."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "relay.yaml"
        file.write_text(
            f"version: 1\nrelay: {{name: bench, state: state}}\n"
            f"octopus: [{{name: bench, thumbprint: '{OCTOPUS.thumbprint}'}}]\n"
            f"machines: [{{name: web0, tentacle: 'https://127.0.0.1', thumbprint: '{TENTACLE.thumbprint}', port: 11001}}]\n"
        )
        return load(file)


class MemoryLink:
    """A Link that takes everything. written: the last that was."""

    def __init__(self, certificate: bytes) -> None:
        self.peer_certificate: bytes | None = certificate
        self.backlogged = False
        self.pump_left = 0
        self.unread = 0
        self.written = b""

    def shares(self, machine: str) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written = data

    def flush(self) -> None:
        raise AssertionError("nothing ever waits")

    def pause(self, reason: str) -> None:
        raise AssertionError("nothing is ever backlogged")

    def resume(self, reason: str) -> None:
        pass

    def notify_drained(self, callback: Callable[[], None]) -> None:
        raise AssertionError("nothing is ever backlogged")

    def pump(self, destination: Link, count: int, done: Callable[[], None]) -> None:
        raise AssertionError("these calls have no streams")

    def end_if_cut_off(self) -> None:
        raise AssertionError("nothing waits that long")

    def loseConnection(self, reset: bool = False) -> None:
        raise AssertionError("nothing is ever closed")

    def abortConnection(self) -> None:
        raise AssertionError("nothing is ever closed")


class _Dial:
    """Stands for relay.transport.dialler.Dial: connected as soon as we say so."""

    made: "_Dial"

    def __init__(
        self, loop: object, host: str, port: int, context: object, receiver: Receiver, *_: object, **__: object
    ) -> None:
        self.link = MemoryLink(TENTACLE.der)
        self.receiver = receiver
        _Dial.made = self


class Tentacle:
    """A back, and the Tentacle that it has dialled; say: what the Tentacle sends."""

    def __init__(self, loop: Loop, machine: Machine) -> None:
        context: Any = None
        self.back = ListeningBack(loop, machine, context)
        self.octopus = machine.octopus[0]

    def connect(self, acquire: Callable[[], object]) -> None:
        """Whoever acquires a connection gets one: dialled, identified, ready."""
        with mock.patch("relay.backs.connection.Dial", _Dial):
            acquire()
        self.say: Callable[[bytes], None] = _Dial.made.receiver.dataReceived
        self.link = _Dial.made.link
        _Dial.made.receiver.connectionMade()
        self.say(lines.SERVER_IDENTITY)


class Lessee:
    """A LeaseHolder that has a call of its own, over and over, with nothing around it."""

    def __init__(self, loop: Loop, tentacle: Tentacle) -> None:
        self._loop, self._tentacle = loop, tentacle
        self._request: Part | None = None
        self._lease: Lease
        self._ended = False

    def ask(self, request: Part) -> None:
        """A whole exchange's use of a lease: acquired and proved, the request sent, the reply taken, released."""
        self._request, self._ended = request, False
        now = self._loop.reactor.seconds()
        self._lease = self._tentacle.back.acquire(Call("web0", "bench", _PEER, now), now + 45, self)

    def prove(self) -> None:
        """The Tentacle answers, to NEXT and to the request."""
        self._tentacle.say(lines.PROCEED)
        self._tentacle.say(ANSWERED)
        assert self._ended

    def lease_ready(self) -> None:
        assert self._request
        self._lease.send(self._request)

    def reply_part(self, part: Part) -> None:
        self._lease.release()
        self._ended = True

    def reply_body(self, count: int, done: Callable[[], None]) -> None:
        raise AssertionError("these calls have no streams")

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        raise AssertionError(detail)

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        raise AssertionError(detail)

    def back_closing(self) -> None:
        raise AssertionError("nothing is ever closed")


class Caller:
    """A front and its caller, who calls the Tentacle. ended: told of each call."""

    def __init__(self, loop: Loop, table: Table, tentacle: Tentacle, ended: Callable[[Call], None]) -> None:
        self.machine = table.machines[0]
        self.clock: Clock = loop.reactor
        self._ended = ended
        self._tentacle = tentacle
        self._admission = Admission(table, lambda: 0, lambda: None)
        visit = self._admission.admit(_PEER, self.clock.seconds())
        assert isinstance(visit, Visit)
        self.front = ListeningFront(self, visit)
        self.front.link = self.link = MemoryLink(OCTOPUS.der)
        self.front.connectionMade()
        self.front.dataReceived(lines.PREAMBLE)
        tentacle.connect(lambda: self.front.dataReceived(lines.CLIENT_IDENTITY))
        assert self.link.written == lines.SERVER_IDENTITY
        self._request()

    def call(self) -> None:
        """A call on the kept connections: everything between the records that come and those that go."""
        self.front.dataReceived(lines.NEXT)
        self._tentacle.say(lines.PROCEED)
        self._request()

    def _request(self) -> None:
        self.front.dataReceived(ASKED)
        self._tentacle.say(ANSWERED)
        assert self.link.written == ANSWERED

    def back(self, octopus: Octopus) -> Back:
        return self._tentacle.back

    def begin(self, octopus: Octopus) -> tuple[Outcome, str] | None:
        return self._admission.begin(octopus.name)

    def ended(self, call: Call) -> None:
        self._admission.end(call.octopus)
        self._ended(call)

    def not_begun(self, call: Call) -> None:
        raise AssertionError(call.detail)

    def refused(self, refusal: Refusal, peer: str, detail: str) -> None:
        raise AssertionError(detail)

    def left(self, front: ListeningFront) -> None:
        raise AssertionError("nothing is ever closed")
