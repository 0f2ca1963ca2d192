"""The relay's end: calls under way end first, for as long as ``drain`` says. And logs that nobody reads, which stop nothing."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from exchanges import Stream, asked, call, told
from scripted import CLIENT, END, PREAMBLE, Peer
from system import Machine, Site, site

LONG = Stream(1 << 20)


def in_call(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = machine.ready()
    caller.send(asked("call"))
    tentacle.expect(asked("call"))
    return caller, tentacle


def in_request_stream(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = machine.ready()
    caller.send(LONG.uploaded, LONG.id, LONG.length)
    tentacle.expect(LONG.uploaded, LONG.id, LONG.length)
    return caller, tentacle


def in_reply_stream(machine: Machine) -> tuple[Peer, Peer]:
    caller, tentacle = in_call(machine)
    tentacle.send(LONG.downloaded, LONG.id, LONG.length)
    caller.expect(LONG.downloaded, LONG.id, LONG.length)
    return caller, tentacle


# What caller and Tentacle see of a relay that stops in the middle: as wire.md 5.7 has it for whoever receives a stream.
Stage = Callable[[Machine], tuple[Peer, Peer]]
CUTS: dict[Stage, tuple[Callable[[Peer], None], Callable[[Peer], None]]] = {
    in_call: (Peer.expect_fin, Peer.expect_fin),
    in_request_stream: (Peer.expect_fin, Peer.expect_reset),
    in_reply_stream: (Peer.expect_reset, Peer.expect_fin),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_drain(tmp_path: Path, number: int) -> None:
    """Idle ones go at once, nobody comes in, whoever waits for a Tentacle is sent away; calls end as they would have."""
    with site(tmp_path, defaults={"limits": {"connections": 3}}) as made:
        [machine] = made.machines
        idle, pooled = machine.ready()
        call(idle, pooled)
        silent = machine.call()
        calling, busy = machine.next_caller(pooled), pooled
        calling.send(asked("call"))
        busy.expect(asked("call"))
        uploading, receiving = in_request_stream(machine)
        late, for_late = machine.ready()  # it has MX-SERVER, so its request counts as begun (wire.md 11.1)
        waiting = machine.call()
        waiting.send(PREAMBLE, CLIENT)
        machine.expect_heard(waiting)

        made.relay.signal(number)
        for each in (idle, silent, waiting):
            each.expect_fin()
        with pytest.raises(ConnectionRefusedError):
            machine.call()
        busy.send(told("call"))
        calling.expect(told("call"))
        calling.expect_fin()
        uploading.send_all(LONG.records())
        uploading.send(LONG.length)
        assert b"".join(receiving.receive_exactly(LONG.size)) == b"".join(LONG.records())
        receiving.expect(LONG.length)
        receiving.send(told("taken"))
        uploading.expect(told("taken"))
        uploading.expect_fin()
        call(late, for_late)
        late.expect_fin()
        for each in (idle, silent, waiting, calling, uploading, late):
            each.close()
        for each in (busy, receiving, for_late):
            each.expect(END)
            each.expect_fin()
        made.relay.expect_stopped()
        words = [line["outcome"] for line in machine.calls(5)]
        assert sorted(words) == ["ok", "ok", "ok", "ok", "stopped"]
        events = [line["event"] for line in made.relay.log.found]
        assert "draining" in events
        assert events[-1] == "stopped"


def test_idle_connections_to_tentacles_are_given_up(tmp_path: Path) -> None:
    with site(tmp_path) as made:
        [machine] = made.machines
        caller, tentacle = machine.ready()
        call(caller, tentacle)
        made.relay.signal()
        tentacle.expect(END)
        tentacle.expect_fin()
        caller.expect_fin()
        machine.close()
        made.relay.expect_stopped()


def test_drain_takes_too_long(tmp_path: Path) -> None:
    with site(tmp_path, relay={"timeouts": {"drain": "500ms"}}) as made:
        [machine] = made.machines
        pairs = {stage: stage(machine) for stage in CUTS}
        begun = time.monotonic()
        made.relay.signal()
        for stage, (caller, tentacle) in pairs.items():
            caller_sees, tentacle_sees = CUTS[stage]
            caller_sees(caller)
            tentacle_sees(tentacle)
        assert 0.45 < time.monotonic() - begun < 1.5
        made.relay.expect_stopped(within=2)
        machine.expect_outcomes(*["stopped"] * 3)


def test_second_signal(tmp_path: Path) -> None:
    """The last connection is closed at once, by RST, and with it the drain is over as well: the relay stops once."""
    with site(tmp_path) as made:
        [machine] = made.machines
        caller, tentacle = in_reply_stream(machine)
        made.relay.signal()
        made.relay.log.wait(event="draining")
        made.relay.signal()
        caller.expect_reset()
        tentacle.expect_fin()
        made.relay.expect_stopped(within=2)
        machine.expect_outcomes("stopped")


def test_second_signal_while_a_caller_is_slow(tmp_path: Path) -> None:
    """What it has not taken of a stream is lost, and RST stands there, never FIN: old receivers would spin on it."""
    with site(tmp_path) as made:
        [machine] = made.machines
        stream = Stream(40 << 20)
        caller, tentacle = in_call(machine)
        tentacle.send(stream.downloaded, stream.id, stream.length)
        tentacle.send_until_blocked(stream.records(), still=0.2)
        made.relay.signal()
        made.relay.log.wait(event="draining")
        made.relay.signal()
        made.relay.expect_stopped(within=2)
        for _ in caller.receive_until_reset():
            pass
        machine.expect_outcomes("stopped")
        tentacle.reset()


def test_second_signal_with_many_connections(tmp_path: Path) -> None:
    """Some in the middle of calls, one dialling, one queued, one without a word: all of them go."""
    with site(tmp_path, defaults={"limits": {"connections": 4}}) as made:
        [machine] = made.machines
        pairs = [stage(machine) for stage in CUTS]
        dialling, queued = machine.call(), machine.call()
        for caller in (dialling, queued):
            caller.send(PREAMBLE, CLIENT)
            machine.expect_heard(caller)
        silent = machine.call()
        made.relay.signal()
        made.relay.log.wait(event="draining")
        made.relay.signal()
        for peer in (*(peer for pair in pairs for peer in pair), dialling, queued, silent):
            peer.expect_end()
        made.relay.expect_stopped(within=2)
        assert [line["outcome"] for line in machine.calls(5)] == ["stopped"] * 5


def test_nothing_to_drain(tmp_path: Path) -> None:
    with site(tmp_path) as made:
        made.relay.signal()
        made.relay.expect_stopped(within=1)


# ---- logs that nobody reads -----------------------------------------------------------------------------------------------


def make_calls(machine: Machine, count: int) -> None:
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    for _ in range(count - 1):
        machine.turn(caller, tentacle)
        call(caller, tentacle)


UNWRITTEN = "the access log cannot be written"


def expect_lost(made: Site, count: int, error: str) -> None:
    """The relay ends, and the log on standard error has said so many lines of the access log were lost, and why."""
    for machine in made.machines:
        machine.close()
    made.relay.signal()
    made.relay.expect_stopped(within=3, errors=frozenset({UNWRITTEN}))
    lines = [line for line in made.relay.log.found if line["event"] == UNWRITTEN]
    assert {line["error"] for line in lines} == {error}
    assert lines[-1]["lost"] == count


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes nothing more; its two ends."""
    read, write = os.pipe()
    try:
        size = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
        assert os.write(write, b"\n" * size) == size
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def test_access_log_that_nobody_reads(tmp_path: Path) -> None:
    """Standard output is a pipe, and full: calls go on, and so does the end."""
    with full_pipe() as (_, write), site(tmp_path, stdout=write) as made:
        [machine] = made.machines
        make_calls(machine, 20)
        expect_lost(made, 20, "its reader does not read, or too slowly")


def test_access_log_that_is_read_late(tmp_path: Path) -> None:
    """What was kept meanwhile comes then, line by line."""
    with full_pipe() as (read, write), site(tmp_path, stdout=write) as made:
        [machine] = made.machines
        make_calls(machine, 20)
        with os.fdopen(os.dup(read), "rb") as pipe:
            lines = (line for line in pipe if line != b"\n")
            found = [json.loads(next(lines)) for _ in range(20)]
        assert [line["outcome"] for line in found] == ["ok"] * 20


def test_access_log_without_a_reader(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        with site(tmp_path, stdout=write) as made:
            make_calls(made.machines[0], 20)
            expect_lost(made, 20, "Broken pipe")
    finally:
        os.close(write)


@pytest.mark.parametrize("where", ["relay.access_log", "standard output"])
def test_access_log_on_a_full_disk(tmp_path: Path, where: str) -> None:
    with open("/dev/full", "wb") as full:
        named = where == "relay.access_log"
        options = {"relay": {"access_log": "/dev/full"}} if named else {"stdout": full.fileno()}
        with site(tmp_path, **options) as made:
            make_calls(made.machines[0], 20)
            expect_lost(made, 20, "No space left on device")


def test_access_log_that_is_written_again(tmp_path: Path) -> None:
    """A named pipe whose reader goes and comes back."""
    path = tmp_path / "access"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with site(tmp_path, relay={"access_log": "access"}) as made:
        os.close(reader)
        caller, tentacle = made.machines[0].ready()
        call(caller, tentacle)
        [line] = made.relay.log.wait(event=UNWRITTEN)
        assert (line["error"], line["lost"]) == ("Broken pipe", 1)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        made.machines[0].turn(caller, tentacle)
        call(caller, tentacle)
        made.relay.log.wait(event="the access log is written again", lost=1)
        made.machines[0].close()
        made.relay.signal()
        made.relay.expect_stopped(errors=frozenset({UNWRITTEN}))
    os.close(reader)


def test_access_log_in_a_file(tmp_path: Path) -> None:
    """All lines are in it when the relay has ended, the last call's among them."""
    with site(tmp_path, relay={"access_log": "access.jsonl"}) as made:
        [machine] = made.machines
        make_calls(machine, 20)
        machine.close()
        made.relay.signal()
        made.relay.expect_stopped()
    lines = [json.loads(line) for line in (tmp_path / "access.jsonl").read_text("ascii").splitlines()]
    assert [line["outcome"] for line in lines] == ["ok"] * 20
