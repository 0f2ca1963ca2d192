import inspect
import time

import pytest
from clocked_reactor import ClockedReactor
from twisted.internet import reactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock as StandingClock

from relay.clock import Clock, Reactor, Timer, keep_monotonic


def names(protocol: type) -> list[str]:
    found = [name for name in dir(protocol) if not name.startswith("_")]
    return sorted({*found, *inspect.get_annotations(protocol)} - {"nameResolver"})


@pytest.mark.parametrize(
    ("protocol", "provider"),
    [(Clock, StandingClock()), (Clock, reactor), (Reactor, reactor), (Reactor, ClockedReactor())],
    ids=["the test's clock", "the reactor's", "the reactor", "the test's reactor"],
)
def test_twisted_gives_what_we_ask_for(protocol: type, provider: object) -> None:
    assert names(protocol)
    assert [name for name in names(protocol) if not callable(getattr(provider, name, None))] == []


def test_the_clock_of_a_running_relay_is_not_the_time_of_day() -> None:
    kept = SelectReactor()
    now = time.monotonic()
    keep_monotonic(kept)
    assert now <= kept.seconds() <= time.monotonic()
    call = kept.callLater(45, lambda: None)
    assert now + 45 <= call.getTime() <= time.monotonic() + 45
    call.cancel()
    kept.removeAll()
    kept.disconnectAll()


def test_the_reactor_looks_up_names() -> None:
    assert callable(reactor.nameResolver.resolveHostName)


def test_a_timer_is_what_twisted_gives() -> None:
    clock = StandingClock()
    timer: Timer = clock.callLater(5, lambda: None)
    assert [name for name in names(Timer) if not callable(getattr(timer, name, None))] == []
    clock.advance(4)
    timer.reset(5)
    clock.advance(4)
    assert timer.active()
    timer.cancel()
    assert not timer.active()
