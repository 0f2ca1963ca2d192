from itertools import pairwise

import pytest
import pytest_twisted
from changes import Changes
from clocked_reactor import real
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relay.transport.gate import BURST, HandshakeGate


def test_none_begins_from_within_enter() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 100)
    gate.enter(lambda: began.append(1))
    assert (began, len(gate)) == ([], 1)
    clock.advance(0)
    assert (began, len(gate)) == ([1], 0)


def test_they_begin_in_order() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 50)
    for index in range(20):
        gate.enter(lambda index=index: began.append(index))
    clock.pump([0.02] * 20)
    assert began == list(range(20))


def test_a_burst_and_then_the_rate() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 100)
    for _ in range(100):
        gate.enter(lambda: began.append(clock.seconds()))
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
    gate = HandshakeGate(clock, 100)
    clock.advance(3600)
    for _ in range(100):
        gate.enter(lambda: began.append(1))
    clock.advance(0)
    assert len(began) == 10


def test_a_small_rate_lets_one_begin_at_once() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1)
    gate.enter(lambda: began.append(1))
    gate.enter(lambda: began.append(2))
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
    gate = HandshakeGate(clock, per_second)
    for _ in range(callers):
        gate.enter(lambda: began.append(1))
    clock.advance(0)
    at_once = len(began)
    for _ in range(callers - at_once):
        [waiting] = clock.getDelayedCalls()
        clock.advance(waiting.getTime() - clock.seconds())
    assert len(began) == callers
    assert gate.delayed == callers - at_once


def test_one_that_fails_stops_no_other() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 100)

    def fail() -> None:
        raise RuntimeError("a bug of ours")

    gate.enter(fail)
    gate.enter(lambda: began.append(1))
    with pytest.raises(RuntimeError):
        clock.advance(0)
    clock.advance(0)
    assert began == [1]


def test_one_may_enter_from_within_another() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 100)
    gate.enter(lambda: (began.append(1), gate.enter(lambda: began.append(2))))
    clock.advance(0)
    assert began == [1, 2]


def test_stopping_forgets_whoever_waits() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1)
    for _ in range(3):
        gate.enter(lambda: began.append(1))
    clock.advance(0)
    gate.stop()
    gate.stop()
    assert len(gate) == 0
    assert clock.getDelayedCalls() == []
    clock.advance(10)
    assert began == [1]


def test_its_pace_may_change() -> None:
    clock, began = Clock(), []
    gate = HandshakeGate(clock, 1)
    for _ in range(4):
        gate.enter(lambda: began.append(clock.seconds()))
    clock.advance(0)
    gate.pace(100)
    clock.pump([1.0, 0, 0, 0, 0])
    assert began == [0.0, 1.0, 1.0, 1.0]


@pytest_twisted.ensureDeferred
async def test_one_a_turn_so_that_others_have_theirs_between() -> None:
    changes, order = Changes(), []
    gate = HandshakeGate(real, 1000)
    for _ in range(4):
        gate.enter(lambda: order.append("handshake"))

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
