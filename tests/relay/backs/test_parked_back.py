from typing import Any

import pytest
from dialled import replies, take
from fake_link import FIN, RST, FakeLink
from halibut_bytes import REQUEST, RESPONSE
from polling_memory import Memory
from tables import STRANGER

from relay.backs.parked import HELD, MOST_PAUSE, PARKED, Claim
from relay.call import Call
from relay.halibut.events import Part, Unit
from relay.halibut.lines import NEXT, PROCEED
from relay.halibut.message import Kind, Message
from relay.lease import Close
from relay.outcomes import Outcome
from relay.transport.errors import DialError

REFUSED = DialError("refused", "Connection refused")
WAIT = 60.0


class Watched:
    """A ParkedBack that somebody watches. changes: each time that `live` was said to have changed, what it was then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.memory = Memory(monkeypatch, **options)
        self.back, self.pool, self.dials = self.memory.parked, self.memory.pool, self.memory.tentacles
        self.changes: list[bool] = []
        self.back.watch(self.changed)
        self.advance = self.memory.advance

    def changed(self) -> None:
        self.changes.append(self.back.live)

    def parked(self) -> FakeLink:
        """The Tentacle takes the connection that was dialled last."""
        return self.dials[-1].identifies()


class Holder:
    """A LeaseHolder that writes down what it is told, and its claim."""

    def __init__(self, watched: Watched, again: bool = False) -> None:
        clock = watched.memory.clock
        self.call = Call("kiosk7", "production", "octopus-1:10943", clock.seconds())
        self.told: list[str] = []
        self.data = b""
        self.claim: Claim = watched.back.acquire(self.call, clock.seconds() + WAIT, self, again)
        assert self.told == [], "told from within"

    def lease_ready(self) -> None:
        self.told.append("ready")

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"failed {outcome.value}: {detail}")

    def reply_part(self, part: Part) -> None:
        self.data += part.data
        if part.last:
            self.claim.release()

    def reply_body(self, count: int, done: Any) -> None:
        """Not pumped here: the bytes come as parts."""

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"lost {outcome.value}: {detail}")

    def back_closing(self) -> None:
        self.told.append("closing")

    def sends_request(self) -> None:
        self.claim.send(Part(Unit.ENVELOPE, REQUEST, Message(Kind.REQUEST), last=True))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


# ---- one is parked -------------------------------------------------------------------------------------------------------


def test_nothing_is_dialled_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch)
    memory.advance(100)
    assert (memory.tentacles, memory.parked.live) == ([], False)


def test_a_connection_is_parked_and_the_tentacle_live(watched: Watched) -> None:
    assert (len(watched.dials), watched.changes) == (1, [])
    link = watched.parked()
    assert watched.changes == [True]
    watched.advance(500)
    assert (len(watched.dials), take(link), link.ended) == (1, [], None)


def test_a_request_takes_it_and_the_next_is_dialled_at_once(watched: Watched) -> None:
    link = watched.parked()
    holder = Holder(watched)
    assert len(watched.dials) == 2
    watched.advance()
    assert holder.told == ["ready"]
    assert (holder.call.served, holder.call.reused) == (watched.memory.clock.seconds(), False)
    holder.sends_request()
    assert take(link) == [REQUEST]
    replies(link)
    assert holder.data == RESPONSE
    assert watched.changes == [True]


def test_a_connection_that_has_served_is_proved_and_parked_again(watched: Watched) -> None:
    first = watched.parked()
    one = Holder(watched)
    second = watched.parked()
    watched.advance()
    one.sends_request()
    replies(first)
    take(first)
    two = Holder(watched)
    watched.advance()
    assert (two.told, take(first)) == (["ready"], [NEXT])
    first.receive(PROCEED)
    two.sends_request()
    replies(second)
    three = Holder(watched)
    watched.advance()
    assert (three.told, three.call.reused, len(watched.dials)) == (["ready"], True, 2)


def test_it_is_replaced_before_its_tentacle_closes_it(watched: Watched) -> None:
    link = watched.parked()
    watched.advance(PARKED - 0.1)
    assert link.ended is None
    watched.advance(0.1)
    assert (link.ended, len(watched.dials)) == (FIN, 2)
    assert watched.back.live  # the polls stand meanwhile
    watched.parked()
    watched.advance(PARKED)
    assert (len(watched.dials), watched.changes) == (3, [True])


def test_one_that_ends_is_replaced_and_the_tentacle_stays_live(watched: Watched) -> None:
    watched.parked()
    link = watched.dials[-1].link
    assert link
    watched.advance(HELD)
    link.lose()
    assert (len(watched.dials), watched.changes) == (2, [True])
    watched.parked()
    assert watched.changes == [True]


def test_where_it_cannot_be_replaced_the_tentacle_is_down(watched: Watched) -> None:
    link = watched.parked()
    watched.advance(HELD)
    link.lose()
    watched.dials[-1].fail(REFUSED)
    assert watched.changes == [True, False]
    assert watched.memory.told() == ["down: refused: Connection refused"]
    watched.advance(4.9)
    assert len(watched.dials) == 2
    watched.advance(2.6)
    assert len(watched.dials) == 3
    watched.parked()
    assert watched.changes == [True, False, True]


def test_a_tentacle_that_takes_connections_and_drops_them_is_down_and_dialled_ever_less(watched: Watched) -> None:
    for _ in range(30):
        watched.parked()
        watched.advance(HELD - 0.1)
        link = watched.dials[-1].link
        assert link
        link.lose()
        count = len(watched.dials)
        assert not watched.back.live
        watched.advance(4.9)
        assert len(watched.dials) == count
        while len(watched.dials) == count:
            watched.advance(1)
    assert watched.memory.clock.seconds() - 1000 > 20 * MOST_PAUSE / 2
    assert len(watched.memory.told()) == 30


def test_a_pause_is_short_again_where_the_tentacle_has_been_there_meanwhile(watched: Watched) -> None:
    for _ in range(8):
        watched.dials[-1].fail(REFUSED)
        count = len(watched.dials)
        while len(watched.dials) == count:
            watched.advance(1)
    link = watched.parked()
    watched.advance(PARKED / 2)
    link.lose()
    watched.dials[-1].fail(REFUSED)
    count = len(watched.dials)
    watched.advance(7.5)
    assert len(watched.dials) == count + 1


def test_a_wrong_certificate_is_a_failure(watched: Watched) -> None:
    watched.dials[-1].connects(STRANGER)
    assert (watched.back.live, len(watched.dials)) == (False, 1)
    assert watched.memory.told()[0].startswith("down: wrong-certificate: ")


def test_nobody_watches_any_more(watched: Watched) -> None:
    link = watched.parked()
    watched.back.unwatch(watched.changed)
    assert (link.ended, watched.back.live) == (FIN, False)
    watched.advance(1000)
    assert len(watched.dials) == 1
    watched.pool.stop()
    assert watched.memory.clock.getDelayedCalls() == []


@pytest.mark.parametrize("stage", ["dialling", "pausing"])
def test_nobody_watches_any_more_before_it_is_parked(watched: Watched, stage: str) -> None:
    if stage == "pausing":
        watched.dials[0].fail(REFUSED)
    watched.back.unwatch(watched.changed)
    assert watched.dials[0].cancelled is (stage == "dialling")
    assert watched.memory.clock.getDelayedCalls() == []


def test_a_call_goes_on_where_nobody_watches_any_more(watched: Watched) -> None:
    link = watched.parked()
    holder = Holder(watched)
    watched.advance()
    holder.sends_request()
    watched.back.unwatch(watched.changed)
    replies(link)
    assert holder.data == RESPONSE
    assert watched.dials[1].cancelled


# ---- requests beyond it --------------------------------------------------------------------------------------------------


def test_requests_wait_in_order_each_for_a_connection(watched: Watched) -> None:
    watched.parked()
    holders = [Holder(watched) for _ in range(3)]
    watched.advance()
    assert [holder.told for holder in holders] == [["ready"], [], []]
    assert (len(watched.dials), watched.back.waiting) == (4, 2)
    for dial in reversed(watched.dials[1:]):
        dial.identifies()
    watched.advance()
    assert [holder.told for holder in holders] == [["ready"]] * 3
    assert watched.back.waiting == 0


def test_with_one_connection_at_most_requests_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, connections=1)
    link = watched.parked()
    holders = [Holder(watched) for _ in range(2)]
    watched.advance()
    for holder in holders:
        assert holder.told == ["ready"]
        holder.sends_request()
        replies(link)
        assert holder.data == RESPONSE
        assert take(link)[-1] == NEXT
        link.receive(PROCEED)
        watched.advance()
    assert (len(watched.dials), watched.changes) == (1, [True])


def test_a_long_call_on_the_only_connection_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, connections=1)
    watched.parked()
    holder = Holder(watched)
    watched.advance()
    holder.sends_request()
    watched.advance(600)
    assert (watched.changes, watched.memory.told(), len(watched.dials)) == ([True], [], 1)


def test_a_request_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, connections=1)
    watched.parked()
    Holder(watched)
    late = Holder(watched)
    watched.advance(WAIT - 0.1)
    assert late.told == []
    watched.advance(0.1)
    assert late.told == ["failed queue-timeout: no connection to the Tentacle became free in time"]
    assert watched.back.waiting == 0


def test_a_request_whose_connection_cannot_be_had_fails_with_the_reason(watched: Watched) -> None:
    """It was picked up in the instant in which the Tentacle went."""
    link = watched.parked()
    watched.advance(HELD)
    link.lose()
    holder = Holder(watched)
    watched.dials[-1].fail(REFUSED)
    assert watched.dials[-2].cancelled  # there is nobody left to wait for it
    assert holder.told == ["failed refused: Connection refused"]


def test_a_connection_that_ends_in_a_call_is_told_at_once(watched: Watched) -> None:
    link = watched.parked()
    holder = Holder(watched)
    watched.advance()
    holder.sends_request()
    link.pause("backlog")
    link.lose()
    link.resume("backlog")
    link.deliver()
    assert holder.told == ["ready", "closing", "lost tentacle-gone: closed"]


def test_one_that_ends_before_its_request_has_heard_of_it_is_replaced(watched: Watched) -> None:
    link = watched.parked()
    holder = Holder(watched)
    link.lose()
    watched.advance()
    assert (holder.told, holder.call.served) == ([], 0.0)
    watched.dials[1].identifies()
    watched.advance()
    assert holder.told == ["ready"]


def test_a_request_that_gives_up_before_its_first_byte_costs_no_connection(watched: Watched) -> None:
    link = watched.parked()
    holder = Holder(watched)
    watched.advance()
    holder.claim.abort(Close.FIN)
    assert (link.ended, watched.dials[1].cancelled) == (None, True)
    another = Holder(watched)
    watched.advance()
    another.sends_request()
    assert take(link) == [REQUEST]


def test_its_connection_goes_to_the_next_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, connections=1)
    link = watched.parked()
    first, second = Holder(watched), Holder(watched)
    watched.advance()
    first.claim.abort(Close.FIN)
    watched.advance()
    assert (second.told, link.ended) == (["ready"], None)


@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
def test_a_request_that_gives_up_in_its_call_closes_the_connection(watched: Watched, close: Close) -> None:
    link = watched.parked()
    holder = Holder(watched)
    watched.advance()
    holder.sends_request()
    holder.claim.abort(close)
    assert link.ended == (FIN if close is Close.FIN else RST)
    assert watched.back.live


def test_a_request_that_gives_up_while_it_waits_takes_its_dial_with_it(watched: Watched) -> None:
    watched.parked()
    Holder(watched)
    waiting = Holder(watched)
    assert len(watched.dials) == 3
    waiting.claim.abort(Close.FIN)
    assert (watched.dials[2].cancelled, watched.back.waiting) == (True, 0)
    watched.advance(WAIT)
    assert waiting.told == []


def test_one_that_was_lost_before_its_request_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, connections=1)
    watched.dials[-1].connects()
    waiting, again = Holder(watched), Holder(watched, again=True)
    link = watched.dials[-1].link
    assert link
    link.receive(b"MX-SERVER 1.0\r\n\r\n")
    watched.advance()
    assert (waiting.told, again.told) == ([], ["ready"])
