"""docs/getting-started.md, done: each command in it is run, and prints what the page says."""

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import yaml
from click.testing import CliRunner
from commands import command
from identities import identity
from system import RelayProcess
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from walkthrough import Block, alike, console_blocks

from certs.store import IdentityStore
from relay.cli.main import main
from relay.peers.octopus import Octopus
from relay.peers.tentacle import Tentacle
from relay.probe import Cause

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "getting-started.md"
TEXT = PAGE.read_text()
LOCAL = "127.0.0.1"
FILE = "/etc/relay-tentacle/relay.yaml"
STATE = "/var/lib/relay-tentacle"
# What the page calls them.
OCTOPUS, TENTACLE = "7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1", "54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D"
DEPENDS = "too few file descriptors for relay.limits.connections"  # a line that not every host makes the relay say
FACING_OCTOPUS, FACING_TENTACLES = "F69040D4D55F46B30A3719B816AB234433049F9D", "9A2B1F043A8B4673121F21A2B742141B6C94A6FE"


def free_port() -> int:
    with socket.create_server((LOCAL, 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Walk:
    """The page's site in a folder, with a Tentacle on this host. door, port: of the machine, and of its Tentacle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "relay.yaml"
        self.door, self.port = free_port(), free_port()
        [self.written] = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        self.blocks = console_blocks(PAGE)
        self.store = IdentityStore(folder / "state", lambda *_: None, lambda _: None)
        self._tentacle: Tentacle | None = None

    async def begin(self) -> None:
        """`init`, with a state folder of this site, and without a door for metrics: other tests have one."""
        own = ["--state", str(self.folder / "state"), "--admin", "none", str(self.config)]
        await self.step("init", more=own)

    def declare(self) -> None:
        """The page's machine instead of the example, which has it too, with the addresses and thumbprints of this site."""
        example = self.folder / "machines.d" / "web01.yaml.example"
        text = example.read_text()
        assert self.written.splitlines() == [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        text = text.replace(TENTACLE, str(identity("tentacle").thumbprint))
        text = text.replace("web01.internal:10933", f"{LOCAL}:{self.port}").replace("port: 11001", f"port: {LOCAL}:{self.door}")
        example.with_suffix("").write_text(text)

    @property
    def declared(self) -> dict[str, Any]:
        """What the main file says."""
        found: dict[str, Any] = yaml.safe_load(self.config.read_text())
        return found

    async def tentacle(self, *trusted: str) -> None:
        """The Tentacle, or it anew."""
        await self.stop()
        self._tentacle = Tentacle(reactor, identity("tentacle").pem(), trusted, self.folder / "home")
        await self._tentacle.listen(self.port)

    async def stop(self) -> None:
        if self._tentacle:
            await self._tentacle.stop()

    def values(self) -> dict[str, str]:
        """From what this site has to what the page has."""
        facing_octopus, facing_tentacles = self.store.find_machine("web01"), self.store.find_octopus("production")
        made = {str(facing_octopus.thumbprint): FACING_OCTOPUS} if facing_octopus else {}
        made |= {str(facing_tentacles.thumbprint): FACING_TENTACLES} if facing_tentacles else {}
        return {
            **made,
            f" --config {self.config}": "",  # it is the usual one there
            str(self.config): FILE,
            str(self.folder / "state"): STATE,
            str(self.folder): "/etc/relay-tentacle",
            "admin.listen: none": "admin.listen: 127.0.0.1:9933",
            str(identity("octopus").thumbprint): OCTOPUS,
            str(identity("tentacle").thumbprint): TENTACLE,
            "CN=tentacle": "CN=Octopus Tentacle",
            f'"{LOCAL}:{self.door}"': '":11001"',  # in the log
            f"{LOCAL}:{self.door}": "11001",
            f"{LOCAL}:{self.port}": "web01.internal:10933",
            str(self.door): "11001",
        }

    async def step(self, name: str, code: int = 0, more: list[str] | None = None) -> None:
        """The next block is this command; it is run, and prints what the page has. more: arguments of its own."""
        block = self.next(name)
        given = [str(identity("octopus").thumbprint) if word == OCTOPUS else word for word in block.command[1:]]
        done = await command(*given, *(more or ["--config", str(self.config)]))
        assert done.err == ""
        assert done.code == code
        assert alike(done.out, self.values()) == alike(block.output), f"{PAGE}:{block.line}"

    def next(self, name: str) -> Block:
        block = self.blocks.pop(0)
        assert block.command[:2] == ["relay-tentacle", name]
        return block


@pytest_twisted.ensureDeferred
async def test_the_whole_way(tmp_path):
    walk = Walk(tmp_path)
    await walk.tentacle()
    relay = None
    octopus = Octopus(reactor, identity("octopus").pem(), spool=tmp_path)
    try:
        await walk.begin()
        walk.declare()
        await walk.step("check")
        block = walk.next("run")
        text = walk.config.read_text()
        relay = await deferToThread(RelayProcess, tmp_path, walk.declared)
        walk.config.write_text(text)  # as it was: what the process was started with has other lines
        written = [json.loads(line) for line in block.output.splitlines()]
        found = [json.loads(alike(json.dumps(line), walk.values())) for line in relay.log.found]
        assert [masked(line) for line in found if line["event"] != DEPENDS] == [masked(line) for line in written]
        await walk.step("machines")
        await walk.step("probe", 1)
        await walk.tentacle(str(walk.store.octopus("production").thumbprint))
        await walk.step("probe")
        machine = octopus.machine(LOCAL, walk.door, str(walk.store.machine("web01").thumbprint))
        assert "IScriptServiceV2" in await machine.get_capabilities()
        assert (await machine.run_script("echo healthy")).text() == "healthy"
        assert relay.access
        [line, *_] = await deferToThread(relay.access.wait, 3)
        [shown] = re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        assert list(json.loads(shown)) == list(line)
        assert {key: json.loads(shown)[key] for key in ("machine", "octopus", "service", "method", "outcome")} == {
            key: line[key] for key in ("machine", "octopus", "service", "method", "outcome")
        }
        await walk.step("explain")
        assert walk.blocks == []
    finally:
        await octopus.stop()
        await walk.stop()
        if relay:
            await deferToThread(relay.stop)


def masked(line: dict[str, Any]) -> dict[str, Any]:
    """Without what differs each time."""
    return {**line, "timestamp": ""}


def test_every_command_in_it_is_one():
    used = set(re.findall(r"(?:^|`|\$ )relay-tentacle ([a-z]+)", TEXT, re.MULTILINE))
    assert {"run", "check", "completion", "demo", "machines", "probe", "explain"} <= used
    for name in used:
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0, name


def test_every_cause_is_explained():
    table = TEXT.partition("| `probe` says |")[2].partition("\n\n")[0]
    words = re.findall(r"`([a-z-]+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `")))
    assert sorted(words) == sorted(cause.value for cause in Cause)


def test_the_install_block_is_shell():
    [block] = ["".join(re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))]
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)", TEXT))
def test_every_link_leads_somewhere(target):
    assert target.startswith("https://") or (PAGE.parent / target).is_file()
