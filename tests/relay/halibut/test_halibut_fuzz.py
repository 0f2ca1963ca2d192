"""Any bytes, into any role, in any state: nothing but the codec's own errors, and then nothing at all."""

import random
import tracemalloc
from functools import cache
from pathlib import Path

import pytest
from halibut_bytes import (
    LINES,
    REQUEST,
    RESPONSE,
    brought,
    deflated,
    frame,
    guid,
    merged,
    ours,
    pieces,
    reference,
    request,
    response,
    script,
    stored,
)  # fmt: skip
from recordings import Turn, conversations, roles, turns

from relay.halibut import lines
from relay.halibut.connection import Connection
from relay.halibut.errors import LocalProtocolError, RemoteProtocolError
from relay.halibut.events import Event, Line, Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.roles import Role, Side, State

STREAMED = request((reference(guid(1), 5), reference(guid(1), 5), reference(guid(2), 0)))
WORDS = [
    *LINES.values(),
    REQUEST,
    RESPONSE,
    lines.NULL_ENVELOPE,
    deflated(STREAMED),
    deflated(response([reference(guid(1), 5)])),
    deflated(request(), 0),
    deflated(request(method="x" * 70_000)),
    frame(guid(1), b"hello"),
    frame(guid(2), b""),
    guid(1),
    b"\r\n",
    b"\n\n",
    b"\r",
    b"HELLO\r\n\r\n",
    stored(b"\xff\xff\xff\x7f", final=False),
    b"\x00\x00\x00\xff\xff",
    b"\x03\x00",
]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The data with bits flipped, bytes cut out, repeated, moved or put in."""
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        if not data:
            break
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice((1, 1, 2, 8, 100)))
        match chance.randrange(6):
            case 0:
                data = data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :]
            case 1:
                data = data[:start] + data[end:]
            case 2:
                data = data[:end] + data[start:end] + data[end:]
            case 3:
                data = data[:start] + chance.randbytes(end - start) + data[start:]
            case 4:
                data = data[end:] + data[:end]
            case _:
                data = data[:start]
    return data


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """The data in pieces: one, a few, or very many."""
    count = chance.choice((0, 0, 1, 3, 40))
    return pieces(data, (chance.randrange(len(data) or 1) for _ in range(count)))


def discards(us: Connection) -> None:
    """It has failed or ended: whatever comes, nothing happens."""
    state = us.state
    for data in (lines.PREAMBLE, lines.CLIENT_IDENTITY, REQUEST, RESPONSE, lines.NEXT, b"\xff" * 1000):
        assert us.receive_data(data) == []
    assert us.receive_end() == []
    assert us.state is state


def speak(us: Connection, role: Role, chance: random.Random) -> None:
    """We send what is due from us, if anything is."""
    if role is Role.LISTENING_CLIENT and us.state is State.REQUEST and chance.random() < 0.3:
        us.send_null()
    while due := [(unit, data) for state, side, unit, data in script(role.style) if (state, side) == (us.state, role.side)]:
        ours(us, *due[0])


def said_next(us: Connection, role: Role, chance: random.Random) -> bytes:
    """What the peer sends: often what is due from it, or else anything."""
    right = [data for due, side, _, data in script(role.style) if due is us.state and side is not role.side]
    if right and chance.random() < 0.5:
        return right[0]
    return damaged(chance.choice(WORDS) if chance.random() < 0.8 else chance.randbytes(chance.randrange(300)), chance)


def run(us: Connection, role: Role, data: bytes, chance: random.Random, events: list[Event]) -> None:
    """Feeds it, speaks in between, lets bodies pass unseen. Raises RemoteProtocolError; anything else is a failure."""
    for chunk in cut(data, chance):
        passed = min(us.body_left, len(chunk)) if chance.random() < 0.3 else 0
        if passed:
            us.body_passed(passed)
        if chunk[passed:]:
            events += us.receive_data(chunk[passed:])
        if chance.random() < 0.4:
            speak(us, role, chance)
    if chance.random() < 0.2:
        events += us.receive_end()


@pytest.mark.parametrize("role", Role, ids=lambda role: role.name)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_any_bytes_in_any_state(role: Role, state: State) -> None:
    chance, failed, heard = random.Random(f"{role.name} {state.name}"), 0, 0
    for _ in range(250):
        us, fed = brought(role, state), 0
        events: list[Event] = []
        error: RemoteProtocolError | None = None
        try:
            for _ in range(chance.randrange(1, 9)):
                if chance.random() < 0.8:
                    speak(us, role, chance)
                data = said_next(us, role, chance)
                fed += len(data)
                run(us, role, data, chance, events)
        except RemoteProtocolError as caught:
            error = caught
        if error:
            failed += 1
            assert error.rule
            assert len(str(error)) < 400
            discards(us)
        heard += len(events)
        assert sum(len(event.data) for event in events if isinstance(event, Part)) <= fed
    if state is not State.ENDED:
        assert failed > 50
        assert heard > 50


@cache
def script_of(path: Path) -> list[Turn]:
    return turns(path)


SMALL = [path for path in conversations() if sum(len(turn.data) for turn in turns(path)) < 40_000]


def mirror(us: Connection, turn: Turn, limit: random.Random) -> None:
    """We say what our side has said in the recording, as far as the other, who is damaged, lets us."""
    try:
        for record in turn.records:
            line = next((unit for unit, data in LINES.items() if data == record), None)
            if record == b"MX\n\n":
                us.send(Unit.PREAMBLE)
            elif record.startswith(b"MX-SUBSCRIBER"):
                us.send(Unit.SUBSCRIBER_IDENTITY)
            elif line:
                us.send(line)
            elif record == lines.NULL_ENVELOPE:
                us.send_null()
            else:
                us.forward(Part(Unit.ENVELOPE, record, last=record is turn.records[-1] or limit.random() < 0.1))
    except LocalProtocolError:
        pass  # the damaged peer has said less than it should, or more


@pytest.mark.parametrize("seed", range(8))
def test_damaged_recordings(seed: int) -> None:
    """Each in one piece and in many, with the same damage: the same error, in the same state."""
    failures: dict[type, int] = {}
    for number in range(60):
        chance = random.Random(f"{seed} {number}")
        path = chance.choice(SMALL)
        side = chance.choice(list(Side))
        listened = script_of(path)
        victim = chance.randrange(len(listened))
        bytes_fed = [damaged(turn.data, chance) if at == victim else turn.data for at, turn in enumerate(listened)]
        found = []
        for in_pieces in (False, True):
            us = Connection(roles(path)[side], Limits(), "poll://sq-tentapoll/")
            again, error = random.Random(f"{seed} {number} again"), None
            try:
                for turn, data in zip(listened, bytes_fed, strict=True):
                    if turn.side is side:
                        mirror(us, turn, random.Random(number))
                    else:
                        for chunk in cut(data, again) if in_pieces else [data]:
                            us.receive_data(chunk)
            except RemoteProtocolError as caught:
                error = type(caught)
                failures[error] = failures.get(error, 0) + 1
                discards(us)
            found.append((error, us.state))
        assert found[0] == found[1]
    assert sum(failures.values()) > 20
    assert len(failures) >= 3


def test_memory_stays_under_the_limits() -> None:
    """Floods of every kind, in every state; nothing keeps more than a line, a preamble, a block and a few names."""
    limits = Limits()
    for role in Role:
        for state in State:
            for flood in (b"x", b"\r\n", b"\x00\x00\x00\xff\xff", b"\n.", b"E", stored(b"\x00\x00\x00\x0f\x02x", final=False)):
                us = brought(role, state, limits)
                data = flood * (16_384 // len(flood))
                tracemalloc.start()
                try:
                    for _ in range(40):
                        us.receive_data(data)
                except RemoteProtocolError:
                    pass
                finally:
                    _, peak = tracemalloc.get_traced_memory()
                    tracemalloc.stop()
                assert peak < 300 * 1024, (role, state, flood[:4])


def test_the_words_of_this_test_are_right() -> None:
    """Undamaged they lead somewhere, or the fuzzing would only ever see errors."""
    us = brought(Role.LISTENING_SERVICE, State.REQUEST)
    events = us.receive_data(deflated(STREAMED) + frame(guid(1), b"hello") + frame(guid(2), b"") + frame(guid(1), b"hello"))
    assert len(merged(events)) == 1 + 4 + 3 + 4
    ours(us, Unit.ENVELOPE, RESPONSE)
    assert us.receive_data(lines.NEXT) == [Line(Unit.NEXT)]
