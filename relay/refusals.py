"""What the log says of refused callers: by source address and reason, so that a scanner cannot fill the disk.

The first of a source and reason is told at once, with everything that is known of it, and so is the first at another machine,
for some machines: one that nobody trusts is to be found by name. Those that follow are counted, and summed up in a line every
SUMMARY seconds, for as long as any come. What has been quiet for as long is forgotten.
"""

from typing import Final

from relay.admin.log import Log
from relay.admission import source_of
from relay.clock import Clock
from relay.outcomes import Refusal

SUMMARY: Final = 60.0  # seconds between two lines about the same source and reason
SOURCES: Final = 64  # sources and reasons that are told apart at a time
OTHERS: Final = "others"  # the source of all beyond these
MACHINES: Final = 16  # of a source and reason, whose first refusal is told at once
_MACHINES: Final = 5  # names in a line


class _Kind:
    """Refusals of a source and reason since the last line about them."""

    __slots__ = ("count", "detail", "machines", "peer", "told")

    def __init__(self, told: set[str]) -> None:
        """told: the machines that lines have named."""
        self.told = told
        self.count = 0
        self.machines: dict[str, None] = {}
        self.peer = ""
        self.detail = ""

    def add(self, machine: str, peer: str, detail: str) -> None:
        self.count += 1
        self.peer, self.detail = peer, detail
        if machine and len(self.machines) <= _MACHINES:
            self.machines[machine] = None


class RefusalLog:
    """See above."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._kinds: dict[tuple[str, Refusal], _Kind] = {}
        self._until = clock.seconds() + SUMMARY

    def say(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left. machine: empty where nobody knows which one it came for."""
        self.tick()
        key = (source_of(peer), refusal)
        kind = self._kinds.get(key)
        if kind is None and len(self._kinds) >= SOURCES:
            key = (OTHERS, refusal)
            kind = self._kinds.get(key)
        if kind is None:
            self._kinds[key] = _Kind({machine})
        elif machine in kind.told or len(kind.told) >= MACHINES:
            kind.add(machine, peer, detail)
            return
        else:
            kind.told.add(machine)
        self._log.warning("caller refused", reason=refusal.value, machine=machine or None, peer=peer, detail=detail)

    def tick(self) -> None:
        """Sums up where it is time to; to be called now and then."""
        if self._clock.seconds() >= self._until:
            self.summarise()
            self._until = self._clock.seconds() + SUMMARY

    def summarise(self) -> None:
        """Says how many there were that no line tells of."""
        kinds, self._kinds = self._kinds, {}
        for (source, refusal), kind in kinds.items():
            if kind.count:
                self._kinds[source, refusal] = _Kind(kind.told)  # it goes on: the next one is no news
                some = [*kind.machines]
                self._log.warning(
                    "callers refused", reason=refusal.value, source=source, count=kind.count, last_peer=kind.peer,
                    last_detail=kind.detail, machines=some if len(some) <= _MACHINES else [*some[:_MACHINES], "and more"],
                )  # fmt: skip
