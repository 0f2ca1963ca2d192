"""Small records that are written in one look of the poller: what waits for what, and what does not."""

import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_twisted
from tls_peer import FIN
from wires import Wires

from relay.transport import sending
from relay.transport.interface import Link
from relay.transport.poller import GATHER, READ, SMALL, Poller

LARGE = SMALL + 1


class Looks:
    """Has its turn in the next look of a poller, and then does what it was given; errors: what that raised."""

    def __init__(self, poller: Poller, act: Callable[[], None]) -> None:
        self._poller, self._act = poller, act
        self._descriptor = os.eventfd(1)
        self.done = False
        self.errors: list[Exception] = []
        poller.ask(self._descriptor, self, READ)

    def readable(self) -> None:
        self._poller.ask(self._descriptor, self, 0)
        os.close(self._descriptor)
        self._act()
        self.done = True

    def writable(self) -> None:
        raise AssertionError("not asked for")

    def peer_closed(self) -> None:
        raise AssertionError("not asked for")

    def failed(self, error: Exception) -> None:
        self.errors.append(error)


class Sent:
    """Every record that OpenSSL was given, and by whom."""

    def __init__(self) -> None:
        self.records: list[tuple[object, bytes]] = []

    def by(self, *links: Link) -> list[tuple[int, bytes]]:
        """In order: which of these links, and what."""
        inside = [vars(link)["_tls"] for link in links]
        return [(inside.index(tls), data) for tls, data in self.records if tls in inside]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    noted, send = Sent(), sending.send

    def spy(tls, inside, data) -> int:
        noted.records.append((tls, bytes(data)))
        return send(tls, inside, data)

    monkeypatch.setattr(sending, "send", spy)
    return noted


def in_a_look(wires: Wires, act: Callable[[], None]) -> Looks:
    looks = Looks(wires.loop.poller, act)
    wires.loop.poller.doRead()
    assert looks.done, looks.errors
    return looks


@pytest_twisted.ensureDeferred
async def test_they_go_out_behind_the_look_those_to_whom_we_dialled_first(wires: Wires, sent: Sent) -> None:
    (caller, calls), (tentacle, serves) = await wires.accepted(), await wires.dialled()

    def act() -> None:
        caller.link.write(b"PROCEED")
        tentacle.link.write(b"NEXT")
        assert (caller.link.unsent, tentacle.link.unsent) == (7, 4)
        assert not caller.link.backlogged

    in_a_look(wires, act)
    assert sent.by(tentacle.link, caller.link) == [(0, b"NEXT"), (1, b"PROCEED")]
    assert (caller.link.unsent, tentacle.link.unsent) == (0, 0)
    await wires.changes.until(lambda: calls.data == b"PROCEED" and serves.data == b"NEXT")


@pytest_twisted.ensureDeferred
async def test_outside_of_a_look_nothing_waits(wires: Wires, sent: Sent) -> None:
    caller, _ = await wires.accepted()
    caller.link.write(b"PROCEED")
    assert sent.by(caller.link) == [(0, b"PROCEED")]


@pytest_twisted.ensureDeferred
async def test_a_second_record_of_the_same_connection_lets_the_first_go(wires: Wires, sent: Sent) -> None:
    """Each remains one, and no more than one waits."""
    caller, calls = await wires.accepted()

    def act() -> None:
        for data in (b"one", b"two", b"three"):
            caller.link.write(data)
        assert caller.link.unsent == 5

    in_a_look(wires, act)
    await wires.changes.until(lambda: calls.data == b"onetwothree")
    assert calls.sizes == [3, 3, 5]


@pytest_twisted.ensureDeferred
async def test_nothing_large_waits_and_nothing_waits_for_it(wires: Wires, sent: Sent) -> None:
    (caller, _), (tentacle, _) = await wires.accepted(), await wires.dialled()

    def act() -> None:
        caller.link.write(b"PROCEED")
        tentacle.link.write(bytes(LARGE))
        assert (caller.link.unsent, tentacle.link.unsent) == (0, 0)

    in_a_look(wires, act)
    assert sent.by(caller.link, tentacle.link) == [(0, b"PROCEED"), (1, bytes(LARGE))]


@pytest_twisted.ensureDeferred
async def test_a_large_record_goes_behind_the_small_one_of_its_own_connection(wires: Wires) -> None:
    caller, calls = await wires.accepted()

    def act() -> None:
        caller.link.write(b"length")
        caller.link.write(bytes(LARGE))

    in_a_look(wires, act)
    await wires.changes.until(lambda: len(calls.data) == 6 + LARGE)
    assert calls.data.startswith(b"length")
    assert calls.sizes == [6, LARGE]


@pytest_twisted.ensureDeferred
async def test_a_close_in_the_same_look_goes_behind_it(wires: Wires) -> None:
    caller, calls = await wires.accepted()

    def act() -> None:
        caller.link.write(b"the page")
        caller.link.loseConnection()

    in_a_look(wires, act)
    await wires.changes.until(lambda: calls.end == FIN)
    assert calls.data == b"the page"
    calls.close()
    await wires.changes.until(lambda: caller.closed)


@pytest_twisted.ensureDeferred
async def test_a_reset_in_the_same_look_takes_nothing_back(wires: Wires, sent: Sent) -> None:
    caller, _ = await wires.accepted()

    def act() -> None:
        caller.link.write(b"an error")
        caller.link.abortConnection()

    in_a_look(wires, act)
    assert sent.by(caller.link) == [(0, b"an error")]


@pytest_twisted.ensureDeferred
async def test_of_one_that_is_gone_by_then_nothing_is_written(wires: Wires, sent: Sent) -> None:
    caller, _ = await wires.accepted()

    def act() -> None:
        caller.link.write(b"PROCEED")
        caller.link.failed(ValueError("a bug"))

    in_a_look(wires, act)
    assert sent.by(caller.link) == []
    assert len(caller.receiver.lost) == 1


class Gathers:
    """Somebody with a record. error: what writing it raises; stays: and cannot be ended, either; ends: what its end does."""

    def __init__(self, flushed: list["Gathers"], error: Exception | None = None, *, stays: bool = False) -> None:
        self._flushed, self._error, self._stays = flushed, error, stays
        self.ends: Callable[[], None] = lambda: None
        self.errors: list[Exception] = []

    def flush(self) -> None:
        self._flushed.append(self)
        if self._error:
            raise self._error

    def failed(self, error: Exception) -> None:
        self.errors.append(error)
        self.ends()
        if self._stays:
            raise error


@pytest_twisted.async_yield_fixture
async def poller(wires: Wires) -> AsyncIterator[Poller]:
    yield wires.loop.poller


@pytest_twisted.ensureDeferred
async def test_no_more_wait_than_so_many(poller: Poller) -> None:
    flushed: list[Gathers] = []
    seen: list[int] = []

    def act() -> None:
        seen.append(len(flushed))
        (poller.dialled if len(seen) % 2 else poller.accepted).append(Gathers(flushed))

    looks = [Looks(poller, act) for _ in range(GATHER + 2)]
    poller.doRead()
    assert all(each.done for each in looks)
    assert seen == [0] * GATHER + [GATHER] * 2
    assert len(flushed) == GATHER + 2


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("others", [0, GATHER])
@pytest_twisted.ensureDeferred
async def test_an_error_of_one_keeps_nobody_else_waiting(poller: Poller, others: int, stays: bool) -> None:
    """Neither behind a look nor within one, where there are more than may wait."""
    flushed: list[Gathers] = []
    bad, good = Gathers(flushed, ValueError("a bug"), stays=stays), Gathers(flushed)

    def act() -> None:
        poller.accepted.extend((bad, good, *(Gathers([]) for _ in range(others))))

    Looks(poller, act)
    poller.doRead()
    assert flushed == [bad, good]
    assert not poller.gathers
    assert [str(error) for error in bad.errors] == ["a bug"]
    assert not good.errors
    assert not poller.accepted


@pytest_twisted.ensureDeferred
async def test_what_is_written_at_the_end_of_one_goes_out_too(poller: Poller) -> None:
    flushed: list[Gathers] = []
    first, bad, late = Gathers(flushed), Gathers(flushed, ValueError("a bug")), Gathers(flushed)

    def ends() -> None:
        poller.flush()  # for something large
        poller.accepted.append(late)

    bad.ends = ends
    Looks(poller, lambda: poller.accepted.extend((first, bad, *(Gathers([]) for _ in range(GATHER)))))  # so within the look
    poller.doRead()
    assert flushed == [first, bad, late]


@pytest_twisted.ensureDeferred
async def test_an_error_of_one_that_ends_whoever_writes_something_large(wires: Wires, sent: Sent) -> None:
    caller, _ = await wires.accepted()
    bad = Gathers([], ValueError("a bug"))
    bad.ends = caller.link.abortConnection

    def act() -> None:
        wires.loop.poller.accepted.append(bad)
        caller.link.write(bytes(LARGE))

    in_a_look(wires, act)
    assert caller.closed
    assert sent.by(caller.link) == []
