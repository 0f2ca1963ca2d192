from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from commands import checked_json

from certs.store import IdentityStore
from relay.cli.main import main

PRODUCTION, STAGING = "7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1", "2B91D3C4B1968F7E5A02D3C4B1968F7E5A02D30C"
TEXT = f"""\
relay: {{name: dc-east, state: state}}
octopus:
  - {{name: production, thumbprint: {PRODUCTION}}}
  - {{name: staging, thumbprint: {STAGING}}}
machines:
  - name: web01
    tentacle: https://web01.internal
    thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: [production, staging]
    port: 11001
  - name: web02
    tentacle: https://web02.internal
    thumbprint: 64C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: staging
    port: 11002
    timeouts: {{ready: 10s}}
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(TEXT)
    return path


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments, "--config", str(config)])


def verdicts(done: Result) -> list[str]:
    return [line.removeprefix("Verdict: ") for line in done.stdout.splitlines() if line.startswith("Verdict: ")]


def test_each_entry_of_a_machine(config):
    done = run(config, "web01")
    assert (done.exit_code, done.stderr, verdicts(done)) == (0, "", ["allowed."] * 2)
    assert f"{PRODUCTION} is octopus production" in done.stdout
    assert f"{STAGING} is octopus staging" in done.stdout
    assert f"{config}:10" in done.stdout


def test_settings_with_where_they_come_from(config):
    rows = [line.split() for line in run(config, "web02").stdout.splitlines()]
    assert ["timeouts.ready", "10s", "machine", f"{config}:16"] in rows
    assert ["limits.connections", "10", "built-in", "-"] in rows


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (["--door", "11001", "--octopus", "production"], "allowed."),
        (["--door", "127.0.0.1:11002", "--octopus", STAGING.lower()], "allowed."),
        (["web02", "--octopus", "production"], "denied, untrusted."),
        (["web02", "--octopus", "AA" * 20], "denied, untrusted."),
        (["web02", "--octopus", "AA" * 32], "unknown."),
        (["web02", "--octopus", "none"], "denied, no-certificate."),
        (["--door", "11003"], "denied, refused."),
        (["--host", "web01.corp"], "denied, refused."),
    ],
    ids=str,
)
def test_verdicts_and_exit_codes(config, arguments, verdict):
    done = run(config, *arguments)
    assert (verdicts(done), done.stderr) == ([verdict], "")
    assert done.exit_code == (0 if verdict == "allowed." else 1)


def test_the_identities_that_both_sides_see(config, tmp_path):
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    web01, production = store.machine("web01"), store.octopus("production")
    out = run(config, "web01", "--octopus", "production").stdout
    assert f"the caller sees {web01.thumbprint} ({store.machine_file('web01')})" in out
    assert f"the Tentacle sees {production.thumbprint} ({store.octopus_file('production')})" in out


@pytest.mark.parametrize(
    ("side", "words"), [("machine", "the caller sees nothing: "), ("octopus", "the Tentacle sees nothing: ")]
)
def test_an_identity_that_cannot_be_used_leaves_the_verdict_open(config, tmp_path, side, words):
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    store.machine("web01"), store.octopus("production")
    (store.machine_file("web01") if side == "machine" else store.octopus_file("production")).write_bytes(b"nothing")
    done = run(config, "web01", "--octopus", "production")
    assert (done.exit_code, verdicts(done)) == (1, ["unknown."])
    assert words in done.stdout
    [found] = checked_json("explain", run(config, "web01", "--octopus", "production", "--json").stdout)
    assert (found["verdict"], found["octopus"], found["settings"]) == ("unknown", "production", [])
    assert verdicts(run(config, "web01", "--octopus", "none")) == ["denied, no-certificate."]  # whatever there is to show


def test_identities_are_not_made(config, tmp_path):
    assert "the caller sees what `relay-tentacle run` will make" in run(config, "web01").stdout
    assert not (tmp_path / "state").exists()


def test_a_call_under_rules(config):
    config.write_text(
        TEXT.replace("    port: 11001\n", "    port: 11001\n    allow: [{from: 10.0.0.0/8, services: [scripts]}]\n")
    )
    call = ["web01", "--octopus", "production", "--service", "IScriptServiceV2", "--method", "StartScript"]
    done = run(config, *call, "--from", "10.1.2.3")
    assert (done.exit_code, verdicts(done)) == (0, ["allowed."])
    assert f"{config}:11" in next(
        line for line in done.stdout.splitlines() if "IScriptServiceV2.StartScript is allowed" in line
    )
    assert verdicts(run(config, *call, "--from", "192.0.2.1")) == ["denied, not-allowed."]
    assert verdicts(run(config, *call)) == ["unknown."]
    upload = [*call[:-4], "--service", "IFileTransferService", "--method", "UploadFile", "--from", "10.1.2.3"]
    done = run(config, *upload)
    assert (done.exit_code, verdicts(done)) == (1, ["denied, denied."])
    [found] = checked_json("explain", run(config, *upload, "--json").stdout)
    assert (found["reason"], found["octopus"]) == ("denied", "production")


def test_json(config):
    done = run(config, "web01", "--json")
    first, second = checked_json("explain", done.stdout)
    assert (done.exit_code, first["octopus"], second["octopus"]) == (0, "production", "staging")
    assert first["steps"][0]["place"] == {"file": str(config), "line": 10}
    for arguments in (["--host", "x"], ["--door", "1"], ["web02", "--octopus", "none"], ["web02", "--octopus", "AA" * 32]):
        [found] = checked_json("explain", run(config, *arguments, "--json").stdout)
        assert found["verdict"] != "allowed"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Give one of MACHINE, --door ADDRESS, --host NAME and --connect HOST:PORT"),
        (["web01", "--door", "11001"], 2, "Give one of MACHINE"),
        (["--door", "nix"], 2, "--door nix: "),
        (["web01", "--service", "IScriptService"], 2, "--service and --method go together."),
        (["web01", "--from", "web"], 2, "--from web: not an IP address."),
        (["web09"], 1, "no machine is named web09. There are: web01, web02."),
        (["web01", "--octopus", "nix"], 1, "no octopus entry, and no thumbprint. There are: production, staging."),
    ],
    ids=str,
)
def test_what_cannot_be_asked(config, arguments, code, said):
    done = run(config, *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


def test_a_machine_that_is_passed_through(config):
    vault = "  - {name: vault01, tentacle: 'https://vault01.internal', port: 11009, passthrough: true}\n"
    config.write_text(TEXT + vault)
    for caller in ((), ("--octopus", "none")):
        done = run(config, "vault01", *caller)
        assert (done.exit_code, done.stderr, verdicts(done)) == (0, "", ["allowed."])
        assert "TLS is not opened" in done.stdout
    [found] = checked_json("explain", run(config, "vault01", "--json").stdout)
    assert (found["verdict"], found["octopus"]) == ("allowed", None)


@pytest.mark.parametrize(
    ("source", "verdict", "code", "said"),
    [
        (("--from", "10.0.0.7"), "allowed.", 0, "allowed from 10.0.0.7"),
        (("--from", "10.1.0.7"), "denied, not-allowed.", 1, "no item of allow is for 10.1.0.7: closed"),
        ((), "unknown.", 1, "allowed from 10.0.0.0/24 only"),
    ],
)
def test_from_where_a_machine_that_is_passed_through_is_reached(config, source, verdict, code, said):
    vault = "tentacle: 'https://vault01.internal', port: 11009, passthrough: true, allow: {from: 10.0.0.0/24}"
    config.write_text(TEXT + f"  - {{name: vault01, {vault}}}\n")
    done = run(config, "vault01", *source)
    assert (done.exit_code, done.stderr, verdicts(done)) == (code, "", [verdict])
    assert said in done.stdout


@pytest.mark.parametrize(
    ("target", "verdict", "said"),
    [
        ("web01.internal:10933", "allowed.", "the CONNECT door 10933: target web01.internal:10933 is machine web01"),
        ("WEB01.internal.", "allowed.", "the CONNECT door 10933: target web01.internal:10933 is machine web01"),
        ("other:443", "allowed.", "the CONNECT door 10933: target other:443 is machine web02"),
        (
            "web02.internal:10933",
            "denied, unknown-target.",
            "no machine has the target web02.internal:10933: answered 403, and logged as unknown-target",
        ),
        ("web01:0", "denied, unknown-target.", "it asked for web01:0: not a port from 1 to 65535: answered 403"),
    ],
)
def test_a_caller_at_the_connect_door(config, target, verdict, said):
    config.write_text(TEXT.replace("    port: 11002", "    connect: Other:443") + "front: {listen: 10933, connect: true}\n")
    done = run(config, "--connect", target, "--octopus", "staging")
    assert (verdicts(done), done.stderr) == ([verdict], "")
    [found] = checked_json("explain", run(config, "--connect", target, "--octopus", "staging", "--json").stdout)
    assert found["verdict"] == verdict.split(",")[0].rstrip(".")
    assert said in done.stdout
    assert done.exit_code == (0 if verdict == "allowed." else 1)


def test_the_connect_door_is_declared_somewhere(config):
    config.write_text(TEXT + "front: {listen: 10933, connect: true, credentials: users}\n")
    [first] = checked_json("explain", run(config, "--connect", "web01.internal", "--octopus", "staging", "--json").stdout)
    text = f"the CONNECT door 10933, for the users in {config.parent / 'users'}: target web01.internal:10933 is machine web01"
    assert first["steps"][0] == {"topic": "door", "text": text, "place": {"file": str(config), "line": 7}}
    assert "target web01.internal:10933 at the CONNECT door 10933" in run(config, "web01").stdout
    config.write_text(TEXT)
    done = run(config, "--connect", "web01.internal")
    assert (verdicts(done), done.exit_code) == (["denied, refused."], 1)
    assert "there is no CONNECT door (front.connect)" in done.stdout


POLLING = f"""\
relay: {{name: dc-east, state: state}}
octopus:
  - {{name: production, thumbprint: {PRODUCTION}, nodes: [https://one, https://two]}}
  - {{name: staging, thumbprint: {STAGING}}}
back: {{listen: 10943, octopus: staging}}
machines:
  - name: kiosk7
    tentacle: poll://SQ-Kiosk/
    thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: production
    front: polling
"""


def test_a_tentacle_that_polls(config, tmp_path):
    """It sees the identity of `back.octopus`, whoever calls, and settings of dialling are none of its."""
    config.write_text(POLLING)
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    store.machine("kiosk7"), store.octopus("production")
    staging = store.octopus("staging")
    done = run(config, "kiosk7")
    assert (done.exit_code, verdicts(done)) == (0, ["allowed."])
    assert "the call goes by a connection of the Tentacle that polls as poll://sq-kiosk/" in done.stdout
    assert f"the Tentacle sees {staging.thumbprint} ({store.octopus_file('staging')})" in done.stdout
    assert "None" not in done.stdout
    [found] = checked_json("explain", run(config, "kiosk7", "--json").stdout)
    own = [each["name"] for each in found["settings"] if each["name"].startswith("timeouts.")]
    assert own == ["timeouts.ready", "timeouts.front_idle"]


def test_a_machine_that_the_relay_polls_octopus_for(config):
    config.write_text(POLLING)
    nodes = "the relay polls Octopus for it at https://one:10943/, https://two:10943/"
    assert f"machine kiosk7 has no door where Octopus dials, and {nodes}" in run(config, "kiosk7").stdout
    config.write_text(POLLING + "    port: 11001\n")
    assert f"machine kiosk7 has the door port 11001, and {nodes}" in run(config, "kiosk7").stdout


def test_nodes_that_are_polled_come_from_nowhere(config):
    """No address helps with an item that is for some only, where nobody but the relay dials."""
    both = POLLING.replace("octopus: production", "octopus: [production, staging]").replace(
        f"{STAGING}}}", f"{STAGING}, nodes: [https://three]}}"
    )
    rules = "    allow: [{octopus: production, from: 10.0.0.0/8}, {octopus: staging}]\n"
    config.write_text(both + rules)
    for source in ((), ("--from", "10.1.2.3")):
        done = run(config, "kiosk7", *source)
        assert (done.exit_code, verdicts(done)) == (1, ["denied, not-allowed.", "allowed."])
        assert f"no item of allow is for octopus production ({config}:12): its nodes are not polled" in done.stdout
    config.write_text(both + "    port: 11001\n" + rules)
    assert verdicts(run(config, "kiosk7", "--from", "10.1.2.3")) == ["allowed.", "allowed."]
    assert verdicts(run(config, "kiosk7")) == ["unknown.", "allowed."]


def test_the_door_of_polling_tentacles_is_none_for_octopus(config):
    config.write_text(POLLING)
    done = run(config, "--door", "10943")
    assert (done.exit_code, verdicts(done)) == (1, ["denied, broke-protocol."])
    assert "10943 is the door of polling Tentacles (back.listen)" in done.stdout
    [found] = checked_json("explain", run(config, "--door", "10943", "--json").stdout)
    assert found["reason"] == "broke-protocol"
