"""The combinations in which somebody polls (design, section 1), between strict peers on real sockets."""

from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from identities import identity
from polling_site import PollingSite
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import ClientCreator, Factory, Protocol
from wires import Held

from relay.fronts.poll import PICKED_UP
from relay.outcomes import NodeTrouble, Outcome, Refusal
from relay.peers.errors import ConnectingError, TransferError
from relay.peers.octopus import Octopus
from relay.transport.proxy import Proxy
from routing.addresses import Address

COMBINATIONS = ["dialling to polling", "polling to listening", "polling to polling"]
in_each_combination = pytest.mark.parametrize("combination", COMBINATIONS)


@pytest_twisted.async_yield_fixture
async def site(tmp_path: Path) -> AsyncIterator[PollingSite]:
    # Twisted keeps a descriptor from the first port on
    await maybeDeferred(reactor.listenTCP(0, Factory(), interface="127.0.0.1").stopListening)
    await turns()
    before = Held.now()
    made = PollingSite(tmp_path)
    yield made
    await made.clean()
    await turns()
    assert Held.now().more_than(before) == ""


async def both_ends(site: PollingSite, combination: str) -> Any:
    """The machine as Octopus sees it, its Tentacle being there."""
    front, back = combination.split(" to ")
    if back == "polling":
        await site.polling_tentacle()
    else:
        await site.listening_tentacle()
    if front == "dialling":
        return site.dialling_octopus()
    [machine] = await site.nodes()
    await site.changes.until(lambda: site.polled)
    return machine


def begin(call: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(call)


def slow(machine: Any) -> Deferred[Any]:
    """A call that ends when the test says so."""
    return begin(machine.call("ISlowService", "Wait"))


async def failure(call: Deferred[Any]) -> BaseException:
    try:
        await call
    except (TransferError, ConnectingError, CancelledError) as error:
        return error
    raise AssertionError("it did not fail")


# ---- what goes through ---------------------------------------------------------------------------------------------------


@in_each_combination
@pytest_twisted.ensureDeferred
async def test_calls_and_files_go_through(site: PollingSite, combination: str) -> None:
    machine = await both_ends(site, combination)
    assert "IScriptServiceV2" in await machine.get_capabilities()
    await machine.upload_file("file.bin", b"x" * 300_000)
    got = await machine.call("IFileTransferService", "DownloadFile", "file.bin")
    assert got.length == 300_000
    got.discard()
    assert "IScriptServiceV2" in await machine.get_capabilities()
    assert site.outcomes == [Outcome.OK] * 4
    assert site.calls[1].request_bytes > 300_000
    assert site.calls[2].reply_bytes > 300_000
    assert {(call.machine, call.octopus) for call in site.calls} == {("kiosk7", "production")}


@in_each_combination
@pytest_twisted.ensureDeferred
async def test_an_hour_of_silence_costs_nothing(site: PollingSite, combination: str) -> None:
    """Nulls, and connections that are replaced; the nodes' own clock stands still, so they are given up and dialled again."""
    machine = await both_ends(site, combination)
    for _ in range(3600 // 20):
        await site.advance(20)
        for _ in range(5):
            await turns()
    await site.spin(lambda: site.back.live and (not site.fronts or site.fronts[0].connections == 1))
    assert "IScriptServiceV2" in await machine.get_capabilities()
    assert site.outcomes == [Outcome.OK]


@in_each_combination
@pytest_twisted.ensureDeferred
async def test_octopus_cancels(site: PollingSite, combination: str) -> None:
    machine = await both_ends(site, combination)
    call = slow(machine)
    await site.changes.until(lambda: site.slow.calls)
    call.cancel()
    await failure(call)
    await site.changes.until(lambda: site.calls)
    assert site.outcomes == [Outcome.CANCELLED]
    site.slow.calls[0].callback(None)


@in_each_combination
@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_dies_in_a_call_ends_it_at_once(site: PollingSite, combination: str) -> None:
    machine = await both_ends(site, combination)
    call = slow(machine)
    await site.changes.until(lambda: site.slow.calls)
    await site.tentacles[0].stop()
    error = await failure(call)
    assert isinstance(error, TransferError)
    assert site.outcomes == [Outcome.TENTACLE_GONE]


# ---- who may poll --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_stranger_claims_a_subscription(site: PollingSite) -> None:
    machine = site.dialling_octopus()
    await site.polling_tentacle()
    await site.polling_tentacle(name="intruder")
    await site.changes.until(lambda: site.refusals)
    shown, owner = identity("intruder").thumbprint, identity("tentacle").thumbprint
    assert site.refusals[0] == (
        Refusal.NOT_OWNER,
        "kiosk7",
        f"poll://sq-tentapoll/: {shown} was shown, and its machine has {owner}",
    )
    assert len(site.polling) == 1
    assert "IScriptServiceV2" in await machine.get_capabilities()


@pytest_twisted.ensureDeferred
async def test_an_octopus_polls_in_the_place_of_a_tentacle(site: PollingSite) -> None:
    await site.polling_tentacle(name="octopus")
    await site.changes.until(lambda: site.refusals)
    assert site.refusals[0][0] is Refusal.NOT_OWNER
    assert len(site.polling) == 0


@pytest_twisted.ensureDeferred
async def test_a_tentacle_calls_in_the_place_of_an_octopus(site: PollingSite) -> None:
    await site.polling_tentacle()
    site.dialling_octopus()
    caller = Octopus(reactor, identity("tentacle").pem(), spool=site.folder)
    with pytest.raises(ConnectingError):
        await caller.connect("127.0.0.1", site.door_port, str(identity("as tentacle").thumbprint))
    assert [refusal for refusal, _, _ in site.refusals] == [Refusal.UNTRUSTED]


@pytest_twisted.ensureDeferred
async def test_an_octopus_calls_at_the_door_for_polling_tentacles(site: PollingSite) -> None:
    with pytest.raises(ConnectingError):
        await site.octopus().connect("127.0.0.1", site.polling_door.address[1], str(identity("as octopus").thumbprint))
    [(refusal, machine, detail)] = site.refusals
    assert (refusal, machine) == (Refusal.BROKE_PROTOCOL, "")
    assert str(identity("octopus").thumbprint) in detail


@pytest_twisted.ensureDeferred
async def test_a_subscription_that_no_machine_has(site: PollingSite) -> None:
    await site.polling_tentacle(name="intruder", subscription="poll://elsewhere/")
    await site.changes.until(lambda: site.refusals)
    shown = identity("intruder").thumbprint
    assert site.refusals[0] == (
        Refusal.UNKNOWN_SUBSCRIPTION,
        "",
        f"poll://elsewhere/: no machine has it; {shown} was shown",
    )


# ---- how many ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["dialling", "polling"])
@pytest_twisted.ensureDeferred
async def test_five_connections_in_parallel(site: PollingSite, front: str) -> None:
    await site.polling_tentacle(5)
    machine = site.dialling_octopus() if front == "dialling" else (await site.nodes(connections=5))[0]
    calls = [slow(machine) for _ in range(5)]
    await site.changes.until(lambda: len(site.slow.calls) == 5)
    for answer in reversed(site.slow.calls):
        answer.callback(None)
    await gatherResults(calls)
    assert site.outcomes == [Outcome.OK] * 5


@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_three_nodes_call_at_once_and_the_tentacle_has_one_connection(tmp_path: Path, back: str) -> None:
    site = PollingSite(tmp_path, connections=1)
    if back == "polling":
        await site.polling_tentacle()
    else:
        await site.listening_tentacle()
    machines = await site.nodes(3)
    await site.changes.until(lambda: len(site.polled) == 3)
    calls = [slow(machine) for machine in machines]
    for number in range(3):
        await site.changes.until(lambda number=number: len(site.slow.calls) == number + 1)
        await site.spin(lambda number=number: site.back.waiting == 2 - number)
        site.slow.calls[number].callback(None)
    await gatherResults(calls)
    assert site.outcomes == [Outcome.OK] * 3
    await site.spin(lambda: site.fronts[0].connections == 3)
    assert site.troubles == []
    await site.clean()


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_picked_up_waits_a_minute_for_its_tentacle(site: PollingSite) -> None:
    await site.polling_tentacle()
    first, second = await site.nodes(2)
    await site.changes.until(lambda: len(site.polled) == 2)
    served = slow(first)
    await site.changes.until(lambda: site.slow.calls)
    waiting = slow(second)
    await site.spin(lambda: site.back.waiting)
    await site.advance(PICKED_UP - 1)
    assert site.outcomes == []
    await site.advance(1)
    assert isinstance(await failure(waiting), TransferError)
    assert site.outcomes == [Outcome.QUEUE_TIMEOUT]
    site.slow.calls[0].callback(None)
    await served


# ---- waiting for a poller ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_caller_is_answered_when_a_tentacle_polls(site: PollingSite) -> None:
    call = begin(site.dialling_octopus().get_capabilities())
    await site.spin(lambda: site.polling.waiting)
    await site.polling_tentacle(0)
    site.poll(site.tentacles[0])
    assert "IScriptServiceV2" in await call


@pytest_twisted.ensureDeferred
async def test_nobody_polls(site: PollingSite) -> None:
    call = begin(site.dialling_octopus().get_capabilities())
    await site.spin(lambda: site.polling.waiting)
    await site.advance(site.machine.timeouts.ready)
    error = await failure(call)
    assert isinstance(error, ConnectingError)  # nothing ran, and Octopus may try again
    assert site.outcomes == [Outcome.NO_POLLER]


@pytest_twisted.ensureDeferred
async def test_a_caller_that_goes_while_it_waits_frees_its_place(site: PollingSite) -> None:
    machine = site.dialling_octopus()
    first = begin(site.octopuses[0].connect("127.0.0.1", site.door_port, str(identity("as tentacle").thumbprint)))
    await site.spin(lambda: site.polling.waiting)
    first.cancel()
    await failure(first)
    await site.changes.until(lambda: site.calls)
    assert (site.outcomes, site.polling.waiting) == ([Outcome.CALLER_LEFT], 0)
    await site.polling_tentacle()
    assert "IScriptServiceV2" in await machine.get_capabilities()


@pytest_twisted.ensureDeferred
async def test_a_poller_that_dies_while_it_is_parked_costs_no_call(site: PollingSite) -> None:
    machine = site.dialling_octopus()
    _, pollers = await site.polling_tentacle(2)
    await pollers[0].stop()
    await site.spin(lambda: site.polling.parked == 1)
    assert "IScriptServiceV2" in await machine.get_capabilities()
    assert site.outcomes == [Outcome.OK]


# ---- polls stand while the Tentacle is live ------------------------------------------------------------------------------


@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_a_tentacle_goes_and_comes_back_while_nodes_are_polled(site: PollingSite, back: str) -> None:
    first = (await site.polling_tentacle())[0] if back == "polling" else await site.listening_tentacle()
    machines = await site.nodes(2)
    front = site.fronts[0]
    await site.changes.until(lambda: len(site.polled) == 2)
    await site.spin(lambda: front.connections == 2)
    await first.stop()
    await site.spin(lambda: len(front) == 0)
    await site.nodes_notice()
    call = slow(machines[0])  # Octopus keeps it, as for any polling Tentacle that is down
    await site.advance(30)
    await site.spin(lambda: len(front) == 0)
    assert site.calls == []
    if back == "polling":
        await site.polling_tentacle()
    else:
        await site.tentacle().listen(site.machine.tentacle.port)
        await site.advance(60)
    await site.advance(1)
    await site.changes.until(lambda: site.slow.calls)
    site.slow.calls[0].callback(None)
    await call
    assert site.outcomes == [Outcome.OK]
    assert site.troubles == []


@pytest_twisted.ensureDeferred
async def test_nobody_polls_for_a_tentacle_that_is_not_there(site: PollingSite) -> None:
    await site.nodes(2)
    await site.advance(120)
    assert (len(site.fronts[0]), len(site.gate), site.polled) == (0, 0, [])


@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_a_node_restarts_and_the_other_goes_on(site: PollingSite, back: str) -> None:
    if back == "polling":
        await site.polling_tentacle(2)
    else:
        await site.listening_tentacle()
    machines = await site.nodes(2)
    await site.changes.until(lambda: len(site.polled) == 2)
    front = site.fronts[0]
    [port] = [int(node.rpartition(":")[2]) for node in site.polled if node.endswith(f":{front.nodes[0].port}")]
    await site.octopuses[0].stop()
    await site.changes.until(lambda: site.troubles)
    assert "IScriptServiceV2" in await machines[1].get_capabilities()
    again = site.octopus()
    machine = again.polling_machine(front.subscription, str(identity("as tentacle").thumbprint))
    await site.advance(7.5)
    await site.spin(lambda: len(site.troubles) == 2)
    assert [trouble for trouble, _ in site.troubles] == [NodeTrouble.CLOSED, NodeTrouble.REFUSED]
    await again.listen(port)
    call = begin(machine.get_capabilities())
    await site.advance(15)
    assert "IScriptServiceV2" in await call


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_trust_the_relay(site: PollingSite) -> None:
    await site.polling_tentacle()
    [_] = await site.nodes()
    site.fronts.pop().stop()
    node = site.octopus()
    node.polling_machine("poll://sq-tentapoll/", "A" * 40)
    site.front([Address("127.0.0.1", await node.listen())])
    await site.changes.until(lambda: [trouble for trouble, _ in site.troubles] == [NodeTrouble.NOT_TRUSTED])


# ---- through a proxy -----------------------------------------------------------------------------------------------------


class Proxied(Protocol):
    """A caller of an HTTP proxy, and later an end of its tunnel. asked: the header that came."""

    def __init__(self) -> None:
        self.asked = b""
        self.other: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)
            return
        self.asked += data
        if self.asked.endswith(b"\r\n\r\n"):
            host, _, port = self.asked.split(b" ")[1].decode().partition(":")
            ClientCreator(reactor, Proxied).connectTCP(host, int(port)).addCallback(self._stands)

    def _stands(self, other: Any) -> None:
        self.other, other.other = other, self
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def connectionLost(self, reason: Any = None) -> None:
        if self.other:
            self.other.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_nodes_are_polled_through_a_proxy(site: PollingSite) -> None:
    made: list[Proxied] = []

    def make() -> Proxied:
        made.append(Proxied())
        return made[-1]

    factory = Factory.forProtocol(make)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    await site.polling_tentacle()
    [machine] = await site.nodes(proxy=Proxy("127.0.0.1", port.getHost().port, "relay:secret"))
    await site.changes.until(lambda: site.polled)
    await machine.upload_file("file.bin", b"x" * 300_000)
    assert b"\r\nProxy-Authorization: Basic cmVsYXk6c2VjcmV0\r\n" in made[0].asked
    assert site.outcomes == [Outcome.OK]
    site.fronts[0].stop()
    await site.nodes_notice()
    await site.spin(lambda: not (made[0].transport.connected or made[0].other.transport.connected))
    await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_is_not_there(site: PollingSite) -> None:
    await site.polling_tentacle()
    await site.nodes(proxy=Proxy("127.0.0.1", 1))
    await site.changes.until(lambda: site.troubles)
    assert site.troubles == [(NodeTrouble.REFUSED, "Connection refused (through the proxy 127.0.0.1:1)")]


# ---- the end -------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drain_lets_a_call_end_and_closes_the_other_polls(site: PollingSite) -> None:
    await site.polling_tentacle(2)
    machines = await site.nodes(2)
    await site.changes.until(lambda: len(site.polled) == 2)
    call = slow(machines[0])
    await site.changes.until(lambda: site.slow.calls)
    front = site.fronts[0]
    front.drain()
    assert (len(front), front.busy) == (1, 1)
    site.polling.stop()
    assert len(site.polling) == 1
    site.slow.calls[0].callback(None)
    await call
    await site.spin(lambda: len(front) == 0)
    assert (len(site.polling), site.outcomes, site.troubles) == (0, [Outcome.OK], [])


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_everything_at_once(site: PollingSite) -> None:
    await site.polling_tentacle()
    [machine] = await site.nodes()
    call = slow(machine)
    await site.changes.until(lambda: site.slow.calls)
    assert site.fronts[0].stop() == 1
    assert isinstance(await failure(call), TransferError)
    assert site.outcomes == [Outcome.STOPPED]
