"""The fake of tests/support obeys the rules of the real thing (relay/transport/interface.py)."""

from collections.abc import Callable

import pytest
from changes import Changes
from fake_link import FIN, LOST, RST, FakeLink
from recorder import Recorder

from relay.transport.errors import PeerClosedError
from relay.transport.interface import Link


@pytest.fixture
def receiver() -> Recorder:
    return Recorder(Changes())


@pytest.fixture
def link(receiver: Recorder) -> FakeLink:
    return FakeLink(receiver)


def test_it_offers_all_of_a_link(link: FakeLink) -> None:
    names = {*dir(Link), *Link.__annotations__}
    assert [name for name in names if not name.startswith("_") and not hasattr(link, name)] == []


def test_units_are_kept_apart(link: FakeLink) -> None:
    link.write(b"one")
    link.write(b"")
    link.write(b"two")
    assert (link.written, link.data) == ([b"one", b"two"], b"onetwo")


def test_records_arrive_unless_it_is_paused(link: FakeLink, receiver: Recorder) -> None:
    link.pause("one")
    link.pause("two")
    link.receive(b"a", b"b")
    link.resume("one")
    link.deliver()
    assert receiver.chunks == []
    link.resume("two")
    assert receiver.chunks == []  # never from within a call of the owner's own
    link.deliver()
    assert receiver.chunks == [b"a", b"b"]


def test_it_may_be_paused_by_what_arrives(link: FakeLink, receiver: Recorder) -> None:
    receiver.on_data = lambda data: link.pause("enough")
    link.receive(b"a", b"b")
    assert receiver.chunks == [b"a"]


def test_draining(link: FakeLink) -> None:
    told: list[bool] = []
    link.fill(10)
    link.write(b"four")
    assert (link.backlogged, link.unsent) == (True, 14)
    link.notify_drained(lambda: told.append(link.backlogged))
    link.drain()
    link.drain()
    assert (told, link.unsent) == ([False], 0)


def test_pumping(link: FakeLink, receiver: Recorder) -> None:
    destination, done = FakeLink(), []
    link.pump(destination, 5, lambda: done.append(link.pump_left))
    link.receive(b"abc")
    assert (destination.written, link.pump_left, done) == ([b"abc"], 2, [])
    link.receive(b"defgh")
    assert (destination.written, done, receiver.chunks) == ([b"abc", b"de"], [0], [b"fgh"])


def test_pumping_to_one_that_is_slow(link: FakeLink) -> None:
    destination = FakeLink()
    destination.fill()
    link.pump(destination, 4, lambda: None)
    link.receive(b"ab", b"cd")
    assert (destination.written, link.reasons) == ([b"ab"], {"backlog"})
    destination.drain()
    link.deliver()
    assert destination.written == [b"ab", b"cd"]


def test_the_peer_closes(link: FakeLink, receiver: Recorder) -> None:
    link.lose()
    link.lose()
    link.receive(b"late")
    assert receiver.calls == ["lost"]
    assert isinstance(receiver.lost[0], PeerClosedError)
    assert link.ended == LOST


def test_the_peer_closes_while_it_is_paused(link: FakeLink, receiver: Recorder) -> None:
    link.pause("backlog")
    link.receive(b"before")
    link.lose()
    assert receiver.calls == ["peer closed"]
    link.resume("backlog")
    link.deliver()
    assert receiver.calls == ["peer closed", "data", "lost"]


@pytest.mark.parametrize(
    ("close", "ended"),
    [
        (FakeLink.loseConnection, FIN),
        (lambda link: link.loseConnection(reset=True), RST),
        (FakeLink.abortConnection, RST),
    ],
)
def test_closing(link: FakeLink, receiver: Recorder, close: Callable[[FakeLink], None], ended: str) -> None:
    close(link)
    link.loseConnection()
    link.write(b"late")
    link.receive(b"late")
    link.lose()
    assert (link.ended, link.written, receiver.calls) == (ended, [], [])
