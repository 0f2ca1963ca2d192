"""The preamble, identity lines and control lines (wire.md 2.2, 2.4, 2.8, 3)."""

from collections.abc import Sequence

import pytest
from halibut_bytes import bounded, brought, connection, fed, pieces, single
from hypothesis import example, given
from hypothesis import strategies as st

from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.errors import EnvelopeError, LineError, TurnError, UnexpectedEndError
from relay.halibut.events import Event, Line, NotHalibut, Unit
from relay.halibut.limits import Limits
from relay.halibut.roles import Role, State
from relay.halibut.text import PREAMBLE_SIZE, control_line, identity

PREAMBLE, CLIENT = Line(Unit.PREAMBLE), Line(Unit.CLIENT_IDENTITY)


def listener() -> Connection:
    return connection(Role.LISTENING_SERVICE)


def said(chunks: Sequence[bytes], us: Connection | None = None) -> list[Event] | type[Exception]:
    """The events of a new listener, or the class of what it raises."""
    us = us or listener()
    try:
        return fed(us, chunks)
    except LineError as error:
        return type(error)


def alike(data: bytes) -> list[Event] | type[Exception]:
    """What a new listener says, in one piece and byte by byte."""
    events = said([data])
    bytewise = said(single(data))
    assert bytewise == events
    return events


# ---- the preamble -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"MX\r\n\r\n",
        b"MX\n\n",  # from Linux
        b"MX\r\n\n",
        b"MX\n\r\n",
        b"MX\r\r\r\n\r\r\n",
        b"M\rX\n\n",
        b"\rMX\n\n",
        b"MX-anything 7\r\n\r\n",
        b"MX\nmore lines\r\nof anything\xff\0\r\n\r\n",
        b"MX" + b"x" * (PREAMBLE_SIZE - 4) + b"\n\n",
        b"MX" + b"x" * (PREAMBLE_SIZE - 2),  # so many are enough
        b"\r\rMX" + b"\rx" * (PREAMBLE_SIZE - 2),
        b"MX" + b"\n." * (PREAMBLE_SIZE // 2 - 1),
    ],
)
def test_what_is_a_preamble(data: bytes) -> None:
    assert alike(data) == [PREAMBLE]
    assert alike(data[:-1]) == []
    assert alike(data + lines.CLIENT_IDENTITY) == [PREAMBLE, CLIENT]  # not a byte too many is taken


@pytest.mark.parametrize(
    "data",
    [
        b"HELLO\n\n",  # Octopus looks for a thumbprint (wire.md 2.6)
        b"HELLO\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web01\r\n\r\n",
        b"POST /handshake HTTP/1.1\r\n\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\nMX\n\n",
        b"mx\n\n",
        b"M\n\n",
        b"M\nX\n\n",
        b"MM\n\n",
        b" MX\n\n",
        b"M" * PREAMBLE_SIZE,
        bytes(PREAMBLE_SIZE),
        b"\x16\x03\x01\x02\x00" + b"x" * PREAMBLE_SIZE,
    ],
)
def test_what_is_none(data: bytes) -> None:
    assert alike(data) == [NotHalibut()]
    us = listener()
    assert us.receive_data(data + lines.CLIENT_IDENTITY * 2000) == [NotHalibut()]
    assert us.state is State.ENDED
    assert us.receive_data(lines.PREAMBLE) == us.receive_end() == []


def test_a_preamble_of_carriage_returns_has_an_end() -> None:
    assert alike(b"\r" * 40_000) == []
    assert alike(b"\r" * 40_001) is LineError
    assert alike(b"MX" + b"\r" * 40_001 + b"\n\n") is LineError
    assert alike(b"\r" * 30_000 + b"MX" * 10_000) is LineError


@pytest.mark.parametrize(
    ("data", "page"),
    [(b"MM", True), (b"GET / HTTP/1.1\r\n", True), (b"\r\n\r", False), (b"\n\r.", True), (b"", False), (b"\r\r", False)],
)
def test_a_close_before_the_blank_line(data: bytes, page: bool) -> None:
    for chunks in ([data] if data else [], single(data)):
        us = listener()
        assert said(chunks, us) == []
        if page or not data.strip(b"\r"):
            assert us.receive_end() == ([NotHalibut()] if page else [])
        else:
            with pytest.raises(UnexpectedEndError, match="closed inside the preamble"):
                us.receive_end()


@pytest.mark.parametrize("data", [b"M", b"G", b"MX", b"M\rX\r\n", b"MX\r\n\r"])
def test_a_close_inside_a_preamble(data: bytes) -> None:
    """One character gets no page; ``MX`` and a close is a caller that never said who it is."""
    us = listener()
    assert said([data], us) == []
    assert us.receiving
    with pytest.raises(UnexpectedEndError):
        us.receive_end()


@bounded(300)
@given(
    st.lists(st.sampled_from([b"MX", b"M", b"\r", b"\n", b"\r\n", b"x"]), max_size=12), st.lists(st.integers(1, 20), max_size=5)
)
@example([b"MX", b"\n", b"\r", b"\n"], [3])
def test_preambles_of_all_kinds_read_as_halibut_reads_them(words: list[bytes], cuts: list[int]) -> None:
    data = b"".join(words)
    kept, end = b"", None
    for offset, byte in enumerate(data):  # wire.md 2.2, word for word
        if byte != 0x0D:
            kept += bytes([byte])
            if kept.endswith(b"\n\n"):
                end = offset + 1
                break
    expected: list[Event] = [] if end is None else [PREAMBLE if kept.startswith(b"MX") else NotHalibut()]
    assert alike(data[:end]) == expected
    if end is not None and expected == [PREAMBLE]:
        assert said(pieces(data[:end] + lines.CLIENT_IDENTITY, cuts)) == [PREAMBLE, CLIENT]


def test_whoever_is_dialled_sends_no_preamble() -> None:
    for role in (Role.DIALLING_CLIENT, Role.DIALLING_SERVICE):
        for state in (State.PREAMBLE, State.IDENTITY):
            with pytest.raises(TurnError):
                brought(role, state).receive_data(b"HTTP/1.0 200 OK\r\n")


# ---- identities ---------------------------------------------------------------------------------------------------------


def identified(line: bytes, role: Role = Role.LISTENING_SERVICE) -> list[Event] | type[Exception]:
    """What a listener says to this identity, in one piece and byte by byte."""
    events = said([line], brought(role, State.IDENTITY))
    bytewise = said(single(line), brought(role, State.IDENTITY))
    assert bytewise == events
    return events


@pytest.mark.parametrize(
    "line",
    [
        b"MX-CLIENT 1.0\r\n\r\n",
        b"MX-CLIENT 2.0\r\n\r\n",
        b"MX-CLIENT\r\n\r\n",
        b"MX-CLIENT  1.0   more\r\n\r\n",
        b" MX-CLIENT 1.0 \r\n\r\n",
        b"MX-CLIENT 1.0\n\r\n\r\n",
        b"MX-CLIENT " + b"x" * 1014 + b"\r\n\r\n",
    ],
)
def test_clients(line: bytes) -> None:
    assert identified(line) == [CLIENT]


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"\r\n\r\n",
        b"MX-OTHER 1.0\r\n\r\n",
        b"mx-client 1.0\r\n\r\n",
        b"MX-CLIENT\t1.0\r\n\r\n",  # only spaces part words
        b"MX-CLIENT\n1.0\r\n\r\n",
        b"MX-SERVER 1.0\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 poll://sq-tentapoll/\r\n\r\n",  # not this role's
        b"MX-CLIENT 1.0\r\nMX-CLIENT 1.0\r\n",
        b"MX-CLIENT 1.0\r\n \r\n",
        b"MX-CLIENT 1.0\r.",
        b"MX-CLIENT 1.0\r\r\n\r\n",
        b"MX-CLIENT " + b"x" * 1015 + b"\r\n\r\n",
        b"x" * 1025,
        b"NEXT\r\n",
        b"END\r\n",
        b"PROCEED\r\n",
    ],
)
def test_no_clients(line: bytes) -> None:
    assert identified(line) is LineError


def test_a_line_feed_alone_ends_no_line() -> None:
    """As head reads; the oldest took it, and no dialler of today sends it (wire.md 2.4)."""
    us = brought(Role.LISTENING_SERVICE, State.IDENTITY)
    assert us.receive_data(b"MX-CLIENT 1.0\n\n") == []
    assert us.receiving


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"M", lines.PREAMBLE),  # MMX is no word of ours
        (b"MX", lines.PREAMBLE + lines.PREAMBLE),
        (lines.PREAMBLE + b"MX-", lines.CLIENT_IDENTITY),
        (lines.PREAMBLE + b"MX-CLIENT 1.0\r\n", lines.CLIENT_IDENTITY),
        (lines.PREAMBLE + b"\r", lines.CLIENT_IDENTITY),
        (lines.PREAMBLE, lines.PREAMBLE),
        (lines.PREAMBLE, lines.SERVER_IDENTITY),
        (lines.PREAMBLE + lines.CLIENT_IDENTITY, lines.CLIENT_IDENTITY),
    ],
)
def test_a_line_alone_in_its_record_is_read_as_one_behind_others(before: bytes, behind: bytes) -> None:
    def heard(chunks: list[bytes]) -> object:
        try:
            return fed(listener(), chunks)
        except (LineError, TurnError) as error:
            return str(error)

    assert heard([before, behind]) == heard([before, *single(behind)])


def test_an_identity_waits_for_its_empty_line() -> None:
    us = brought(Role.LISTENING_SERVICE, State.IDENTITY)
    assert us.receive_data(b"MX-CLIENT 1.0\r\n") == []
    assert us.receiving
    assert us.state is State.IDENTITY
    assert us.receive_data(b"\r\n") == [CLIENT]
    for cut in range(1, 17):
        us = brought(Role.LISTENING_SERVICE, State.IDENTITY)
        us.receive_data(lines.CLIENT_IDENTITY[:cut])
        with pytest.raises(UnexpectedEndError, match="closed inside a line"):
            us.receive_end()


@pytest.mark.parametrize(
    "subscription", ["poll://sq-tentapoll/", "poll://SQ-TENTAPOLL/", "poll:x", "https://octopus/x?y", "x" * 900 + "://a"]
)
def test_subscribers(subscription: str) -> None:
    line = b"MX-SUBSCRIBER 1.0 %s\r\n\r\n" % subscription.encode()
    assert lines.subscriber_identity(subscription) == line
    assert identified(line, Role.LISTENING_CLIENT) == [Line(Unit.SUBSCRIBER_IDENTITY, subscription)]
    assert identified(line[:-4] + b" more\r\n\r\n", Role.LISTENING_CLIENT) == [Line(Unit.SUBSCRIBER_IDENTITY, subscription)]


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b" 1.0",
        b" 1.0 ",
        b" 1.0 sq-tentapoll",  # no absolute URI
        b" 1.0 /x",
        b" 1.0 //host/x",
        b" 1.0 :x",
        b" 1.0 http://[x",
        b" 1.0 poll://caf\xc3\xa9/",
        b" 1.0 poll://\xff/",
        b" 1.0 poll://a\0b/",
        b" 1.0 poll://a\tb/",
        b" 1.0 poll://a\nb/",
        b" 1.0 \x1fpoll://a/",
        b" 1.0 poll://a\x7f/",
    ],
)
def test_no_subscribers(rest: bytes) -> None:
    assert identified(b"MX-SUBSCRIBER" + rest + b"\r\n\r\n", Role.LISTENING_CLIENT) is LineError


@bounded(300)
@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x180), max_size=12))
def test_a_subscription_that_is_taken_can_be_sent_on(text: str) -> None:
    line = b"MX-SUBSCRIBER 1.0 poll:" + text.encode()
    try:
        found = identity(line)
    except LineError:
        return
    assert identity(lines.subscriber_identity(found.subscription)[:-4]) == found


def test_the_server_says_who_it_is() -> None:
    for role in (Role.DIALLING_CLIENT, Role.DIALLING_SERVICE):
        for chunks in ([lines.SERVER_IDENTITY], single(lines.SERVER_IDENTITY)):
            assert said(chunks, brought(role, State.ANSWER)) == [Line(Unit.SERVER_IDENTITY)]
        for wrong in (lines.CLIENT_IDENTITY, lines.PROCEED, b"HTTP/1.0 200 OK\r\n", b"\r\n", lines.NULL_ENVELOPE + b"\r\n"):
            assert said([wrong], brought(role, State.ANSWER)) is LineError


# ---- control lines ------------------------------------------------------------------------------------------------------


def test_control_lines_are_exact() -> None:
    assert [control_line(line) for line in (b"NEXT", b"PROCEED", b"END", b"")] == [Unit.NEXT, Unit.PROCEED, Unit.END, None]
    for line in (b"next", b"NEXT ", b" NEXT", b"NEXT\n", b"NEXT\0", b"QUIT", b" "):
        with pytest.raises(LineError):
            control_line(line)


WHERE = [(Role.LISTENING_SERVICE, State.TURN, lines.NEXT), (Role.LISTENING_CLIENT, State.TURN, lines.NEXT),
         (Role.DIALLING_CLIENT, State.PROCEED, lines.PROCEED), (Role.DIALLING_SERVICE, State.PROCEED, lines.PROCEED),
         (Role.LISTENING_SERVICE, State.TURN, lines.END), (Role.LISTENING_CLIENT, State.TURN, lines.END),
         (Role.LISTENING_SERVICE, State.REPLY, lines.END), (Role.LISTENING_CLIENT, State.REQUEST, lines.END)]  # fmt: skip


@pytest.mark.parametrize(("role", "state", "line"), WHERE)
def test_empty_lines_before_a_control_line(role: Role, state: State, line: bytes) -> None:
    for count in (0, 1, 2, 1024):
        data = b"\r\n" * count + line
        for chunks in ([data], single(data), [b"\r\n"] * count + [line]):
            events = said(chunks, brought(role, state))
            assert isinstance(events, list)
            assert len(events) == 1
    for chunks in ([b"\r\n" * 1025 + line], [b"\r\n"] * 1025 + [line]):
        assert said(chunks, brought(role, state)) is LineError


def test_empty_lines_are_counted_anew_for_each_line() -> None:
    us = brought(Role.LISTENING_SERVICE, State.TURN)
    us.receive_data(b"\r\n" * 1000)
    assert us.receive_data(lines.NEXT) == [Line(Unit.NEXT)]
    assert us.receive_data(b"\r\n" * 1000 + lines.END) == [Line(Unit.END)]


def test_never_before_an_envelope() -> None:
    us = brought(Role.LISTENING_SERVICE, State.REQUEST)
    with pytest.raises(EnvelopeError):
        us.receive_data(b"\r\n\r\n" + bytes(40))


@pytest.mark.parametrize(("role", "state", "line"), WHERE[:6])
def test_lines_are_bounded(role: Role, state: State, line: bytes) -> None:
    for data in (b"x" * 1025, b"x" * 1025 + b"\r\n", b"x" * 1_000_000):
        for chunks in ([data], pieces(data, range(0, 2000, 13))):
            with pytest.raises(LineError, match="a line of more than 1024 bytes") as caught:
                fed(brought(role, state), chunks)
            assert len(str(caught.value)) < 150
    us = Connection(role, Limits(line=10), "poll:x")
    us.state = state
    with pytest.raises(LineError, match="a line of more than 10 bytes"):
        us.receive_data(b"x" * 11)


@pytest.mark.parametrize(("role", "state", "line"), WHERE)
def test_a_close_inside_a_line(role: Role, state: State, line: bytes) -> None:
    for cut in range(len(line) + 1):
        us = brought(role, state)
        us.receive_data(line[:cut])
        if 0 < cut < len(line):
            assert us.receiving
            with pytest.raises(UnexpectedEndError, match=r"closed inside a line|closed inside an envelope"):
                us.receive_end()
        else:
            assert us.receive_end() == []
