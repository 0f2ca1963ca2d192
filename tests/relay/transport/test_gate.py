from collections.abc import Callable
from itertools import pairwise

import pytest
import pytest_twisted
from changes import Changes
from clocked_reactor import real
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relay.clock import Clock as AnyClock
from relay.transport.gate import BURST, FEW, LONGEST_REST, REST, HandshakeGate, Turns


class Gate(HandshakeGate):
    """Where everybody is of one source, which has no pace of its own."""

    def __init__(self, clock: AnyClock, per_second: int) -> None:
        super().__init__(clock, per_second, 1)
        self._one = Turns()
        self._one.free = True

    def comes(self, begin: Callable[[], object]) -> None:
        self.enter(self._one, begin)


def test_none_begins_from_within_enter() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 100)
    gate.comes(lambda: began.append(1))
    assert (began, len(gate)) == ([], 1)
    clock.advance(0)
    assert (began, len(gate)) == ([1], 0)


def test_they_begin_in_order() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 50)
    for index in range(20):
        gate.comes(lambda index=index: began.append(index))
    clock.pump([0.02] * 20)
    assert began == list(range(20))


def test_a_burst_and_then_the_rate() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 100)
    for _ in range(100):
        gate.comes(lambda: began.append(clock.seconds()))
    clock.advance(0)
    assert len(began) == 100 * BURST
    clock.pump([0.001] * 500)
    assert len(began) == pytest.approx(100 * BURST + 50, abs=1)
    clock.pump([0.001] * 500)
    assert len(gate) == 0
    gaps = [later - earlier for earlier, later in pairwise(began[10:])]
    assert min(gaps) == pytest.approx(0.01, abs=0.0011)
    assert max(gaps) == pytest.approx(0.01, abs=0.0011)


def test_what_was_not_used_is_saved_up_to_a_burst_and_no_more() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 100)
    clock.advance(3600)
    for _ in range(100):
        gate.comes(lambda: began.append(1))
    clock.advance(0)
    assert len(began) == 10


def test_a_small_rate_lets_one_begin_at_once() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 1)
    gate.comes(lambda: began.append(1))
    gate.comes(lambda: began.append(2))
    clock.advance(0)
    assert began == [1]
    clock.advance(0.99)
    assert began == [1]
    clock.advance(0.02)
    assert began == [1, 2]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 60))
def test_each_wait_is_counted_once(per_second: int, callers: int) -> None:
    clock, began = Clock(), []
    gate = Gate(clock, per_second)
    for _ in range(callers):
        gate.comes(lambda: began.append(1))
    clock.advance(0)
    at_once = len(began)
    for _ in range(callers - at_once):
        [waiting] = clock.getDelayedCalls()
        clock.advance(waiting.getTime() - clock.seconds())
    assert len(began) == callers
    assert gate.delayed == callers - at_once


def test_one_that_fails_stops_no_other() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 100)

    def fail() -> None:
        raise RuntimeError("a bug of ours")

    gate.comes(fail)
    gate.comes(lambda: began.append(1))
    with pytest.raises(RuntimeError):
        clock.advance(0)
    clock.advance(0)
    assert began == [1]


def test_one_may_enter_from_within_another() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 100)
    gate.comes(lambda: (began.append(1), gate.comes(lambda: began.append(2))))
    clock.advance(0)
    assert began == [1, 2]


def test_stopping_forgets_whoever_waits() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 1)
    for _ in range(3):
        gate.comes(lambda: began.append(1))
    clock.advance(0)
    gate.stop()
    gate.stop()
    assert len(gate) == 0
    assert clock.getDelayedCalls() == []
    clock.advance(10)
    assert began == [1]


def test_its_pace_may_change() -> None:
    clock, began = Clock(), []
    gate = Gate(clock, 1)
    for _ in range(4):
        gate.comes(lambda: began.append(clock.seconds()))
    clock.advance(0)
    gate.pace(100, 1)
    clock.pump([1.0, 0, 0, 0, 0])
    assert began == [0.0, 1.0, 1.0, 1.0]


@pytest_twisted.ensureDeferred
async def test_one_a_turn_so_that_others_have_theirs_between() -> None:
    changes, order = Changes(), []
    gate = Gate(real, 1000)
    for _ in range(4):
        gate.comes(lambda: order.append("handshake"))

    def other() -> None:
        order.append("turn")
        if order.count("turn") < 8:
            real.callLater(0, other)
        changes.changed()

    real.callLater(0, other)
    await changes.until(lambda: order.count("turn") == 8)
    text = " ".join(order)
    assert order.count("handshake") == 4
    assert "handshake handshake" not in text


# ---- sources ------------------------------------------------------------------------------------------------------------


def test_sources_take_turns_whatever_waits_of_each() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1000, 1000)
    flood, steady, third = Turns(), Turns(), Turns()
    for index in range(5):
        gate.enter(flood, lambda index=index: began.append(f"flood {index}"))
    gate.enter(steady, lambda: began.append("steady 0"))
    gate.enter(steady, lambda: began.append("steady 1"))
    gate.enter(third, lambda: began.append("third 0"))
    clock.pump([0.001] * 8)
    assert began == ["flood 0", "steady 0", "third 0", "flood 1", "steady 1", "flood 2", "flood 3", "flood 4"]


def test_a_source_has_its_own_pace_and_keeps_nobody_else_waiting() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1000, 10)
    flood, steady = Turns(), Turns()
    for _ in range(20):
        gate.enter(flood, lambda: began.append("flood"))
    clock.pump([0.0] * 5)
    assert (began, len(gate)) == (["flood"], 19)
    assert len(clock.getDelayedCalls()) == 1  # all that is there has to rest: nothing turns round and round
    gate.enter(steady, lambda: began.append("steady"))
    clock.advance(0)
    assert began == ["flood", "steady"]
    clock.pump([0.1] * 5)
    assert began == ["flood", "steady", *["flood"] * 5]
    clock.pump([0.05] * 30)
    assert (len(gate), clock.getDelayedCalls()) == (0, [])


def test_whoever_comes_one_by_one_has_no_more_than_whoever_waits() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1000, 10)
    source = Turns()
    for _ in range(100):
        if not source.waiting:
            gate.enter(source, lambda: began.append(1))
        clock.advance(0.01)
    assert len(began) == pytest.approx(10, abs=1)


def test_a_source_that_is_free_has_the_pace_of_all() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1000, 10)
    source = Turns()
    for _ in range(20):
        gate.enter(source, lambda: began.append(1))
    clock.advance(0)
    source.free = True
    clock.advance(0.1)
    clock.pump([0.001] * 20)
    assert len(began) == 20


def test_stopping_forgets_those_that_wait_and_those_that_rest() -> None:
    clock = Clock()
    gate = HandshakeGate(clock, 1000, 10)
    one, other = Turns(), Turns()
    for source in (one, one, one, other):
        gate.enter(source, lambda: None)
    clock.advance(0)
    gate.stop()
    assert (len(gate), len(one.waiting), len(other.waiting), clock.getDelayedCalls()) == (0, 0, 0, [])


def test_whoever_leaves_costs_nobody_a_turn() -> None:
    clock, began = Clock(), []
    gate, crowd, one = HandshakeGate(clock, 100, 1), Turns(), Turns()
    waiting = [lambda number=number: began.append(number) for number in range(50)]
    for begin in waiting:
        gate.enter(crowd, begin)
    clock.advance(0)
    assert (began, len(gate)) == ([0], 49)
    for begin in waiting[:-1]:
        gate.leave(crowd, begin)
    gate.enter(one, lambda: began.append("one"))
    assert len(gate) == 2
    clock.pump([0.01] * 3)
    assert (began, gate.begun) == ([0, "one"], 2)
    clock.pump([0.5] * 3)
    assert (began, len(gate)) == ([0, "one", 49], 0)


def test_when_all_have_left_nothing_is_waited_for_and_they_may_come_again() -> None:
    clock, began = Clock(), []
    gate, turns = HandshakeGate(clock, 100, 1), Turns()
    for number in (1, 2):
        gate.enter(turns, lambda number=number: began.append(number))
    clock.advance(0)
    gate.leave(turns, next(iter(turns.waiting)))
    clock.pump([1] * 3)
    assert (began, len(gate), clock.getDelayedCalls()) == ([1], 0, [])
    gate.enter(turns, lambda: began.append(3))
    clock.pump([1] * 2)
    assert began == [1, 3]


class Calling(Turns):
    """A source beside which others call, or not."""

    def __init__(self, others: bool) -> None:
        super().__init__()
        self.free = True
        self.others = others

    def others_call(self, now: float) -> bool:
        return self.others


@pytest.mark.parametrize(
    ("others", "more", "wanted"),
    [(True, 3, [0, 1 + REST, 2 * (1 + REST)]), (True, 0, [0, 1, 2]), (False, 3, [0, 1, 2])],  # in quarters of a second
)
def test_while_others_call_a_crowd_rests_behind_each_handshake(others: bool, more: int, wanted: list[int]) -> None:
    clock, began = Clock(), []
    gate, source = HandshakeGate(clock, 1000, 1000), Calling(others)

    def begin(number: int) -> None:  # which takes a quarter of a second
        began.append((number, clock.seconds() * 4))
        clock.rightNow += 0.25

    for number in range(FEW + more):
        gate.enter(source, lambda number=number: begin(number))
    clock.advance(0)
    clock.pump([0.125] * 200)
    assert began[:3] == list(enumerate(wanted))
    assert len(began) == FEW + more, "the last few do not rest"


def test_nobody_rests_for_the_time_in_which_the_machine_was_suspended() -> None:
    clock, began = Clock(), []
    gate, source = HandshakeGate(clock, 1000, 1000), Calling(True)

    def begin(number: int) -> None:
        began.append(number)
        clock.rightNow += 60 if number == 0 else 0

    for number in range(FEW + 2):
        gate.enter(source, lambda number=number: begin(number))
    clock.advance(0)
    clock.advance(LONGEST_REST - 0.1)
    assert began == [0]
    clock.advance(0.2)
    assert began[:2] == [0, 1]


def test_another_source_need_not_rest_for_it() -> None:
    clock, began = Clock(), []
    gate, crowd, one = HandshakeGate(clock, 1000, 1000), Calling(True), Calling(True)

    def begin(number: int) -> None:
        began.append(number)
        clock.rightNow += 1

    for number in range(FEW + 2):
        gate.enter(crowd, lambda number=number: begin(number))
    clock.advance(0)
    gate.enter(one, lambda: began.append("one"))
    clock.advance(0)
    clock.advance(0)
    assert began == [0, "one"]
