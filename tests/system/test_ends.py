"""Either side killed at each stage of a call: the other side sees it within a second, as wire.md 11.1 has it; nothing stays.

That nothing stays, no descriptor and no thread, is looked for behind every test (see the fixture ``machine``).
"""

from collections.abc import Callable
from typing import Final

import pytest
from exchanges import ID, Stream, asked, call, told
from halibut_bytes import deflated, request, response
from scripted import CLIENT, NEXT, PREAMBLE, PROCEED, Peer
from system import Machine, eventually, identify

STREAM = Stream(100_000)
# Two records or more, whatever deflate makes of it.
NOISE = b"".join(STREAM.records())[:40_000]


def connecting(machine: Machine) -> tuple[Peer, Peer]:
    caller = machine.call()
    caller.send(PREAMBLE, CLIENT)
    return caller, machine.accept()


def identifying(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = connecting(machine)
    tentacle.expect(PREAMBLE, CLIENT)
    return caller, tentacle


def ready(machine: Machine) -> tuple[Peer, Peer]:
    return machine.ready()


def in_request_envelope(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = machine.ready()
    part = deflated(request((NOISE,)))[:16384]
    caller.send(part)
    tentacle.expect(part)
    return caller, tentacle


def before_request_stream(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = machine.ready()
    caller.send(STREAM.uploaded)
    tentacle.expect(STREAM.uploaded)
    return caller, tentacle


def in_request_stream(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = before_request_stream(machine)
    parts = [STREAM.id, STREAM.length, next(STREAM.records())]
    caller.send(*parts)
    tentacle.expect(*parts)
    return caller, tentacle


def in_call(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = machine.ready()
    caller.send(asked("call"))
    tentacle.expect(asked("call"))
    return caller, tentacle


def in_reply_envelope(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = in_call(machine)
    part = deflated(response(NOISE, id=ID))[:16384]
    tentacle.send(part)
    caller.expect(part)
    return caller, tentacle


def before_reply_stream(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = in_call(machine)
    tentacle.send(STREAM.downloaded)
    caller.expect(STREAM.downloaded)
    return caller, tentacle


def in_reply_stream(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = before_reply_stream(machine)
    parts = [STREAM.id, STREAM.length, next(STREAM.records())]
    tentacle.send(*parts)
    caller.expect(*parts)
    return caller, tentacle


Stage = Callable[[Machine], tuple[Peer, Peer]]
FIN, RST, EITHER = Peer.expect_fin, Peer.expect_reset, Peer.expect_end
KILLS = [Peer.close, Peer.reset]

# What the Tentacle sees, and the outcome.
CALLER_DIES: Final[dict[Stage, tuple[Callable[[Peer], None], str]]] = {
    identifying: (FIN, "caller-left"),
    ready: (FIN, "caller-left"),
    in_request_envelope: (RST, "cancelled"),
    before_request_stream: (RST, "cancelled"),
    in_request_stream: (RST, "cancelled"),
    in_call: (FIN, "cancelled"),
    in_reply_envelope: (FIN, "cancelled"),
    before_reply_stream: (FIN, "cancelled"),
    in_reply_stream: (FIN, "cancelled"),
}
# What the caller sees. A Tentacle that dies while no request has begun is replaced, so that stage has a test of its own.
TENTACLE_DIES: Final[dict[Stage, tuple[Callable[[Peer], None], str]]] = {
    identifying: (FIN, "not-trusted"),
    in_request_envelope: (EITHER, "tentacle-gone"),
    before_request_stream: (EITHER, "tentacle-gone"),
    in_request_stream: (EITHER, "tentacle-gone"),
    in_call: (FIN, "tentacle-gone"),
    in_reply_envelope: (FIN, "tentacle-gone"),
    before_reply_stream: (RST, "tentacle-gone"),
    in_reply_stream: (RST, "tentacle-gone"),
}


def named(value: object) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize("kill", KILLS, ids=named)
@pytest.mark.parametrize("stage", CALLER_DIES, ids=named)
def test_caller_dies(machine: Machine, stage: Stage, kill: Callable[[Peer], None]) -> None:
    sees, outcome = CALLER_DIES[stage]
    caller, tentacle = stage(machine)
    kill(caller)
    sees(tentacle)
    machine.expect_outcomes(outcome)


@pytest.mark.parametrize("kill", KILLS, ids=named)
@pytest.mark.parametrize("stage", TENTACLE_DIES, ids=named)
def test_tentacle_dies(machine: Machine, stage: Stage, kill: Callable[[Peer], None]) -> None:
    sees, outcome = TENTACLE_DIES[stage]
    caller, tentacle = stage(machine)
    kill(tentacle)
    sees(caller)
    machine.expect_outcomes(outcome)
    machine.expect_no_dial()


@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_caller_dies_before_its_identity(machine: Machine, kill: Callable[[Peer], None]) -> None:
    caller = machine.call()
    caller.send(PREAMBLE)
    kill(caller)
    machine.relay.expect_rest()
    machine.expect_no_dial()


@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_tentacle_dies_before_the_request(machine: Machine, kill: Callable[[Peer], None]) -> None:
    """Nothing has been written to it: the caller's request goes to another connection, and the caller knows nothing of it."""
    caller, tentacle = machine.ready()
    kill(tentacle)
    another = machine.accept()
    caller.send(asked("call"))
    identify(another)
    another.expect(asked("call"))
    another.send(told("call"))
    caller.expect(told("call"))
    machine.expect_outcomes("ok")


@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_caller_dies_between_calls(machine: Machine, kill: Callable[[Peer], None]) -> None:
    """The Tentacle's connection is kept: the next caller gets it."""
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    kill(caller)
    call(machine.next_caller(tentacle), tentacle)
    machine.expect_no_dial()


@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_tentacle_dies_between_calls(machine: Machine, kill: Callable[[Peer], None]) -> None:
    """The caller's connection is kept: its next call gets a new one behind it."""
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    kill(tentacle)
    caller.send(NEXT)
    another = machine.accept()
    identify(another)
    caller.expect(PROCEED)
    call(caller, another)
    machine.expect_outcomes("ok", "ok")


# ---- ends that meet a side that has stopped reading ----------------------------------------------------------------------


@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_cancel_while_the_tentacle_has_stopped_reading(machine: Machine, kill: Callable[[Peer], None]) -> None:
    """Octopus cancels by closing. The relay reads nothing from it then, sees the close, and resets the Tentacle's side."""
    stream = Stream(1 << 30)
    caller, tentacle = machine.ready()
    caller.send(stream.uploaded, stream.id, stream.length)
    body = stream.records()
    while not stays_unread(machine, caller):
        caller.send(next(body), next(body))
    kill(caller)
    tentacle.expect_reset_ahead()
    machine.expect_outcomes("cancelled")


def stays_unread(machine: Machine, caller: Peer) -> bool:
    """The relay has stopped reading from the caller."""
    try:
        eventually(lambda: machine.relay.unread(machine.door, caller) == 0, lambda: "", within=0.3)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("kill", KILLS, ids=named)
def test_cancel_while_the_caller_has_stopped_reading(machine: Machine, kill: Callable[[Peer], None]) -> None:
    stream = Stream(1 << 30)
    caller, tentacle = in_call(machine)
    tentacle.send(stream.downloaded, stream.id, stream.length)
    tentacle.send_until_blocked(stream.records())
    kill(caller)
    tentacle.expect_end()
    machine.expect_outcomes("cancelled")


def test_cancel_behind_bytes_that_the_kernel_still_holds(machine: Machine) -> None:
    """A caller that is blocked and closes: its FIN waits behind what it had sent, for TCP has no other way.

    As with a Tentacle that is called directly, the close shows when the Tentacle reads on; by RST, for it is within a stream.
    """
    stream = Stream(1 << 30)
    caller, tentacle = machine.ready()
    caller.send(stream.uploaded, stream.id, stream.length)
    sent = caller.send_until_blocked(stream.records())
    caller.close()
    tentacle.expect(stream.uploaded, stream.id, stream.length)
    assert sum(map(len, tentacle.receive_until_reset())) < sent
    machine.expect_outcomes("cancelled")


@pytest.mark.parametrize("size", [1_000_000, 4_000_000])
def test_reply_that_a_slow_caller_has_not_read_arrives_whole(machine: Machine, size: int) -> None:
    """The Tentacle has replied and closed before the caller reads a byte. The caller's connection stays (wire.md 10.8)."""
    stream = Stream(size)
    caller, tentacle = in_call(machine)
    tentacle.send(stream.downloaded)
    stream.send(tentacle)
    tentacle.close()
    caller.expect(stream.downloaded)
    stream.expect(caller)
    machine.expect_outcomes("ok")
    caller.send(NEXT)
    another = machine.accept()
    identify(another)
    caller.expect(PROCEED)


def test_part_of_a_reply_that_a_slow_caller_has_not_read(machine: Machine) -> None:
    """RST, not FIN: it is within a stream, and an old Octopus would wait for the rest for ever (wire.md 5.7)."""
    stream = Stream(2_000_000)
    caller, tentacle = in_call(machine)
    tentacle.send(stream.downloaded, stream.id, stream.length)
    records = list(stream.records())[:100]
    tentacle.send(*records)
    tentacle.close()
    sent = [stream.downloaded, stream.id, stream.length, *records]
    received = list(caller.receive_until_reset())
    assert received == sent[: len(received)]
    machine.expect_outcomes("tentacle-gone")
