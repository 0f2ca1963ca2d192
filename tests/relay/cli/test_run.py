import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from scripted import CLIENT, PREAMBLE, SOON, Peer
from system import Site, eventually, free_ports, site

from relay.cli.main import main
from relay.owners import user_name

CALL = [PREAMBLE, CLIENT]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """A relay of the test's own that makes its identities, with one machine."""
    with site(tmp_path, provisioned=False) as made:
        yield made


def waiting(made: Site) -> tuple[Peer, Peer]:
    """A caller that was answered, and its Tentacle: a drain waits for them."""
    machine = made.machines[0]
    caller = machine.keep(Peer.dial(machine.address))
    caller.send(*CALL)
    tentacle = machine.keep(Peer.accept(machine.listener))
    tentacle.expect(*CALL)
    tentacle.send(b"MX-SERVER 1.0\r\n\r\n")
    caller.expect(b"MX-SERVER 1.0\r\n\r\n")
    return caller, tentacle


def configuration(folder: Path, port: int, **relay: str) -> Path:
    path = folder / "relay.yaml"
    machine = {"name": "web01", "tentacle": "https://127.0.0.1:1", "thumbprint": "C" * 40, "port": f"127.0.0.1:{port}"}
    content: dict[str, Any] = {
        "relay": {"name": "test", "state": "state", **relay},
        "admin": {"listen": "none"},
        "octopus": [{"name": "production", "thumbprint": "A" * 40}],
        "machines": [machine],
    }
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def fails(path: Path) -> str:
    """``run`` ends by itself: exit code 2, no word on standard output; what it says on standard error, the log left out."""
    done = subprocess.run(
        [sys.executable, "-m", "relay", "run", "--config", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    return "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("{"))


# ---- running ------------------------------------------------------------------------------------------------------------


def test_it_makes_missing_identities_and_says_so(own: Site, tmp_path: Path) -> None:
    lines = own.relay.log.wait(2, event="made a new identity")
    files = [tmp_path / "state" / "machines" / "web00.pem", tmp_path / "state" / "octopus" / "production.pem"]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    [door] = own.relay.log.wait(event="door open")
    assert door["thumbprint_for_octopus"] == lines[0]["thumbprint"]
    assert all(line["relay"] == "test" for line in own.relay.log.found)


def test_each_identity_is_told_when_it_is_made(tmp_path: Path) -> None:
    """Those of thousands of machines take minutes: a start that says nothing for so long looks like one that hangs."""
    path = configuration(tmp_path, 1)
    content = yaml.safe_load(path.read_text())
    content["front"] = {"listen": "127.0.0.1:1"}
    content["machines"] = [
        {"name": f"web{n:02}", "tentacle": f"https://web{n:02}", "thumbprint": f"{n:040}", "host": f"web{n:02}.corp"}
        for n in range(1, 41)
    ]
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "relay", "run", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as starting:
        assert starting.stderr is not None
        told = next(line for line in map(json.loads, starting.stderr) if line["event"] == "made a new identity")
        made = len(list((tmp_path / "state" / "machines").iterdir()))
        starting.kill()
    assert told["name"] == "web01"
    assert made < len(content["machines"])


def test_the_second_start_makes_nothing(tmp_path: Path) -> None:
    for made in (2, 0):
        with site(tmp_path, provisioned=False) as again:
            assert sum(line["event"] == "made a new identity" for line in again.relay.log.found) == made


def test_the_access_log_is_on_standard_output(own: Site) -> None:
    caller, _ = waiting(own)
    caller.close()
    assert own.relay.access
    [line] = own.relay.access.wait(machine="web00")
    assert line["outcome"] == "caller-left"


def test_or_in_a_file(tmp_path: Path) -> None:
    with site(tmp_path, provisioned=False, relay={"access_log": "access.log"}) as made:
        caller, _ = waiting(made)
        caller.close()
    [line] = (tmp_path / "access.log").read_text().splitlines()
    assert json.loads(line)["outcome"] == "caller-left"
    assert made.relay.access
    assert made.relay.access.found == []


def test_the_log_s_level_is_as_configured(tmp_path: Path) -> None:
    """The relay says that it runs at the level info; so this looks at one that cannot start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = configuration(tmp_path, taken.getsockname()[1], log_level="error")
        done = subprocess.run(
            [sys.executable, "-m", "relay", "run", "-c", str(path)], capture_output=True, text=True, timeout=60
        )
    assert [line for line in done.stderr.splitlines() if line.startswith("{")] == []


# ---- its end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(own: Site, number: signal.Signals) -> None:
    own.relay.process.send_signal(number)
    own.relay.expect_stopped()
    assert [line["event"] for line in own.relay.log.found][-2:] == ["draining", "stopped"]


def test_a_signal_lets_calls_end(own: Site) -> None:
    caller, tentacle = waiting(own)
    own.relay.signal()
    own.relay.log.wait(event="draining")
    caller.close()
    tentacle.expect_end()
    own.relay.expect_stopped()
    assert own.relay.access
    assert [line["outcome"] for line in own.relay.access.found] == ["caller-left"]


def test_the_drain_ends_when_its_time_is_over(tmp_path: Path) -> None:
    with site(tmp_path, provisioned=False, relay={"timeouts": {"drain": "200ms"}}) as made:
        caller, tentacle = waiting(made)
        made.relay.signal()
        caller.expect_end(20)
        tentacle.expect_end(20)
        made.relay.expect_stopped()
        assert made.relay.access
        assert [line["outcome"] for line in made.relay.access.found] == ["stopped"]


def test_a_second_signal_stops_it_at_once(own: Site) -> None:
    caller, tentacle = waiting(own)
    own.relay.signal()
    own.relay.log.wait(event="draining")
    own.relay.signal()
    caller.expect_end(SOON)
    tentacle.expect_end(SOON)
    own.relay.expect_stopped(5)
    assert [line["event"] for line in own.relay.log.found].count("stopped") == 1
    assert own.relay.access
    assert [line["outcome"] for line in own.relay.access.found] == ["stopped"]


def test_a_hang_up_reads_the_configuration_again(own: Site, tmp_path: Path) -> None:
    caller, _ = waiting(own)
    path = tmp_path / "relay.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(json.dumps({**content, "relay": {**content["relay"], "log_level": "shout"}}))
    own.relay.process.send_signal(signal.SIGHUP)
    [failed] = own.relay.log.wait(event="reload failed: the old configuration runs on")
    assert (failed["config"], failed["mistakes"]) == (str(path), 1)
    [mistake] = own.relay.log.wait(event="a mistake in the configuration")
    assert mistake["mistake"].startswith(f"{path}:")
    added = {**content["machines"][0], "name": "added", "port": f"127.0.0.1:{free_ports(1)[0]}"}
    added["tentacle"] = "https://127.0.0.1:1"
    path.write_text(json.dumps({**content, "machines": [*content["machines"], added]}))
    own.relay.process.send_signal(signal.SIGHUP)
    [reloaded] = own.relay.log.wait(event="reloaded")
    assert (reloaded["added"], reloaded["changed"], reloaded["removed"], reloaded["unchanged"]) == (["added"], [], [], 1)
    own.relay.log.wait(event="made a new identity", name="added")
    own.relay.log.wait(event="door open", machine="added")
    own.close()
    caller.close()
    own.relay.signal()
    own.relay.expect_stopped(errors=frozenset({failed["event"], mistake["event"]}))


def test_a_log_that_nobody_reads_does_not_stop_calls(tmp_path: Path) -> None:
    """Nor does one whose reader has gone."""
    read, write = os.pipe()
    with site(tmp_path, provisioned=False, stdout=write) as made:
        os.close(write)
        caller, tentacle = waiting(made)
        os.close(read)
        caller.close()
        tentacle.expect_end()
        waiting(made)
        made.relay.log.wait(event="the access log cannot be written", error="Broken pipe")
        made.machines[0].close()
        made.relay.signal()
        made.relay.expect_stopped(errors=frozenset({"the access log cannot be written"}))


# ---- what it lives on ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("connections", "passed", "needed"), [(44, 0, 200), (45, 0, 202), (44, 1, 240)])
def test_too_few_descriptors_are_told(tmp_path: Path, connections: int, passed: int, needed: int) -> None:
    """passed: machines that are passed through, each with 10 connections. The doors of machines have 12 together."""
    limits = {"limits": {"connections": connections}}
    with site(tmp_path, provisioned=False, relay=limits, passed=passed, descriptors=200) as made:
        lines = [line for line in made.relay.log.found if line["event"].startswith("too few file descriptors")]
    assert len(lines) == (needed > 200)
    for line in lines:
        assert (line["level"], line["descriptors"], line["needed"]) == ("warning", 200, needed)
        assert f"LimitNOFILE={needed}" in line["remedy"]
        assert f"ulimit -n {needed}" in line["remedy"]
        assert "relay.limits.connections" in line["remedy"]


def test_closed_standard_descriptors_are_not_taken_by_others(tmp_path: Path) -> None:
    """A socket or the reactor's own would be written to as a log."""
    [port] = free_ports(1)
    path = configuration(tmp_path, port, access_log="access.log")
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "relay", "run", "-c", str(path)]
    with subprocess.Popen(command) as process:
        try:
            eventually(lambda: accepts(port), lambda: "it does not listen")
            files = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        finally:
            process.terminate()
    assert files == ["/dev/null"] * 3
    assert process.returncode == 0


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


# ---- what it cannot start with ------------------------------------------------------------------------------------------


def test_a_wrong_configuration(tmp_path: Path) -> None:
    path = configuration(tmp_path, 99999)
    said = fails(path)
    assert f"{path}:" in said
    assert said.endswith(f"relay-tentacle: 1 mistake in {path}; nothing was done\n")
    assert not (tmp_path / "state").exists()


def test_a_port_that_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert fails(configuration(tmp_path, port)) == (
            f"relay-tentacle: machine web01: cannot listen on 127.0.0.1:{port}: Address already in use. "
            "Free the port, or write another one in `port`.\n"
        )


def test_a_missing_parent_of_the_state_folder(tmp_path: Path) -> None:
    [port] = free_ports(1)
    state = tmp_path / "no" / "state"
    said = fails(configuration(tmp_path, port, state=str(state)))
    assert said.endswith(f"{state}: cannot make this folder: {state.parent} is not there. Run: mkdir -p {state.parent}\n")


def test_an_access_log_that_cannot_be_written(tmp_path: Path) -> None:
    [port] = free_ports(1)
    path = tmp_path / "no folder" / "access.log"
    assert fails(configuration(tmp_path, port, access_log=str(path))) == (
        f"relay-tentacle: cannot write the access log {path}: No such file or directory. "
        "Name another file in relay.access_log.\n"
    )


def test_a_state_folder_of_another_user_gets_nothing_put_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = configuration(tmp_path, *free_ports(1), access_log=str(tmp_path / "access.jsonl"))
    (tmp_path / "state").mkdir(0o700)
    owner = user_name(os.geteuid())
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    done = CliRunner().invoke(main, ["run", "--config", str(path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"relay-tentacle: {tmp_path / 'state'}: belongs to {owner}, who could not read what #4000000000 puts there. "
        f"Run the same command as {owner}: sudo -u {owner} relay-tentacle run --config {path}\n"
    )
    assert list((tmp_path / "state").iterdir()) == []
    assert not (tmp_path / "access.jsonl").exists()


def test_a_state_folder_that_others_may_write_to(tmp_path: Path) -> None:
    [port] = free_ports(1)
    path = configuration(tmp_path, port)
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    assert str(tmp_path / "state") in fails(path)
