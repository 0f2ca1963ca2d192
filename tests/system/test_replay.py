"""What real peers said to each other, said again through a running relay: every byte, and every record.

What a terminating relay does otherwise, by design (wire.md 10):
- on the back it sends its own preamble, ``MX\\r\\n\\r\\n``, whatever the caller's newline was;
- a caller that goes between two calls, by END or without, leaves the Tentacle's connection in the pool;
- a Tentacle that goes between two calls is not the caller's trouble: its next call gets another connection;
- the page for who is not Halibut is one record, as 4.4.8 to 6.0.658 send it, where head sends a record for each line.
"""

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import Side, Turn, conversations, label, turns
from scripted import CLIENT, END, NEXT, PREAMBLE, PROCEED, SERVER, TLS12, TLS13, Peer
from system import Machine, identify

LINES = (CLIENT, SERVER, NEXT, PROCEED, END)
RECORDED_PREAMBLE = b"MX\n\n"  # from Linux
LISTENING = [path for path in conversations() if path.parent.name.startswith("listening-")]
UNTRUSTED = [path for path in LISTENING if path.parent.name.startswith("listening-untrusted-")]
DISCOVERIES = [path for path in LISTENING if turns(path)[0].data.startswith(b"HELLO")]
CALLS = [path for path in LISTENING if path not in UNTRUSTED and path not in DISCOVERIES]
PACES = ["record by record", "turn by turn", "joined"]


def test_every_listening_recording_is_here() -> None:
    assert (len(CALLS), len(DISCOVERIES), len(UNTRUSTED)) == (36, 9, 10)


# ---- pieces of a turn ---------------------------------------------------------------------------------------------------


def units(data: bytes) -> Iterator[bytes]:
    """What a message consists of (wire.md 2.7, 5.2): an envelope, and its frames in four pieces each."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflate.decompress(data)
    assert inflate.eof
    rest = inflate.unused_data
    yield data[: len(data) - len(rest)]
    while rest:
        end = 24 + int.from_bytes(rest[16:24], "little")
        yield from filter(None, (rest[:16], rest[16:24], rest[24:end], rest[end : end + 8]))
        rest = rest[end + 8 :]


def joined(records: tuple[bytes, ...]) -> list[bytes]:
    """The same bytes in as few records as hold them: what no peer does, and a relay must undo."""
    data = b"".join(records)
    return [data[start : start + 16384] for start in range(0, len(data), 16384)]


def expect_units(receiver: Peer, data: bytes) -> None:
    """All of it comes, and no record holds parts of two units."""
    for unit in units(data):
        assert b"".join(receiver.receive_exactly(len(unit))) == unit


def split(turn: Turn) -> tuple[list[bytes], tuple[bytes, ...]]:
    """The lines of a turn, and the message behind them. In a message, END stands for bytes of a stream (wire.md 1.10)."""
    count = next((index for index, record in enumerate(turn.records) if record not in (*LINES, RECORDED_PREAMBLE)), None)
    return list(turn.records[:count]), () if count is None else turn.records[count:]


# ---- a conversation -----------------------------------------------------------------------------------------------------


class Replay:
    """Plays both peers of a recording. expected: what the access log has to say: outcomes, and bytes each way."""

    def __init__(self, machine: Machine, path: Path, pace: str) -> None:
        scenario = json.loads((path.parent / "scenario.json").read_text("utf-8"))
        recorded = scenario["connections"][int(path.stem.removeprefix("conn-")) - 1]
        versions = {"TLSv1.2": TLS12, "TLSv1.3": TLS13}
        self.machine = machine
        self.pace = pace
        self.caller = machine.call(version=versions[recorded["tls"]])
        self.version = versions[recorded["tls_to_listener"]]
        self.tentacle: Peer | None = None
        self.in_call = False  # a request has begun, and no reply
        self.waiting = False  # the Tentacle has been asked to wait for a request
        self.over = False  # the caller has given the connection up
        self.expected: list[tuple[str, int, int]] = []

    def play(self, recorded: list[Turn]) -> None:
        for turn in recorded:
            lines, message = split(turn)
            for line in lines:
                self.line(line)
            if message:
                self.message(turn.side, message)
            if turn.closed:
                self.closed(turn.side, message)
        if self.tentacle and not self.in_call:
            self.expect_left(self.tentacle)

    def line(self, line: bytes) -> None:
        if line == RECORDED_PREAMBLE:
            self.caller.send(line)
        elif line == CLIENT:
            self.caller.send(line)
            self.tentacle = self.machine.accept(version=self.version)
            self.tentacle.expect(PREAMBLE, CLIENT)
        elif line == NEXT and self.tentacle:
            self.caller.send(line)
            self.tentacle.expect(line)
        elif line == NEXT:  # the Tentacle has gone: the recorded caller got no answer, ours gets it from another connection
            self.caller.send(line)
            self.tentacle = self.machine.accept(version=self.version)
            identify(self.tentacle)
            self.caller.expect(PROCEED)
            self.waiting = True
        elif line == END:
            self.caller.send(line)
            self.over = True
            if not self.in_call:
                self.caller.expect_fin()
        else:
            assert self.tentacle
            self.tentacle.send(line)
            self.caller.expect(line)
            self.waiting = True

    def message(self, side: Side, records: tuple[bytes, ...]) -> None:
        assert self.tentacle
        self.in_call = side is Side.DIALLER
        self.waiting = False
        sender, receiver = (self.caller, self.tentacle) if self.in_call else (self.tentacle, self.caller)
        if self.pace == "record by record":
            for record in records:
                sender.send(record)
                receiver.expect(record)
        elif self.pace == "turn by turn":
            sender.send(*records)
            receiver.expect(*records)
        else:
            sender.send(*joined(records))
            expect_units(receiver, b"".join(records))
        size = sum(map(len, records))
        if self.in_call:
            self.expected.append(("in call", size, 0))
        else:
            self.expected[-1] = ("replied", self.expected[-1][1], size)

    def closed(self, side: Side, message: tuple[bytes, ...]) -> None:
        if side is Side.DIALLER:
            self.caller.close()
            if self.in_call and self.tentacle:
                self.expected[-1] = ("cancelled", *self.expected[-1][1:])
                # within a request's streams an old Tentacle needs RST to notice; behind it, FIN is what Octopus sends (5.7)
                self.tentacle.expect_reset() if END in message else self.tentacle.expect_fin()
            self.over = True
        elif self.tentacle and not self.over:
            self.tentacle.close()
            self.tentacle = None
            if self.in_call:
                self.expected[-1] = ("tentacle-gone", *self.expected[-1][1:])
                self.caller.expect_fin()

    def expect_left(self, tentacle: Peer) -> None:
        """What the Tentacle hears behind the caller's end: nothing, unless it had been asked to wait for a request."""
        if not self.waiting:
            self.machine.next_caller(tentacle).close()
        tentacle.expect_fin()  # it was ready and got no request: it takes nothing else, so it is not kept (wire.md 10.9)
        self.expected.append(("caller-left", 0, 0))


# ---- the tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CALLS, ids=label)
def test_conversation(machine: Machine, path: Path) -> None:
    expected = []
    for pace in PACES:
        replay = Replay(machine, path, pace)
        replay.play(turns(path))
        expected += replay.expected
    logged = machine.calls(len(expected))
    for line, (end, sent, received) in zip(logged, expected, strict=True):
        assert line["outcome"] in (("ok", "error-reply") if end == "replied" else (end,))
        assert (line["request_bytes"], line["reply_bytes"]) == (sent, received)
    machine.expect_no_dial()


@pytest.mark.parametrize("path", DISCOVERIES, ids=label)
def test_discovery(machine: Machine, path: Path) -> None:
    """Octopus asks for a thumbprint: no certificate, HELLO, and a close at once (wire.md 2.6)."""
    asked, answered = turns(path)
    caller = machine.call(who="")
    caller.send(*asked.records)
    caller.half_close()  # as the recorder did: so it heard the page that Octopus does not wait for
    caller.expect(answered.data)
    caller.expect_fin()
    machine.expect_no_dial()


@pytest.mark.parametrize("path", UNTRUSTED, ids=label)
def test_untrusted(machine: Machine, path: Path) -> None:
    """An Octopus that the machine does not trust: closed without a byte, and not one dial (wire.md 1.7)."""
    before, closed, after = turns(path)
    assert closed == Turn(Side.LISTENER, (), closed=True)
    caller = machine.call(who="intruder")
    caller.send(*before.records)
    caller.expect_end()
    with contextlib.suppress(OSError):  # it writes on into a connection that the relay has closed
        caller.send(*after.records)
    [line] = machine.relay.log.wait(event="caller refused", machine=machine.name)
    assert line["reason"] == "untrusted"
    machine.expect_no_dial()
