"""Polling on either side and on both, by a real relay between strict peers."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_twisted
import yaml
from changes import Changes
from scripted import party
from system import HOST, RelayProcess, free_ports
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from relay.peers.errors import ConnectingError, TransferError
from relay.peers.octopus import Octopus
from relay.peers.services import Service
from relay.peers.tentacle import Tentacle
from relay.peers.times import Times

SERVICE: Final = "ITestService"
QUICK: Final = Times(backoff_min=0.05, backoff_max=0.3, retry_pause=0.05)
KIOSK: Final = "poll://SQ-Kiosk/"
BOTH: Final = "poll://sq-both/"
PULLED: Final = "poll://Web-Pulled/"
NAMES: Final = ("both-listen", "tentacle-polls", "relay-polls", "both-poll")


class Scene:
    """A relay with a machine for each combination. Tentacles that poll have a connection each; the Octopus has one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(3)
        self.changes = Changes()
        self.held: list[Deferred[object]] = []
        self.octopus = Octopus(reactor, party("octopus").pem(), spool=folder, times=QUICK)
        self.tentacles: dict[str, Tentacle] = {}
        self.machines: dict[str, Any] = {}
        self.configuration: dict[str, Any] = {}
        self.relay: RelayProcess

    async def open(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.octopus.stop)
        node = await self.octopus.listen()
        addresses = {}
        for name in NAMES:
            (self.folder / f"{name}.pem").touch(0o600)
            (self.folder / f"{name}.pem").write_bytes(party(f"{name} as Tentacle").pem())
            tentacle = self.tentacles[name] = self.tentacle(name, name)
            stack.push_async_callback(tentacle.stop)
            addresses[name] = f"https://127.0.0.1:{await tentacle.listen()}"
        (self.folder / "production.pem").touch(0o600)
        (self.folder / "production.pem").write_bytes(party("relay as Octopus").pem())
        door, kiosk, back = (f"{HOST}:{port}" for port in self.ports)
        ways: dict[str, dict[str, Any]] = {
            "both-listen": {"tentacle": addresses["both-listen"], "port": door},
            "tentacle-polls": {"tentacle": KIOSK, "port": kiosk},
            "relay-polls": {"tentacle": addresses["relay-polls"], "front": "polling", "subscription": PULLED},
            "both-poll": {"tentacle": BOTH, "front": "polling"},
        }
        pin = {"thumbprint": str(party("octopus").thumbprint)}
        entry = {"name": "production", **pin, "identity": "production.pem", "nodes": f"https://127.0.0.1:{node}"}
        self.configuration = {
            "relay": {"name": "test", "state": "state", "timeouts": {"drain": "10s"}},
            "octopus": [entry],
            "back": {"listen": back},
            "machines": [
                {"name": name, "thumbprint": str(party(f"{name} Tentacle").thumbprint), "identity": f"{name}.pem", **way}
                for name, way in ways.items()
            ],
            "admin": {"listen": "none"},
        }
        faces = {name: str(party(f"{name} as Tentacle").thumbprint) for name in NAMES}
        self.machines = {
            "both-listen": self.octopus.machine(HOST, self.ports[0], faces["both-listen"]),
            "tentacle-polls": self.octopus.machine(HOST, self.ports[1], faces["tentacle-polls"]),
            "relay-polls": self.octopus.polling_machine(PULLED, faces["relay-polls"]),
            "both-poll": self.octopus.polling_machine(BOTH, faces["both-poll"]),
        }
        self.relay = await deferToThread(RelayProcess, self.folder, self.configuration)
        stack.callback(self.relay.kill)

    def tentacle(self, name: str, home: str) -> Tentacle:
        async def name_() -> str:
            return name

        async def hold() -> object:
            answer: Deferred[object] = Deferred()
            self.held.append(answer)
            self.changes.changed()
            return await answer

        service = Service(SERVICE, "TestService", {"Name": name_, "Hold": hold})
        trusted = [str(party("relay as Octopus").thumbprint)]
        return Tentacle(
            reactor, party(f"{name} Tentacle").pem(), trusted, self.folder / f"home of {home}", services=[service], times=QUICK
        )

    def poll(self, name: str, subscription: str, tentacle: Tentacle | None = None) -> None:
        pin = str(party("relay as Octopus").thumbprint)
        (tentacle or self.tentacles[name]).poll(HOST, self.ports[2], pin, subscription)

    async def call(self, name: str, method: str = "Name") -> object:
        return await self.machines[name].call(SERVICE, method)

    async def logged(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        return await deferToThread(self.relay.log.wait, count, **fields)

    async def reload(self) -> None:
        (self.folder / "relay.yaml").write_text(yaml.safe_dump(self.configuration), "utf-8")
        before = sum(line["event"] == "reloaded" for line in self.relay.log.found)
        self.relay.signal(signal.SIGHUP)
        await self.logged(before + 1, event="reloaded")


@pytest_twisted.async_yield_fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        made = Scene(tmp_path)
        await made.open(stack)
        yield made
        broken = [list(peer.violations) for peer in (made.octopus, *made.tentacles.values()) if peer.violations]
        assert broken == []


@pytest_twisted.ensureDeferred
async def test_all_four_combinations(scene: Scene) -> None:
    scene.poll("tentacle-polls", KIOSK)
    scene.poll("both-poll", BOTH)
    for _ in range(3):
        found = await gatherResults([Deferred.fromCoroutine(scene.call(name)) for name in NAMES])
        assert tuple(found) == NAMES
    assert scene.relay.access
    lines = await deferToThread(scene.relay.access.wait, 12, outcome="ok")
    assert {line["machine"] for line in lines} == set(NAMES)
    [door] = await scene.logged(event="door open", machine="relay-polls")
    assert (door["subscription"], door["door"]) == (PULLED.lower(), None)
    for name in ("relay-polls", "both-poll"):
        await scene.logged(event="node polled", machine=name, octopus="production")
    await deferToThread(scene.relay.stop)


@pytest_twisted.ensureDeferred
async def test_a_stranger_that_claims_a_subscription_is_closed_and_its_owner_is_served(scene: Scene) -> None:
    scene.poll("tentacle-polls", KIOSK.lower())
    stranger = scene.tentacle("stranger", "stranger")
    scene.poll("stranger", KIOSK, stranger)
    [line, *_] = await scene.logged(event="caller refused", reason="not-owner", machine="tentacle-polls")
    for who in ("stranger", "tentacle-polls"):
        assert str(party(f"{who} Tentacle").thumbprint) in line["detail"]
    assert await scene.call("tentacle-polls") == "tentacle-polls"
    await stranger.stop()


@pytest_twisted.ensureDeferred
async def test_a_subscription_of_nobody_and_an_octopus_that_polls_are_closed(scene: Scene) -> None:
    scene.poll("both-poll", "poll://sq-nobody/")
    await scene.logged(event="caller refused", reason="unknown-subscription")
    with pytest.raises(ConnectingError):
        await scene.octopus.connect(HOST, scene.ports[2], str(party("relay as Octopus").thumbprint))
    await scene.logged(event="caller refused", reason="broke-protocol")


@pytest_twisted.ensureDeferred
async def test_a_reload_keeps_the_polls_of_what_has_not_changed(scene: Scene) -> None:
    scene.poll("both-poll", BOTH)
    calls = [Deferred.fromCoroutine(scene.call(name, "Hold")) for name in ("both-poll", "relay-polls")]
    await scene.changes.until(lambda: len(scene.held) == 2)
    scene.configuration["machines"][0]["timeouts"] = {"ready": "30s"}
    await scene.reload()
    for answer in scene.held:
        answer.callback("kept")
    assert await gatherResults(calls) == ["kept", "kept"]
    assert [await scene.call(name) for name in ("both-poll", "relay-polls")] == ["both-poll", "relay-polls"]
    assert not [line for line in scene.relay.log.found if line["event"] == "node not polled"]
    [reloaded] = await scene.logged(event="reloaded")
    assert (reloaded["changed"], reloaded["unchanged"]) == (["both-listen"], 3)


@pytest_twisted.ensureDeferred
async def test_a_reload_takes_another_id_and_removes_a_polling_machine(scene: Scene) -> None:
    scene.poll("both-poll", BOTH)
    assert await scene.call("relay-polls") == "relay-polls"
    other = "poll://another/"
    scene.configuration["machines"][2]["subscription"] = other
    del scene.configuration["machines"][3]
    await scene.reload()
    pin = str(party("relay-polls as Tentacle").thumbprint)
    assert await scene.octopus.polling_machine(other, pin).call(SERVICE, "Name") == "relay-polls"
    await scene.logged(event="caller refused", reason="unknown-subscription")


@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_dies_in_a_call_ends_it_and_the_next_one_serves(scene: Scene) -> None:
    scene.poll("both-poll", BOTH)
    call = Deferred.fromCoroutine(scene.call("both-poll", "Hold"))
    await scene.changes.until(lambda: scene.held)
    await scene.tentacles["both-poll"].stop()
    with pytest.raises(TransferError):
        await call
    assert scene.relay.access
    await deferToThread(scene.relay.access.wait, machine="both-poll", outcome="tentacle-gone")
    again = scene.tentacles["both-poll"] = scene.tentacle("both-poll", "both-poll again")
    scene.poll("both-poll", BOTH, again)
    assert await scene.call("both-poll") == "both-poll"
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_drain_lets_calls_that_polls_have_picked_up_end(scene: Scene) -> None:
    scene.poll("tentacle-polls", KIOSK)
    names = ("relay-polls", "tentacle-polls")
    calls = [Deferred.fromCoroutine(scene.call(name, "Hold")) for name in names]
    await scene.changes.until(lambda: len(scene.held) == 2)
    scene.relay.signal(signal.SIGTERM)
    await scene.logged(event="draining")
    for answer in scene.held:
        answer.callback("done")
    assert await gatherResults(calls) == ["done", "done"]
    await deferToThread(scene.relay.expect_stopped)
