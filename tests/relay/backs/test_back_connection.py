import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from dialled import Dials, take
from fake_link import FIN, LOST, RST, FakeLink
from halibut_bytes import REQUEST, RESPONSE, deflated, frame, guid, pieces, reference, request, response, single
from tables import STRANGER, TENTACLE, machine
from twisted.internet.task import Clock

from certs.thumbprint import Thumbprint
from relay.backs.connection import BackConnection, State
from relay.halibut.events import Part, Unit
from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.halibut.message import Kind, Message
from relay.lease import Close
from relay.outcomes import Outcome
from relay.transport.errors import DialError, HandshakeError, PeerClosedError

ID = guid(7)
WITH_STREAM = deflated(response(reference(ID, 4, typed=True)))
TWICE = deflated(response([reference(ID, 4, typed=True)] * 2))
WHOLE_REQUEST = Part(Unit.ENVELOPE, REQUEST, Message(Kind.REQUEST), last=True)


class Owner:
    """An Owner that writes down what it is told."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.parts: list[Part] = []
        self.bodies: list[tuple[int, Callable[[], None]]] = []
        self.on_part: Callable[[], None] = lambda: None
        self.on_last: Callable[[], None] = lambda: None

    def connection_ready(self, connection: BackConnection) -> None:
        self.story.append("ready")

    def connection_part(self, connection: BackConnection, part: Part) -> None:
        self.parts.append(part)
        self.on_part()
        if part.last:
            self.on_last()

    def connection_body(self, connection: BackConnection, count: int, done: Callable[[], None]) -> None:
        self.bodies.append((count, done))

    def connection_closing(self, connection: BackConnection) -> None:
        self.story.append("closing")

    def connection_lost(self, connection: BackConnection, before: State, outcome: Outcome, detail: str) -> None:
        assert connection.state is State.CLOSED
        self.story.append(f"lost while {before.value}, {outcome.value}: {detail}")


class Dialled:
    """A connection, its owner and its Tentacle."""

    def __init__(self, dials: Dials, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.owner = Owner()
        loop = cast("Any", SimpleNamespace(reactor=self.clock))
        self.connection = BackConnection(loop, machine(**options), cast("Any", "context"), self.owner, connect=20.0)
        self.dial = dials[-1]

    def story(self) -> list[str]:
        """What the owner was told since this was asked last."""
        story = list(self.owner.story)
        self.owner.story.clear()
        return story

    @property
    def data(self) -> bytes:
        return b"".join(part.data for part in self.owner.parts)

    # ---- the usual way up to some state -----------------------------------------------------------------------------

    def connected(self) -> FakeLink:
        return self.dial.connects()

    def identified(self) -> FakeLink:
        link = self.dial.identifies()
        assert self.story() == ["ready"]
        return link

    def requested(self) -> FakeLink:
        link = self.identified()
        self.connection.send(WHOLE_REQUEST)
        assert take(link) == [REQUEST]
        return link

    def replied(self) -> FakeLink:
        link = self.requested()
        link.receive(RESPONSE)
        return link

    def resting(self) -> FakeLink:
        link = self.replied()
        self.connection.rest()
        return link

    def proving(self) -> FakeLink:
        link = self.resting()
        self.connection.prove()
        assert take(link) == [NEXT]
        return link


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> Dials:
    made = Dials()
    monkeypatch.setattr("relay.backs.connection.Dial", made)
    return made


@pytest.fixture
def dialled(dials: Dials) -> Dialled:
    return Dialled(dials)


# ---- up to MX-SERVER ----------------------------------------------------------------------------------------------------


def test_it_dials_at_once(dialled: Dialled) -> None:
    assert dialled.dial.address == ("127.0.0.1", 10933)
    assert (dialled.dial.context, dialled.dial.seconds) == ("context", 20.0)
    assert dialled.connection.state is State.DIALLING


def test_preamble_and_identity_are_two_records_and_nothing_waits_between(dialled: Dialled) -> None:
    link = dialled.connected()
    assert link.written == [PREAMBLE, CLIENT_IDENTITY]
    assert dialled.story() == []


@pytest.mark.parametrize("cut", [lambda data: [data], single])
def test_it_is_ready_when_the_tentacle_has_answered(dialled: Dialled, cut: Callable[[bytes], list[bytes]]) -> None:
    link = dialled.connected()
    link.receive(*cut(SERVER_IDENTITY[:-1]))
    assert dialled.story() == []
    link.receive(SERVER_IDENTITY[-1:])
    assert dialled.story() == ["ready"]
    assert dialled.connection.state is State.LEASED


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (STRANGER, f"it presented the certificate {hashlib.sha1(STRANGER).hexdigest().upper()}"),
        (None, "it presented no certificate"),
    ],
)
def test_a_wrong_certificate_gets_not_one_byte_and_a_fin(dialled: Dialled, shown: bytes | None, said: str) -> None:
    """wire.md 1.5."""
    link = dialled.dial.connects(shown)
    assert (link.written, link.ended) == ([], FIN)
    assert dialled.story() == [f"lost while dialling, wrong-certificate: {said}"]


def test_any_of_several_pins_will_do_of_either_kind(dials: Dials) -> None:
    pins = (Thumbprint.of(b"the certificate before"), Thumbprint.of(TENTACLE, "sha256"))
    dialled = Dialled(dials, thumbprints=pins)
    dialled.identified()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DialError("resolve", "the name web01 does not resolve"), "resolve"),
        (DialError("refused", "Connection refused"), "refused"),
        (DialError("unreachable", "No route to host"), "unreachable"),
        (DialError("timeout", "no connection in time"), "connect-timeout"),
        (DialError("descriptors", "Too many open files"), "descriptors"),
        (HandshakeError("unsupported protocol"), "tls"),
    ],
)
def test_a_dial_that_fails_says_why(dialled: Dialled, error: Exception, outcome: str) -> None:
    dialled.dial.fail(error)
    assert dialled.story() == [f"lost while dialling, {outcome}: {error}"]


@pytest.mark.parametrize("said", [b"", b"MX-SER"])
def test_a_tentacle_that_closes_in_the_place_of_its_identity_does_not_trust_the_relay(dialled: Dialled, said: bytes) -> None:
    link = dialled.connected()
    link.receive(said)
    link.lose()
    [told] = dialled.story()
    assert told.startswith("lost while identifying, not-trusted: closed")


@pytest.mark.parametrize(
    "said",
    [
        b"MX-CLIENT 1.0\r\n\r\n",
        b"MX-SERVERS 1.0\r\n\r\n",
        PROCEED,
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"\r\n",
        b"x" * 2000,
        SERVER_IDENTITY + b"!",
    ],
)
def test_a_wrong_answer_ends_it(dialled: Dialled, said: bytes) -> None:
    link = dialled.connected()
    link.receive(said)
    [told] = dialled.story()
    assert told.startswith("lost while identifying, tentacle-broke: ")
    assert "(wire.md " in told
    assert link.ended == FIN


# ---- in use -------------------------------------------------------------------------------------------------------------


def test_a_request_and_its_reply(dialled: Dialled) -> None:
    link = dialled.identified()
    dialled.connection.send(Part(Unit.ENVELOPE, REQUEST[:10]))
    dialled.connection.send(Part(Unit.ENVELOPE, REQUEST[10:], Message(Kind.REQUEST), last=True))
    assert link.written == [REQUEST[:10], REQUEST[10:]]
    assert not dialled.connection.reusable
    link.receive(RESPONSE[:10])
    assert not dialled.connection.reusable
    link.receive(RESPONSE[10:])
    assert [part.data for part in dialled.owner.parts] == [RESPONSE[:10], RESPONSE[10:]]
    assert dialled.owner.parts[-1].last
    assert dialled.connection.reusable
    assert dialled.story() == []


@pytest.mark.parametrize("cut", [lambda data: [data], single, lambda data: pieces(data, [100])])
def test_a_reply_with_a_stream(dialled: Dialled, cut: Callable[[bytes], list[bytes]]) -> None:
    link = dialled.requested()
    link.receive(*cut(WITH_STREAM + frame(ID, b"body")))
    assert dialled.data == WITH_STREAM + frame(ID, b"body")
    assert dialled.connection.reusable


@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
def test_an_owner_that_takes_no_more_of_a_reply_hears_no_more(dialled: Dialled, close: Close) -> None:
    """Though all of it came at once: its rules allow no data stream there."""
    link = dialled.requested()
    dialled.owner.on_part = lambda: dialled.connection.close(close)
    link.receive(WITH_STREAM + frame(ID, b"body")[:25])
    assert (dialled.data, dialled.owner.bodies, dialled.story()) == (WITH_STREAM, [], [])


def test_a_stream_s_bytes_may_be_pumped_past_it(dialled: Dialled) -> None:
    link = dialled.requested()
    link.receive(WITH_STREAM + frame(ID, b"body")[:25])
    [(count, done)] = dialled.owner.bodies
    assert count == 3  # the first came with the head
    done()
    link.receive(frame(ID, b"body")[-8:])
    assert dialled.connection.reusable


@pytest.mark.parametrize("cut", [lambda data: [data], single])
def test_more_frames_for_a_repeated_id_come_too_and_it_is_not_used_again(
    dialled: Dialled, cut: Callable[[bytes], list[bytes]]
) -> None:
    """Some senders write one frame an id, some one an occurrence (wire.md 5.5): nobody knows where this one is."""
    link = dialled.requested()
    more: list[bool] = []
    whole = TWICE + frame(ID, b"body") + frame(ID, b"body")
    dialled.owner.on_last = lambda: more.append(dialled.connection.more_frames)
    link.receive(*cut(whole))
    assert dialled.data == whole
    assert more == [True]  # also where all of them came at once
    assert not dialled.connection.reusable


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (Dialled.identified, RESPONSE),
        (Dialled.identified, PROCEED),
        (Dialled.requested, b"\xff" * 20),
        (Dialled.requested, RESPONSE + b"!"),
        (Dialled.requested, WITH_STREAM + guid(8)),
        (Dialled.requested, deflated(request())),
        (Dialled.replied, b"!"),
    ],
)
def test_a_tentacle_that_breaks_the_protocol_is_closed(
    dialled: Dialled, state: Callable[[Dialled], FakeLink], said: bytes
) -> None:
    link = state(dialled)
    link.receive(said)
    [told] = dialled.story()
    assert told.startswith("lost while leased, tentacle-broke: ")
    assert link.ended == FIN


def test_inside_a_request_it_is_reset(dialled: Dialled) -> None:
    link = dialled.identified()
    dialled.connection.send(Part(Unit.ENVELOPE, REQUEST[:10]))
    link.receive(b"!")
    assert link.ended == RST


@pytest.mark.parametrize("limit", [100, 10_000])
def test_an_envelope_beyond_the_machine_s_limit_is_refused(dials: Dials, limit: int) -> None:
    dialled = Dialled(dials, envelope=limit)
    link = dialled.requested()
    link.receive(deflated(response("x" * 1000)))
    if limit == 100:
        [told] = dialled.story()
        assert "limits.envelope" in told
    else:
        assert dialled.connection.reusable


@pytest.mark.parametrize(("said", "detail"), [(b"", "closed"), (RESPONSE[:10], "closed inside an envelope")])
def test_a_tentacle_that_goes_in_a_call(dialled: Dialled, said: bytes, detail: str) -> None:
    link = dialled.requested()
    link.receive(said)
    link.lose()
    assert dialled.story() == [f"lost while leased, tentacle-gone: {detail}"]


def test_a_tentacle_that_closes_while_paused_is_noticed(dialled: Dialled) -> None:
    link = dialled.requested()
    link.pause("backlog")
    link.lose()
    assert dialled.story() == ["closing"]


# ---- proofs -------------------------------------------------------------------------------------------------------------


def test_a_proof(dialled: Dialled) -> None:
    link = dialled.resting()
    assert dialled.connection.since == dialled.clock.seconds()
    dialled.clock.advance(30)
    dialled.connection.prove()
    assert take(link) == [NEXT]
    assert dialled.connection.state is State.PROVING
    assert dialled.connection.since == dialled.clock.seconds()
    link.receive(PROCEED)
    assert dialled.story() == ["ready"]
    dialled.connection.send(WHOLE_REQUEST)
    assert take(link) == [REQUEST]


@pytest.mark.parametrize("said", [NEXT, END, SERVER_IDENTITY, PROCEED + b"!", RESPONSE + b"\r\n"])
def test_a_wrong_answer_to_a_proof_ends_it(dialled: Dialled, said: bytes) -> None:
    link = dialled.proving()
    link.receive(said)
    [told] = dialled.story()
    assert told.startswith("lost while proving, tentacle-broke: ")
    assert link.ended == FIN


@pytest.mark.parametrize("reason", [PeerClosedError("closed"), PeerClosedError("Connection reset by peer")])
def test_a_tentacle_that_is_gone_fails_the_proof(dialled: Dialled, reason: Exception) -> None:
    link = dialled.proving()
    link.lose(reason)
    assert dialled.story() == [f"lost while proving, tentacle-gone: {reason}"]


@pytest.mark.parametrize("said", [PROCEED, b"\r\n", RESPONSE, b"x"])
def test_one_that_says_anything_while_idle_is_dropped(dialled: Dialled, said: bytes) -> None:
    link = dialled.resting()
    link.receive(said)
    [told] = dialled.story()
    assert told.startswith("lost while idle, tentacle-broke: ")
    assert link.ended == FIN


def test_one_that_closes_while_idle_is_dropped(dialled: Dialled) -> None:
    link = dialled.resting()
    link.lose()
    assert dialled.story() == ["lost while idle, tentacle-gone: closed"]


# ---- closing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
def test_closing_gives_up_a_dial(dialled: Dialled, close: Close) -> None:
    dialled.connection.close(close)
    assert dialled.dial.cancelled
    assert dialled.story() == []


@pytest.mark.parametrize(
    "state", [Dialled.connected, Dialled.identified, Dialled.requested, Dialled.replied, Dialled.proving, Dialled.resting]
)
@pytest.mark.parametrize("close", [Close.FIN, Close.RST])
def test_closing_tells_nobody_and_only_an_idle_one_says_end(
    dialled: Dialled, state: Callable[[Dialled], FakeLink], close: Close
) -> None:
    link = state(dialled)
    take(link)
    dialled.connection.close(close)
    says_end = state is Dialled.resting and close is Close.FIN
    assert take(link) == ([END] if says_end else [])
    assert link.ended == (FIN if close is Close.FIN else RST)
    assert dialled.connection.state is State.CLOSED
    dialled.connection.close(Close.RST)
    assert dialled.story() == []
    assert link.ended != LOST
