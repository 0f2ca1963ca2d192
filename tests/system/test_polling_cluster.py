"""A cluster of three Octopus nodes, and machines that are polled for or poll, by a real relay between strict peers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_twisted
from changes import Changes, turns
from scripted import CLIENT, PREAMBLE, Peer, party
from system import HOST, RelayProcess, eventually, free_ports
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
IDS: Final = {"one": "poll://sq-one/", "five": "poll://SQ-Five/", "quick": "poll://sq-quick/", "web": "poll://SQ-WEB/"}


class Cluster:
    """one, five and quick: their Tentacles poll; web: its Tentacle listens. The relay polls all nodes, but for five and quick,
    which Octopus dials; quick has a second for that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(3)
        self.changes = Changes()
        self.held: list[Deferred[object]] = []
        self.nodes = [Octopus(reactor, party("octopus").pem(), spool=folder, times=QUICK) for _ in range(3)]
        self.addresses: list[int] = []
        self.tentacles: list[Tentacle] = []
        self.relay: RelayProcess
        self._stack: AsyncExitStack

    async def open(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        for node in self.nodes:
            stack.push_async_callback(node.stop)
            self.addresses.append(await node.listen())
        for name in ("one", "web"):  # all nodes trust the relay from the start
            for number in range(3):
                self.machine(name, number)
        for file, who in (*((name, f"{name} as Tentacle") for name in IDS), ("production", "relay as Octopus")):
            path = self.folder / f"{file}.pem"
            path.touch(0o600)
            path.write_bytes(party(who).pem())
        self.web = self.tentacle()
        port = self.web_port = await self.web.listen()
        back, five, quick = (f"{HOST}:{port}" for port in self.ports)
        ways: dict[str, dict[str, Any]] = {
            "one": {"tentacle": IDS["one"], "front": "polling"},
            "five": {"tentacle": IDS["five"], "port": five},
            "quick": {"tentacle": IDS["quick"], "port": quick, "timeouts": {"ready": "1s"}},
            "web": {"tentacle": f"https://127.0.0.1:{port}", "front": "polling", "subscription": IDS["web"]},
        }
        pin = str(party("tentacle").thumbprint)
        configuration = {
            "relay": {"name": "test", "state": "state", "timeouts": {"drain": "10s"}},
            "octopus": [
                {
                    "name": "production",
                    "thumbprint": str(party("octopus").thumbprint),
                    "identity": "production.pem",
                    "nodes": [f"https://127.0.0.1:{port}" for port in self.addresses],
                }
            ],
            "back": {"listen": back},
            "machines": [{"name": name, "thumbprint": pin, "identity": f"{name}.pem", **way} for name, way in ways.items()],
            "admin": {"listen": "none"},
        }
        self.relay = await deferToThread(RelayProcess, self.folder, configuration)
        stack.callback(self.relay.kill)

    def tentacle(self, who: str = "tentacle") -> Tentacle:
        async def name() -> str:
            return "here"

        async def hold() -> object:
            answer: Deferred[object] = Deferred()
            self.held.append(answer)
            self.changes.changed()
            return await answer

        home = self.folder / f"home{len(self.tentacles)}"
        methods = Service(SERVICE, "TestService", {"Name": name, "Hold": hold})
        trusted = [str(party("relay as Octopus").thumbprint)]
        made = Tentacle(reactor, party(who).pem(), trusted, home, services=[methods], times=QUICK)
        self.tentacles.append(made)
        self._stack.push_async_callback(made.stop)
        return made

    def poll(self, name: str, count: int = 1, who: str = "tentacle") -> Tentacle:
        """Its Tentacle polls with so many connections, and spells its id as nobody else does. who: by whose certificate."""
        tentacle = self.tentacle(who)
        for _ in range(count):
            tentacle.poll(HOST, self.ports[0], str(party("relay as Octopus").thumbprint), IDS[name].upper())
        return tentacle

    def machine(self, name: str, node: int = 0) -> Any:
        """By which that node calls it."""
        face = str(party(f"{name} as Tentacle").thumbprint)
        if name in ("one", "web"):
            return self.nodes[node].polling_machine(IDS[name].lower(), face)
        return self.nodes[node].machine(HOST, self.ports[1 if name == "five" else 2], face)

    def begin(self, machine: Any, method: str = "Hold") -> Deferred[object]:
        return Deferred.fromCoroutine(machine.call(SERVICE, method))

    async def logged(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        return await deferToThread(self.relay.log.wait, count, **fields)

    async def outcomes(self, count: int, **fields: Any) -> list[str]:
        assert self.relay.access
        lines = await deferToThread(self.relay.access.wait, count, **fields)
        return [line["outcome"] for line in lines]


@pytest_twisted.async_yield_fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        made = Cluster(tmp_path)
        await made.open(stack)
        yield made
        await deferToThread(made.relay.stop)
        broken = [list(peer.violations) for peer in (*made.nodes, *made.tentacles) if peer.violations]
        assert broken == []


@pytest_twisted.ensureDeferred
async def test_calls_of_many_at_once(cluster: Cluster) -> None:
    """Three nodes and one connection: in turn. Five callers and five connections: side by side."""
    cluster.poll("one")
    cluster.poll("five", 5)
    machines = [cluster.machine("one", node) for node in range(3)]
    calls = [cluster.begin(machine) for machine in machines]
    for number in range(3):
        await cluster.changes.until(lambda number=number: len(cluster.held) == number + 1)
        cluster.held[number].callback(number)
    assert sorted(await gatherResults(calls)) == [0, 1, 2]
    cluster.held.clear()
    calls = [cluster.begin(cluster.machine("five")) for _ in range(5)]
    await cluster.changes.until(lambda: len(cluster.held) == 5)
    for answer in reversed(cluster.held):
        answer.callback("done")
    assert await gatherResults(calls) == ["done"] * 5
    assert await cluster.outcomes(8) == ["ok"] * 8


def leave_early(cluster: Cluster, door: int) -> None:
    """A caller that does not wait until a Tentacle polls."""
    caller = Peer.dial((HOST, door))
    caller.send(PREAMBLE, CLIENT)
    eventually(lambda: cluster.relay.unread(door, caller) == 0, lambda: "the relay does not read")
    caller.close()


@pytest_twisted.ensureDeferred
async def test_nobody_polls_and_a_caller_that_leaves(cluster: Cluster) -> None:
    with pytest.raises(ConnectingError):  # nothing ran: Octopus may try again
        await cluster.begin(cluster.machine("quick"), "Name")
    assert await cluster.outcomes(1, machine="quick") == ["no-poller"]
    await deferToThread(leave_early, cluster, cluster.ports[1])
    assert await cluster.outcomes(1, machine="five") == ["caller-left"]
    cluster.poll("five")
    assert await cluster.begin(cluster.machine("five"), "Name") == "here"


@pytest_twisted.ensureDeferred
async def test_each_in_the_other_s_role_is_closed_and_the_owner_is_served(cluster: Cluster) -> None:
    cluster.poll("five", who="octopus")
    [refused, *_] = await cluster.logged(event="caller refused", reason="not-owner", machine="five")
    for who in ("octopus", "tentacle"):
        assert str(party(who).thumbprint) in refused["detail"]
    caller = Octopus(reactor, party("tentacle").pem(), times=QUICK)
    with pytest.raises(ConnectingError):
        await caller.connect(HOST, cluster.ports[1], str(party("five as Tentacle").thumbprint))
    await cluster.logged(event="caller refused", reason="untrusted", machine="five")
    cluster.poll("five")
    assert await cluster.begin(cluster.machine("five"), "Name") == "here"
    assert await cluster.outcomes(1) == ["ok"]


@pytest_twisted.ensureDeferred
async def test_a_tentacle_goes_and_comes_back_while_nodes_are_polled(cluster: Cluster) -> None:
    """What is called meanwhile waits in Octopus, and no relay picks it up."""
    first = cluster.poll("one")
    await cluster.logged(3, event="node polled", machine="one")
    assert await cluster.begin(cluster.machine("web"), "Name") == "here"
    await first.stop()
    polls = [node._door._door._live for node in cluster.nodes]
    while any(len(live) > 1 for live in polls):  # web's own stays
        await turns(1)
    calls = [cluster.begin(cluster.machine("one", node)) for node in range(3)]
    assert await cluster.begin(cluster.machine("web", 2), "Name") == "here"
    cluster.poll("one", 3)
    await cluster.changes.until(lambda: len(cluster.held) == 3)
    for answer in cluster.held:
        answer.callback("back again")
    assert await gatherResults(calls) == ["back again"] * 3
    assert await cluster.outcomes(5) == ["ok"] * 5


@pytest_twisted.ensureDeferred
async def test_a_node_dies_in_a_call_and_returns(cluster: Cluster) -> None:
    cluster.poll("one", 2)
    await cluster.logged(3, event="node polled", machine="one")
    call = cluster.begin(cluster.machine("one"))
    await cluster.changes.until(lambda: cluster.held)
    await cluster.nodes[0].stop()
    with pytest.raises(TransferError):
        await call
    assert await cluster.outcomes(1, machine="one") == ["cancelled"]
    cluster.held[0].callback("for nobody")
    assert await cluster.begin(cluster.machine("one", 1), "Name") == "here"
    again = cluster.nodes[0] = Octopus(reactor, party("octopus").pem(), spool=cluster.folder, times=QUICK)
    cluster._stack.push_async_callback(again.stop)
    await again.listen(cluster.addresses[0])
    assert await cluster.begin(cluster.machine("one"), "Name") == "here"
