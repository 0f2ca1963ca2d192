from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from relay.peers.times import Times, pause


def test_defaults_are_the_recommended_values():
    times = Times()
    assert (times.tcp, times.heartbeat, times.reply, times.next_request, times.pooled) == (60, 60, 300, 600, 540)


def test_a_pause_waits_and_can_be_cancelled():
    clock, done = Clock(), []
    pause(clock, 5).addCallback(done.append)
    cancelled = pause(clock, 5)
    cancelled.addErrback(lambda failure: done.append(failure.check(CancelledError)))
    cancelled.cancel()
    clock.advance(5)
    assert done == [CancelledError, None]
    assert clock.getDelayedCalls() == []
