"""The relay as a process of its own, and what stands around it: machines with a door to call at and a Tentacle to play."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import yaml
from scripted import CLIENT, NEXT, PATIENCE, PREAMBLE, PROCEED, SERVER, Peer, party

_PORTS: Final = range(12_000, 32_000)  # below those that the kernel gives to whoever dials
# An address of loopback for this process alone: tests that run beside it cannot take a door's port before its relay does.
HOST: Final = f"127.{os.getpid() >> 16 & 0xFF}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
# Whom the relay shows: to Octopus, and to Tentacles for either of two octopus entries.
TENTACLE_FACE: Final = "relay as Tentacle"
OCTOPUS_FACE: Final = "relay as Octopus"
OTHER_OCTOPUS_FACE: Final = "relay as another Octopus"


def eventually(condition: Callable[[], bool], what: Callable[[], str], within: float = PATIENCE, every: float = 0.005) -> None:
    """Waits for what another process does by itself, and of which it sends no word: what it has given back to the system.

    every: so often it looks, in seconds.
    """
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what()
        threading.Event().wait(every)


def free_ports(count: int) -> list[int]:
    """Ports of HOST on which nobody listens."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            sock = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind((HOST, random.choice(_PORTS)))
                found.append(sock.getsockname()[1])
        return found


def _in_proc(host: str) -> str:
    """An IPv4 address as /proc/net/tcp has it."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}"


class Lines:
    """The JSON lines that a process writes to a pipe, as they come. Other lines are in ``strange``."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._ended = False
        self.found: list[dict[str, Any]] = []
        self.strange: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            with self._changed:
                try:
                    self.found.append(json.loads(line))
                except ValueError:
                    self.strange.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """So many lines with these fields."""

        def there() -> list[dict[str, Any]]:
            return [line for line in self.found if fields.items() <= line.items()]

        with self._changed:
            self._changed.wait_for(lambda: len(there()) >= count or self._ended, PATIENCE)
            found = there()
        assert len(found) >= count, f"{len(found)} of {count} lines with {fields}: {self.found[-20:]}, {self.strange[-20:]}"
        return found

    def join(self) -> None:
        """Waits for the end."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._pipe.close()


class RelayProcess:
    """``relay-tentacle run`` with this configuration, from its "running" line on.

    stdout: a descriptor for the access log; if not given, its lines are in ``access``. descriptors: its limit of open files.
    """

    def __init__(
        self, folder: Path, configuration: dict[str, Any], *, stdout: int | None = None, descriptors: int | None = None
    ) -> None:
        file = folder / "relay.yaml"
        file.write_text(yaml.safe_dump(configuration), "utf-8")
        command = [sys.executable, "-m", "relay", "run", "--config", str(file)]
        if descriptors:
            command = ["/bin/sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if stdout is None else stdout, stderr=subprocess.PIPE
        )
        assert self.process.stderr is not None
        self.log = Lines(self.process.stderr)
        self.access = Lines(self.process.stdout) if self.process.stdout else None
        try:
            self.log.wait(event="running")
            self.at_rest = self.held()
        except BaseException:
            self.kill()
            raise

    # ---- what it holds ----------------------------------------------------------------------------------------------

    def held(self) -> tuple[int, int]:
        """How many descriptors and threads it has."""
        proc = Path("/proc", str(self.process.pid))
        return len(os.listdir(proc / "fd")), len(os.listdir(proc / "task"))

    def expect_rest(self) -> None:
        """It has given back all that it held for its peers."""
        eventually(
            lambda: self.held() == self.at_rest,
            lambda: f"descriptors, threads: {self.held()}, at rest {self.at_rest}; {self._descriptors()}",
        )

    def _descriptors(self) -> list[str]:
        folder = Path("/proc", str(self.process.pid), "fd")
        return sorted(os.readlink(folder / number) for number in os.listdir(folder))

    def unread(self, door: int, caller: Peer) -> int:
        """How many bytes of this caller wait in the kernel for the relay to read them."""
        ends = f":{door:04X}", f":{caller.port:04X}"
        for line in Path("/proc", str(self.process.pid), "net/tcp").read_text().splitlines()[1:]:
            local, remote, _, queues = line.split()[1:5]
            if (local[-5:], remote[-5:]) == ends:
                return int(queues.partition(":")[2], 16)
        raise AssertionError(f"no connection between {ends}")

    def holds(self, peer: Peer) -> bool:
        """Whether it has this connection open."""
        theirs, ours = (f"{_in_proc(host)}:{port:04X}" for host, port in peer.ends)
        lines = Path("/proc", str(self.process.pid), "net/tcp").read_text().splitlines()[1:]
        owned = (line.split() for line in lines)
        return any((fields[1], fields[2]) == (ours, theirs) and fields[9] != "0" for fields in owned)  # [9]: inode

    def forget_peak(self) -> int:
        """From now on ``peak`` counts anew; bytes of memory now."""
        Path("/proc", str(self.process.pid), "clear_refs").write_text("5")
        return self._memory("VmRSS")

    @property
    def peak(self) -> int:
        """The most bytes of memory that it had since forget_peak()."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        for line in Path("/proc", str(self.process.pid), "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field}")

    # ---- its end ----------------------------------------------------------------------------------------------------

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def expect_stopped(self, within: float = PATIENCE, errors: frozenset[str] = frozenset()) -> None:
        """It ends by itself: exit code 0, and no word of an error of its own but of these."""
        assert self.process.wait(within) == 0
        self.log.join()
        assert self.log.strange == []
        found = [line for line in self.log.found if line["level"] in ("error", "critical") or "exception" in line]
        assert {line["event"] for line in found} == errors, found
        if self.access:
            self.access.join()
            assert self.access.strange == [], repr(self.access.strange)

    def stop(self) -> None:
        self.signal()
        self.expect_stopped()

    def kill(self) -> None:
        """For the end of a test, however it went."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        for lines in (self.log, self.access):
            if lines:
                lines.join()


class Machine:
    """A door of the relay, and the Tentacle behind it. Connections that it gives are closed when it is."""

    def __init__(self, name: str, door: int) -> None:
        self.name = name
        self.door = door
        self.relay: RelayProcess
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._peers: list[Peer] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where the door is."""
        return HOST, self.door

    @property
    def port(self) -> int:
        """Where the Tentacle listens."""
        port: int = self.listener.getsockname()[1]
        return port

    def call(self, who: str = "octopus", version: int = 0, face: str = TENTACLE_FACE) -> Peer:
        """Somebody dials the door, and says nothing yet. face: whom the relay has to show; empty: whomever."""
        caller = self.keep(Peer.dial(self.address, who, version))
        assert not face or caller.certificate == party(face).der
        return caller

    def accept(self, who: str = "tentacle", version: int = 0, face: str = OCTOPUS_FACE) -> Peer:
        """The relay dials the Tentacle. face: as above."""
        tentacle = self.keep(Peer.accept(self.listener, who, version))
        assert not face or tentacle.certificate == party(face).der
        return tentacle

    def keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def ready(self, who: str = "octopus", face: str = OCTOPUS_FACE) -> tuple[Peer, Peer]:
        """A caller and a Tentacle, both identified."""
        caller = self.call(who)
        caller.send(PREAMBLE, CLIENT)
        tentacle = self.accept(face=face)
        identify(tentacle)
        caller.expect(SERVER)
        return caller, tentacle

    def turn(self, caller: Peer, tentacle: Peer) -> None:
        """The caller's next call is taken by the connection that the relay has kept."""
        caller.send(NEXT)
        tentacle.expect(NEXT)
        tentacle.send(PROCEED)
        caller.expect(PROCEED)

    def next_caller(self, tentacle: Peer) -> Peer:
        """Another caller, who gets the connection that the relay has kept."""
        caller = self.call()
        caller.send(PREAMBLE, CLIENT)
        tentacle.expect(NEXT)
        tentacle.send(PROCEED)
        caller.expect(SERVER)
        return caller

    def expect_no_dial(self) -> None:
        """The relay has not dialled the Tentacle again."""
        self.listener.setblocking(False)
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        sock.close()
        raise AssertionError("the relay dialled the Tentacle")

    def expect_heard(self, caller: Peer) -> None:
        """The relay has read all that this caller has sent."""
        eventually(lambda: self.relay.unread(self.door, caller) == 0, lambda: "the relay does not read")

    def down(self) -> None:
        """Nobody listens any more: who dials is refused."""
        self.listener.close()

    def calls(self, count: int = 1) -> list[dict[str, Any]]:
        """So many lines of the access log about this machine."""
        assert self.relay.access
        return self.relay.access.wait(count, machine=self.name)

    def expect_outcomes(self, *words: str) -> None:
        assert [line["outcome"] for line in self.calls(len(words))] == list(words)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self._peers.clear()


def identify(tentacle: Peer) -> None:
    """What a Tentacle does with a dialler that it trusts."""
    tentacle.expect(PREAMBLE, CLIENT)
    tentacle.send(SERVER)


def octopus_entry(name: str, *callers: str, face: str) -> dict[str, Any]:
    """A section of the file. callers: whose thumbprints it trusts; face: whom the relay shows for it, empty: its own choice."""
    entry: dict[str, Any] = {"name": name, "thumbprints": [str(party(who).thumbprint) for who in callers]}
    return {**entry, "identity": f"{face}.pem"} if face else entry


class Site:
    """A relay and its machines. relay, octopus, defaults: sections of the file; provisioned: whether the relay gets identities.

    passed: how many machines more, which are passed through. host: how the file calls the place where the Tentacles are.
    admin: where metrics are served. process: what RelayProcess takes. configuration: what the file says.
    """

    def __init__(
        self,
        folder: Path,
        machines: int,
        *,
        relay: dict[str, Any] | None = None,
        octopus: list[dict[str, Any]] | None = None,
        defaults: dict[str, Any] | None = None,
        provisioned: bool = True,
        passed: int = 0,
        host: str = "127.0.0.1",
        admin: str = "none",
        **process: Any,
    ) -> None:
        for face in (OCTOPUS_FACE, OTHER_OCTOPUS_FACE, TENTACLE_FACE):
            (folder / f"{face}.pem").touch(0o600)
            (folder / f"{face}.pem").write_bytes(party(face).pem())
        self.machines = [Machine(f"web{number:02}", door) for number, door in enumerate(free_ports(machines))]
        for machine in self.machines:
            shutil.copy(folder / f"{TENTACLE_FACE}.pem", folder / f"{machine.name}.pem")
        self.passed = [Machine(f"vault{number:02}", door) for number, door in enumerate(free_ports(passed))]
        entries = octopus or [octopus_entry("production", "octopus", face=OCTOPUS_FACE if provisioned else "")]
        self.configuration: dict[str, Any] = {
            "version": 1,
            "relay": {"name": "test", "state": "state", **(relay or {})},
            "admin": {"listen": admin},
            "octopus": entries,
            "machines": [
                {
                    "name": machine.name,
                    "tentacle": f"https://{host}:{machine.port}",
                    "thumbprint": str(party("tentacle").thumbprint),
                    "octopus": [entry["name"] for entry in entries],
                    "port": f"{HOST}:{machine.door}",
                    **({"identity": f"{machine.name}.pem"} if provisioned else {}),
                }
                for machine in self.machines
            ]
            + [
                {
                    "name": machine.name,
                    "tentacle": f"https://{host}:{machine.port}",
                    "passthrough": True,
                    "port": f"{HOST}:{machine.door}",
                }
                for machine in self.passed
            ],
            "defaults": defaults or {},
        }
        try:
            self.relay = RelayProcess(folder, self.configuration, **process)
        except BaseException:
            self.close()
            raise
        for machine in (*self.machines, *self.passed):
            machine.relay = self.relay
        self._unused = iter(self.machines)

    def unused(self) -> Machine:
        """A machine that no test has called yet."""
        return next(self._unused)

    def close(self) -> None:
        for machine in (*self.machines, *self.passed):
            machine.close()
            machine.listener.close()


@contextlib.contextmanager
def site(folder: Path, machines: int = 1, **options: Any) -> Iterator[Site]:
    """A site for the time of a test, or of several. The relay has to stop well at its end, if it has not before."""
    made = Site(folder, machines, **options)
    try:
        yield made
        made.close()
        if made.relay.process.poll() is None:
            made.relay.expect_rest()
            made.relay.stop()
    finally:
        made.close()
        made.relay.kill()
