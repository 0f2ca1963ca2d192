"""Bounds how many dials to one Octopus node are under way at once, over all machines that are polled for.

Each node has a bound of its own: dials to one that is down may take their whole time, and slow no other node's.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from relay.clock import Clock, Timer
from routing.addresses import Address

AT_ONCE: Final = 16


class Turn:
    """A place in the queue, and then one of the dials that are under way; over after leave()."""

    __slots__ = ("_begin", "_gate", "_node", "begun", "timer")

    def __init__(self, gate: "DialGate", node: Address, begin: Callable[[], None]) -> None:
        self._gate = gate
        self._node = node
        self._begin = begin
        self.begun = False
        self.timer: Timer | None = None

    def leave(self) -> None:
        """The dial is over, however it ended, or is not wanted any more."""
        self._gate.left(self, self._node)

    def begin(self) -> None:
        """From the gate: it is this one's turn."""
        self.timer = None
        self._begin()


class DialGate:
    """See above. at_once: to each node."""

    def __init__(self, clock: Clock, at_once: int = AT_ONCE) -> None:
        self._clock = clock
        self._at_once = at_once
        self._waiting: dict[Address, deque[Turn]] = {}
        self._under_way: dict[Address, set[Turn]] = {}

    def __len__(self) -> int:
        """How many dials are under way."""
        return sum(map(len, self._under_way.values()))

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._waiting.values()))

    def enter(self, node: Address, begin: Callable[[], None]) -> Turn:
        """Calls ``begin`` in a later turn of the reactor, in order, as soon as there is room."""
        turn = Turn(self, node, begin)
        self._waiting.setdefault(node, deque()).append(turn)
        self._next(node)
        return turn

    def left(self, turn: Turn, node: Address) -> None:
        """From a turn."""
        if turn.timer:
            turn.timer.cancel()
            turn.timer = None
        if turn.begun:
            self._under_way.get(node, set()).discard(turn)
        elif turn in self._waiting.get(node, ()):
            self._waiting[node].remove(turn)
        self._next(node)

    def _next(self, node: Address) -> None:
        waiting, under_way = self._waiting.get(node), self._under_way.setdefault(node, set())
        while waiting and len(under_way) < self._at_once:
            turn = waiting.popleft()
            turn.begun = True
            under_way.add(turn)
            turn.timer = self._clock.callLater(0, turn.begin)
        if not waiting:
            self._waiting.pop(node, None)
        if not under_way:
            del self._under_way[node]
