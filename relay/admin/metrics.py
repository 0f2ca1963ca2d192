"""What the relay counts: plain numbers, which families.py describes and exposition.py makes into text when they are asked for.

A call costs a few additions here; prometheus_client's own counters would cost ten times that, for locks that nobody needs.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.registry import CollectorRegistry

from relay.call import Call
from relay.halibut.message import Kind
from relay.outcomes import Outcome, Refusal
from relay.passed import Passed

# Seconds, upper bounds: from a status poll next door to a script that runs as long as Octopus waits (wire.md 3.5).
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
OTHER: Final = ("other", "other")  # a service and method that are not in METHODS
NO_REQUEST: Final = ("none", "none")  # the exchange ended before its request came
_SCRIPT: Final = ("StartScript", "GetStatus", "CancelScript", "CompleteScript")
METHODS: Final[dict[str, tuple[str, ...]]] = {  # wire.md 9.1; callers choose their words, so no others become labels
    "ICapabilitiesServiceV2": ("GetCapabilities",),
    "IFileTransferService": ("UploadFile", "DownloadFile"),
    "IScriptService": _SCRIPT,
    "IScriptServiceV2": _SCRIPT,
    "IKubernetesScriptServiceV1": _SCRIPT,
}
_NULL: Final = Kind.NULL  # Python 3.11 finds a name of the module for nothing, and a member of an Enum at the price of a call
_INDEX: Final = {outcome: index for index, outcome in enumerate(Outcome)}

Value = int | float


class MachineCounts:
    """What is counted of one machine. outcomes: exchanges, in the order of Outcome."""

    __slots__ = ("mismatched", "outcomes", "reply_bytes", "request_bytes", "unknown")

    def __init__(self) -> None:
        self.outcomes = [0] * len(_INDEX)
        self.request_bytes = 0
        self.reply_bytes = 0
        self.mismatched = 0
        self.unknown = 0


class Histogram:
    """counts: by the first bound that a value does not exceed; the last one is of those beyond all. total: of all values."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class MethodTimes:
    """Of the calls of one method, in seconds. whole: all of it; ready: until the Tentacle was; first_byte: its own time."""

    __slots__ = ("first_byte", "ready", "whole")

    def __init__(self) -> None:
        self.whole = Histogram()
        self.ready = Histogram()
        self.first_byte = Histogram()


@dataclass(frozen=True, slots=True)
class Reading:
    """A family of numbers that others keep. read: asked when somebody scrapes; label values, and the number."""

    name: str
    kind: Literal["counter", "gauge"]
    documentation: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[tuple[tuple[str, ...], Value]]]


class Metrics:
    """Everything that is counted. Machines, outcomes and known methods are labels; nothing that a caller chooses is.

    registry: what else is served, of the process itself. machines: by name, those of the table in force. passed_through:
    those of them that are, and their connections that have ended, in the order of Outcome. methods: by service and method.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.machines: dict[str, MachineCounts] = {}
        self.passed_through: dict[str, list[int]] = {}
        self._known = {(service, method): MethodTimes() for service, methods in METHODS.items() for method in methods}
        self._any_case = {(service.lower(), method.lower()): times for (service, method), times in self._known.items()}
        self._no_request, self._other = MethodTimes(), MethodTimes()
        self.methods = {**self._known, NO_REQUEST: self._no_request, OTHER: self._other}
        self.refusals = dict.fromkeys(Refusal, 0)
        self.accept_pauses = 0
        self.readings: dict[str, Reading] = {}

    # ---- what there is ----------------------------------------------------------------------------------------------

    def declare(self, machines: Iterable[str], passed_through: Iterable[str] = ()) -> None:
        """The machines that there are from now on: new ones begin with 0, those that are gone disappear.

        passed_through: those of them that are.
        """
        self.machines = {name: self.machines.get(name) or MachineCounts() for name in machines}
        self.passed_through = {name: self.passed_through.get(name) or [0] * len(_INDEX) for name in passed_through}

    def gauge(self, name: str, documentation: str, read: Callable[[], Value]) -> None:
        """Adds a number that is read when it is asked for."""
        self.readings[name] = Reading(name, "gauge", documentation, (), lambda: [((), +read())])  # a bool is 0 or 1

    def counter(self, name: str, documentation: str, read: Callable[[], Value]) -> None:
        """Adds one that only grows. name: without ``_total``."""
        self.readings[name] = Reading(name, "counter", documentation, (), lambda: [((), read())])

    def counters(self, name: str, documentation: str, label: str, counts: Mapping[str, int]) -> None:
        """Adds some that are counted elsewhere, one for each value of a label."""
        self.readings[name] = Reading(
            name, "counter", documentation, (label,), lambda: [((value,), count) for value, count in counts.items()]
        )

    def machine_gauge(self, name: str, documentation: str, read: Callable[[str], Value]) -> None:
        """Adds a number of each machine; read is given its name."""

        def of_all() -> Iterator[tuple[tuple[str, ...], Value]]:
            for machine in list(self.machines):
                if machine in self.machines:  # it may go between two slices of a scrape
                    yield (machine,), read(machine)

        self.readings[name] = Reading(name, "gauge", documentation, ("machine",), of_all)

    def add(self, reading: Reading) -> None:
        """Adds a family of its own shape."""
        self.readings[reading.name] = reading

    # ---- what happens -----------------------------------------------------------------------------------------------

    def ended(self, call: Call) -> bool:
        """An exchange is over. Whether its messages are worth a word: call.mismatched, or call.unknown."""
        request, reply = call.request, call.reply
        mismatched = unknown = False
        if request:
            times = self._known.get((request.service, request.method)) or self._spelled(request.service, request.method)
            unknown = bool(request.unknown)
            if reply:  # the two properties of a call would be asked of each, and answer yes of none
                mismatched = reply.id != request.id and reply.kind is not _NULL
                unknown = unknown or bool(reply.unknown)
        else:
            times = self._no_request
        machine = self.machines.get(call.machine)
        if machine is not None:  # else it was removed while the call was in flight, and its series are gone
            if call.outcome is not None:
                machine.outcomes[_INDEX[call.outcome]] += 1
            machine.request_bytes += call.request_bytes
            machine.reply_bytes += call.reply_bytes
            machine.mismatched += mismatched
            machine.unknown += unknown
        began = call.began
        _observe(times.whole, call.ended - began)
        if call.ready:
            _observe(times.ready, call.ready - began)
        if call.requested and call.replied:
            _observe(times.first_byte, call.replied - call.requested)
        return mismatched or unknown

    def passed(self, passed: Passed) -> None:
        """A connection that was passed through is over."""
        machine, connections = self.machines.get(passed.machine), self.passed_through.get(passed.machine)
        if machine and connections and passed.outcome:
            connections[_INDEX[passed.outcome]] += 1
            machine.request_bytes += passed.request_bytes
            machine.reply_bytes += passed.reply_bytes

    def _spelled(self, service: str, method: str) -> MethodTimes:
        """Halibut compares them without case."""
        return self._any_case.get((service.lower(), method.lower()), self._other)

    def refused(self, refusal: Refusal) -> None:
        """A caller was turned away, or left."""
        self.refusals[refusal] += 1


def _observe(histogram: Histogram, seconds: float) -> None:
    histogram.counts[bisect_left(BUCKETS, seconds)] += 1
    histogram.total += seconds
