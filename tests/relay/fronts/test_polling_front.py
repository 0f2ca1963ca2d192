import zlib
from ipaddress import ip_network

import pytest
from dialled import take
from fake_link import FIN, RST, FakeLink
from halibut_bytes import REQUEST, RESPONSE, deflated, frame, guid, reference, request, response, stored
from polling_memory import NODE, Memory, node_identifies, node_proceeds
from tables import OCTOPUS, STRANGER

from relay.fronts.dials import AT_ONCE
from relay.fronts.poll import CONNECT, PICKED_UP, SILENT
from relay.fronts.polling import AGAIN
from relay.halibut.lines import END, NEXT, NULL_ENVELOPE, PROCEED, SERVER_IDENTITY
from relay.outcomes import Outcome
from relay.transport.errors import DialError, HandshakeError
from routing.addresses import Address
from routing.rules import Rule, Rules

ID = guid(7)
OTHER = Address("octopus-2", 10943)
WITH_STREAM = deflated(request((reference(ID, 4, typed=True),)))
TWICE = deflated(response([reference(ID, 4, typed=True)] * 2))
ASKED_TWICE = deflated(request(([reference(ID, 4, typed=True)] * 2,)))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def polled(memory: Memory) -> tuple[FakeLink, FakeLink]:
    """A node and a Tentacle, both waiting for a request."""
    tentacle = memory.living_poller()
    memory.front()
    node = node_identifies(memory.nodes[-1])
    assert memory.told() == ["polled octopus-1:10943"]
    return node, tentacle


# ---- until it polls ------------------------------------------------------------------------------------------------------


def test_a_node_is_dialled_when_the_tentacle_is_there(memory: Memory) -> None:
    front = memory.front()
    assert memory.nodes == []
    memory.parked_poller()
    [dial] = memory.nodes
    assert (dial.address, dial.seconds, dial.context, dial.proxy) == (("octopus-1", 10943), CONNECT, "context", None)
    assert (len(front), front.connections) == (1, 0)
    node_identifies(dial)
    assert (len(front), front.connections, front.busy) == (1, 1, 0)


def test_every_node_has_so_many_connections(memory: Memory) -> None:
    memory.parked_poller()
    memory.front(NODE, OTHER, connections=3)
    assert sorted(dial.address[0] for dial in memory.nodes) == ["octopus-1"] * 3 + ["octopus-2"] * 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DialError("resolve", "the name octopus-1 does not resolve"), "resolve: the name octopus-1 does not resolve"),
        (DialError("refused", "Connection refused"), "refused: Connection refused"),
        (DialError("timeout", "no connection in time"), "connect-timeout: no connection in time"),
        (DialError("proxy", "the proxy: answered 403 Forbidden"), "proxy: the proxy: answered 403 Forbidden"),
        (HandshakeError("unsupported protocol"), "tls: unsupported protocol"),
    ],
)
def test_a_dial_that_fails_is_told_and_repeated_behind_a_pause(memory: Memory, error: Exception, told: str) -> None:
    memory.parked_poller()
    memory.front()
    memory.nodes[0].fail(error)
    assert memory.told() == [f"octopus-1:10943 {told}"]
    memory.advance(4.9)
    assert len(memory.nodes) == 1
    memory.advance(2.6)
    assert len(memory.nodes) == 2


def test_a_node_with_another_certificate_hears_not_one_byte(memory: Memory) -> None:
    memory.parked_poller()
    memory.front()
    link = memory.nodes[0].connects(STRANGER)
    assert (link.written, link.ended) == ([], FIN)
    assert memory.told()[0].startswith("octopus-1:10943 wrong-certificate: it presented the certificate ")
    memory.advance(7.5)
    assert len(memory.nodes) == 2


def test_a_node_that_closes_before_mx_server_does_not_trust_us(memory: Memory) -> None:
    memory.parked_poller()
    memory.front()
    memory.nodes[0].connects(OCTOPUS).lose()
    why = "it closed before MX-SERVER: it does not trust the machine's thumbprint, or limits connections (closed)"
    assert memory.told() == [f"octopus-1:10943 not-trusted: {why}"]


def test_pauses_grow_until_mx_server_has_been_read(memory: Memory) -> None:
    memory.living_poller()
    memory.front()

    def pause() -> float:
        before, count = memory.clock.seconds(), len(memory.nodes)
        while len(memory.nodes) == count:
            memory.advance(0.5)
        return memory.clock.seconds() - before

    pauses = []
    for _ in range(10):
        memory.nodes[-1].fail(DialError("refused", "Connection refused"))
        pauses.append(pause())
    assert pauses[0] <= 7.5
    assert 60 < max(pauses) <= 120.5
    node_identifies(memory.nodes[-1]).lose()
    assert pause() <= 8


def test_a_thousand_machines_do_not_knock_at_once(memory: Memory) -> None:
    memory.living_poller()
    fronts = [memory.front() for _ in range(1000)]
    assert len(memory.nodes) == AT_ONCE
    done = 0
    while done < len(memory.nodes):
        memory.nodes[done].fail(DialError("refused", "Connection refused"))
        done += 1
        memory.advance()
    assert done == 1000
    back = []
    for _ in range(30):
        before = len(memory.nodes)
        memory.advance(0.1)
        while done < len(memory.nodes):
            memory.nodes[done].fail(DialError("refused", "Connection refused"))
            done += 1
            memory.advance()
        back.append(len(memory.nodes) - before)
    memory.advance(2)
    assert max(back) < 100
    for front in fronts:
        front.stop()
    assert (len(memory.gate), memory.gate.waiting) == (0, 0)


def test_a_node_that_is_down_slows_no_other(memory: Memory) -> None:
    """Dials to it hang, those of many machines; the other node is dialled all the same."""
    memory.parked_poller()
    for _ in range(3 * AT_ONCE):
        memory.front(NODE)
    memory.front(OTHER)
    assert [dial.address[0] for dial in memory.nodes].count("octopus-1") == AT_ONCE
    node_identifies(memory.nodes[-1])
    assert memory.told() == ["polled octopus-2:10943"]


# ---- calls ---------------------------------------------------------------------------------------------------------------


def test_a_request_goes_to_the_tentacle_and_its_reply_back_and_then_next(memory: Memory) -> None:
    node, tentacle = polled(memory)
    node.receive(REQUEST)
    memory.advance()
    assert take(tentacle) == [REQUEST]
    tentacle.receive(RESPONSE)
    assert take(node) == [RESPONSE, NEXT]
    tentacle.receive(NEXT)
    node.receive(PROCEED)
    assert node.reasons == set()
    [call] = memory.calls
    assert (call.machine, call.octopus, call.peer, call.outcome) == ("kiosk7", "production", "octopus-1:10943", Outcome.OK)
    node.receive(REQUEST)
    memory.advance()
    assert take(tentacle) == [PROCEED, REQUEST]


def test_a_null_is_answered_and_not_passed_on(memory: Memory) -> None:
    node, tentacle = polled(memory)
    for chunks in ([NULL_ENVELOPE], [NULL_ENVELOPE[:5], NULL_ENVELOPE[5:]]):
        node.receive(*chunks)
        node_proceeds(node)
    memory.advance()
    assert (take(tentacle), memory.calls) == ([], [])
    node.receive(REQUEST)
    memory.advance()
    assert take(tentacle) == [REQUEST]


def test_a_request_in_small_pieces_keeps_them(memory: Memory) -> None:
    node, tentacle = polled(memory)
    pieces = [REQUEST[:3], REQUEST[3:60], REQUEST[60:100], REQUEST[100:]]
    for piece in pieces:
        node.receive(piece)
        memory.advance()
    assert take(tentacle) == pieces


def test_a_null_that_is_longer_than_any_ends_the_connection(memory: Memory) -> None:
    """By then its first piece has gone to a Tentacle as a request's."""
    node, tentacle = polled(memory)
    null = b"".join(stored(NULL_ENVELOPE_DOCUMENT[at : at + 1], final=at == 13) for at in range(14))
    node.receive(null[:70])
    memory.advance()
    node.receive(null[70:])
    memory.advance()
    assert (node.ended, tentacle.ended) == (FIN, RST)
    assert memory.outcomes == [Outcome.CALLER_BROKE]
    assert memory.told()[0].startswith("octopus-1:10943 broke-protocol: a null message ")


NULL_ENVELOPE_DOCUMENT = bytes.fromhex("0e0000000a4d6573736167650000")


def test_streams_keep_their_units_and_wait_for_the_back(memory: Memory) -> None:
    node, tentacle = polled(memory)
    whole = frame(ID, b"body")
    node.receive(WITH_STREAM + whole[:26], whole[26:28], whole[28:])
    assert take(tentacle) == []
    memory.advance()
    node.deliver()
    assert take(tentacle) == [WITH_STREAM, ID, whole[16:24], b"bo", b"dy", whole[28:]]
    tentacle.receive(RESPONSE)
    assert take(node) == [RESPONSE, NEXT]


def test_what_is_picked_up_while_the_tentacle_is_busy_waits_unread_and_in_order(memory: Memory) -> None:
    tentacle = memory.living_poller()
    memory.front(NODE, OTHER, connections=2)
    nodes = [node_identifies(dial) for dial in memory.nodes]
    for node in nodes:
        node.receive(REQUEST, b"never read")
        memory.advance()
    for number in range(4):
        assert take(tentacle) == [REQUEST]
        assert [bool(node.reasons) for node in nodes] == [False] * (number + 1) + [True] * (3 - number)
        break
    memory.advance(PICKED_UP - 0.1)
    assert [node.ended for node in nodes[1:]] == [None] * 3
    memory.advance(0.1)
    assert [node.ended for node in nodes[1:]] == [FIN] * 3
    assert memory.outcomes == [Outcome.QUEUE_TIMEOUT] * 3


def test_a_node_that_closes_while_its_request_waits_gives_it_up(memory: Memory) -> None:
    memory.parked_poller()
    memory.front(NODE, OTHER)
    first, second = (node_identifies(dial) for dial in memory.nodes)
    for node in (first, second):
        node.receive(REQUEST)
        memory.advance()
    second.lose()
    assert (memory.outcomes, memory.polling.waiting) == ([Outcome.CALLER_LEFT], 0)
    memory.told()


@pytest.mark.parametrize("before", ["request", "streams", "reply"])
def test_a_node_that_closes_in_a_call_cancels_it_at_once(memory: Memory, before: str) -> None:
    node, tentacle = polled(memory)
    node.receive(WITH_STREAM if before == "streams" else REQUEST)
    memory.advance()
    if before == "reply":
        tentacle.receive(RESPONSE[:10])
    node.lose()
    assert tentacle.ended == (RST if before == "streams" else FIN)
    assert memory.outcomes == [Outcome.CANCELLED]
    memory.parked_poller()
    memory.advance(7.5)
    assert len(memory.nodes) == 2


def test_a_tentacle_that_dies_in_a_call_ends_the_node_s_connection(memory: Memory) -> None:
    """Without END and without NEXT (wire.md 11.2); it is dialled again behind a pause."""
    node, tentacle = polled(memory)
    memory.parked_poller()
    node.receive(REQUEST)
    memory.advance()
    tentacle.lose()
    assert (take(node), node.ended) == ([], FIN)
    assert memory.outcomes == [Outcome.TENTACLE_GONE]
    assert memory.told() == []
    memory.advance(7.5)
    assert len(memory.nodes) == 2


def test_a_tentacle_that_dies_among_a_reply_s_streams_resets_the_node(memory: Memory) -> None:
    node, tentacle = polled(memory)
    node.receive(REQUEST)
    memory.advance()
    tentacle.receive(deflated(response(reference(ID, 4, typed=True))), frame(ID, b"body")[:26])
    tentacle.lose()
    assert node.ended == RST


def test_a_reply_that_repeats_an_id_ends_in_time_where_nobody_says_so(memory: Memory) -> None:
    """A listening Tentacle waits for NEXT; Octopus, who polls nothing, waits for ours (wire.md 5.5)."""
    front = memory.front(back=memory.parked)
    tentacle = memory.tentacles[0].identifies()
    memory.advance()
    node = node_identifies(memory.nodes[0])
    node.receive(REQUEST)
    memory.advance()
    tentacle.receive(TWICE, frame(ID, b"body"))
    front.check(memory.clock.seconds())
    assert NEXT not in node.written
    memory.advance(5)
    front.check(memory.clock.seconds())
    assert take(node)[-1] == NEXT
    assert (memory.outcomes, tentacle.ended) == ([Outcome.OK], FIN)


def test_a_frame_of_a_request_behind_its_reply_ends_the_connection(memory: Memory) -> None:
    node, tentacle = polled(memory)
    node.receive(ASKED_TWICE, frame(ID, b"body"))
    memory.advance()
    node.deliver()
    tentacle.receive(RESPONSE)
    assert take(node)[-1] == NEXT
    node.receive(ID)
    assert node.ended == FIN
    assert memory.told()[-1].startswith("octopus-1:10943 broke-protocol: ")


@pytest.mark.parametrize("stage", ["identifying", "polling", "call", "turning"])
def test_a_node_that_breaks_the_protocol_is_told_and_dialled_again(memory: Memory, stage: str) -> None:
    tentacle = memory.parked_poller()
    memory.front()
    node = memory.nodes[0].connects(OCTOPUS)
    if stage != "identifying":
        node.receive(SERVER_IDENTITY)
    if stage == "call":
        node.receive(REQUEST)
        memory.advance()
    if stage == "turning":
        node.receive(NULL_ENVELOPE)
    memory.told()
    node.receive(b"NONSENSE\r\n")
    [told] = memory.told()
    assert told.startswith("octopus-1:10943 broke-protocol: ")
    assert told.endswith(")")
    assert (node.ended, tentacle.ended) == (FIN, FIN if stage == "call" else None)
    assert memory.outcomes == ([Outcome.CALLER_BROKE] if stage == "call" else [])
    if stage == "call":
        memory.parked_poller()
    memory.advance(7.5)
    assert len(memory.nodes) == 2


# ---- silence -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["identifying", "polling", "a piece", "turning"])
def test_a_node_that_says_nothing_for_a_minute_is_given_up(memory: Memory, stage: str) -> None:
    memory.living_poller()
    front = memory.front()
    link = memory.nodes[0].connects(OCTOPUS)
    if stage != "identifying":
        memory.advance(10)
        link.receive(SERVER_IDENTITY)
    if stage == "a piece":
        link.receive(REQUEST[:1])
    if stage == "turning":
        link.receive(NULL_ENVELOPE)
    memory.told()
    memory.advance(SILENT)
    front.check(memory.clock.seconds())
    assert link.ended is None
    memory.advance(1)
    front.check(memory.clock.seconds())
    assert link.ended == FIN
    assert memory.told() == ["octopus-1:10943 silent: nothing came for 60 s"]


def test_a_call_may_take_ten_minutes(memory: Memory) -> None:
    node, tentacle = polled(memory)
    node.receive(REQUEST)
    memory.advance()
    [front] = [node.receiver._owner]  # type: ignore[union-attr]
    for _ in range(120):
        memory.advance(5)
        front.check(memory.clock.seconds())
    assert (node.ended, tentacle.ended) == (None, None)
    for _ in range(14):
        memory.advance(5)
        front.check(memory.clock.seconds())
    assert (node.ended, tentacle.ended, memory.outcomes) == (FIN, FIN, [Outcome.SILENT])


# ---- polls stand while the Tentacle is live ------------------------------------------------------------------------------


def test_without_a_tentacle_polls_close_and_with_one_they_return(memory: Memory) -> None:
    node, tentacle = polled(memory)
    tentacle.lose()
    assert (take(node), node.ended) == ([], FIN)
    memory.advance(30)
    assert len(memory.nodes) == 1
    memory.parked_poller()
    assert len(memory.nodes) == 2
    assert memory.told() == []


def test_a_tentacle_that_comes_and_goes_dials_no_faster_than_once_a_second(memory: Memory) -> None:
    _, tentacle = polled(memory)
    for _ in range(50):
        tentacle.lose()
        tentacle = memory.parked_poller()
    assert len(memory.nodes) == 1
    memory.advance(AGAIN)
    assert len(memory.nodes) == 2


def test_polls_close_behind_the_reply_where_the_tentacle_has_gone_meanwhile(memory: Memory) -> None:
    node, tentacle = polled(memory)
    node.receive(REQUEST)
    memory.advance()
    tentacle.receive(RESPONSE[:-1])
    memory.polling.stop()
    assert node.ended is None
    tentacle.receive(RESPONSE[-1:])
    assert (take(node)[-1], node.ended) == (END, FIN)


@pytest.mark.parametrize("stage", ["waiting for its turn", "dialling", "identifying", "pausing"])
def test_a_dial_is_given_up_where_the_tentacle_goes(memory: Memory, stage: str) -> None:
    tentacle = memory.living_poller()
    front = memory.front()
    dial = memory.nodes[0]
    link = dial.connects(OCTOPUS) if stage == "identifying" else None
    if stage == "pausing":
        dial.fail(DialError("refused", "Connection refused"))
    elif stage == "waiting for its turn":
        for _ in range(AT_ONCE):
            memory.front()
        assert memory.gate.waiting == 1
    tentacle.lose()
    assert dial.cancelled or stage in ("identifying", "pausing")
    assert link is None or link.ended == FIN
    assert (len(front), len(memory.gate), memory.gate.waiting) == (0, 0, 0)
    memory.advance(200)
    assert len(memory.nodes) == (AT_ONCE if stage == "waiting for its turn" else 1)


# ---- the end -------------------------------------------------------------------------------------------------------------


def test_a_drain_closes_idle_polls_without_end_and_others_behind_their_reply_with_it(memory: Memory) -> None:
    tentacle = memory.living_poller()
    front = memory.front(NODE, OTHER)
    first, second = (node_identifies(dial) for dial in memory.nodes)
    first.receive(REQUEST)
    memory.advance()
    take(tentacle)
    front.drain()
    front.drain()
    assert (take(second), second.ended, first.ended) == ([], FIN, None)
    tentacle.receive(RESPONSE)
    assert (take(first), first.ended) == ([RESPONSE, END], FIN)
    memory.advance(300)
    assert (len(front), len(memory.nodes)) == (0, 2)
    assert memory.told()[2:] == []


@pytest.mark.parametrize("stage", ["dialling", "polling", "request", "streams"])
def test_a_stop_ends_all_of_it_now(memory: Memory, stage: str) -> None:
    tentacle = memory.living_poller()
    front = memory.front()
    link = None if stage == "dialling" else node_identifies(memory.nodes[0])
    if link and stage in ("request", "streams"):
        link.receive(REQUEST)
        memory.advance()
    if stage == "streams":
        tentacle.receive(deflated(response(reference(ID, 4, typed=True))), frame(ID, b"body")[:26])
    assert front.stop() == 1
    assert memory.nodes[0].cancelled if link is None else link.ended == (RST if stage == "streams" else FIN)
    assert len(front) == 0
    memory.advance(300)
    assert len(memory.nodes) == 1


# ---- rules -----------------------------------------------------------------------------------------------------------------

DOWNLOADS = Rules((Rule(("IFileTransferService.DownloadFile",)),), relay="dc-east")
DOWNLOAD = deflated(request(("/f",), service="IFileTransferService", method="DownloadFile"))


@pytest.fixture
def ruled(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch, rules=DOWNLOADS)


def test_a_request_that_no_rule_allows_is_answered_and_the_node_polled_on(ruled: Memory) -> None:
    node, tentacle = polled(ruled)
    node.receive(WITH_STREAM)
    ruled.advance()
    node.receive(frame(ID, b"body")[:20], frame(ID, b"body")[20:])
    assert take(tentacle) == []
    reply, line = take(node)
    assert (b"running scripts" in zlib.decompress(reply, -zlib.MAX_WBITS), line) == (True, NEXT)
    assert ruled.outcomes == [Outcome.DENIED]
    node.receive(PROCEED, DOWNLOAD)
    ruled.advance()
    assert take(tentacle) == [DOWNLOAD]  # the same connection: its Tentacle has noticed nothing


def test_a_request_that_a_rule_allows_is_delivered_in_whatever_pieces(ruled: Memory) -> None:
    node, tentacle = polled(ruled)
    node.receive(*(DOWNLOAD[at : at + 9] for at in range(0, len(DOWNLOAD), 9)))
    ruled.advance()
    node.deliver()
    assert b"".join(take(tentacle)) == DOWNLOAD


def test_items_with_networks_are_not_for_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    memory = Memory(monkeypatch, rules=Rules((Rule(("scripts",), networks=everywhere), Rule(("files",)))))
    node, tentacle = polled(memory)
    node.receive(REQUEST)
    memory.advance()
    assert (take(tentacle), memory.outcomes) == ([], [Outcome.DENIED])
