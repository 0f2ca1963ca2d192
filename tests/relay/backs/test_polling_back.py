from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from dialled import take
from fake_link import FIN, RST, FakeLink
from halibut_bytes import REQUEST, RESPONSE, bounded, deflated, frame, guid, reference, response
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from polling_memory import IDENTITY, Memory
from tables import STRANGER, machine

from certs.thumbprint import Thumbprint
from relay.alarms import Alarms
from relay.backs.polling import KEEP_ALIVE, OVERDUE, TURN, PollingBack, PollingLease
from relay.call import Call
from relay.halibut.events import Part, Unit
from relay.halibut.lines import END, NEXT, NULL_ENVELOPE, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.halibut.message import Kind, Message
from relay.lease import Close
from relay.outcomes import Outcome, Refusal

READY = 45.0
ID = guid(7)
TWICE = deflated(response([reference(ID, 4, typed=True)] * 2))


class Holder:
    """A LeaseHolder that writes down what it is told, and the lease that it has."""

    def __init__(self, memory: Memory, name: str = "caller", back: Any = None, again: bool = False) -> None:
        self.call = Call("kiosk7", "production", name, memory.clock.seconds())
        self.told: list[str] = []
        self.data = b""
        self.whole = 0
        self.lease: PollingLease = (back or memory.polling).acquire(self.call, self.call.began + READY, self, again)
        assert self.told == [], "told from within"

    def lease_ready(self) -> None:
        self.told.append("ready")

    def lease_failed(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"failed {outcome.value}: {detail}")

    def reply_part(self, part: Part) -> None:
        self.data += part.data
        if part.last and not self.lease.more_frames:
            self.whole += 1
            self.lease.release()

    def reply_body(self, count: int, done: Any) -> None:
        """Not pumped here: the bytes come as parts."""

    def back_lost(self, outcome: Outcome, detail: str) -> None:
        self.told.append(f"lost {outcome.value}: {detail}")

    def back_closing(self) -> None:
        self.told.append("closing")

    def sends_request(self) -> None:
        self.lease.send(Part(Unit.ENVELOPE, REQUEST, Message(Kind.REQUEST), last=True))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def acquired(memory: Memory, name: str = "caller") -> Holder:
    holder = Holder(memory, name)
    memory.advance()
    return holder


# ---- a call --------------------------------------------------------------------------------------------------------------


def test_a_call_takes_a_parked_connection_and_gives_it_back(memory: Memory) -> None:
    link = memory.parked_poller()
    holder = acquired(memory)
    assert holder.told == ["ready"]
    assert (holder.call.served, holder.call.reused) == (memory.clock.seconds(), False)
    holder.sends_request()
    assert take(link) == [REQUEST]
    link.receive(RESPONSE)
    assert holder.data == RESPONSE
    assert (memory.polling.parked, len(memory.polling)) == (0, 1)
    link.receive(NEXT)
    assert take(link) == [PROCEED]
    assert memory.polling.parked == 1
    assert acquired(memory).call.reused


def test_reply_and_next_in_one_piece(memory: Memory) -> None:
    link = memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    take(link)
    link.receive(RESPONSE + NEXT)
    assert (holder.data, take(link), memory.polling.parked) == (RESPONSE, [PROCEED], 1)


def test_the_connection_that_has_waited_longest_is_taken(memory: Memory) -> None:
    first = memory.parked_poller()
    memory.advance(1)
    second = memory.parked_poller()
    memory.advance(1)
    for link in (first, second):
        acquired(memory).sends_request()
        assert take(link) == [REQUEST]


def test_one_that_got_no_byte_is_parked_where_it_was(memory: Memory) -> None:
    links = []
    for _ in range(3):
        links.append(memory.parked_poller())
        memory.advance(1)
    holders = [acquired(memory) for _ in range(2)]
    for holder in holders:
        holder.lease.abort(Close.FIN)
    assert (memory.polling.parked, links[0].ended) == (3, None)
    for link in links:
        acquired(memory).sends_request()
        assert take(link) == [REQUEST]


@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
def test_one_in_a_call_is_closed_with_it(memory: Memory, close: Close) -> None:
    """Without END: a listener never says it (wire.md 1.10, 11.3)."""
    link = memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    take(link)
    holder.lease.abort(close)
    assert (link.written, link.ended) == ([], FIN if close is Close.FIN else RST)
    assert not memory.polling.live


@pytest.mark.parametrize(("said", "told"), [(None, "closed"), (END, "END")])
def test_one_that_ends_in_a_call_is_told_at_once(memory: Memory, said: bytes | None, told: str) -> None:
    link = memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    if said:
        link.receive(said)
    else:
        link.lose()
    assert holder.told == ["ready", f"lost tentacle-gone: {told}"]
    assert len(memory.polling) == 0


def test_one_that_speaks_out_of_turn_ends_its_call(memory: Memory) -> None:
    link = memory.parked_poller()
    holder = acquired(memory)
    link.receive(RESPONSE)
    assert holder.told[-1].startswith("lost tentacle-broke: ")
    assert link.ended == FIN


def test_an_end_that_is_seen_while_paused_is_passed_on(memory: Memory) -> None:
    link = memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    link.pause("backlog")
    link.lose()
    assert holder.told == ["ready", "closing"]


def test_next_ends_a_reply_that_repeats_an_id(memory: Memory) -> None:
    """wire.md 5.5: whether more of its frames come is not known before."""
    link = memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    take(link)
    link.receive(TWICE, frame(ID, b"body"))
    assert holder.whole == 0
    link.receive(NEXT)
    assert (holder.whole, holder.data) == (1, TWICE + frame(ID, b"body"))
    assert (take(link), memory.polling.parked) == ([PROCEED], 1)


def test_a_connection_with_frames_that_may_follow_is_not_kept(memory: Memory) -> None:
    link = memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    link.receive(TWICE, frame(ID, b"body"))
    holder.lease.release()
    assert (link.ended, len(memory.polling)) == (FIN, 0)


# ---- the queue -----------------------------------------------------------------------------------------------------------


def test_calls_wait_in_order(memory: Memory) -> None:
    first, second = acquired(memory, "first"), acquired(memory, "second")
    assert memory.polling.waiting == 2
    link = memory.parked_poller()
    assert (first.told, second.told) == (["ready"], [])
    first.sends_request()
    link.receive(RESPONSE + NEXT)
    memory.advance()
    assert second.told == ["ready"]


def test_a_call_whose_connection_was_lost_before_its_request_goes_first(memory: Memory) -> None:
    waiting = acquired(memory, "waiting")
    again = Holder(memory, "again", again=True)
    memory.parked_poller()
    assert (waiting.told, again.told) == ([], ["ready"])


def test_nobody_polls_for_all_of_its_time(memory: Memory) -> None:
    holder = acquired(memory)
    memory.advance(READY - 0.1)
    assert holder.told == []
    memory.advance(0.1)
    assert holder.told == ["failed no-poller: the Tentacle did not poll the relay"]
    assert (memory.polling.waiting, memory.clock.getDelayedCalls()) == (0, [])


def test_all_are_busy_for_all_of_its_time(memory: Memory) -> None:
    memory.parked_poller()
    acquired(memory).sends_request()
    holder = acquired(memory)
    memory.advance(READY)
    assert holder.told == ["failed queue-timeout: all 1 connections of the Tentacle were busy"]


def test_whoever_gives_up_frees_its_place(memory: Memory) -> None:
    first, second = acquired(memory, "first"), acquired(memory, "second")
    first.lease.abort(Close.FIN)
    assert memory.polling.waiting == 1
    memory.parked_poller()
    assert (first.told, second.told) == ([], ["ready"])


def test_so_many_wait_and_no_more(memory: Memory) -> None:
    memory.polling = PollingBack(memory.clock, Alarms(memory.clock), machine(waiting=2))
    for _ in range(2):
        acquired(memory)
    assert acquired(memory).told == ["failed queue-full: 2 calls wait for this Tentacle"]
    assert memory.polling.waiting == 2
    again = Holder(memory, again=True)
    memory.advance()
    assert again.told == []


def test_a_parked_one_that_ends_is_never_taken(memory: Memory) -> None:
    dead, alive = memory.parked_poller(), memory.parked_poller()
    dead.lose()
    assert memory.polling.parked == 1
    acquired(memory).sends_request()
    assert (dead.written, take(alive)) == ([], [REQUEST])


def test_one_that_ends_before_its_call_has_heard_of_it_is_replaced(memory: Memory) -> None:
    dead = memory.parked_poller()
    holder = Holder(memory)
    later = Holder(memory)
    dead.lose()
    memory.advance()
    assert (holder.told, holder.call.served) == ([], 0.0)
    memory.parked_poller()
    assert (holder.told, later.told) == (["ready"], [])


# ---- null messages, and silence ------------------------------------------------------------------------------------------


def test_a_parked_one_hears_a_null_every_thirty_seconds(memory: Memory) -> None:
    link = memory.parked_poller()
    for _ in range(3):
        memory.advance(KEEP_ALIVE - 0.1)
        assert take(link) == []
        memory.advance(0.1)
        assert take(link) == [NULL_ENVELOPE]
        link.receive(NEXT)
        assert take(link) == [PROCEED]


def test_a_null_is_never_late_whatever_calls_came_between(memory: Memory) -> None:
    link = memory.parked_poller()
    for pause in (1, 29.5, 7, 29.5):
        memory.advance(pause)
        holder = acquired(memory)
        holder.sends_request()
        link.receive(RESPONSE + NEXT)
        take(link)
    memory.advance(KEEP_ALIVE - 0.1)
    assert take(link) == []
    memory.advance(0.1)
    assert take(link) == [NULL_ENVELOPE]


def test_one_that_was_parked_again_hears_it_when_it_is_due(memory: Memory) -> None:
    link = memory.parked_poller()
    memory.advance(20)
    holder = acquired(memory)
    memory.parked_poller()
    memory.advance(20)
    assert take(link) == []  # a call may begin at any moment
    holder.lease.abort(Close.FIN)
    memory.advance()
    assert take(link) == [NULL_ENVELOPE]


def test_no_null_in_a_call(memory: Memory) -> None:
    link = memory.parked_poller()
    acquired(memory).sends_request()
    take(link)
    memory.advance(10 * KEEP_ALIVE)
    assert take(link) == []


def test_a_call_does_not_take_one_that_owes_next(memory: Memory) -> None:
    link = memory.parked_poller()
    memory.advance(KEEP_ALIVE)
    holder = acquired(memory)
    assert (holder.told, take(link)) == ([], [NULL_ENVELOPE])
    link.receive(NEXT)
    memory.advance()
    assert holder.told == ["ready"]


@pytest.mark.parametrize("behind", ["null", "reply"])
def test_one_that_says_no_next_is_given_up(memory: Memory, behind: str) -> None:
    """A stopped process, or a half-open connection: 90 s at most while parked."""
    link = memory.parked_poller()
    if behind == "null":
        memory.advance(KEEP_ALIVE)
    else:
        acquired(memory).sends_request()
        link.receive(RESPONSE)
    told: list[bool] = []
    memory.polling.watch(lambda: told.append(memory.polling.live))
    memory.advance(TURN - 0.1)
    assert (link.ended, told) == (None, [])
    memory.advance(0.1)
    assert (link.ended, told) == (RST, [False])
    assert memory.clock.getDelayedCalls() == []


# ---- who may come in, and the end ----------------------------------------------------------------------------------------


def test_one_that_owes_next_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Tentacle's network has changed: what it had is half-open, and counts, and it comes back with as many."""
    memory = Memory(monkeypatch, connections=2)
    told: list[bool] = []
    lost = [memory.parked_poller() for _ in range(2)]
    memory.polling.watch(lambda: told.append(memory.polling.live))
    memory.advance(KEEP_ALIVE)
    memory.advance(OVERDUE - 0.1)
    early = memory.poller()
    early.receive(PREAMBLE, IDENTITY)
    assert (early.written, early.ended) == ([], FIN)
    memory.advance(0.1)
    back = [memory.poller() for _ in range(3)]
    for link in back:
        link.receive(PREAMBLE, IDENTITY)
    assert [link.ended for link in lost] == [RST, RST]
    assert [link.written for link in back] == [[SERVER_IDENTITY], [SERVER_IDENTITY], []]
    assert (len(memory.polling), memory.polling.parked, told) == (2, 2, [])


def test_no_more_connections_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, connections=2)
    links = [memory.parked_poller() for _ in range(2)]
    surplus = memory.poller()
    surplus.receive(PREAMBLE, IDENTITY)
    assert (surplus.written, surplus.ended) == ([], FIN)
    assert memory.refusals == [(Refusal.POLLERS, "2 connections poll already (limits.connections of machine kiosk7)")]
    links[0].lose()
    memory.parked_poller()
    assert memory.polling.parked == 2


def test_live_is_told_when_the_first_comes_and_the_last_goes(memory: Memory) -> None:
    told: list[bool] = []
    changed = lambda: told.append(memory.polling.live)  # noqa: E731 (the same one is given back)
    memory.polling.watch(changed)
    first, second = memory.parked_poller(), memory.parked_poller()
    first.lose()
    assert told == [True]
    second.lose()
    memory.parked_poller()
    memory.polling.stop()
    assert told == [True, False, True, False]
    memory.polling.unwatch(changed)
    assert memory.refusals == []


@pytest.mark.parametrize("how", [PollingBack.retire, PollingBack.stop])
def test_the_end_closes_what_is_idle_and_lets_calls_end(memory: Memory, how: Callable[[PollingBack], None]) -> None:
    called, parked = memory.parked_poller(), memory.parked_poller()
    holder = acquired(memory)
    holder.sends_request()
    take(called)
    how(memory.polling)
    assert (parked.written, parked.ended, called.ended) == ([], FIN, None)
    surplus = memory.poller()
    surplus.receive(PREAMBLE, IDENTITY)
    assert (surplus.written, surplus.ended) == ([], FIN)
    assert [refusal for refusal, _ in memory.refusals] == [Refusal.DRAINING]
    called.receive(RESPONSE)
    assert (holder.data, called.ended, len(memory.polling)) == (RESPONSE, FIN, 0)
    assert memory.clock.getDelayedCalls() == []


def test_a_call_that_waits_at_a_retirement_has_the_next_connection_that_comes_free(memory: Memory) -> None:
    link = memory.parked_poller()
    first = acquired(memory)
    first.sends_request()
    second = acquired(memory)
    memory.polling.retire()
    link.receive(RESPONSE + NEXT)
    memory.advance()
    assert second.told == ["ready"]
    second.sends_request()
    link.receive(RESPONSE)
    assert (link.ended, len(memory.polling), memory.clock.getDelayedCalls()) == (FIN, 0, [])


def test_a_retirement_waits_for_no_call_that_gives_up(memory: Memory) -> None:
    link = memory.parked_poller()
    acquired(memory).sends_request()
    waiting = acquired(memory)
    memory.polling.retire()
    link.receive(RESPONSE)
    waiting_now = memory.polling.waiting
    waiting.lease.abort(Close.FIN)
    assert (waiting_now, link.ended) == (1, FIN)
    assert memory.clock.getDelayedCalls() == []


def test_a_retirement_keeps_no_connection_beyond_the_last_call_that_waits(memory: Memory) -> None:
    links = [memory.parked_poller() for _ in range(2)]
    for _ in range(2):
        acquired(memory).sends_request()
    waiting = acquired(memory)
    memory.polling.retire()
    links[0].receive(RESPONSE)
    links[1].receive(RESPONSE)
    links[0].receive(NEXT)
    memory.advance()
    assert waiting.told == ["ready"]
    links[1].receive(NEXT)
    assert (links[1].ended, len(memory.polling)) == (FIN, 1)


def test_a_call_that_waits_at_a_stop_has_no_connection(memory: Memory) -> None:
    link = memory.parked_poller()
    acquired(memory).sends_request()
    waiting = acquired(memory)
    memory.polling.stop()
    link.receive(RESPONSE + NEXT)
    memory.advance()
    assert waiting.told == []
    waiting.lease.abort(Close.FIN)
    assert (len(memory.polling), memory.clock.getDelayedCalls()) == (0, [])


def test_whose_tentacle_shows_none_of_these_pins(memory: Memory) -> None:
    memory.parked_poller()
    holder, waiting = acquired(memory), acquired(memory)
    assert memory.polling.holders_without(memory.machine.thumbprints) == {waiting}
    assert memory.polling.holders_without([Thumbprint.of(STRANGER)]) == {holder, waiting}


def test_close_idle_says_how_many(memory: Memory) -> None:
    busy = memory.parked_poller()
    acquired(memory).sends_request()
    idle = [memory.parked_poller() for _ in range(2)]
    assert memory.polling.close_idle() == 2
    assert [link.ended for link in (busy, *idle)] == [None, FIN, FIN]
    memory.parked_poller()  # it may come back


# ---- whatever happens in whatever order ----------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Tentacles and calls come and go as they like: nobody is told twice, nobody is forgotten, nothing is left."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.memory = Memory(self.patch, connections=3)
        self.links: list[FakeLink] = []
        self.holders: list[Holder] = []
        self.names = count()

    def teardown(self) -> None:
        self.memory.polling.stop()
        for holder in self.open:
            holder.lease.abort(Close.FIN)
        assert (len(self.memory.polling), self.memory.polling.waiting) == (0, 0)
        assert [link for link in self.links if link.ended is None] == []
        assert self.memory.clock.getDelayedCalls() == []
        self.patch.undo()

    @property
    def open(self) -> list[Holder]:
        """Calls whose lease is not over."""
        return [
            holder for holder in self.holders
            if not holder.whole and not holder.gone and not any("failed" in told or "lost" in told for told in holder.told)
        ]  # fmt: skip

    @property
    def alive(self) -> list[FakeLink]:
        return [link for link in self.links if link.ended is None]

    @rule()
    def tentacle_comes(self) -> None:
        link = self.memory.poller()
        self.links.append(link)
        link.receive(PREAMBLE, IDENTITY)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def tentacle_goes(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive)).lose()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def tentacle_speaks(self, data: st.DataObject) -> None:
        """A reply where a request has come, NEXT where that is due."""
        link = data.draw(st.sampled_from(self.alive))
        for said in take(link):
            if said in (REQUEST, NULL_ENVELOPE):
                link.receive(RESPONSE if said == REQUEST else b"", NEXT)

    @rule(again=st.booleans())
    def call_comes(self, again: bool) -> None:
        holder = Holder(self.memory, str(next(self.names)), again=again)
        holder.gone = holder.requested = False
        self.holders.append(holder)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def call_goes(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.open))
        holder.gone = True
        holder.lease.abort(Close.FIN)

    @precondition(lambda self: any(holder.told == ["ready"] and not holder.requested for holder in self.open))
    @rule(data=st.data())
    def call_sends(self, data: st.DataObject) -> None:
        ready = [holder for holder in self.open if holder.told == ["ready"] and not holder.requested]
        holder = data.draw(st.sampled_from(ready))
        holder.requested = True
        holder.sends_request()

    @rule(seconds=st.sampled_from([0.0, 0.0, 5.0, 31.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.memory.advance(seconds)

    @invariant()
    def holds(self) -> None:
        back = self.memory.polling
        assert len(back) <= 3
        assert len(back) == len(self.alive)
        assert not (back.parked and back.waiting)
        for holder in self.holders:
            assert len(holder.told) <= 2
            assert holder.told[:1] in ([], ["ready"]) or len(holder.told) == 1


def test_in_any_order() -> None:
    run_state_machine_as_test(AnyOrder, settings=bounded(150))
