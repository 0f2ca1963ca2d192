"""Reloads of a real relay by SIGHUP, with strict peers that call all the while: nothing is lost, and nothing runs twice."""

import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest_twisted
from changes import Changes
from scripted import party
from system import HOST, RelayProcess, free_ports
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from relay.peers.errors import ConnectingError, UnexpectedCertificateError
from relay.peers.listening_machine import ListeningMachine
from relay.peers.octopus import Octopus
from relay.peers.services import Service
from relay.peers.tentacle import Tentacle
from relay.peers.times import Times, pause

RELOADS: Final = 100
BROKEN_EACH: Final = 10
SERVICE: Final = "ICountService"
RELOADED: Final = "reloaded"
FAILED: Final = "reload failed: the old configuration runs on"
MISTAKE: Final = "a mistake in the configuration"
STAYING: Final = ("steady", "timed", "faced")  # whose callers never have to connect again
NAMES: Final = (*STAYING, "rotated", "moved", "passing")


def put(path: Path, data: bytes) -> None:
    """As careful operators do it: whoever reads it finds the old one or the new one."""
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_bytes(data)
    os.replace(new, path)


class Scene:
    """A relay with six machines, each of which changes in its own way, or not at all.

    steady: never. timed: its timeouts. faced: the identity that its Tentacle sees, and its octopus entry's thumbprints.
    rotated: the identity that Octopus sees. moved: its port. passing: it comes and goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ports = free_ports(len(NAMES) + 1)
        self.ports = dict(zip(NAMES, ports, strict=False))
        self.other_port = ports[-1]
        self.changes = Changes()
        self.numbers = itertools.count()
        self.ran: list[int] = []
        self.answered: list[int] = []
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.reloads = 0
        self.stopping = False
        self.tentacles: dict[str, Tentacle] = {}
        self.addresses: dict[str, int] = {}
        self.doors: set[tuple[str, str]] = set()  # in force
        self.relay: RelayProcess

    # ---- the Tentacles ----------------------------------------------------------------------------------------------

    async def open(self, stack: AsyncExitStack) -> None:
        async def count(number: int) -> int:
            self.ran.append(number)
            if number % 5 == 0:
                await pause(reactor, 0.03)  # it is under way while the relay reloads
            return number

        service = Service(SERVICE, "CountService", {"Count": count})
        trusted = [str(party(face).thumbprint) for face in ("ours", "ours again")]
        for name in NAMES:
            home = self._folder / "homes" / name
            tentacle = Tentacle(reactor, party("tentacle").pem(), trusted, home, services=[service])
            stack.push_async_callback(tentacle.stop)
            self.tentacles[name] = tentacle
            self.addresses[name] = await tentacle.listen()
        for name in NAMES:
            put(self._folder / f"{name}.pem", party(f"{name} as Tentacle").pem())
        for name in ("production", "staging"):
            put(self._folder / f"{name}.pem", party("ours").pem())
        self.doors = self.doors_of(self.configuration(0))
        self.relay = RelayProcess(self._folder, self.configuration(0))
        stack.callback(self.relay.kill)

    # ---- the configurations -----------------------------------------------------------------------------------------

    def configuration(self, step: int) -> dict[str, Any]:
        """Each step differs from the one before."""
        octopus, staging = (str(party(who).thumbprint) for who in ("octopus", "intruder"))
        more = [str(party("octopus after next").thumbprint)] if step % 4 == 1 else []
        machines: list[dict[str, Any]] = [
            {
                "name": name,
                "tentacle": f"https://127.0.0.1:{self.addresses[name]}",
                "thumbprint": str(party("tentacle").thumbprint),
                "octopus": ["staging" if name == "faced" else "production"],
                "port": f"{HOST}:{self.ports[name]}",
                "identity": f"{name}.pem",
            }
            for name in NAMES
        ]
        by_name = {machine["name"]: machine for machine in machines}
        by_name["timed"]["timeouts"] = {"front_idle": ["5m", "6m"][step % 2]}
        by_name["moved"]["port"] = f"{HOST}:{self.moved_port(step)}"
        if step % 3 == 1:
            machines.remove(by_name["passing"])
        return {
            "version": 1,
            "relay": {"name": "test", "state": "state"},
            "admin": {"listen": "none"},
            "octopus": [
                {"name": "production", "thumbprints": [octopus], "identity": "production.pem"},
                {"name": "staging", "thumbprints": [staging, *more], "identity": "staging.pem"},
            ],
            "machines": machines,
        }

    def moved_port(self, step: int) -> int:
        return [self.ports["moved"], self.other_port][step // 2 % 2]

    def doors_of(self, configuration: dict[str, Any]) -> set[tuple[str, str]]:
        return {(machine["name"], machine["port"]) for machine in configuration["machines"]}

    async def reload(self, step: int) -> None:
        """By the next configuration, or by one with a mistake.

        Returns when the relay has said what became of it, calls have gone on, and callers have missed the doors that it closed.
        """
        file = self._folder / "relay.yaml"
        broken = step % BROKEN_EACH == 0
        configuration = self.configuration(step)
        if broken:
            configuration["machines"][0]["thumbprint"] = "none"
        else:
            put(self._folder / "rotated.pem", party(["rotated as Tentacle", "rotated again"][step // 2 % 2]).pem())
            put(self._folder / "staging.pem", party(["ours", "ours again"][step // 3 % 2]).pem())
        put(file, json.dumps(configuration).encode())
        failed = step // BROKEN_EACH
        count, event = (failed, FAILED) if broken else (step - failed, RELOADED)
        closing = set() if broken else self.doors - self.doors_of(configuration)
        missed = {name: self.refused[name] + 1 for name, _ in closing}
        self.relay.signal(signal.SIGHUP)
        await deferToThread(self.relay.log.wait, count, event=event)
        if not broken:
            self.doors = self.doors_of(configuration)
        self.reloads += 1
        self.changes.changed()
        calls = self.calls["steady"] + 3
        await self.changes.until(
            lambda: self.calls["steady"] >= calls and all(self.refused[name] >= count for name, count in missed.items())
        )

    # ---- the callers ------------------------------------------------------------------------------------------------

    async def call(self, name: str, handles: Iterator[ListeningMachine]) -> None:
        """One call after the other. handles: where and as whom the machine may be found; the next one where it is not there."""
        handle = next(handles)
        while not self.stopping:
            number = next(self.numbers)
            try:
                reply = await handle.call(SERVICE, "Count", number)
            except UnexpectedCertificateError:
                assert name == "rotated"
                self.refused[name] += 1
                handle = next(handles)
            except ConnectingError:
                assert name in ("moved", "passing"), name
                self.refused[name] += 1
                handle = next(handles)
                reloads = self.reloads
                if name == "passing":
                    await self.changes.until(lambda reloads=reloads: self.reloads > reloads or self.stopping)
            else:
                assert reply == number
                self.answered.append(number)
                self.calls[name] += 1
                self.changes.changed()

    def handles(self, octopus: Octopus, name: str) -> Iterator[ListeningMachine]:
        faces = [f"{name} as Tentacle", "rotated again"] if name == "rotated" else [f"{name} as Tentacle"]
        ports = [self.ports[name], self.other_port] if name == "moved" else [self.ports[name]]
        attempts = 1 if name in ("moved", "passing") else 5  # as a real one makes; those two are to be missed
        return itertools.cycle(
            octopus.machine(HOST, port, str(party(face).thumbprint), attempts=attempts) for face in faces for port in ports
        )


@pytest_twisted.ensureDeferred
async def test_reloads_under_load_lose_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(tmp_path)
        await scene.open(stack)
        nodes = {who: Octopus(reactor, party(who).pem(), times=Times(retry_pause=0.01)) for who in ("octopus", "intruder")}
        for node in nodes.values():
            stack.push_async_callback(node.stop)
        callers = [
            Deferred.fromCoroutine(scene.call(name, scene.handles(nodes["intruder" if name == "faced" else "octopus"], name)))
            for name in ("steady", *NAMES)
        ]
        everybody = gatherResults(callers, consumeErrors=True)
        try:
            for step in range(1, RELOADS + 1):
                await scene.reload(step)
                assert not everybody.called, everybody
        finally:
            scene.stopping = True
            scene.changes.changed()
            await everybody
        assert scene.reloads == RELOADS
        for node in nodes.values():
            await node.stop()
        for peer in (*nodes.values(), *scene.tentacles.values()):
            assert not peer.violations
        scene.relay.signal()
        await deferToThread(scene.relay.expect_stopped, errors=frozenset({FAILED, MISTAKE}))
        expect_nothing_lost(scene)


def expect_nothing_lost(scene: Scene) -> None:
    assert sorted(scene.ran) == sorted(scene.answered)
    assert len(set(scene.ran)) == len(scene.ran)
    assert all(scene.calls[name] for name in NAMES), scene.calls
    assert scene.refused.keys() == {"rotated", "moved", "passing"}, scene.refused  # each of them was missed at times
    assert scene.relay.access
    lines = scene.relay.access.found
    assert Counter(line["outcome"] for line in lines)["ok"] == len(scene.answered)
    assert {line["outcome"] for line in lines} <= {"ok", "cut"}
    assert {line["machine"] for line in lines if line["outcome"] == "cut"} <= {"passing"}
    for name in STAYING:  # one connection from each caller, from the first call to the last
        assert len({line["peer"] for line in lines if line["machine"] == name}) == (2 if name == "steady" else 1)
    assert sum(not line["reused"] for line in lines if line["machine"] == "steady") <= 2  # and one to the Tentacle
    for name in ("timed", "faced"):
        assert sum(not line["reused"] for line in lines if line["machine"] == name) > 1
