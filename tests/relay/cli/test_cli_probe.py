"""``relay-tentacle probe`` as a process, against Tentacles of this one."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import yaml
from click.testing import CliRunner
from commands import ROOT, checked_json, command
from identities import identity
from strangers import LOCAL, black_hole, free_port
from system import eventually
from twisted.internet import reactor

from certs.store import IdentityStore
from relay.cli.main import main
from relay.outcomes import NodeTrouble
from relay.peers.octopus import Octopus
from relay.peers.tentacle import Tentacle
from relay.probe import Cause, StageName
from relay.probe.pollers import PollerCause
from relay.probe.shown import Kind


def write(folder: Path, ports: dict[str, int | str], entries: tuple[str, ...] = ("production",)) -> Path:
    """A configuration with a machine at each of these ports, or hosts and ports."""
    file = folder / "relay.yaml"
    octopus = [{"name": name, "thumbprint": str(identity(f"octopus {name}").thumbprint)} for name in entries]
    machines = [
        {
            "name": name,
            "tentacle": f"https://{port if isinstance(port, str) else f'{LOCAL}:{port}'}",
            "thumbprint": str(identity("tentacle").thumbprint),
            "octopus": list(entries),
            "port": f"{LOCAL}:{11001 + number}",
        }
        for number, (name, port) in enumerate(ports.items())
    ]
    file.write_text(
        yaml.safe_dump({"relay": {"name": "test", "state": "state"}, "octopus": octopus, "machines": machines}, sort_keys=False)
    )
    return file


def store(folder: Path) -> IdentityStore:
    return IdentityStore(folder / "state", lambda *_: None, lambda _: None)


@pytest_twisted.async_yield_fixture()
async def tentacle(tmp_path: Path) -> AsyncIterator[Any]:
    """A Tentacle that trusts the relay for production, and not for staging: its port."""
    ours = store(tmp_path).octopus("production")
    made = Tentacle(reactor, identity("tentacle").pem(), [str(ours.thumbprint)], tmp_path / "home")
    yield await made.listen()
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_is_fine(tmp_path, tentacle):
    done = await command("probe", "web01", "--config", write(tmp_path, {"web01": tentacle}))
    assert (done.code, done.err) == (0, "")
    thumbprint = store(tmp_path).octopus("production").thumbprint
    lines = done.out.splitlines()
    assert lines[0] == f"web01 at {LOCAL}:{tentacle}, as production ({thumbprint}): fine"
    assert [line.split()[0] for line in lines[1:5]] == ["connect", "tls", "identify", "call"]
    assert all(line.endswith(" ms") for line in lines[1:5])
    assert lines[-1] == "  It can: IScriptService, IFileTransferService, IScriptServiceV2"


@pytest_twisted.ensureDeferred
async def test_one_that_is_not(tmp_path, tentacle):
    store(tmp_path).octopus("staging")
    config = write(tmp_path, {"web01": tentacle}, ("production", "staging"))
    done = await command("probe", "web01", "--config", config)
    assert (done.code, done.err) == (1, "")
    fine, failed = done.out.split("web01 at ")[1:]
    assert ", as production (" in fine
    assert "): fine\n" in fine
    assert ", as staging (" in failed
    assert "): not-trusted\n" in failed
    assert " ms  failed\n" in failed
    assert (
        f"What to do: Run on the machine: Tentacle configure --trust {store(tmp_path).octopus('staging').thumbprint}" in failed
    )
    done = await command("probe", "web01", "--octopus", "production", "--config", config)
    assert (done.code, done.out.count("web01 at ")) == (0, 1)


@pytest_twisted.ensureDeferred
async def test_all_of_them_in_a_table(tmp_path, tentacle):
    ports = {"web01": tentacle, "web02": free_port(), "web03": f"localhost:{tentacle}"}
    done = await command("probe", "--all", "--parallel", "2", "--config", write(tmp_path, ports))
    assert (done.code, done.err) == (1, "")
    rows = [line.split() for line in done.out.splitlines()[:4]]
    assert rows[0] == ["MACHINE", "OCTOPUS", "TENTACLE", "RESULT", "MS"]
    assert [row[:4] for row in rows[1:]] == [
        ["web01", "production", f"{LOCAL}:{tentacle}", "fine"],
        ["web02", "production", f"{LOCAL}:{ports['web02']}", "refused"],
        ["web03", "production", f"localhost:{tentacle}", "fine"],
    ]
    assert "\n2 of 3 are fine.\n\nweb02, as production:\n  What happened: " in done.out


@pytest_twisted.ensureDeferred
async def test_json(tmp_path, tentacle):
    done = await command("probe", "--all", "--json", "--config", write(tmp_path, {"web01": tentacle, "web02": free_port()}))
    assert (done.code, done.err) == (1, "")
    fine, failed = checked_json("probe", done.out)
    assert (fine["machine"], fine["ok"], fine["cause"], fine["tls"]) == ("web01", True, None, "TLSv1.3")
    assert fine["certificate"]["thumbprint"] == str(identity("tentacle").thumbprint)
    assert fine["ms"] == pytest.approx(sum(stage["ms"] for stage in fine["stages"]), abs=0.01)
    assert (failed["machine"], failed["ok"], failed["cause"], failed["certificate"]) == ("web02", False, "refused", None)
    assert failed["stages"] == [{"name": "connect", "ms": failed["stages"][0]["ms"], "done": False}]
    assert failed["remedy"]


@pytest_twisted.ensureDeferred
async def test_whose_certificate_it_is(tmp_path, tentacle):
    """The pin of web02, which the address of web01 leads to; the file says where both are declared."""
    config = write(tmp_path, {"web01": tentacle, "web02": tentacle})
    text = config.read_text().replace(str(identity("tentacle").thumbprint), str(identity("another").thumbprint), 1)
    config.write_text(text)
    done = await command("probe", "web01", "--config", config)
    line = 1 + max(number for number, text in enumerate(text.splitlines()) if "thumbprint:" in text)
    assert done.code == 1
    assert f"the one that machine web02 has pinned ({config}:{line})" in done.out


@pytest_twisted.async_yield_fixture()
async def node(tmp_path: Path) -> AsyncIterator[int]:
    """The polling port of an Octopus that has the machines web01 and kiosk7 of `polling`."""
    octopus = Octopus(reactor, identity("octopus production").pem())
    for name in ("web01", "kiosk7"):
        octopus.polling_machine(f"poll://{name}/", str(store(tmp_path).machine(name).thumbprint))
    yield await octopus.listen()
    await octopus.stop()


def polling(folder: Path, tentacle: int, node: int) -> Path:
    """web01, which the relay dials, and kiosk7, which polls it; the node is polled for both, and one that is not there."""
    pins = {"thumbprint": str(identity("tentacle").thumbprint), "front": "polling"}
    octopus = {"name": "production", "thumbprint": str(identity("octopus production").thumbprint)}
    file = folder / "relay.yaml"
    configuration = {
        "relay": {"name": "test", "state": "state"},
        "octopus": [{**octopus, "nodes": [f"https://{LOCAL}:{node}", f"https://{LOCAL}:{free_port()}"]}],
        "back": {"listen": f"{LOCAL}:{free_port()}"},
        "machines": [
            {"name": "web01", "tentacle": f"https://{LOCAL}:{tentacle}", "subscription": "poll://web01/", **pins},
            {"name": "kiosk7", "tentacle": "poll://kiosk7/", **pins},
        ],
    }
    file.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return file


@pytest_twisted.ensureDeferred
async def test_what_polls_is_probed_as_far_as_it_can_be(tmp_path, tentacle, node):
    config = polling(tmp_path, tentacle, node)
    done = await command("probe", "--all", "--json", "--config", config)
    assert (done.code, done.err) == (1, "")
    web, kiosk, *nodes = checked_json("probe", done.out)
    assert (web["kind"], web["ok"]) == ("tentacle", True)
    assert (kiosk["kind"], kiosk["machine"], kiosk["cause"]) == ("poller", "kiosk7", "no-relay")
    assert [(each["kind"], each["machine"], each["cause"]) for each in nodes] == [
        ("node", "web01", None),
        ("node", "web01", "refused"),
        ("node", "kiosk7", None),
        ("node", "kiosk7", "refused"),
    ]
    assert nodes[0]["thumbprint"] == str(store(tmp_path).machine("web01").thumbprint)
    done = await command("probe", "--all", "--config", config)
    parts = done.out.split("\n\nTentacles that poll the relay:\n")[1].split("\n\nOctopus nodes that the relay polls:\n")
    assert parts[0].splitlines()[1].split() == ["kiosk7", "poll://kiosk7/", "no-relay", "0"]
    assert [line.split()[:4] for line in parts[1].splitlines()[1:3]] == [
        ["web01", "production", f"{LOCAL}:{node}", "fine"],
        ["web01", "production", nodes[1]["node"][8:-1], "refused"],
    ]
    assert "\n2 of 4 are fine.\n" in parts[1]
    done = await command("probe", "kiosk7", "--config", config)
    assert done.out.splitlines()[0] == "kiosk7 at poll://kiosk7/: no-relay"
    assert f"kiosk7, the relay polls {LOCAL}:{node} of production ({nodes[2]['thumbprint']}): fine, " in done.out
    assert "web01" not in done.out


def test_the_schema_has_every_word():
    kinds = json.loads((ROOT / "docs" / "json" / "probe.json").read_text())["$defs"]
    schema = kinds["tentacle"]["properties"]
    assert kinds["poller"]["properties"]["cause"]["enum"] == [None, *(cause.value for cause in PollerCause)]
    assert kinds["node"]["properties"]["cause"]["enum"] == [None, *(trouble.value for trouble in NodeTrouble)]
    assert schema["cause"]["enum"] == [None, *(cause.value for cause in Cause)]
    assert schema["stages"]["items"]["properties"]["name"]["enum"] == [name.value for name in StageName]
    assert schema["certificate"]["oneOf"][1]["properties"]["kind"]["enum"] == [kind.value for kind in Kind]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "which machine?"),
        (["web01", "--all"], 2, "which machine?"),
        (["web09"], 1, "no machine is named web09. There are: web01."),
        (["web01", "--octopus", "staging"], 1, "no octopus entry is named staging"),
        (["web01"], 1, "its identity was not made yet"),
        (["web01", "--timeout", "5"], 2, "Write 5s for seconds"),
        (["web01", "--timeout", "0s"], 2, "Write a duration from 1ms to 10m."),
        (["web01", "--parallel", "0"], 2, "--parallel"),
    ],
)
def test_what_cannot_be_probed(tmp_path, arguments, code, said):
    done = CliRunner().invoke(main, ["probe", *arguments, "--config", str(write(tmp_path, {"web01": 1}))])
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not (tmp_path / "state").exists()


def test_an_octopus_that_may_not_call_it(tmp_path):
    config = write(tmp_path, {"web01": 1}, ("production", "staging"))
    config.write_text(config.read_text().replace("  - production\n  - staging\n  port", "  - production\n  port"))
    done = CliRunner().invoke(main, ["probe", "web01", "--octopus", "staging", "--config", str(config)])
    assert (done.exit_code, "machine web01: staging may not call it. It has: production." in done.stderr) == (1, True)
    done = CliRunner().invoke(main, ["probe", "--all", "--octopus", "staging", "--config", str(config)])
    assert (done.exit_code, "no machine has the octopus entry staging" in done.stderr) == (1, True)


def test_it_takes_no_longer_than_it_may_and_ctrl_c_ends_it(tmp_path):
    store(tmp_path).octopus("production")
    with black_hole() as port:
        config = write(tmp_path, {"web01": port})
        program = [sys.executable, "-m", "relay", "probe", "web01", "--config", str(config)]
        done = subprocess.run([*program, "--timeout", "300ms"], capture_output=True, text=True)
        assert (done.returncode, "connect-timeout" in done.stdout, done.stderr) == (1, True, "")
        going = subprocess.Popen([*program, "--timeout", "5m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for_dial(going.pid, port)
        going.send_signal(signal.SIGINT)
        out, err = going.communicate(timeout=20)
    assert (going.returncode, out, err) == (130, "", "relay-tentacle: interrupted\n")


def wait_for_dial(pid: int, port: int) -> None:
    """Until that process has begun to connect to the port: the kernel lists it as SYN_SENT."""

    def dialling() -> bool:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        own = {line.split()[9] for line in lines if line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "02"}
        return bool(own & sockets(pid))

    eventually(dialling, lambda: "it does not dial")


def sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(file.readlink())
        except FileNotFoundError:
            continue
        if name.startswith("socket:["):
            found.add(name[8:-1])
    return found
