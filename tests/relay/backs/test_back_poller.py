"""A poller's connection, seen from its Tentacle; what its back makes of it is in test_polling_back.py."""

import pytest
from dialled import take
from fake_link import FIN, RST, FakeLink
from halibut_bytes import REQUEST, RESPONSE, bounded, deflated, frame, guid, pieces, reference, request, response, single
from hypothesis import given
from hypothesis import strategies as st
from polling_memory import IDENTITY, Memory
from tables import STRANGER, TENTACLE

from certs.thumbprint import Thumbprint
from relay.backs.poller import PollerConnection
from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.outcomes import Outcome, Refusal
from relay.page import PAGE
from relay.transport.errors import HandshakeError, PeerClosedError

ID = guid(7)
REPLY = deflated(response(reference(ID, 4, typed=True))) + frame(ID, b"body")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def shaking(memory: Memory) -> tuple[PollerConnection, FakeLink]:
    connection = PollerConnection(memory.clock, memory, "192.0.2.7:40000", memory.clock.seconds())
    connection.link = link = FakeLink(connection, TENTACLE)
    return connection, link


def in_call(memory: Memory) -> tuple[FakeLink, FakeLink]:
    """An Octopus that has sent a request, and the Tentacle that has it."""
    tentacle, caller = memory.parked_poller(), memory.caller()
    assert take(caller) == [SERVER_IDENTITY]
    caller.receive(REQUEST)
    assert take(tentacle) == [REQUEST]
    return caller, tentacle


# ---- until it is parked --------------------------------------------------------------------------------------------------


def test_byte_by_byte(memory: Memory) -> None:
    link = memory.poller()
    link.receive(*single(PREAMBLE + IDENTITY))
    assert (link.written, memory.polling.parked) == ([SERVER_IDENTITY], 1)


def test_in_one_piece(memory: Memory) -> None:
    link = memory.poller()
    link.receive(PREAMBLE + IDENTITY)
    assert (link.written, memory.polling.parked) == ([SERVER_IDENTITY], 1)


def test_whoever_does_not_wait_for_mx_server_is_closed(memory: Memory) -> None:
    link = memory.poller()
    link.receive(PREAMBLE + IDENTITY + NEXT)
    assert (link.written, link.ended, len(memory.polling)) == ([], FIN, 0)


@pytest.mark.parametrize(
    ("reason", "refusals"),
    [
        (HandshakeError("no shared cipher"), [(Refusal.TLS, "no shared cipher")]),
        (
            PeerClosedError("closed"),
            [(Refusal.CERTIFICATE_REFUSED, f"closed behind the handshake without a byte; {Thumbprint.of(TENTACLE)} was shown")],
        ),
    ],
)
def test_one_that_ends_before_it_has_said_anything(
    memory: Memory, reason: Exception, refusals: list[tuple[Refusal, str]]
) -> None:
    connection, _ = shaking(memory)
    if isinstance(reason, PeerClosedError):
        connection.connectionMade()
    connection.connectionLost(reason)
    assert memory.refusals == refusals


def test_one_that_leaves_behind_its_preamble_is_no_news(memory: Memory) -> None:
    link = memory.poller()
    link.receive(PREAMBLE)
    link.lose()
    assert memory.refusals == []


def test_the_page_for_who_is_not_halibut(memory: Memory) -> None:
    link = memory.poller(None)
    link.receive(b"GET / HTTP/1.0\r\n\r\n")
    assert (link.written, link.ended, memory.refusals) == ([PAGE], FIN, [])


def test_who_is_no_subscriber_is_named(memory: Memory) -> None:
    link = memory.poller(STRANGER)
    link.receive(PREAMBLE, CLIENT_IDENTITY)
    [(refusal, detail)] = memory.refusals
    assert (refusal, link.written, link.ended) == (Refusal.BROKE_PROTOCOL, [], FIN)
    assert detail.endswith(f"; {Thumbprint.of(STRANGER)} was shown")


# ---- in a call -----------------------------------------------------------------------------------------------------------


@bounded(60)
@given(st.lists(st.integers(1, len(REPLY) + 5), max_size=12))
def test_a_reply_however_it_is_cut(cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        memory = Memory(patch)
        caller, tentacle = in_call(memory)
        for piece in pieces(REPLY + NEXT, cuts):
            tentacle.receive(piece)
        assert caller.data == REPLY
        assert (take(tentacle), memory.outcomes, memory.polling.parked) == ([PROCEED], [Outcome.OK], 1)


def test_the_machine_s_own_limit_is_for_its_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, envelope=2000)
    caller, tentacle = in_call(memory)
    tentacle.receive(deflated(response("x" * 3000)))
    assert memory.outcomes == [Outcome.TENTACLE_BROKE]
    assert (tentacle.ended, caller.ended) == (FIN, FIN)


@pytest.mark.parametrize("said", [END, RESPONSE])
def test_one_that_speaks_in_the_middle_of_a_request_s_stream_is_reset(memory: Memory, said: bytes) -> None:
    """FIN there would keep an old Tentacle busy for ever (wire.md 5.7)."""
    tentacle, caller = memory.parked_poller(), memory.caller()
    caller.receive(deflated(request((reference(ID, 4, typed=True),))), ID)
    tentacle.receive(said)
    assert (tentacle.ended, caller.ended) == (RST, FIN)
    assert memory.outcomes == [Outcome.TENTACLE_GONE if said == END else Outcome.TENTACLE_BROKE]


def test_one_that_closes_within_its_reply_says_where(memory: Memory) -> None:
    caller, tentacle = in_call(memory)
    tentacle.receive(RESPONSE[:5])
    tentacle.lose()
    assert caller.ended == FIN
    assert [(call.outcome, call.detail) for call in memory.calls] == [(Outcome.TENTACLE_GONE, "closed inside an envelope")]


def test_a_slow_caller_slows_its_tentacle(memory: Memory) -> None:
    caller, tentacle = in_call(memory)
    caller.fill()
    tentacle.receive(REPLY[:20], REPLY[20:])
    assert tentacle.reasons
    assert caller.data == REPLY[:20]
    caller.drain()
    tentacle.deliver()
    assert caller.data == REPLY
