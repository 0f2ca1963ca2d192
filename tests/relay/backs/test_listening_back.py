from typing import Any, cast

import pytest
from dialled import Dials, proceeds, replies, take
from fake_link import FIN, RST
from halibut_bytes import REQUEST, RESPONSE, deflated, frame, reference, response
from pool import BACK_IDLE, CONNECT, ID, PROVE, READY, Pool
from tables import STRANGER, TENTACLE

from certs.thumbprint import Thumbprint
from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED
from relay.lease import Close
from relay.transport.errors import DialError, HandshakeError


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> Dials:
    made = Dials()
    monkeypatch.setattr("relay.backs.connection.Dial", made)
    return made


@pytest.fixture
def pool(dials: Dials) -> Pool:
    return Pool(dials)


# ---- a dial -------------------------------------------------------------------------------------------------------------


def test_the_first_call_dials(pool: Pool) -> None:
    assert (len(pool.back), len(pool.dials)) == (0, 0)
    holder = pool.acquire()
    [dial] = pool.dials
    assert (dial.address, dial.context, dial.seconds) == (("127.0.0.1", 10933), "context", CONNECT)
    pool.clock.advance(2)
    link = dial.connects()
    assert holder.told == []
    link.receive(b"MX-SERVER 1.0\r\n\r\n")
    assert holder.told == ["ready"]
    assert cast("Any", holder.lease.link) is link
    assert (holder.call.served, holder.call.reused) == (1000, False)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DialError("refused", "Connection refused"), "failed refused: Connection refused"),
        (DialError("timeout", "no connection in time"), "failed connect-timeout: no connection in time"),
        (HandshakeError("unsupported protocol"), "failed tls: unsupported protocol"),
    ],
)
def test_a_dial_that_fails_fails_the_lease_and_is_not_repeated(pool: Pool, error: Exception, told: str) -> None:
    """wire.md 11.4: Octopus repeats by itself."""
    holder = pool.acquire()
    pool.dials[0].fail(error)
    assert holder.told == [told]
    assert len(pool.dials) == 1
    pool.check_nothing_is_left()


def test_a_wrong_certificate_fails_the_lease_without_a_byte(pool: Pool) -> None:
    holder = pool.acquire()
    link = pool.dials[0].connects(STRANGER)
    assert (link.written, link.ended) == ([], FIN)
    assert holder.told[0].startswith("failed wrong-certificate: it presented the certificate ")
    pool.check_nothing_is_left()


def test_a_tentacle_that_does_not_trust_us_fails_the_lease(pool: Pool) -> None:
    holder = pool.acquire()
    pool.dials[0].connects().lose()
    assert holder.told == ["failed not-trusted: closed"]
    pool.check_nothing_is_left()


def test_a_tentacle_that_never_identifies_itself_fails_the_lease_at_the_deadline(pool: Pool) -> None:
    holder = pool.acquire()
    link = pool.dials[0].connects()
    pool.clock.advance(READY - 0.1)
    assert holder.told == []
    pool.clock.advance(0.1)
    assert holder.told == ["failed ready-timeout: the Tentacle did not identify itself in time"]
    assert link.ended == FIN
    pool.check_nothing_is_left()


def test_the_deadline_is_for_becoming_ready_only(pool: Pool) -> None:
    holder = pool.acquire()
    pool.dials[0].identifies()
    pool.clock.advance(10 * READY)
    assert holder.told == ["ready"]


def test_a_dial_never_takes_longer_than_the_caller_can_wait(pool: Pool) -> None:
    for number in range(10):
        pool.acquire(str(number))
    late = pool.acquire("late")
    pool.clock.advance(30)
    pool.dials[0].fail(DialError("refused", "Connection refused"))
    assert pool.dials[-1].seconds == READY - 30
    assert late.call.served == 1030


# ---- a lease ------------------------------------------------------------------------------------------------------------


def test_what_comes_from_the_tentacle_goes_to_the_holder(pool: Pool) -> None:
    holder = pool.acquire()
    link = pool.dials[0].identifies()
    holder.sends_request()
    link.receive(deflated(response(reference(ID, 4, typed=True))) + frame(ID, b"body")[:25])
    [(count, done)] = holder.bodies
    assert count == 3
    done()
    link.pause("backlog")
    link.lose()
    assert holder.told == ["ready", "closing"]
    link.resume("backlog")
    link.deliver()
    assert holder.told == ["ready", "closing", "lost tentacle-gone: closed inside a message's streams"]
    pool.check_nothing_is_left()


@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
def test_a_lease_that_is_given_up_closes_its_connection(pool: Pool, close: Close) -> None:
    """Also where it is ready: its Tentacle takes nothing but a request now (wire.md 10.9)."""
    for stage in ("dialled", "connected", "ready", "requested", "replied in part"):
        holder = pool.acquire()
        dial = pool.dials[-1]
        if stage == "connected":
            dial.connects()
        elif stage != "dialled":
            dial.identifies()
        if stage in ("requested", "replied in part"):
            holder.sends_request()
        if stage == "replied in part":
            assert dial.link
            replies(dial.link, RESPONSE[:10])
        told = list(holder.told)
        holder.lease.abort(close)
        assert dial.link.ended == (FIN if close is Close.FIN else RST) if dial.link else dial.cancelled
        pool.clock.advance(2 * READY)
        assert holder.told == told
        assert len(pool.back) == 0
    pool.check_nothing_is_left()


def test_a_lease_that_is_given_up_in_the_queue_leaves_it(dials: Dials) -> None:
    pool = Pool(dials, connections=1)
    first, second, third = (pool.acquire(name) for name in ("first", "second", "third"))
    assert pool.back.waiting == 2
    second.lease.abort(Close.FIN)
    assert pool.back.waiting == 1
    first.lease.abort(Close.FIN)
    assert pool.dials[0].cancelled
    pool.dials[1].identifies()
    assert (second.told, third.told) == ([], ["ready"])
    third.lease.abort(Close.FIN)
    pool.check_nothing_is_left()


def test_a_lease_that_is_given_up_while_proving_closes_that_connection(pool: Pool) -> None:
    [link] = pool.pooled()
    holder = pool.acquire()
    assert take(link) == [NEXT]
    holder.lease.abort(Close.FIN)
    assert (link.written, link.ended) == ([], FIN)
    pool.clock.advance(2 * READY)
    assert holder.told == []
    pool.check_nothing_is_left()


# ---- the pool -----------------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_proved_before_it_is_used(pool: Pool) -> None:
    [link] = pool.pooled()
    pool.clock.advance(10)
    holder = pool.acquire()
    assert holder.told == []
    proceeds(link)
    assert holder.told == ["ready"]
    assert len(pool.dials) == 1
    assert (holder.call.served, holder.call.reused) == (1010, True)
    holder.sends_request()
    replies(link)
    assert holder.data == RESPONSE


def test_nothing_is_said_on_an_idle_connection_until_it_is_needed(pool: Pool) -> None:
    [link] = pool.pooled()
    pool.clock.advance(BACK_IDLE - 1)
    assert link.written == []


def test_the_one_used_last_is_used_next(pool: Pool) -> None:
    first, second = pool.pooled(2)
    pool.acquire()
    assert (take(first), take(second)) == ([], [NEXT])


def test_a_connection_whose_reply_is_not_whole_is_not_kept(pool: Pool) -> None:
    holder = pool.acquire()
    link = pool.dials[0].identifies()
    holder.sends_request()
    replies(link, RESPONSE[:10])
    holder.lease.release()
    assert link.ended == FIN
    pool.check_nothing_is_left()


def test_a_connection_whose_reply_repeats_an_id_is_not_kept(pool: Pool) -> None:
    holder = pool.acquire()
    link = pool.dials[0].identifies()
    holder.sends_request()
    replies(link, deflated(response([reference(ID, 4, typed=True)] * 2)) + frame(ID, b"body"))
    assert holder.lease.more_frames
    holder.lease.release()
    assert link.ended == FIN
    pool.check_nothing_is_left()


def test_an_idle_connection_is_closed_with_end_behind_back_idle(pool: Pool) -> None:
    [first] = pool.pooled()
    pool.clock.advance(30)
    holder, second = pool.acquire(), first
    proceeds(second)
    holder.sends_request()
    replies(second)
    take(second)
    holder.lease.release()
    pool.clock.advance(BACK_IDLE - 0.1)  # counted from its last use
    assert second.ended is None
    pool.clock.advance(0.1)
    assert (take(second), second.ended) == ([END], FIN)
    pool.check_nothing_is_left()


def test_each_idle_connection_has_its_own_time(pool: Pool) -> None:
    (one, first), (two, second) = pool.served(), pool.served()
    one.lease.release()
    pool.clock.advance(20)
    two.lease.release()
    pool.clock.advance(30)
    assert (first.ended, second.ended) == (FIN, None)
    pool.clock.advance(20)
    assert second.ended == FIN


@pytest.mark.parametrize("said", [PROCEED, b"!", RESPONSE])
def test_an_idle_connection_that_says_anything_is_dropped(pool: Pool, said: bytes) -> None:
    [link] = pool.pooled()
    link.receive(said)
    assert link.ended == FIN
    pool.check_nothing_is_left()


def test_an_idle_connection_that_ends_is_dropped(pool: Pool) -> None:
    [link] = pool.pooled()
    link.lose()
    assert len(pool.back) == 0
    pool.acquire()
    assert len(pool.dials) == 2
    assert link.written == []


# ---- stale ones ---------------------------------------------------------------------------------------------------------


def test_a_stale_connection_is_replaced_by_another_and_then_by_a_dial_in_the_same_call(pool: Pool) -> None:
    first, second = pool.pooled(2)
    holder = pool.acquire()
    second.lose()
    assert take(first) == [NEXT]
    first.receive(b"garbage\r\n")
    assert len(pool.dials) == 3
    assert holder.told == []
    pool.dials[2].identifies()
    assert holder.told == ["ready"]
    assert not holder.call.reused
    holder.sends_request()
    assert pool.dials[2].link
    assert take(pool.dials[2].link) == [REQUEST]


def test_a_proof_that_does_not_come_in_time_drops_all_idle_ones(pool: Pool) -> None:
    """Their Tentacle's host is gone, and each of them would keep a caller waiting as long."""
    first, second, third = pool.pooled(3)
    holder = pool.acquire()
    assert take(third) == [NEXT]
    pool.clock.advance(PROVE - 0.1)
    assert third.ended is None
    pool.clock.advance(0.1)
    assert [link.ended for link in (first, second, third)] == [FIN, FIN, RST]
    assert len(pool.dials) == 4
    pool.dials[3].identifies()
    assert holder.told == ["ready"]


def test_a_proof_that_comes_in_time_leaves_the_others_alone(pool: Pool) -> None:
    first, second = pool.pooled(2)
    pool.acquire()
    proceeds(second)
    pool.clock.advance(PROVE)
    assert (first.ended, second.ended) == (None, None)


def test_each_proof_has_its_own_time(pool: Pool) -> None:
    first, second = pool.pooled(2)
    pool.acquire()
    pool.clock.advance(3)
    later = pool.acquire()
    proceeds(second)
    pool.clock.advance(2)
    assert first.ended is None
    pool.clock.advance(2.9)
    assert first.ended is None
    pool.clock.advance(0.1)
    assert first.ended == RST
    pool.dials[-1].identifies()
    assert later.told == ["ready"]


def test_callers_whose_proofs_are_late_keep_their_order(dials: Dials) -> None:
    pool = Pool(dials, connections=3)
    pool.pooled(3)
    holders = [pool.acquire(name) for name in ("first", "second", "third")]
    fourth = pool.acquire("fourth")
    pool.clock.advance(PROVE)
    assert len(pool.dials) == 6
    for dial, holder in zip(pool.dials[3:], holders, strict=True):
        dial.identifies()
        assert holder.told == ["ready"]
    assert fourth.told == []


def test_a_replacement_still_has_the_caller_s_deadline(pool: Pool) -> None:
    pool.pooled()
    holder = pool.acquire()
    pool.clock.advance(PROVE)
    pool.dials[1].connects()
    pool.clock.advance(READY - PROVE)
    assert holder.told == ["failed ready-timeout: the Tentacle did not identify itself in time"]
    pool.check_nothing_is_left()


def test_a_black_hole_behind_a_stale_connection_ends_within_ready(pool: Pool) -> None:
    pool.pooled()
    holder = pool.acquire()
    pool.clock.advance(PROVE)
    assert pool.dials[1].seconds == CONNECT
    pool.dials[1].fail(DialError("timeout", "no connection in time"))
    assert holder.told == ["failed connect-timeout: no connection in time"]
    pool.check_nothing_is_left()


# ---- the limit, and the queue -------------------------------------------------------------------------------------------


def test_no_more_connections_than_the_limit_and_callers_wait_in_order(dials: Dials) -> None:
    pool = Pool(dials, connections=2)
    (one, first), (two, _) = pool.served(), pool.served()
    waiting = [pool.acquire(name) for name in ("third", "fourth", "fifth")]
    assert (len(pool.dials), len(pool.back), pool.back.waiting) == (2, 2, 3)
    pool.clock.advance(7)
    one.lease.release()
    proceeds(first)
    assert [holder.told for holder in waiting] == [["ready"], [], []]
    assert waiting[0].call.served == 1007
    two.lease.abort(Close.FIN)  # a place is free as well where a connection is not kept
    pool.dials[2].identifies()
    assert [holder.told for holder in waiting] == [["ready"], ["ready"], []]
    waiting[1].lease.abort(Close.RST)
    pool.dials[3].identifies()
    assert [holder.told for holder in waiting] == [["ready"], ["ready"], ["ready"]]
    assert len(pool.back) == 2


def test_whoever_had_a_connection_and_lost_it_goes_before_those_that_wait(dials: Dials) -> None:
    pool = Pool(dials, connections=1)
    had, link = pool.served()
    waits = pool.acquire("waits")
    other = pool.acquire("other")
    link.lose()
    assert had.told[-1].startswith("lost")
    again = pool.back.acquire(had.call, had.call.began + READY, had, again=True)
    pool.dials[1].identifies()
    assert waits.told == ["ready"]  # it had its turn already
    waits.lease.abort(Close.FIN)
    pool.dials[2].identifies()
    assert (had.told[-1], other.told) == ("ready", [])
    again.abort(Close.FIN)
    other.lease.abort(Close.FIN)
    pool.check_nothing_is_left()


def test_whoever_comes_later_does_not_get_before_those_that_wait(dials: Dials) -> None:
    pool = Pool(dials, connections=1)
    served, link = pool.served()
    waits = pool.acquire("waits")
    served.lease.release()
    later = pool.acquire("later")
    proceeds(link)
    assert (waits.told, later.told) == (["ready"], [])


def test_no_more_wait_than_the_limit_and_whoever_comes_again_does(dials: Dials) -> None:
    pool = Pool(dials, connections=1, waiting=2)
    first = pool.acquire()
    second, third = pool.acquire(), pool.acquire()
    beyond = pool.acquire()
    assert (pool.back.waiting, beyond.told) == (2, [])
    pool.clock.advance(0)
    assert beyond.told == ["failed queue-full: 2 calls wait for this Tentacle"]
    first.lease.abort(Close.FIN)
    fourth = pool.acquire()
    pool.clock.advance(0)
    assert [holder.told for holder in (second, third, fourth)] == [[], [], []]


def test_whoever_leaves_before_it_hears_that_too_many_wait_hears_nothing(dials: Dials) -> None:
    pool = Pool(dials, connections=1, waiting=1)
    _, _, beyond = pool.acquire(), pool.acquire(), pool.acquire()
    beyond.lease.abort(Close.FIN)
    pool.clock.advance(0)
    assert (beyond.told, pool.back.waiting) == ([], 1)


def test_a_caller_waits_in_the_queue_no_longer_than_its_deadline(dials: Dials) -> None:
    pool = Pool(dials, connections=1)
    first, _ = pool.served()
    second = pool.acquire("second")
    pool.clock.advance(10)
    third = pool.acquire("third")
    pool.clock.advance(READY - 10)
    assert second.told == ["failed queue-timeout: all 1 connections were busy"]
    assert third.told == []
    pool.clock.advance(10)
    assert third.told == ["failed queue-timeout: all 1 connections were busy"]
    first.lease.abort(Close.FIN)
    pool.check_nothing_is_left()


@pytest.mark.parametrize("event", ["fails", "is lost", "is late"])
def test_whatever_frees_a_place_serves_the_queue(dials: Dials, event: str) -> None:
    pool = Pool(dials, connections=1)
    first = pool.acquire("first")
    pool.clock.advance(1)
    second = pool.acquire("second")
    if event == "fails":
        pool.dials[0].fail(DialError("refused", "Connection refused"))
    elif event == "is lost":
        pool.dials[0].identifies().lose()
    else:
        pool.clock.advance(READY - 1)
    assert len(first.told) == (2 if event == "is lost" else 1)
    pool.dials[1].identifies()
    assert second.told == ["ready"]


# ---- the end ------------------------------------------------------------------------------------------------------------


def test_what_nobody_uses_can_be_closed(pool: Pool) -> None:
    links = pool.pooled(3)
    holder, busy = pool.acquire(), links[2]
    proceeds(busy)
    pool.back.close_idle()
    assert [(take(link), link.ended) for link in links] == [([END], FIN), ([END], FIN), ([], None)]
    assert holder.told == ["ready"]
    assert len(pool.back) == 1


def test_a_retired_pool_serves_whoever_has_a_claim_and_keeps_nothing(dials: Dials) -> None:
    pool = Pool(dials, connections=1)
    first, link = pool.served()
    second, third = pool.acquire("second"), pool.acquire("third")
    pool.back.retire()
    first.lease.release()
    proceeds(link)
    assert second.told == ["ready"]
    second.lease.abort(Close.FIN)  # a connection that is ready and gets no request is not kept, and the next one dials
    link = pool.dials[-1].identifies()
    assert third.told == ["ready"]
    third.sends_request()
    take(link)
    replies(link)
    third.lease.release()
    assert (take(link), link.ended) == ([END], FIN)
    pool.check_nothing_is_left()


def test_retiring_a_pool_gives_up_what_is_idle(pool: Pool) -> None:
    [link] = pool.pooled()
    pool.back.retire()
    assert (take(link), link.ended) == ([END], FIN)
    assert pool.clock.getDelayedCalls() == []


def test_whose_tentacle_has_not_shown_one_of_these_pins(dials: Dials) -> None:
    pool = Pool(dials, connections=2)
    served, _ = pool.served()
    dialling, waiting = pool.acquire("dialling"), pool.acquire("waiting")
    ours, other = Thumbprint.of(TENTACLE), Thumbprint.of(STRANGER)
    assert pool.back.holders_without([other, ours]) == {dialling, waiting}
    assert pool.back.holders_without([other]) == {served, dialling, waiting}


def test_a_stopped_pool_keeps_no_connection_and_no_timer(pool: Pool) -> None:
    holder, link = pool.served()
    pool.acquire("another").lease.abort(Close.FIN)
    served, _ = pool.served()
    served.lease.release()
    pool.back.stop()
    assert len(pool.back) == 1
    holder.lease.release()
    assert link.ended == FIN
    pool.check_nothing_is_left()


def test_a_stopped_pool_dials_for_nobody_who_waited(dials: Dials) -> None:
    pool = Pool(dials, connections=1)
    first, _ = pool.served()
    second = pool.acquire("second")
    pool.back.stop()
    first.lease.abort(Close.FIN)
    assert len(pool.dials) == 1
    second.lease.abort(Close.FIN)
    pool.check_nothing_is_left()


def test_a_stopped_pool_replaces_no_stale_connection(pool: Pool) -> None:
    [link] = pool.pooled()
    holder = pool.acquire()
    pool.back.stop()
    link.lose()
    assert len(pool.dials) == 1
    pool.clock.advance(READY)
    assert holder.told[0].startswith("failed ")


def test_the_first_words_to_a_tentacle(pool: Pool) -> None:
    pool.acquire()
    assert pool.dials[0].connects().written == [PREAMBLE, CLIENT_IDENTITY]
