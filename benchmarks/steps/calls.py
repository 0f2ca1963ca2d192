"""Steps between the records: the codec, its inflating and walking, a lease, the log, the metrics, and a whole exchange."""

import os
import zlib
from typing import Final

from prometheus_client.registry import CollectorRegistry

from benchmarks.steps.memory import ANSWERED, ASKED, Caller, Lessee, Tentacle, declared
from benchmarks.steps.step import Step, times
from benchmarks.steps.transport import new_loop
from relay.admin.access_log import AccessLog
from relay.admin.metrics import Metrics
from relay.admin.writer import DescriptorSink, LineWriter
from relay.call import Call
from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.envelope import EnvelopeReader
from relay.halibut.events import Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Kind
from relay.halibut.plain import read_plain
from relay.halibut.roles import Role

_LIMITS: Final = Limits()


class _Codecs:
    """The two ends of the relay's conversation, and what passes through them in one exchange."""

    def __init__(self) -> None:
        self.front, self.back = Connection(Role.LISTENING_SERVICE, _LIMITS), Connection(Role.DIALLING_CLIENT, _LIMITS)
        self.front.receive_data(lines.PREAMBLE)
        self.front.receive_data(lines.CLIENT_IDENTITY)
        self.front.send(Unit.SERVER_IDENTITY)
        self.back.send(Unit.PREAMBLE)
        self.back.send(Unit.CLIENT_IDENTITY)
        self.back.receive_data(lines.SERVER_IDENTITY)
        self.messages()

    def lines(self) -> None:
        """NEXT and PROCEED, on both legs."""
        self.front.receive_data(lines.NEXT)
        self.back.send(Unit.NEXT)
        self.back.receive_data(lines.PROCEED)
        self.front.send(Unit.PROCEED)

    def messages(self) -> None:
        """The request and the reply."""
        for comes, goes, data in ((self.front, self.back, ASKED), (self.back, self.front, ANSWERED)):
            part = comes.receive_data(data)[0]
            assert isinstance(part, Part)
            goes.forward(part)

    def exchange(self) -> None:
        self.lines()
        self.messages()

    def of_back(self) -> None:
        """What the back's own does of it."""
        self.back.send(Unit.NEXT)
        self.back.receive_data(lines.PROCEED)
        self.back.forward(_request())
        self.back.receive_data(ANSWERED)


_PARSED: Final = read_plain(Kind.REQUEST, ASKED, _LIMITS)


def _request() -> Part:
    assert _PARSED
    return Part(Unit.ENVELOPE, ASKED, _PARSED[0], True)


def _inflate() -> None:
    for data in (ASKED, ANSWERED):
        zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, 65536)


def _read_plain() -> None:
    read_plain(Kind.REQUEST, ASKED, _LIMITS)
    read_plain(Kind.RESPONSE, ANSWERED, _LIMITS)


def _walk_whole() -> None:
    EnvelopeReader(Kind.REQUEST, _LIMITS).feed(ASKED)
    EnvelopeReader(Kind.RESPONSE, _LIMITS).feed(ANSWERED)


class _Reports:
    """A log in a file, and metrics, and a call that has ended as they are told of it."""

    def __init__(self) -> None:
        self.reactor, _ = new_loop()
        null = os.open(os.devnull, os.O_WRONLY)
        self.writer = LineWriter(self.reactor, DescriptorSink(null))
        self.log = AccessLog("bench", self.writer)
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.declare(["web0"])
        self.call: Call

    def ended(self, call: Call) -> None:
        self.call = call

    def write_lines(self, count: int) -> None:
        """With their share of writing what was gathered."""
        for _ in range(count):
            self.log.write(self.call)
        self.writer.flush()


def steps() -> list[Step]:
    """All of them."""
    reports, codecs, backs_own = _Reports(), _Codecs(), _Codecs()
    table = declared()
    [machine] = table.machines
    _, loop = new_loop()
    caller = Caller(loop, table, Tentacle(loop, machine), reports.ended)
    assert reports.call.outcome, "the first call has ended"
    tentacle = Tentacle(loop, machine)
    lessee = Lessee(loop, tentacle)
    request = _request()
    tentacle.connect(lambda: lessee.ask(request))
    tentacle.say(ANSWERED)

    def lease() -> None:
        lessee.ask(request)
        lessee.prove()

    return [
        Step("exchange", times(caller.call)),
        Step("codec", times(codecs.exchange)),
        Step("inflate", times(_inflate)),
        Step("plain walk", times(_read_plain)),
        Step("whole walk", times(_walk_whole)),
        Step("lease with its codec", times(lease)),
        Step("codec of the back", times(backs_own.of_back)),
        Step("log", reports.write_lines),
        Step("metrics", times(lambda: reports.metrics.ended(reports.call))),
    ]
