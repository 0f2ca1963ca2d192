from collections.abc import Callable

from twisted.internet.task import Clock

from relay.fronts.dials import DialGate, Turn
from routing.addresses import Address

ONE, OTHER = Address("octopus-1", 10943), Address("octopus-2", 10943)


class Gate:
    """A gate, and who was let through."""

    def __init__(self, at_once: int = 2) -> None:
        self.clock = Clock()
        self.gate = DialGate(self.clock, at_once)
        self.begun: list[str] = []

    def enter(self, name: str, node: Address = ONE) -> Turn:
        begin: Callable[[], None] = lambda: self.begun.append(name)  # noqa: E731 (it stands for a dial)
        return self.gate.enter(node, begin)

    def take(self) -> list[str]:
        self.clock.advance(0)
        begun, self.begun = self.begun, []
        return begun


def test_dials_begin_in_a_later_turn_and_in_order() -> None:
    gate = Gate()
    turns = [gate.enter(name) for name in "abcd"]
    assert gate.begun == []
    assert gate.take() == ["a", "b"]
    assert (len(gate.gate), gate.gate.waiting) == (2, 2)
    turns[1].leave()
    assert gate.take() == ["c"]
    turns[0].leave()
    turns[2].leave()
    assert gate.take() == ["d"]


def test_a_node_that_is_down_holds_up_no_other() -> None:
    gate = Gate()
    for name in "abcd":
        gate.enter(name, ONE)
    gate.take()
    gate.enter("e", OTHER)
    assert gate.take() == ["e"]


def test_whoever_gives_up_makes_room() -> None:
    gate = Gate(at_once=1)
    first, second, third = (gate.enter(name) for name in "abc")
    second.leave()
    first.leave()  # before its moment has come
    assert gate.take() == ["c"]
    third.leave()
    third.leave()  # nothing is counted twice
    assert (len(gate.gate), gate.gate.waiting, gate.clock.getDelayedCalls()) == (0, 0, [])
