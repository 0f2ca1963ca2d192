import pytest_twisted
from clocked_reactor import ClockedReactor

from relay.transport.gate import Turns
from relay.transport.loop import Loop


@pytest_twisted.ensureDeferred
async def test_it_begins_with_nothing_and_leaves_nothing(nothing_left: None) -> None:
    reactor = ClockedReactor()
    loop = Loop(reactor, handshakes=50)
    assert reactor.asked == [loop.poller, loop.strangers]
    loop.gate.enter(Turns(), lambda: None)
    loop.stop()
    assert (len(loop.gate), len(loop.poller), len(loop.strangers), loop.buffered) == (0, 0, 0, 0)
