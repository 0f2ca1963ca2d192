"""However much goes through, and however slowly it is taken, the relay holds little of it (design, rule 6)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from exchanges import MIB, Stream, asked, told
from halibut_bytes import deflated, request
from kernel_queues import queued
from scripted import Peer
from system import Machine, RelayProcess

MOST: Final = 20 * MIB
SIZE: Final = 200 * MIB
HELD: Final = MIB // 4  # of what was sent and neither has arrived nor is with the kernel


@pytest.fixture
def relay(machine: Machine) -> Iterator[RelayProcess]:
    """The machine's relay. Its memory must not grow by MOST while the test runs."""
    before = machine.relay.forget_peak()
    yield machine.relay
    grown = machine.relay.peak - before
    assert grown < MOST, f"{grown / MIB:.1f} MiB more than before"


def test_long_upload(machine: Machine, relay: RelayProcess) -> None:
    stream = Stream(SIZE)
    caller, tentacle = machine.ready()
    caller.send(stream.uploaded)
    tentacle.expect(stream.uploaded)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(stream.send, caller)
        stream.expect(tentacle)
        sending.result()
    tentacle.send(told("taken"))
    caller.expect(told("taken"))
    machine.expect_outcomes("ok")


def test_long_download(machine: Machine, relay: RelayProcess) -> None:
    stream = Stream(SIZE)
    caller, tentacle = machine.ready()
    caller.send(asked("file"))
    tentacle.expect(asked("file"))
    tentacle.send(stream.downloaded)
    caller.expect(stream.downloaded)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(stream.send, tentacle)
        stream.expect(caller)
        sending.result()
    machine.expect_outcomes("ok")


def test_tentacle_that_stops_reading_for_a_while(machine: Machine, relay: RelayProcess) -> None:
    stream = Stream(SIZE // 2)
    caller, tentacle = machine.ready()
    caller.send(stream.uploaded)
    tentacle.expect(stream.uploaded)
    stops_and_goes_on(stream, caller, tentacle)
    tentacle.send(told("taken"))
    caller.expect(told("taken"))
    machine.expect_outcomes("ok")


def test_caller_that_stops_reading_for_a_while(machine: Machine, relay: RelayProcess) -> None:
    stream = Stream(SIZE // 2)
    caller, tentacle = machine.ready()
    caller.send(asked("file"))
    tentacle.expect(asked("file"))
    tentacle.send(stream.downloaded)
    caller.expect(stream.downloaded)
    stops_and_goes_on(stream, tentacle, caller)
    machine.expect_outcomes("ok")


def stops_and_goes_on(stream: Stream, sender: Peer, receiver: Peer) -> None:
    """The receiver reads nothing until the sender has been blocked for a second, and then all of it."""
    sender.send(stream.id, stream.length)
    body = stream.records()
    sent = sender.send_until_blocked(body, still=5.0)
    held = sent - queued((sender.ends, receiver.ends))
    assert held < HELD, f"{held / MIB:.2f} of {sent / MIB:.1f} MiB"
    with ThreadPoolExecutor() as pool:
        receiving = pool.submit(stream.expect, receiver)
        sender.send_all(body)
        sender.send(stream.length)
        receiving.result()


def test_many_tentacles_that_stop_reading(machine: Machine, relay: RelayProcess) -> None:
    """Eight calls that are stuck hold little more than one does."""
    pairs = [machine.ready() for _ in range(8)]
    for number, (caller, tentacle) in enumerate(pairs, 1):
        stream = Stream(SIZE, number)
        caller.send(stream.uploaded, stream.id, stream.length)
        tentacle.expect(stream.uploaded)
        caller.send_until_blocked(stream.records(), still=0.1)
    for caller, tentacle in pairs:
        caller.reset()
        tentacle.expect_reset_ahead()
    machine.expect_outcomes(*["cancelled"] * 8)


def test_envelope_that_inflates_a_thousandfold(machine: Machine, relay: RelayProcess) -> None:
    """It passes, and is never whole in the relay, inflated or not."""
    envelope = deflated(request((b"\0" * (64 * MIB),)))
    caller, tentacle = machine.ready()
    caller.send(envelope)
    assert b"".join(tentacle.receive_exactly(len(envelope))) == envelope
    tentacle.send(told("taken"))
    caller.expect(told("taken"))
    machine.expect_outcomes("ok")


def test_envelope_beyond_the_cap(machine: Machine, relay: RelayProcess) -> None:
    """Its document says how long it is: nothing of it goes to the Tentacle."""
    caller, tentacle = machine.ready()
    caller.send(deflated((256 * MIB + 1).to_bytes(4, "little") + bytes(1000)))
    caller.expect_end()
    tentacle.expect_fin()
    machine.expect_outcomes("caller-broke")
