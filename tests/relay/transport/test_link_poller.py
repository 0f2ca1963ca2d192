import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from tls_peer import socket_pair

from relay.transport.poller import ALONE, CLOSED, FEW, READ, SHARE, STRANGERS, WRITE, Poller


class Watched:
    """Notes what it is told. act, if set, is what it does then."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.told: list[str] = []
        self.errors: list[Exception] = []
        self.act: Callable[[], None] = lambda: None

    def readable(self) -> None:
        self._note("readable")

    def writable(self) -> None:
        self._note("writable")

    def peer_closed(self) -> None:
        self._note("peer closed")

    def failed(self, error: Exception) -> None:
        self.errors.append(error)
        self._note("failed")

    def _note(self, what: str) -> None:
        self.told.append(what)
        self._changes.changed()
        if what != "failed":
            self.act()


class Polls:
    """A poller, and sockets to poll."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.poller = Poller(ClockedReactor())
        self.strangers = Poller(ClockedReactor(), self.poller)
        self.sockets: list[socket.socket] = []
        self.order: list[str] = []

    def pair(self) -> tuple[socket.socket, socket.socket, Watched]:
        ours, theirs = socket_pair()
        self.sockets += ours, theirs
        return ours, theirs, Watched(self.changes)

    def ready(self, poller: Poller, name: str, sharing: str = "") -> None:
        """Somebody who has something to read until he is told, and is then noted in order."""
        ours, theirs, watched = self.pair()
        theirs.send(b"x")

        def told() -> None:
            self.order.append(name)
            poller.ask(ours.fileno(), watched, 0)

        watched.act = told
        poller.ask(ours.fileno(), watched, READ, sharing)


@pytest_twisted.async_yield_fixture
async def polls(nothing_left: None) -> AsyncIterator[Polls]:
    made = Polls()
    yield made
    made.poller.stop()
    made.strangers.stop()
    for sock in made.sockets:
        sock.close()


@pytest_twisted.ensureDeferred
async def test_reading_and_writing_are_told_as_asked(polls: Polls) -> None:
    ours, theirs, watched = polls.pair()
    watched.act = lambda: polls.poller.ask(ours.fileno(), watched, 0)
    polls.poller.ask(ours.fileno(), watched, READ)
    await turns()
    assert watched.told == []
    theirs.send(b"x")
    await polls.changes.until(lambda: watched.told)
    polls.poller.ask(ours.fileno(), watched, WRITE)
    await polls.changes.until(lambda: len(watched.told) == 2)
    await turns()
    assert watched.told == ["readable", "writable"]
    assert len(polls.poller) == 0


@pytest_twisted.ensureDeferred
async def test_both_at_once(polls: Polls) -> None:
    ours, theirs, watched = polls.pair()
    theirs.send(b"x")
    await turns()
    watched.act = lambda: polls.poller.ask(ours.fileno(), watched, READ if watched.told == ["writable"] else 0)
    polls.poller.ask(ours.fileno(), watched, READ | WRITE)
    await polls.changes.until(lambda: len(watched.told) == 2)
    await turns()
    assert watched.told == ["writable", "readable"]


@pytest.mark.parametrize("events", [CLOSED, CLOSED | WRITE])
@pytest.mark.parametrize("reset", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_peers_close_without_reading(polls: Polls, events: int, reset: bool) -> None:
    ours, theirs, watched = polls.pair()
    theirs.send(b"unread")
    await turns()
    polls.poller.ask(ours.fileno(), watched, CLOSED)
    await turns()
    assert watched.told == []
    if reset:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    watched.act = lambda: polls.poller.ask(ours.fileno(), watched, 0)
    theirs.close()
    polls.poller.ask(ours.fileno(), watched, events)
    await polls.changes.until(lambda: watched.told)
    await turns()
    assert watched.told == ["peer closed"]


@pytest_twisted.ensureDeferred
async def test_a_reset_is_told_also_where_only_writing_was_asked_for(polls: Polls) -> None:
    ours, theirs, watched = polls.pair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    watched.act = lambda: watched.told[-1] == "readable" and polls.poller.ask(ours.fileno(), watched, 0)
    polls.poller.ask(ours.fileno(), watched, WRITE)
    await polls.changes.until(lambda: "readable" in watched.told)
    assert watched.told == ["writable", "readable"]


@pytest_twisted.ensureDeferred
async def test_one_that_closes_another_in_the_same_batch(polls: Polls) -> None:
    one, its_peer, watched = polls.pair()
    other, others_peer, too = polls.pair()
    polls.poller.ask(one.fileno(), watched, READ)
    polls.poller.ask(other.fileno(), too, READ)

    def close_both() -> None:
        polls.poller.ask(one.fileno(), watched, 0)
        polls.poller.ask(other.fileno(), too, 0)

    watched.act = too.act = close_both
    its_peer.send(b"x")
    others_peer.send(b"x")
    polls.poller.doRead()
    await turns()
    assert len(watched.told + too.told) == 1


@pytest_twisted.ensureDeferred
async def test_one_whose_writing_closed_it_is_not_told_to_read(polls: Polls) -> None:
    ours, theirs, watched = polls.pair()
    theirs.send(b"x")
    await turns()
    watched.act = lambda: polls.poller.ask(ours.fileno(), watched, 0)
    polls.poller.ask(ours.fileno(), watched, READ | WRITE)
    await polls.changes.until(lambda: watched.told)
    await turns()
    assert watched.told == ["writable"]


@pytest_twisted.ensureDeferred
async def test_one_that_raises_is_told_so_and_the_others_go_on(polls: Polls) -> None:
    ours, theirs, watched = polls.pair()
    other, others_peer, too = polls.pair()

    def fail() -> None:
        polls.poller.ask(ours.fileno(), watched, 0)
        raise RuntimeError("a bug of ours")

    watched.act = fail
    too.act = lambda: polls.poller.ask(other.fileno(), too, 0)
    for sock, receiver, peer in ((ours, watched, theirs), (other, too, others_peer)):
        polls.poller.ask(sock.fileno(), receiver, READ)
        peer.send(b"x")
    await polls.changes.until(lambda: watched.errors and too.told)
    assert watched.told == ["readable", "failed"]
    assert str(watched.errors[0]) == "a bug of ours"
    assert too.told == ["readable"]


@pytest_twisted.ensureDeferred
async def test_asking_for_nothing_twice_and_behind_the_stop(polls: Polls) -> None:
    ours, _, watched = polls.pair()
    polls.poller.ask(ours.fileno(), watched, 0)
    polls.poller.ask(ours.fileno(), watched, READ)
    polls.poller.ask(ours.fileno(), watched, READ)
    assert len(polls.poller) == 1
    polls.poller.stop()
    polls.poller.ask(ours.fileno(), watched, 0)
    assert len(polls.poller) == 0
    assert polls.poller.fileno() == -1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_cannot_even_be_ended_costs_no_other(polls: Polls) -> None:
    ours, theirs, broken = polls.pair()
    other, its_peer, fine = polls.pair()

    def fail() -> None:
        raise RuntimeError("first")

    def fail_again(error: Exception) -> None:
        raise RuntimeError("second")

    broken.act = fail
    setattr(broken, "failed", fail_again)  # noqa: B010 (a method of this one only)
    polls.poller.ask(ours.fileno(), broken, READ)
    polls.poller.ask(other.fileno(), fine, READ)
    theirs.send(b"x")
    await polls.changes.until(lambda: bool(broken.told))
    await turns(2)
    its_peer.send(b"x")
    await polls.changes.until(lambda: bool(fine.told))
    assert len(polls.poller) == 1


# ---- whose turn it is ---------------------------------------------------------------------------------------------------


def test_those_that_share_keep_another_waiting_for_their_share_only(polls: Polls) -> None:
    for _ in range(FEW):
        polls.ready(polls.poller, "crowd", sharing="web01")
    polls.ready(polls.poller, "other", sharing="web02")
    polls.poller.doRead()
    assert polls.order == ["crowd"] * SHARE + ["other"] + ["crowd"] * (FEW - SHARE)


def test_a_few_need_not_share(polls: Polls) -> None:
    """Another look costs more than it buys."""
    for _ in range(FEW - 1):
        polls.ready(polls.poller, "few", sharing="web01")
    polls.ready(polls.poller, "other", sharing="web02")
    polls.poller.doRead()
    assert polls.order == ["few"] * (FEW - 1) + ["other"]


def test_whoever_comes_meanwhile_goes_before_the_rest_of_a_crowd(polls: Polls) -> None:
    for number in range(FEW + SHARE):
        polls.ready(polls.poller, "crowd", sharing="web01")
        if number == 0:
            ours, theirs, watched = polls.pair()
            theirs.send(b"x")

            def comes(ours: socket.socket = ours, watched: Watched = watched) -> None:
                polls.poller.ask(ours.fileno(), watched, 0)
                polls.ready(polls.poller, "other", sharing="web02")

            watched.act = comes
            polls.poller.ask(ours.fileno(), watched, READ, "web01")
    polls.poller.doRead()
    assert "other" in polls.order
    assert polls.order.count("crowd") < FEW  # of FEW + SHARE: the rest of them wait still


def test_one_that_always_has_more_starves_none_of_those_that_share_with_it(polls: Polls) -> None:
    for _ in range(SHARE):
        ours, theirs, endless = polls.pair()
        theirs.send(b"x")
        polls.poller.ask(ours.fileno(), endless, READ, "web01")
    for _ in range(3):
        polls.ready(polls.poller, "crowd", sharing="web01")
    for _ in range(4):
        polls.poller.doRead()
    assert polls.order == ["crowd"] * 3


def test_of_more_than_a_look_shows_each_has_its_turn_though_all_of_them_always_have_more(polls: Polls) -> None:
    crowd = []
    for _ in range(320):
        ours, theirs, endless = polls.pair()
        theirs.send(b"x")
        polls.poller.ask(ours.fileno(), endless, READ, "web01")
        crowd.append(endless)
    for _ in range(320 // SHARE):
        polls.poller.doRead()
    assert sum(not each.told for each in crowd) == 0


def test_one_that_comes_by_the_descriptor_of_one_that_waited_does_not_wait_in_its_place(polls: Polls) -> None:
    pairs = [polls.pair() for _ in range(FEW + SHARE * 5)]
    for ours, theirs, endless in pairs:
        theirs.send(b"x")
        polls.poller.ask(ours.fileno(), endless, READ, "web01")
    polls.poller.doRead()
    [(ours, _, waited)] = [pair for pair in pairs if not pair[2].told][:1]
    later = Watched(polls.changes)
    polls.poller.ask(ours.fileno(), waited, 0)
    polls.poller.ask(ours.fileno(), later, READ, "web01")
    polls.poller.doRead()
    assert later.told == []


def test_a_crowd_beside_which_nobody_was_ready_for_long_need_not_share(polls: Polls) -> None:
    for _ in range(ALONE):
        polls.poller.doRead()
    for _ in range(FEW + 1):
        polls.ready(polls.poller, "crowd", sharing="web01")
    polls.poller._look()
    assert polls.order == ["crowd"] * (FEW + 1)


def test_a_crowd_shares_again_as_soon_as_somebody_else_was_ready(polls: Polls) -> None:
    for _ in range(ALONE):
        polls.poller.doRead()
    polls.ready(polls.poller, "other", sharing="web02")
    polls.poller.doRead()
    for _ in range(FEW + 1):
        polls.ready(polls.poller, "crowd", sharing="web01")
    polls.poller._look()
    assert polls.order == ["other"] + ["crowd"] * SHARE


def test_those_that_share_with_nobody_all_have_their_turn_at_once(polls: Polls) -> None:
    for _ in range(SHARE + 3):
        polls.ready(polls.poller, "one")
    polls.poller.doRead()
    assert polls.order == ["one"] * (SHARE + 3)


def test_known_ones_go_before_the_next_stranger(polls: Polls) -> None:
    for _ in range(3):
        polls.ready(polls.strangers, "stranger")
    polls.ready(polls.poller, "known")
    polls.strangers.doRead()
    assert polls.order == ["stranger", "known", "stranger", "stranger"]


def test_the_reactor_has_its_turn_before_all_of_many_strangers_have_had_theirs(polls: Polls) -> None:
    for number in range(100):
        polls.ready(polls.strangers, "stranger", sharing=f"192.0.2.{number}")
    polls.strangers.doRead()
    assert len(polls.order) == 64
    polls.strangers.doRead()
    assert len(polls.order) == 100


def test_pollers_that_are_stopped_in_the_middle_of_a_look_tell_nobody_more(polls: Polls) -> None:
    for _ in range(3):
        polls.ready(polls.strangers, "stranger")
    for _ in range(SHARE + 1):
        ours, theirs, watched = polls.pair()
        theirs.send(b"x")

        def stop() -> None:
            polls.order.append("known")
            polls.strangers.stop()
            polls.poller.stop()

        watched.act = stop
        polls.poller.ask(ours.fileno(), watched, READ, "web01")
    polls.strangers.doRead()
    polls.poller.doRead()
    assert polls.order == ["stranger", "known"]


def test_strangers_of_a_source_have_so_many_events_in_a_turn_and_those_of_others_theirs(polls: Polls) -> None:
    for _ in range(FEW):
        polls.ready(polls.strangers, "crowd", sharing="192.0.2.1")
        polls.ready(polls.strangers, "another", sharing="192.0.2.2")
    polls.ready(polls.strangers, "one", sharing="192.0.2.3")
    polls.strangers.doRead()
    assert sorted(polls.order) == ["another"] * STRANGERS + ["crowd"] * STRANGERS + ["one"]
    polls.strangers.doRead()
    assert sorted(polls.order) == ["another"] * STRANGERS * 2 + ["crowd"] * STRANGERS * 2 + ["one"]
