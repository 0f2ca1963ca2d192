from random import Random

from halibut_bytes import bounded
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relay.backoff import LEAST, MOST, BackOff


def test_pauses_grow_to_the_most_and_start_anew_behind_a_success() -> None:
    clock = Clock()
    back_off = BackOff(clock, Random(1))
    pauses = []
    for _ in range(14):
        pauses.append(back_off.pause())
        clock.advance(pauses[-1])
    assert LEAST <= pauses[0] <= 7.5
    assert max(pauses) > 80
    assert all(LEAST <= pause <= MOST for pause in pauses)
    back_off.reset()
    assert back_off.pause() <= 7.5


@bounded(50)
@given(st.integers(), st.floats(0, 1e6), st.sampled_from([60.0, 120.0]))
def test_a_pause_is_never_shorter_or_longer_than_halibut_s(seed: int, elapsed: float, most: float) -> None:
    clock = Clock()
    back_off = BackOff(clock, Random(seed), most)
    back_off.pause()
    clock.advance(elapsed)
    assert LEAST <= back_off.pause() <= most


def test_a_fleet_that_fails_together_does_not_come_back_together() -> None:
    clock, random = Clock(), Random(1)
    fleet = [BackOff(clock, random) for _ in range(1000)]
    for elapsed in (0.0, 1000.0):
        clock.advance(elapsed)
        pauses = sorted(one.pause() for one in fleet)
        span = pauses[-1] - pauses[0]
        busiest = max(sum(begin <= pause < begin + span / 10 for pause in pauses) for begin in pauses[::50])
        assert span > pauses[0] / 4
        assert busiest < 200
