"""What becomes known of calls and callers: the access log, the metrics, and the operational log of whatever is trouble."""

from typing import Final

from relay.admin.access_log import AccessLog
from relay.admin.log import Log, Repeats
from relay.admin.metrics import Metrics
from relay.call import Call
from relay.clock import Clock
from relay.outcomes import TROUBLE, NodeTrouble, Outcome, Refusal
from relay.passed import Passed
from relay.refusals import RefusalLog

_SHOWN: Final = 40  # unknown members in a line of the log, and characters of each
_SIDES: Final = {Outcome.CALLER_BROKE: "caller", Outcome.TENTACLE_BROKE: "tentacle"}


class Reports:
    """Hears of everything once. Trouble of a kind is logged once in a while, and counted between (log.Repeats,
    and refusals.RefusalLog)."""

    def __init__(self, clock: Clock, log: Log, access_log: AccessLog, metrics: Metrics) -> None:
        self._log = log
        self._access_log = access_log
        self._metrics = metrics
        self._repeats = Repeats(clock, log)
        self._unknown_members: set[str] = set()
        self._polled: set[tuple[str, str, str]] = set()  # nodes that are known to be polled
        self._troubles = {trouble.value: 0 for trouble in NodeTrouble}
        metrics.counters("relay_node_troubles", "Connections to Octopus nodes that failed.", "reason", self._troubles)
        self._refusals = RefusalLog(clock, log)

    def tick(self) -> None:
        """Sums up where it is time to; to be called now and then."""
        self._repeats.tick()
        self._refusals.tick()

    def summarise(self) -> None:
        """Says now what was counted and not said."""
        self._repeats.summarise()
        self._refusals.summarise()

    def starved(self, error: OSError) -> None:
        """There was no descriptor for a caller."""
        self._metrics.accept_pauses += 1
        self._repeats.say(("starved",), "accepting pauses: no file descriptor is free", error=error.strerror or str(error))

    def ended(self, call: Call) -> None:
        """An exchange is over."""
        self._access_log.write(call)
        remarkable = self._metrics.ended(call)
        if call.outcome in TROUBLE:
            word = call.outcome.value if call.outcome else ""
            self._repeats.say(
                ("call", call.machine, word), "call failed", machine=call.machine, octopus=call.octopus, peer=call.peer,
                outcome=word, detail=call.detail, side=_SIDES.get(call.outcome) if call.outcome else None,
            )  # fmt: skip
        if remarkable:
            self._remark(call)

    def _remark(self, call: Call) -> None:
        if call.mismatched:
            self._repeats.say(
                ("mismatched", call.machine), "a reply's id is not its request's", machine=call.machine, octopus=call.octopus,
                peer=call.peer, side="tentacle",
            )  # fmt: skip
        if call.unknown and call.machine not in self._unknown_members:
            self._unknown_members.add(call.machine)
            members = [name[:_SHOWN] for name in call.unknown[:_SHOWN]]
            self._log.info("a newer Halibut: unknown members pass", machine=call.machine, members=members)

    def passed(self, passed: Passed) -> None:
        """A connection that was passed through is over."""
        self._access_log.write_passed(passed)
        self._metrics.passed(passed)
        if passed.outcome and passed.outcome in TROUBLE:
            self._repeats.say(
                ("passed", passed.machine, passed.outcome.value), "connection failed", machine=passed.machine,
                peer=passed.peer, outcome=passed.outcome.value, detail=passed.detail,
            )  # fmt: skip

    def refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left. machine: empty where nobody knows which one it came for."""
        self._metrics.refused(refusal)
        self._refusals.say(refusal, machine, peer, detail)

    def node_polled(self, machine: str, octopus: str, node: str) -> None:
        """An Octopus node has accepted a connection. Said once, and again after trouble."""
        if (machine, octopus, node) not in self._polled:
            self._polled.add((machine, octopus, node))
            self._log.info("node polled", machine=machine, octopus=octopus, node=node)

    def node_troubled(self, machine: str, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        """A connection to a node could not be had, or has ended."""
        self._troubles[trouble.value] += 1
        self._polled.discard((machine, octopus, node))
        self._repeats.say(
            ("node", octopus, node, trouble.value), "node not polled", machine=machine, octopus=octopus, node=node,
            reason=trouble.value, detail=detail,
        )  # fmt: skip

    def back_down(self, machine: str, octopus: str, outcome: Outcome, detail: str) -> None:
        """A listening Tentacle cannot be had: no node is polled for it until it can."""
        self._repeats.say(
            ("down", machine, octopus, outcome.value), "Tentacle not ready, no node is polled for it", machine=machine,
            octopus=octopus, outcome=outcome.value, detail=detail,
        )  # fmt: skip
