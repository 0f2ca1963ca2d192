"""What stands between Octopus and the Tentacles: this relay in one version or another, HAProxy, nginx, or nothing."""

import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import HERE, Load
from benchmarks.processes import Process
from benchmarks.tools import NAMES, Tools, output_of, thumbprint
from benchmarks.trouble import TroubleError

MACHINES: Final = 10  # of a relay, where nothing else is said
_TRIES: Final = 3  # where it ends at once: one of the ports that were free may be so no more
_READY_S: Final = 20.0  # how long a proxy may take to pass its first exchange on,
_READY_MACHINE_S: Final = 0.05  # and how much longer for each machine

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Version:
    """A relay to be measured. argv: its command, without ``run``; tree: where its source is, if that is known.

    environment: what it has beside ours.
    """

    name: str
    argv: tuple[str, ...]
    tree: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def number(self) -> str:
        """As ``--version`` has it, and the commit."""
        said = output_of("env", *(f"{key}={value}" for key, value in self.environment), *self.argv, "--version")
        number = said.strip().rpartition(" ")[2]
        commit = output_of("git", "-C", str(self.tree), "describe", "--always", "--dirty").strip() if self.tree else ""
        return f"{number} ({commit})" if re.fullmatch(r"[\w.-]+", commit) else number


def installed() -> Version:
    """The relay of the Python that runs this."""
    return Version("ours", (str(Path(sys.executable).with_name("relay-tentacle")),), HERE.parent)


def version_at(name: str, place: Path) -> Version:
    """Another one. place: a tree of the project, or a relay-tentacle or Python of another environment. Raises TroubleError."""
    place = place.expanduser().absolute()
    if (place / "relay" / "__main__.py").is_file():
        return Version(name, (sys.executable, "-m", "relay"), place, (("PYTHONPATH", str(place)),))
    if not place.is_file():
        raise TroubleError(f"{name}: {place} is neither a tree of this project nor a program")
    return Version(name, (str(place),) if "relay" in place.name else (str(place), "-m", "relay"))


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fill(text: str, values: Values) -> str:
    """Replaces {name} by its value, where it has one."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


class Proxy:
    """Something between the two. process, port: while it runs.

    name: as it stands in tables. machines: how many it has. pairs: each caller holds a connection to a Tentacle all the time.
    start_s: seconds from its start to the end of its first exchange.
    """

    def __init__(self, name: str, folder: Path, command: Callable[[Values], Sequence[str]], values: Values) -> None:
        """command: the command line for these values, once it has written its files."""
        self.name = name
        self._folder, self._command, self._values = folder, command, values
        self.environment: Mapping[str, str] = {}
        self.process: Process | None = None
        self.port = 0
        self.back_port = 0
        self.admin_port = 0
        self.machines = MACHINES
        self.pairs = True
        self.start_s = 0.0

    @property
    def pid(self) -> int:
        """While it runs."""
        assert self.process
        return self.process.pid

    def start(self, load: Load) -> None:
        """Returns once an exchange has come through. Raises TroubleError."""
        for left in reversed(range(_TRIES)):
            try:
                self._start(load)
            except TroubleError:
                if not left or self.process is None or self.process.status is None:
                    raise
            else:
                return

    def _start(self, load: Load) -> None:
        self.port, self.back_port, self.admin_port = free_port(), free_port(), free_port()
        ports = {"front_port": self.port, "back_port": self.back_port, "admin_port": self.admin_port}
        argv = self._command({**self._values, **{name: str(port) for name, port in ports.items()}})
        began = time.monotonic()
        self.process = Process(self.name, argv, self._folder / "output.log", environment=self.environment)
        self._wait_ready(load)
        self.start_s = time.monotonic() - began

    def _wait_ready(self, load: Load) -> None:
        limit, why = _READY_S + _READY_MACHINE_S * self.machines, "its port is closed"
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            self.expect_alive("at once")
            if listens(self.port):
                first = load.client(self.port, 1, 0.01, *load.rpc, "--sni", f"web{self.machines - 1}.test")
                if first["rpc"] and not first["errors"]:
                    return
                why = first["first_error"]
            time.sleep(0.1)
        raise TroubleError(f"{self.name} passed no exchange on in {limit:.0f} s ({why}):\n{self._last_words()}")

    def expect_alive(self, when: str) -> None:
        """Raises TroubleError where it has ended."""
        if self.process and self.process.status is not None:
            raise TroubleError(f"{self.name} ended {when}, with status {self.process.status}:\n{self._last_words()}")

    def _last_words(self) -> str:
        return self.process.last_words() if self.process else ""

    def stop(self) -> None:
        """Ends it, if it runs."""
        if self.process:
            self.process.stop()
        self.process = None


class Direct(Proxy):
    """No proxy at all: Octopus dials the Tentacles."""

    def __init__(self, port: int) -> None:
        super().__init__("direct", Path(), lambda _: [], {})
        self.port = port

    def start(self, load: Load) -> None:
        self._wait_ready(load)


class Street:
    """Makes proxies of one measurement. work: where each gets a folder; target_port: where the Tentacles listen."""

    def __init__(self, work: Path, tools: Tools, target_port: int, descriptors: int) -> None:
        self._work, self._tools, self._target_port, self._descriptors = work, tools, target_port, descriptors

    @property
    def most_pairs(self) -> int:
        """How many callers a proxy can have, each with a connection to the Tentacles, before it has no descriptor left."""
        return (self._descriptors - 200) // 2

    def _folder(self, name: str) -> tuple[Path, dict[str, str]]:
        folder = Path(tempfile.mkdtemp(prefix=re.sub(r"[^A-Za-z0-9]+", "-", name) + "-", dir=self._work))
        for file in (f"{who}.{kind}" for who in NAMES for kind in ("pem", "crt")):
            shutil.copy(self._work / file, folder)
        return folder, {
            "dir": str(folder),
            "target_port": str(self._target_port),
            "relay_pem": str(folder / "relay.pem"),
            "octopus_thumbprint": thumbprint(self._work / "octopus.crt"),
            "tentacle_thumbprint": thumbprint(self._work / "tentacle.crt"),
            "load_module": self._tools.stream_module,
            "max_connections": str(self.most_pairs),
            "worker_connections": str(self._descriptors - 200),
        }

    def direct(self) -> Proxy:
        return Direct(self._target_port)

    def haproxy(self) -> Proxy:
        folder, values = self._folder("haproxy")

        def command(filled: Values) -> Sequence[str]:
            file = folder / "haproxy.cfg"
            file.write_text(fill((HERE / file.name).read_text(), filled))
            return [self._tools.paths["haproxy"], "-db", "-f", str(file)]

        return Proxy("haproxy", folder, command, values)

    def nginx(self) -> Proxy:
        folder, values = self._folder("nginx")

        def command(filled: Values) -> Sequence[str]:
            file = folder / "nginx.conf"
            file.write_text(fill((HERE / file.name).read_text(), filled))
            return [self._tools.paths["nginx"], "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(file)]

        return Proxy("nginx", folder, command, values)

    def relay(
        self, version: Version, name: str = "", machines: int = MACHINES, polling: bool = False, nodes: Sequence[str] = ()
    ) -> Proxy:
        """name: if it is not the version's. polling: all Tentacles but the last one poll the relay; nodes: which it polls for
        each of these, at HOST:PORT."""
        folder, values = self._folder(name or version.name)

        def command(filled: Values) -> Sequence[str]:
            file = write_relay_configuration(folder, machines, polling, filled, nodes)
            return [*version.argv, "run", "--config", str(file)]

        proxy = Proxy(name or version.name, folder, command, values)
        proxy.environment = dict(version.environment)
        proxy.machines, proxy.pairs = machines, False
        return proxy

    def flooded(self, version: Version, flooded_port: int, within: Sequence[str]) -> Proxy:
        """A relay with two machines, web0 and web1; web1 has a door of its own, back_port, and its Tentacle is at flooded_port.

        within: the command that runs it, if another one is to.
        """
        folder, values = self._folder(version.name)

        def command(filled: Values) -> Sequence[str]:
            file = folder / "flood.yaml"
            file.write_text(fill((HERE / file.name).read_text(), {**filled, "flooded_port": str(flooded_port)}))
            _give_identities(folder / "state", folder / "relay.pem", 2)
            return [*within, *version.argv, "run", "--config", str(file)]

        proxy = Proxy(version.name, folder, command, values)
        proxy.environment, proxy.machines, proxy.pairs = dict(version.environment), 1, False
        return proxy


def write_relay_configuration(folder: Path, machines: int, polling: bool, values: Values, nodes: Sequence[str] = ()) -> Path:
    """Writes relay.yaml, and gives the relay its identities.

    folder: has relay.pem. polling, nodes: see Street.relay.
    """
    file = folder / "relay.yaml"
    back = f"back:\n  listen: 127.0.0.1:{values['back_port']}" if polling else ""
    text = {
        "machines": _machines(machines, polling, values, bool(nodes)),
        "back": back,
        "nodes": f"    nodes: [{', '.join(f'https://{node}' for node in nodes)}]" if nodes else "",
    }
    file.write_text(fill((HERE / file.name).read_text(), {**values, **text}))
    _give_identities(folder / "state", folder / "relay.pem", machines)
    return file


def _machines(count: int, polling: bool, values: Values, nodes: bool) -> str:
    """Entries of so many machines, each with an address of its own."""
    entries = []
    for number in range(count):
        address = f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}:{values['target_port']}"
        polls = polling and number < count - 1
        tentacle = f"poll://web{number}/" if polls else f"https://{address}"
        front = ", front: polling" if polls and nodes else ""
        entries.append(
            f"  - {{name: web{number}, host: web{number}.test, tentacle: '{tentacle}',"
            f" thumbprint: {values['tentacle_thumbprint']}{front}}}"
        )
    return "\n".join(entries)


def _give_identities(state: Path, identity: Path, machines: int) -> None:
    """Makes the relay's folder of identities, as if it had made them itself: the same one for all, which saves much time."""
    for folder, names in (("machines", [f"web{number}" for number in range(machines)]), ("octopus", ["bench"])):
        (state / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            file = state / folder / f"{name}.pem"
            if not file.exists():
                file.hardlink_to(identity)
    state.chmod(0o700)


def listens(port: int) -> bool:
    """Whether somebody does, on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
