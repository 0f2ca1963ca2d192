"""Calls that go well."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from exchanges import MIB, Stream, asked, call, told
from scripted import CLIENT, END, PREAMBLE, SERVER, TLS12, TLS13
from system import OCTOPUS_FACE, OTHER_OCTOPUS_FACE, Machine, Site, identify, octopus_entry, site

OPTIONS = {
    "octopus": [
        octopus_entry("production", "octopus", "node B", face=OCTOPUS_FACE),
        octopus_entry("staging", "staging", face=OTHER_OCTOPUS_FACE),
    ]
}


def test_log_line(machine: Machine) -> None:
    caller, tentacle = machine.ready()
    caller.send(asked("x"))
    tentacle.expect(asked("x"))
    tentacle.send(told("x"))
    caller.expect(told("x"))
    [line] = machine.calls()
    assert line["relay"] == "test"
    assert line["octopus"] == "production"
    assert line["peer"].endswith(f":{caller.port}")
    assert (line["service"], line["method"]) == ("IScriptService", "StartScript")
    assert line["activity"] == "00000000-0001-4000-8000-000000000001"
    assert (line["outcome"], line["detail"], line["reused"]) == ("ok", "", False)
    assert (line["request_bytes"], line["reply_bytes"]) == (len(asked("x")), len(told("x")))
    assert all(line[field] >= 0 for field in ("queue_ms", "dial_ms", "first_byte_ms"))
    assert line["total_ms"] >= line["dial_ms"] + line["first_byte_ms"]


def test_many_calls_on_one_connection(machine: Machine) -> None:
    caller, tentacle = machine.ready()
    call(caller, tentacle, "0")
    for number in range(1, 30):
        machine.turn(caller, tentacle)
        call(caller, tentacle, str(number))
    caller.send(END)
    caller.expect_fin()
    assert [line["reused"] for line in machine.calls(30)] == [False] + [True] * 29
    machine.expect_no_dial()


def test_next_caller_takes_the_pooled_connection(machine: Machine) -> None:
    first, tentacle = machine.ready()
    call(first, tentacle)
    first.close()
    call(machine.next_caller(tentacle), tentacle)
    machine.expect_no_dial()


def test_callers_and_machines_at_once(shared: Site) -> None:
    """Twelve calls under way at the same time; each answer finds its caller, whatever the order."""
    machines = [shared.unused() for _ in range(3)]
    pairs = [machine.ready() for machine in machines for _ in range(4)]
    for number, (caller, _) in enumerate(pairs):
        caller.send(asked(f"call {number}"))
    for number, (_, tentacle) in enumerate(pairs):
        tentacle.expect(asked(f"call {number}"))
    for number, (caller, tentacle) in reversed(list(enumerate(pairs))):
        tentacle.send(told(f"answer {number}"))
        caller.expect(told(f"answer {number}"))
    for machine in machines:
        machine.expect_outcomes(*["ok"] * 4)
        machine.close()
    shared.relay.expect_rest()


# ---- several Octopus servers --------------------------------------------------------------------------------------------


def test_two_nodes_at_once(machine: Machine) -> None:
    """Two nodes of one Octopus, each with its thumbprint: calls side by side, and one pool for both."""
    a, for_a = machine.ready("octopus")
    b, for_b = machine.ready("node B")
    a.send(asked("from a"))
    b.send(asked("from b"))
    for_b.expect(asked("from b"))
    for_a.expect(asked("from a"))
    for_a.send(told("to a"))
    for_b.send(told("to b"))
    b.expect(told("to b"))
    a.expect(told("to a"))
    machine.turn(a, for_b)  # the one that was used last
    call(a, for_b)
    assert {line["octopus"] for line in machine.calls(3)} == {"production"}
    machine.expect_no_dial()


def test_two_octopus_entries_at_once(machine: Machine) -> None:
    """The Tentacle sees another certificate for each, so neither gets a connection of the other's."""
    production, for_production = machine.ready("octopus")
    call(production, for_production)
    staging, for_staging = machine.ready("staging", face=OTHER_OCTOPUS_FACE)
    call(staging, for_staging)
    machine.turn(production, for_production)
    machine.turn(staging, for_staging)
    call(staging, for_staging, "s")
    call(production, for_production, "p")
    assert [line["octopus"] for line in machine.calls(4)] == ["production", "staging", "staging", "production"]


# ---- streams ------------------------------------------------------------------------------------------------------------


def test_upload(machine: Machine) -> None:
    stream = Stream(8 * MIB + 1)
    caller, tentacle = machine.ready()
    with ThreadPoolExecutor() as pool:
        caller.send(stream.uploaded)
        sending = pool.submit(stream.send, caller)
        tentacle.expect(stream.uploaded)
        stream.expect(tentacle)
        sending.result()
    tentacle.send(told("taken"))
    caller.expect(told("taken"))
    [line] = machine.calls()
    assert line["request_bytes"] == len(stream.uploaded) + stream.size + 32
    assert (line["outcome"], line["request_streams"], line["reply_streams"]) == ("ok", 1, 0)


def test_download(machine: Machine) -> None:
    stream = Stream(8 * MIB + 1)
    caller, tentacle = machine.ready()
    caller.send(asked("file"))
    tentacle.expect(asked("file"))
    with ThreadPoolExecutor() as pool:
        tentacle.send(stream.downloaded)
        sending = pool.submit(stream.send, tentacle)
        caller.expect(stream.downloaded)
        stream.expect(caller)
        sending.result()
    [line] = machine.calls()
    assert line["reply_bytes"] == len(stream.downloaded) + stream.size + 32
    assert (line["outcome"], line["request_streams"], line["reply_streams"]) == ("ok", 0, 1)


def test_uploads_and_downloads_at_once(machine: Machine) -> None:
    """Four transfers side by side, two each way, none with the bytes of another."""
    streams = [Stream(2 * MIB + number, number) for number in range(1, 5)]
    pairs = [machine.ready() for _ in streams]
    with ThreadPoolExecutor(8) as pool:
        running = []
        for stream, (caller, tentacle) in zip(streams[:2], pairs[:2], strict=True):
            caller.send(stream.uploaded)
            tentacle.expect(stream.uploaded)
            running += [pool.submit(stream.send, caller), pool.submit(stream.expect, tentacle)]
        for stream, (caller, tentacle) in zip(streams[2:], pairs[2:], strict=True):
            caller.send(asked("file"))
            tentacle.expect(asked("file"))
            tentacle.send(stream.downloaded)
            caller.expect(stream.downloaded)
            running += [pool.submit(stream.send, tentacle), pool.submit(stream.expect, caller)]
        for each in running:
            each.result()
    for caller, tentacle in pairs[:2]:
        tentacle.send(told("taken"))
        caller.expect(told("taken"))
    machine.expect_outcomes(*["ok"] * 4)


# ---- TLS, identities, names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [TLS12, TLS13], ids=["back 1.2", "back 1.3"])
@pytest.mark.parametrize("front", [TLS12, TLS13], ids=["front 1.2", "front 1.3"])
def test_tls_versions(machine: Machine, front: int, back: int) -> None:
    stream = Stream(100_000)
    caller = machine.call(version=front)
    caller.send(PREAMBLE, CLIENT)
    tentacle = machine.accept(version=back)
    identify(tentacle)
    caller.expect(SERVER)
    caller.send(stream.uploaded)
    stream.send(caller)
    tentacle.expect(stream.uploaded)
    stream.expect(tentacle)
    tentacle.send(told("taken"))
    caller.expect(told("taken"))
    names = {TLS12: "TLSv1.2", TLS13: "TLSv1.3"}
    assert (caller.version, tentacle.version) == (names[front], names[back])


def test_newest_tls_where_both_have_it(machine: Machine) -> None:
    caller, tentacle = machine.ready()
    assert (caller.version, tentacle.version) == ("TLSv1.3", "TLSv1.3")


def test_identities_of_its_own(tmp_path: Path) -> None:
    """A relay without provisioned identities makes them, says so, and shows the same ones after a restart."""
    shown = []
    for run in range(2):
        with site(tmp_path, provisioned=False) as made:
            [machine] = made.machines
            caller = machine.call(face="")
            caller.send(PREAMBLE, CLIENT)
            shown.append((caller.certificate, machine.accept(face="").certificate))
            names = [line["name"] for line in made.relay.log.found if line["event"] == "made a new identity"]
            assert names == ([] if run else [machine.name, "production"])
    assert shown[0] == shown[1]


def test_tentacle_with_a_name(tmp_path: Path) -> None:
    """The name is looked up, and asked for in TLS; each of its addresses is tried, and nobody listens on ::1."""
    with site(tmp_path, host="localhost") as made:
        [machine] = made.machines
        caller, tentacle = machine.ready()
        assert tentacle.server_name == b"localhost"
        call(caller, tentacle)
        made.relay.at_rest = (made.relay.at_rest[0], made.relay.held()[1])  # threads that look names up are kept


def test_tentacle_with_an_address_is_asked_for_no_name(machine: Machine) -> None:
    _, tentacle = machine.ready()
    assert tentacle.server_name is None
