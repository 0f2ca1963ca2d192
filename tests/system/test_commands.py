"""What operators ask beside a running relay: each command in a process of its own, and the relay does as it was told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
import yaml
from commands import checked_json, command
from jsonschema import Draft202012Validator
from operated import Operated
from scripted import CLIENT, PATIENCE, PREAMBLE, Peer, party
from system import OCTOPUS_FACE, TENTACLE_FACE, eventually
from twisted.internet import reactor

from relay.peers.tentacle import Tentacle

# ---- check --------------------------------------------------------------------------------------------------------------


def test_check_of_what_runs(operated: Operated) -> None:
    found = operated.json("check")
    assert (found["ok"], found["relay"]) == (True, "test")
    assert [machine["port"] for machine in found["machines"]] == [machine["port"] for machine in operated.machines()]


@pytest.mark.parametrize("broken", ["missing", "nothing"])
def test_check_refuses_what_reload_and_run_refuse(operated: Operated, broken: str) -> None:
    key = operated.config.parent / "web01.pem"
    key.unlink() if broken == "missing" else key.write_bytes(b"nothing")
    found = operated.json("check", code=2)
    [mistake] = found["mistakes"]
    assert (mistake["file"], mistake["where"]) == (str(operated.config), "machines[1].identity")
    assert operated.config.read_text().splitlines()[mistake["line"] - 1].strip(" -") == "identity: web01.pem"
    assert str(key) in mistake["problem"]
    assert operated.json("check", "--no-identities")["ok"]
    assert str(key) in operated.run("reload", code=1)[1]
    operated.first.ready()  # the relay runs on as it was
    operated.site.close()
    operated.relay.kill()
    assert str(key) in operated.run("run", code=2)[1]


# ---- explain ------------------------------------------------------------------------------------------------------------


def test_explain_says_what_the_relay_does(operated: Operated) -> None:
    [found] = operated.json("explain", "web00")
    assert (found["verdict"], found["machine"], found["octopus"]) == ("allowed", "web00", "production")
    steps = {step["topic"]: step["text"] for step in found["steps"]}
    assert str(party(TENTACLE_FACE).thumbprint) in steps["identity"]
    assert str(party(OCTOPUS_FACE).thumbprint) in steps["shows"]
    operated.first.ready()
    [found] = operated.json("explain", "web00", "--octopus", str(party("intruder").thumbprint), code=1)
    assert (found["verdict"], found["reason"]) == ("denied", "untrusted")
    caller = operated.first.call("intruder")
    caller.send(PREAMBLE, CLIENT)
    caller.expect_end()
    operated.relay.log.wait(event="caller refused", machine="web00", reason=found["reason"])


def test_explain_cannot_tell_without_an_identity(operated: Operated) -> None:
    (operated.config.parent / "web00.pem").unlink()
    [found] = operated.json("explain", "web00", code=1)
    assert found["verdict"] == "unknown"
    assert "the caller sees nothing: " in found["steps"][1]["text"]


# ---- machines -----------------------------------------------------------------------------------------------------------


def test_machines_says_where_the_relay_is_and_what_it_shows(operated: Operated) -> None:
    first, second = operated.json("machines")
    assert (first["machine"], second["machine"]) == ("web00", "web01")
    [way] = first["in_octopus"]
    caller = Peer.dial((way["hostname"], way["port"]), "octopus")
    operated.first.keep(caller)
    assert caller.certificate == party(TENTACLE_FACE).der
    assert way["endpoint"]["Thumbprint"] == str(party(TENTACLE_FACE).thumbprint)
    assert [each["thumbprint"] for each in first["tentacle"]["trusts"]] == [str(party(OCTOPUS_FACE).thumbprint)]
    assert operated.json("machines", "web01") == [second]


# ---- probe --------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_probe_beside_the_relay(operated: Operated, tmp_path: Path) -> None:
    tentacle = Tentacle(reactor, party("tentacle").pem(), [str(party(OCTOPUS_FACE).thumbprint)], tmp_path / "home")
    port = await tentacle.listen()
    try:
        first, second = operated.machines()
        operated.configure(machines=[{**first, "tentacle": f"https://127.0.0.1:{port}"}, second])
        operated.second.down()
        caller, _ = operated.first.ready()
        done = await command("probe", "--all", "--json", "--config", operated.config)
    finally:
        await tentacle.stop()
    assert (done.code, done.err) == (1, "")
    fine, failed = checked_json("probe", done.out)
    assert (fine["machine"], fine["ok"]) == ("web00", True)
    assert "IScriptService" in fine["capabilities"]
    assert (failed["machine"], failed["ok"], failed["cause"]) == ("web01", False, "refused")
    found = operated.machine(operated.first)
    assert (found["connections"], found["exchanges_in_flight"]) == (1, 1)  # the running relay had no part in it
    caller.close()


# ---- schema and completion ----------------------------------------------------------------------------------------------


def test_the_schema_fits_what_runs(operated: Operated) -> None:
    said, _ = operated.run("schema", config=False)
    validator = Draft202012Validator(json.loads(said))
    validator.validate(yaml.safe_load(operated.config.read_text()))
    assert not validator.is_valid({**operated.site.configuration, "machine": []})
    included, _ = operated.run("schema", "--machines", config=False)
    Draft202012Validator(json.loads(included)).validate({"machines": operated.machines()})


def test_completion_knows_the_machines_that_run(operated: Operated) -> None:
    script, errors = operated.run("completion", "bash", config=False)
    assert errors == ""
    variable = "_RELAY_TENTACLE_COMPLETE"
    assert f"{variable}=bash_complete" in script
    words = ["relay-tentacle", "drain", "--config", str(operated.config), "web"]
    asked = {**os.environ, variable: "bash_complete", "COMP_WORDS": "\n".join(words), "COMP_CWORD": "4"}
    program = Path(sys.executable).parent / "relay-tentacle"

    def offered() -> list[str]:
        done = subprocess.run([program], capture_output=True, text=True, env=asked, timeout=PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    # Where a configuration takes long to read, nothing is offered: a shell must not wait.
    eventually(lambda: offered() == ["plain,web00", "plain,web01"], lambda: "no machine is offered")
