from collections.abc import Iterator

from twisted.internet.task import Clock

from relay.admin.slices import PAUSE, cooperator


def test_all_work_shares_one_slice_a_turn() -> None:
    """Two jobs at once: each turn still ends when its time is over."""
    clock, now, done = Clock(), [0.0], [0, 0]

    def job(which: int) -> Iterator[None]:
        for _ in range(10):
            now[0] += 0.001
            done[which] += 1
            yield

    shared = cooperator(clock, lambda: now[0])
    for which in (0, 1):
        shared.cooperate(job(which))
    assert done == [0, 0]
    clock.advance(PAUSE)
    assert sum(done) == 4
    clock.advance(PAUSE)
    assert sum(done) == 8
    assert min(done) > 2
    clock.pump([PAUSE] * 10)
    assert done == [10, 10]
    assert clock.getDelayedCalls() == []
