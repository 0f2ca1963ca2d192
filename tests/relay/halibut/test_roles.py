"""Who may send what, and when: the tables of wire.md 3.1 to 3.4, by hand, against every role in every state."""

import pytest
from halibut_bytes import LINES, REQUEST, RESPONSE, SUBSCRIPTION, brought, connection, fed, ours, single

from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.errors import EnvelopeError, LineError, LocalProtocolError, RemoteProtocolError, TurnError
from relay.halibut.events import Line, NotHalibut, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message
from relay.halibut.roles import TRANSITIONS, Role, Side, State, Style

U, S, R = Unit, State, Role
CLIENT, SERVICE, POLLER, OCTOPUS = R.DIALLING_CLIENT, R.LISTENING_SERVICE, R.DIALLING_SERVICE, R.LISTENING_CLIENT
MESSAGE = U.ENVELOPE

# role: what it may send in each state, and the state that follows
SENDS: dict[Role, dict[State, dict[Unit, State]]] = {
    CLIENT: {
        S.PREAMBLE: {U.PREAMBLE: S.IDENTITY},
        S.IDENTITY: {U.CLIENT_IDENTITY: S.ANSWER},
        S.ANSWER: {U.END: S.ENDED},
        S.REQUEST: {MESSAGE: S.REPLY, U.END: S.ENDED},
        S.REPLY: {U.END: S.ENDED},
        S.TURN: {U.NEXT: S.PROCEED, U.END: S.ENDED},
        S.PROCEED: {U.END: S.ENDED},
        S.ENDED: {},
    },
    SERVICE: {
        S.PREAMBLE: {},
        S.IDENTITY: {},
        S.ANSWER: {U.SERVER_IDENTITY: S.REQUEST},
        S.REQUEST: {},
        S.REPLY: {MESSAGE: S.TURN},
        S.TURN: {},
        S.PROCEED: {U.PROCEED: S.REQUEST},
        S.ENDED: {},
    },
    POLLER: {
        S.PREAMBLE: {U.PREAMBLE: S.IDENTITY},
        S.IDENTITY: {U.SUBSCRIBER_IDENTITY: S.ANSWER},
        S.ANSWER: {U.END: S.ENDED},
        S.REQUEST: {U.END: S.ENDED},
        S.REPLY: {MESSAGE: S.TURN, U.END: S.ENDED},
        S.TURN: {U.NEXT: S.PROCEED, U.END: S.ENDED},
        S.PROCEED: {U.END: S.ENDED},
        S.ENDED: {},
    },
    OCTOPUS: {
        S.PREAMBLE: {},
        S.IDENTITY: {},
        S.ANSWER: {U.SERVER_IDENTITY: S.REQUEST},
        S.REQUEST: {MESSAGE: S.REPLY},
        S.REPLY: {},
        S.TURN: {},
        S.PROCEED: {U.PROCEED: S.REQUEST},
        S.ENDED: {},
    },
}
PEER = {CLIENT: SERVICE, SERVICE: CLIENT, POLLER: OCTOPUS, OCTOPUS: POLLER}
UNITS = [*LINES, MESSAGE]
EVERYWHERE = [(role, state) for role in Role for state in State]
everywhere = pytest.mark.parametrize(("role", "state"), EVERYWHERE, ids=[f"{r.name}-{s.name}" for r, s in EVERYWHERE])


def test_the_tables_are_those_of_the_specification() -> None:
    for role in Role:
        for state in State:
            found = {unit: after for (side, unit), after in TRANSITIONS[role.style][state].items() if side is role.side}
            assert found == SENDS[role][state]


def test_the_roles_are_the_ends_of_two_styles() -> None:
    assert {(role.style, role.side): role for role in Role} == {
        (Style.LISTENING, Side.DIALLER): CLIENT,
        (Style.LISTENING, Side.LISTENER): SERVICE,
        (Style.POLLING, Side.DIALLER): POLLER,
        (Style.POLLING, Side.LISTENER): OCTOPUS,
    }
    assert [role for role in Role if role.is_client] == [CLIENT, OCTOPUS]


def message(role: Role) -> bytes:
    """What this role sends as a message."""
    return REQUEST if role.is_client else RESPONSE


# ---- us -----------------------------------------------------------------------------------------------------------------


@everywhere
def test_what_we_may_send(role: Role, state: State) -> None:
    for unit in UNITS:
        us = brought(role, state)
        following = SENDS[role][state].get(unit)
        data = message(role) if unit is MESSAGE else LINES[unit]
        if following:
            ours(us, unit, data)
            assert us.state is following
        else:
            with pytest.raises(LocalProtocolError):
                ours(us, unit, data)
            assert us.state is state


@everywhere
def test_units_of_a_message_are_never_sent_as_lines(role: Role, state: State) -> None:
    for unit in Unit:
        if unit not in LINES:
            us = brought(role, state)
            with pytest.raises(LocalProtocolError):
                us.send(unit)
            assert us.state is state


@everywhere
def test_where_a_keep_alive_may_go(role: Role, state: State) -> None:
    us = brought(role, state)
    if (role, state) == (OCTOPUS, S.REQUEST):
        assert us.send_null() == lines.NULL_ENVELOPE
        assert us.state is S.TURN
        assert us.receive_data(lines.NEXT) == [Line(U.NEXT)]
    else:
        with pytest.raises(LocalProtocolError):
            us.send_null()
        assert us.state is state


@pytest.mark.parametrize("role", [CLIENT, OCTOPUS, SERVICE, POLLER])
def test_nothing_goes_into_the_middle_of_our_message(role: Role) -> None:
    def said(us: Connection) -> tuple[bool, bool]:
        return us.forwarding, us.forwarding_streams

    us = brought(role, S.REQUEST if role.is_client else S.REPLY)
    due = us.state
    assert said(us) == (False, False)
    us.forward(Part(U.ENVELOPE, b"..."))
    assert said(us) == (True, False)
    for unit in UNITS:
        with pytest.raises(LocalProtocolError):
            us.send(unit)
    with pytest.raises(LocalProtocolError):
        us.send_null()
    us.forward(Part(U.ENVELOPE, b"...", Message(Kind.REQUEST if role.is_client else Kind.RESPONSE)))
    assert said(us) == (True, True)
    for unit in (U.STREAM_ID, U.STREAM_LENGTH, U.STREAM_BODY):
        us.forward(Part(unit, b"..."))
        assert said(us) == (True, True)
        with pytest.raises(LocalProtocolError):
            us.send(U.END)
    assert us.state is due
    us.forward(Part(U.STREAM_CLOSING_LENGTH, b"...", last=True))
    assert said(us) == (False, False)
    assert us.state is (S.REPLY if role.is_client else S.TURN)
    us.forward(Part(U.STREAM_ID, b"...", extra=True))  # one more for a repeated id changes nothing
    assert us.state is (S.REPLY if role.is_client else S.TURN)
    assert said(us) == (False, False)


@pytest.mark.parametrize("role", [CLIENT, OCTOPUS])
def test_a_keep_alive_of_somebody_else_is_not_passed_on(role: Role) -> None:
    us = brought(role, S.REQUEST)
    with pytest.raises(LocalProtocolError, match="send_null"):
        us.forward(Part(U.ENVELOPE, lines.NULL_ENVELOPE, Message(Kind.NULL), last=True))
    assert us.state is S.REQUEST


@pytest.mark.parametrize("subscription", ["", "poll://a b/", "poll://é/", "poll://a\r\n", "poll://a\x7f/"])
def test_an_impossible_subscription(subscription: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        Connection(POLLER, Limits(), subscription)
    Connection(CLIENT, Limits(), subscription)  # it has none


def test_a_subscription_travels_as_it_is() -> None:
    us = Connection(POLLER, Limits(), "poll://SQ-UpperCase/")
    us.send(U.PREAMBLE)
    assert us.send(U.SUBSCRIBER_IDENTITY) == b"MX-SUBSCRIBER 1.0 poll://SQ-UpperCase/\r\n\r\n"


# ---- the peer -----------------------------------------------------------------------------------------------------------


def broken_rule(role: Role, state: State, unit: Unit) -> type[RemoteProtocolError]:
    """What the peer of this role breaks with a unit that it may not send."""
    peer = PEER[role]
    if MESSAGE in SENDS[peer][state]:
        return EnvelopeError
    return LineError if set(SENDS[peer][state]) - {U.END} else TurnError


@everywhere
def test_what_the_peer_may_send(role: Role, state: State) -> None:
    if state in (S.PREAMBLE, S.ENDED):
        return  # below
    for unit in UNITS:
        data = message(PEER[role]) if unit is MESSAGE else LINES[unit]
        following = SENDS[PEER[role]][state].get(unit)
        for chunks in ([data], single(data)):
            us = brought(role, state)
            if following:
                events = fed(us, chunks)
                assert us.state is following
                assert {event.unit for event in events} == {unit}  # type: ignore[union-attr] # none is NotHalibut
                assert not us.receiving
                if unit is MESSAGE:
                    assert events[-1].last  # type: ignore[union-attr] # a Part
                else:
                    assert events == [Line(unit, SUBSCRIPTION if unit is U.SUBSCRIBER_IDENTITY else "")]
                continue
            rule = broken_rule(role, state, unit)
            with pytest.raises(rule) as caught:
                fed(us, [*chunks, b"x" * 1100])  # an envelope where a line is due may go on for a while
            assert type(caught.value) is rule, unit
            assert us.state is state
            assert us.receive_data(data) == us.receive_end() == []


@pytest.mark.parametrize("role", [SERVICE, OCTOPUS])
def test_before_the_preamble(role: Role) -> None:
    for unit in UNITS:
        data = message(PEER[role]) if unit is MESSAGE else LINES[unit]
        us = brought(role, S.PREAMBLE)
        events = us.receive_data(data)
        if unit is U.PREAMBLE or unit.value.startswith("MX"):
            assert (events, us.state) == ([Line(U.PREAMBLE)], S.IDENTITY)
        else:
            assert (events, us.state) == ([], S.PREAMBLE)
            assert us.receive_end() == [NotHalibut()]


@pytest.mark.parametrize("role", [CLIENT, POLLER])
def test_whoever_is_dialled_waits(role: Role) -> None:
    for state in (S.PREAMBLE, S.IDENTITY):
        for unit in UNITS:
            with pytest.raises(TurnError):
                brought(role, state).receive_data(RESPONSE if unit is MESSAGE else LINES[unit])


@pytest.mark.parametrize("role", Role)
def test_behind_the_end_nothing_counts(role: Role) -> None:
    us = brought(role, S.ENDED)
    for unit in UNITS:
        assert us.receive_data(message(PEER[role]) if unit is MESSAGE else LINES[unit]) == []
    assert us.receive_end() == []
    assert us.state is S.ENDED


@everywhere
def test_nor_does_it_behind_an_end_in_one_piece(role: Role, state: State) -> None:
    if U.END in SENDS[PEER[role]][state]:
        for behind in (lines.NEXT, lines.END, REQUEST, b"x" * 5000):
            us = brought(role, state)
            assert us.receive_data(lines.END + behind) == [Line(U.END)]
            assert us.state is S.ENDED


@everywhere
def test_a_close_between_units_is_no_error(role: Role, state: State) -> None:
    us = brought(role, state)
    assert us.receive_end() == []
    assert us.receive_data(lines.NEXT) == us.receive_end() == []


@pytest.mark.parametrize("chunks", [[lines.NULL_ENVELOPE], single(lines.NULL_ENVELOPE)], ids=["whole", "bytewise"])
def test_a_keep_alive_is_for_pollers(chunks: list[bytes]) -> None:
    us = brought(POLLER, S.REQUEST)
    part = fed(us, chunks)[-1]
    assert isinstance(part, Part)
    assert part.message == Message(Kind.NULL)
    assert part.last
    assert us.state is S.TURN
    us = brought(SERVICE, S.REQUEST)
    with pytest.raises(EnvelopeError, match="null message where a request is due"):
        fed(us, chunks)


@pytest.mark.parametrize("role", [CLIENT, OCTOPUS])
def test_a_null_may_be_a_reply(role: Role) -> None:
    us = brought(role, S.REPLY)
    [part] = us.receive_data(lines.NULL_ENVELOPE)
    assert isinstance(part, Part)
    assert part.message == Message(Kind.NULL)
    assert us.state is S.TURN


# ---- bytes ahead of their time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [b"E", b"EN", b"END", b"END\r", b"\r\nEN"])
@pytest.mark.parametrize(
    ("role", "state"), [(SERVICE, S.ANSWER), (SERVICE, S.REPLY), (OCTOPUS, S.REQUEST), (OCTOPUS, S.PROCEED)]
)
def test_an_end_that_meets_our_unit_on_its_way(role: Role, state: State, early: bytes) -> None:
    """The dialler has begun to give up; what we send in the meantime loses none of its bytes."""
    us = brought(role, state)
    assert us.receive_data(early) == []
    assert us.receiving
    unit = next(iter(SENDS[role][state]))
    ours(us, unit, message(role) if unit is MESSAGE else LINES[unit])
    assert us.receive_data(lines.END[len(early.strip(b"\r\n")) + early.endswith(b"\r") :]) == [Line(U.END)]
    assert us.state is S.ENDED


@pytest.mark.parametrize(
    ("role", "state"), [(SERVICE, S.ANSWER), (SERVICE, S.REPLY), (OCTOPUS, S.REQUEST), (OCTOPUS, S.PROCEED)]
)
def test_anything_else_ahead_of_its_time_is_seen_at_its_first_byte(role: Role, state: State) -> None:
    for data in (b"N", b"\0", b"EX", b"ENDE", b"END\n", b"\n", b"\rx", b"\r\nN", REQUEST[:1], RESPONSE[:1]):
        for chunks in ([data], single(data)):
            us = brought(role, state)
            with pytest.raises(TurnError):
                fed(us, chunks)


def test_an_envelope_that_begins_like_end_is_none() -> None:
    """The first bytes are kept back until it is clear which of the two it is, and none is lost."""
    us = brought(SERVICE, S.REQUEST)
    for byte in single(b"END\r"):
        assert us.receive_data(byte) == []
    with pytest.raises(EnvelopeError):
        us.receive_data(bytes(100))
    us = brought(SERVICE, S.REQUEST)
    assert us.receive_data(b"E") == []
    [first, second] = us.receive_data(b"\xc0\x01")  # an envelope may begin with E: these are the start of a dynamic block
    assert isinstance(first, Part)
    assert isinstance(second, Part)
    assert first.data + second.data == b"E\xc0\x01"


# ---- a whole conversation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", Style)
def test_a_conversation_of_two_ends(style: Style) -> None:
    """Two connections of ours speak to each other; both know the state at any time."""
    dialler, listener = (connection(role) for role in Role if role.style is style)
    both = {Side.DIALLER: dialler, Side.LISTENER: listener}
    steps = [U.PREAMBLE, U.CLIENT_IDENTITY if style is Style.LISTENING else U.SUBSCRIBER_IDENTITY, U.SERVER_IDENTITY]
    call: list[Unit | bytes] = [REQUEST, RESPONSE, U.NEXT, U.PROCEED]
    for step in [*steps, *call, *call, REQUEST, RESPONSE, U.END]:
        unit = step if isinstance(step, Unit) else MESSAGE
        [(side, _)] = [key for key in TRANSITIONS[style][dialler.state] if key[1] is unit]
        data = step if isinstance(step, bytes) else LINES[unit]
        ours(both[side], unit, data)
        [event] = both[Side.LISTENER if side is Side.DIALLER else Side.DIALLER].receive_data(data)
        assert event.unit is unit  # type: ignore[union-attr] # NotHalibut has none
        assert dialler.state is listener.state
    assert dialler.state is S.ENDED
