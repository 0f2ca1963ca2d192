"""What operators do with a running relay: each command in a process of its own, and the pages for monitoring."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from halibut_bytes import REQUEST, deflated, request, response
from operated import Operated
from scripted import CLIENT, PATIENCE, PREAMBLE, Peer
from system import free_ports, site

REPLY = deflated(response(id=request()["Message"]["id"]))


def call(caller: Peer, tentacle: Peer) -> None:
    """A request and its reply."""
    caller.send(REQUEST)
    tentacle.expect(REQUEST)
    tentacle.send(REPLY)
    caller.expect(REPLY)


# ---- status -------------------------------------------------------------------------------------------------------------


def test_status_of_all(operated: Operated) -> None:
    caller, tentacle = operated.first.ready()
    found = operated.json("status")
    assert (found["relay"]["pid"], found["relay"]["config"]) == (operated.relay.process.pid, str(operated.config))
    assert [machine["name"] for machine in found["machines"]] == ["web00", "web01"]
    assert found["totals"] == {
        "machines": 2, "drained": 0, "failing": 0, "away": 0, "connections": 1, "exchanges_in_flight": 1, "waiting": 0,
        "back_connections": 1, "pollers": 0, "polls": 0,
    }  # fmt: skip
    assert [door["kind"] for door in found["doors"]] == ["admin", "port", "port"]
    call(caller, tentacle)
    said, _ = operated.run("status")
    assert f"relay test, version {found['relay']['version']}, pid {operated.relay.process.pid}: serving" in said
    assert "machines: 2, drained: 0, last call failed: 0" in said
    assert "not reloaded since its start" in said


def test_status_of_a_machine_tells_why_its_last_call_failed(operated: Operated) -> None:
    machine = operated.first
    assert operated.machine(machine)["last_failure"] is None
    machine.down()
    caller = machine.call()
    caller.send(PREAMBLE, CLIENT)
    caller.expect_end()
    machine.expect_outcomes("refused")
    found = operated.machine(machine, code=1)
    assert (found["last_failure"]["word"], found["last_call_failed"]) == ("refused", True)
    assert found["exchanges"] == {"refused": 1}
    said, _ = operated.run("status", machine.name, code=1)
    assert "nothing listens on that port" in said
    assert "Start the Tentacle service there" in said
    assert operated.json("status")["totals"]["failing"] == 1  # and the exit code is 0: the relay is fine
    assert operated.machine(operated.second)["last_call_failed"] is False


def test_a_machine_that_there_is_not(operated: Operated) -> None:
    for command in (["status", "web0"], ["drain", "web0"], ["resume", "web0"], ["close", "--machine", "web0"]):
        _, errors = operated.run(*command, code=1)
        assert "web00" in errors
        assert operated.json(*command, code=1)["ok"] is False


# ---- reload -------------------------------------------------------------------------------------------------------------


def test_reload_waits_for_the_outcome(operated: Operated) -> None:
    caller, tentacle = operated.second.ready()
    machines = operated.site.configuration["machines"]
    [port] = free_ports(1)
    added = {**machines[0], "name": "web02", "port": machines[0]["port"].rpartition(":")[0] + f":{port}"}
    added["tentacle"], added["identity"] = "https://127.0.0.1:9", "web02.pem"
    (operated.config.parent / "web02.pem").write_bytes((operated.config.parent / "web00.pem").read_bytes())
    (operated.config.parent / "web02.pem").chmod(0o600)
    operated.configure(machines=[machines[1], added])
    assert operated.json("reload") == {
        "ok": True, "added": ["web02"], "changed": [], "removed": ["web00"], "unchanged": 1, "closed": 0,
    }  # fmt: skip
    call(caller, tentacle)
    values = operated.metrics()
    assert ("relay_machine_drained", "web02") in values
    assert ("relay_machine_drained", "web00") not in values
    assert (values["relay_exchanges_total", "web01", "ok"], values["relay_reloads_total", "ok"]) == (1, 1)
    said, _ = operated.run("status")
    assert "done; added: 1, changed: 0, removed: 1" in said


def test_a_reload_with_mistakes_says_all_of_them_and_changes_nothing(operated: Operated) -> None:
    operated.configure(relay={"name": "test", "state": "state", "log_level": "loud"}, machine=[])
    said, errors = operated.run("reload", code=1)
    assert said == ""
    assert f"{operated.config}:" in errors
    assert "loud" in errors
    assert "Did you mean machines?" in errors
    assert "the relay runs on as it was" in errors
    answer = operated.json("reload", code=1)
    assert len(answer["mistakes"]) == 2
    last = operated.json("status", code=1)["relay"]["last_reload"]
    assert (last["ok"], last["mistakes"]) == (False, answer["mistakes"])
    assert operated.metrics()["relay_config_last_reload_successful",] == 0
    call(*operated.first.ready())
    operated.site.close()
    operated.relay.signal()
    said_so = {"a mistake in the configuration", "reload failed: the old configuration runs on"}
    operated.relay.expect_stopped(errors=frozenset(said_so))


def test_reload_now_cuts_what_is_not_allowed_any_more(operated: Operated) -> None:
    caller, tentacle = operated.first.ready()
    octopus = [{**operated.site.configuration["octopus"][0], "thumbprints": ["A" * 40]}]
    operated.configure(octopus=octopus)
    assert operated.json("reload", "--now")["closed"] > 0
    caller.expect_end()
    tentacle.expect_end()


def test_the_admin_pages_move_with_a_reload(operated: Operated) -> None:
    before = operated.site.configuration["admin"]["listen"]
    host = before.rpartition(":")[0]
    operated.site.configuration["admin"] = {"listen": f"{host}:{free_ports(1)[0]}"}
    operated.configure()
    operated.run("reload")
    assert operated.page("/healthz") == (200, "serving\n")
    with socket.socket() as sock:
        assert sock.connect_ex((host, int(before.rpartition(":")[2]))) != 0


# ---- drain, resume, close -----------------------------------------------------------------------------------------------


def test_a_machine_is_drained_and_resumed(operated: Operated) -> None:
    caller, tentacle = operated.first.ready()
    assert operated.json("drain", "web00") == {"ok": True, "machine": "web00", "already": False, "exchanges_in_flight": 1}
    said, _ = operated.run("drain", "web00")
    assert said == "machine web00: was drained already; exchanges in flight: 1\n"
    call(caller, tentacle)
    caller.expect_end()
    assert operated.machine(operated.first, code=1)["drained"]
    with pytest.raises(ConnectionAbortedError):
        operated.first.call()
    call(*operated.second.ready())
    operated.run("reload")
    assert operated.metrics()["relay_machine_drained", "web00"] == 1
    assert operated.json("resume") == {"ok": True, "resumed": ["web00"]}
    assert operated.run("resume", "web00")[0] == "resumed: none was drained\n"
    call(*operated.first.ready())


def test_close_cuts_connections_and_leaves_the_door_open(operated: Operated) -> None:
    caller, tentacle = operated.first.ready()
    other, _ = operated.second.ready()
    assert operated.json("close", "--machine", "web00")["closed"] == 1
    caller.expect_end()
    tentacle.expect_end()
    assert operated.machine(operated.second)["connections"] == 1
    assert operated.json("close", "--octopus", "production")["closed"] == 1
    other.expect_end()
    assert operated.run("close", "--octopus", "production")[0] == "callers cut: 0\n"
    call(*operated.first.ready())


def test_close_of_nothing_is_misuse(operated: Operated) -> None:
    _, errors = operated.run("close", code=2)
    assert "either --machine NAME or --octopus NAME" in errors
    operated.run("close", "--octopus", "production", "--machine", "web00", code=2)


def test_drain_of_the_relay_ends_it_behind_its_last_call(operated: Operated) -> None:
    caller, tentacle = operated.first.ready()
    assert operated.page("/readyz") == (200, "ready\n")
    assert operated.json("drain")["exchanges_in_flight"] == 1
    operated.relay.log.wait(event="draining")
    status, why = operated.page("/readyz")
    assert (status, why.partition(":")[0]) == (503, "draining")
    assert operated.page("/healthz")[0] == 200
    assert operated.json("status", code=1)["relay"]["draining"]
    said, _ = operated.run("drain")
    assert said.startswith("the relay was draining already; exchanges in flight: 1")
    call(caller, tentacle)
    caller.expect_end()
    operated.relay.expect_stopped()
    assert not operated.socket.exists()


def test_drain_of_an_idle_relay_is_answered_before_it_ends(operated: Operated) -> None:
    assert operated.json("drain")["exchanges_in_flight"] == 0
    operated.relay.expect_stopped()
    _, errors = operated.run("status", code=1)
    assert errors.startswith("relay-tentacle: no relay runs here: there is no ")


# ---- who asks -----------------------------------------------------------------------------------------------------------


def test_the_log_says_who_told_the_relay_what(operated: Operated) -> None:
    operated.run("drain", "web00")
    [line] = operated.relay.log.wait(event="an operator's command")
    assert (line["command"], line["machine"], line["uid"]) == ("drain", "web00", os.getuid())
    operated.run("status")
    assert len([line for line in operated.relay.log.found if line["event"] == "an operator's command"]) == 1


def test_a_broken_configuration_does_not_hide_the_relay(operated: Operated) -> None:
    """It is needed most while somebody edits the file."""
    operated.config.write_text("relay:\n  state: state\n  name: [\n")
    assert operated.json("status")["ok"]
    operated.config.unlink()
    _, errors = operated.run("status", code=2)
    assert f"{operated.config}: no such file." in errors
    assert operated.json("status", "--socket", str(operated.socket))["ok"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_nobody_else_gets_near(operated: Operated) -> None:
    assert stat.S_IMODE(operated.socket.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                sock.connect(str(operated.socket))
        finally:
            os.seteuid(0)


def test_a_second_relay_with_the_same_state_folder_does_not_start(operated: Operated) -> None:
    second = operated.config.parent / "second.yaml"
    second.write_text(yaml.safe_dump({**operated.site.configuration, "admin": {"listen": "none"}}))
    done = subprocess.run(
        [sys.executable, "-m", "relay", "run", "--config", str(second)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert "another relay runs with this state folder" in done.stderr
    assert operated.json("status")["ok"]


def test_a_relay_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with site(tmp_path) as killed:
        killed.relay.process.send_signal(signal.SIGKILL)
        killed.relay.process.wait(PATIENCE)
        assert (tmp_path / "state" / "control.sock").exists()
    with site(tmp_path, 2) as made:
        assert Operated(tmp_path, made).json("status")["relay"]["pid"] == made.relay.process.pid


def test_a_port_of_the_admin_pages_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        content = {
            "relay": {"name": "test", "state": "state"},
            "octopus": [{"name": "production", "thumbprint": "A" * 40}],
            "machines": [],
            "include": "*.none.yaml",
            "admin": {"listen": address},
        }
        (tmp_path / "relay.yaml").write_text(yaml.safe_dump(content))
        done = subprocess.run(
            [sys.executable, "-m", "relay", "run", "--config", str(tmp_path / "relay.yaml")],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"admin.listen: cannot listen on {address}: Address already in use. Free the port" in done.stderr
    assert not (tmp_path / "state" / "control.sock").exists()


# ---- metrics ------------------------------------------------------------------------------------------------------------


def test_a_call_is_in_the_metrics(operated: Operated) -> None:
    before = operated.metrics()
    caller, tentacle = operated.first.ready()
    during = operated.metrics()
    call(caller, tentacle)
    after = operated.metrics()
    for values, counts in ((before, (0, 0, 0)), (during, (1, 1, 1)), (after, (1, 0, 1))):
        names = ("relay_machine_connections", "relay_machine_exchanges_in_flight")
        assert tuple(values[name, "web00"] for name in names) == counts[:2]
        assert values["relay_connections",] == counts[2]
    ok = "relay_exchanges_total", "web00", "ok"
    assert (before[ok], after[ok]) == (0, 1)
    assert after["relay_bytes_total", "request", "web00"] == len(REQUEST)
    assert after["relay_bytes_total", "reply", "web00"] == len(REPLY)
    assert after["relay_machine_back_connections", "web00", "idle"] == 1
    assert after["relay_machine_last_success_timestamp_seconds", "web00"] > 1_600_000_000
    assert after["relay_handshakes_total",] == 1
    assert after["process_open_fds",] > 5
    assert {key[0] for key in before} == {key[0] for key in after}
    assert after["relay_identity_expiry_timestamp_seconds", "machine", "web00"] > 1_600_000_000
