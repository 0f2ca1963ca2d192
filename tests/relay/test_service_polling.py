"""A service whose machines poll, on either side: what reloads and operators do to it. Strict peers; the clock stands still."""

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from identities import identity
from service_site import OCTOPUS, Service
from street import Street
from tables import machine
from tls_peer import client_side
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from wires import Held

from certs.identity import Identity
from relay.errors import StartError
from relay.halibut.lines import PREAMBLE
from relay.load import NodePolls
from relay.outcomes import NodeTrouble
from relay.peers.errors import TransferError
from relay.peers.octopus import Octopus
from relay.peers.services import Service as Methods
from relay.peers.tentacle import Tentacle
from relay.peers.times import Times
from relay.service import CHECK_EVERY
from routing.addresses import Address
from routing.rules import Rule, Rules
from routing.table import HttpProxy, Limits, Machine

KIOSK, PULLED = "poll://sq-kiosk/", "poll://pulled/"
QUICK = Times(backoff_min=0.02, backoff_max=0.05, retry_pause=0.02)
BACK = Address("127.0.0.1", 0)


class Scene:
    """kiosk7: its Tentacle polls the relay, which polls Octopus for it. web01: the relay dials its Tentacle, and polls too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = Changes()
        self.reactor = ClockedReactor()
        self.held: list[Deferred[object]] = []
        self.octopus = Octopus(reactor, identity("octopus").pem(), spool=folder, times=QUICK)
        self.relay: Service
        self.kiosk: Machine
        self.web: Machine
        self.tentacles: dict[str, Tentacle] = {}
        self.machines: dict[str, Any] = {}

    async def open(self) -> None:
        node = Address("127.0.0.1", await self.octopus.listen())
        self.entry = replace(OCTOPUS, nodes=(node,))
        pin = (identity("tentacle").thumbprint,)
        options: dict[str, Any] = {"door": None, "thumbprints": pin, "octopus": (self.entry,), "polled_for": True}
        self.kiosk = machine("kiosk7", tentacle=None, subscription=KIOSK, **options)
        self.web = machine("web01", tentacle=BACK, subscription=PULLED, **options)
        put_identities(self.folder / "state")
        for name, subscription in (("kiosk7", KIOSK), ("web01", PULLED)):  # Octopus trusts them
            self.machines[name] = self.octopus.polling_machine(subscription, str(identity(name).thumbprint))
        self.trusted = [str(identity(name).thumbprint) for name in ("production", "replaced")]
        tentacle = self.tentacle("web01")
        self.web = replace(self.web, tentacle=Address("127.0.0.1", await tentacle.listen()))
        self.relay = Service(self.folder, self.reactor, self.kiosk, self.web, **self.options())
        self.service = self.relay.service
        self.service.start()
        self.back = self.service.back_door
        assert self.back

    def options(self) -> dict[str, Any]:
        return {"back": BACK, "back_octopus": self.entry}

    def tentacle(self, name: str) -> Tentacle:
        async def hold() -> object:
            answer: Deferred[object] = Deferred()
            self.held.append(answer)
            self.changes.changed()
            return await answer

        async def name_() -> str:
            return name

        methods = Methods("ITestService", "TestService", {"Hold": hold, "Name": name_})
        home = self.folder / f"home{len(self.tentacles)}"
        made = Tentacle(reactor, identity("tentacle").pem(), self.trusted, home, services=[methods], times=QUICK)
        self.tentacles[name] = made
        return made

    async def poll(self, count: int = 1, face: str = "production") -> None:
        assert self.back
        tentacle = self.tentacles.get("kiosk7") or self.tentacle("kiosk7")
        for _ in range(count):
            tentacle.poll(*self.back, str(identity(face).thumbprint), KIOSK)
        await self.until(lambda: self.service.back_connections("kiosk7") == count)

    async def call(self, name: str = "kiosk7", method: str = "Name") -> object:
        return await self.machines[name].call("ITestService", method)

    async def calling(self, name: str = "kiosk7") -> Deferred[object]:
        """A call that runs until its test says so."""
        before = len(self.held)
        call = Deferred.fromCoroutine(self.call(name, "Hold"))
        await self.until(lambda: len(self.held) > before)
        return call

    def reload(self, *machines: Machine, now: bool = False, **options: Any) -> Any:
        return self.relay.reload(*machines, now=now, **{**self.options(), **options})

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(20_000):
            if condition():
                return
            await turns(1)
        raise AssertionError(f"still not true; {self.relay.log()[-5:]}")

    def refused(self, reason: str) -> float | None:
        """How many connections have been, for this reason."""
        return self.relay.metric("relay_refusals_total", reason=reason)

    async def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        await turns()

    async def polled(self, name: str = "kiosk7", count: int = 1) -> None:
        """So many polls stand; dials that failed meanwhile are tried again."""
        for _ in range(50):
            for _ in range(200):
                if self.service.polls(name) == count:
                    return
                await turns(1)
            await self.advance(1)
        raise AssertionError(f"{self.service.polls(name)} of {count} polls; {self.relay.log()[-5:]}")

    async def clean(self) -> None:
        self.service.stop()
        for tentacle in self.tentacles.values():
            await tentacle.stop()
        await self.octopus.stop()
        await self.advance(100)
        await self.until(lambda: not self.relay.metric("relay_connections") and not self.service._open_polls)
        assert self.reactor.timers == []
        for peer in (self.octopus, *self.tentacles.values()):
            assert list(peer.violations) == []


def put_identities(state: Path) -> None:
    """So that none has to be made."""
    for folder, names in (("machines", ("kiosk7", "web01")), ("octopus", ("production",))):
        for name in names:
            path = state / folder / f"{name}.pem"
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            state.chmod(0o700)
            put(path, identity(name))


def put(path: Path, made: Identity) -> None:
    path.touch(0o600)
    path.write_bytes(made.pem())


@pytest_twisted.async_yield_fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    first = Octopus(reactor, identity("octopus").pem())  # Twisted keeps a descriptor from the first port that it listens at
    await first.listen()
    await first.stop()
    await turns()
    before = Held.now()
    made = Scene(tmp_path)
    await made.open()
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


@pytest_twisted.ensureDeferred
async def test_nodes_are_polled_while_the_tentacle_is_there(scene: Scene) -> None:
    assert await scene.call("web01") == "web01"
    assert scene.service.polls("kiosk7") == 0
    await scene.poll(2)
    await scene.polled()
    assert await scene.call() == "kiosk7"
    metrics = {name: scene.relay.metric(name) for name in ("relay_pollers", "relay_polls")}
    assert metrics == {"relay_pollers": 2, "relay_polls": 2}
    assert [line["machine"] for line in scene.relay.log("node polled")] == ["web01", "kiosk7"]
    assert {sharing for *_, sharing in scene.service._loop.poller._polled.values()} == {"web01", "kiosk7"}
    await scene.tentacles["kiosk7"].stop()
    await scene.until(lambda: scene.service.polls("kiosk7") == 0)
    assert scene.relay.log("node not polled") == []


@pytest_twisted.ensureDeferred
async def test_how_a_machine_is_polled_for_is_told(scene: Scene) -> None:
    service, [node] = scene.service, scene.entry.nodes
    await scene.polled("web01")
    assert service.nodes("web01") == [NodePolls("production", str(node), 1, 1)]
    assert service.nodes("kiosk7") == [NodePolls("production", str(node), 0, 0)]
    assert (service.live("web01"), service.live("kiosk7")) == (True, False)
    assert (service.back_connections("web01"), service.idle_back_connections("web01")) == (1, 1)
    await scene.poll()
    assert service.live("kiosk7") is True
    assert (service.pollers("kiosk7"), service.pollers("web01")) == (1, 0)
    await scene.octopus.stop()
    await scene.until(lambda: service.polls("kiosk7") == 0)
    [told] = service.nodes("kiosk7")
    assert (told.standing, told.wanted) == (0, 1)
    assert told.trouble in (NodeTrouble.CLOSED, NodeTrouble.TLS, NodeTrouble.REFUSED)  # as far as it has stopped


@pytest_twisted.ensureDeferred
async def test_only_calls_wait_and_not_what_is_kept_ready_for_them(scene: Scene) -> None:
    service = scene.service
    entry = replace(scene.entry, node_connections=2)
    only_one = replace(scene.web, octopus=(entry,), limits=Limits(connections=1))
    scene.reload(only_one, back_octopus=entry)
    await scene.polled("web01", 2)
    first = await scene.calling("web01")
    assert (service.in_flight("web01"), service.waiting("web01")) == (1, 0)
    second = Deferred.fromCoroutine(scene.call("web01"))
    await scene.until(lambda: service.in_flight("web01") == 2)
    assert service.waiting("web01") == 1
    scene.held[0].callback("done")
    assert [await first, await second] == ["done", "web01"]
    assert service.waiting("web01") == 0


@pytest_twisted.ensureDeferred
async def test_a_drained_machine_is_not_polled_for_and_keeps_its_tentacle(scene: Scene) -> None:
    await scene.poll()
    await scene.polled()
    call = await scene.calling()
    scene.service.drain_machine("kiosk7")
    assert scene.service.in_flight("kiosk7") == 1
    scene.held[0].callback("done")
    assert await call == "done"
    await scene.until(lambda: scene.service.polls("kiosk7") == 0)
    assert scene.service.back_connections("kiosk7") == 1
    scene.service.resume_machine("kiosk7")
    assert await scene.call() == "kiosk7"


@pytest.mark.parametrize("name", ["kiosk7", "web01"])
@pytest.mark.parametrize("by", ["machine", "octopus"])
@pytest_twisted.ensureDeferred
async def test_close_cuts_polls_and_they_come_back(scene: Scene, name: str, by: str) -> None:
    await scene.poll()
    await scene.polled(name)
    call = await scene.calling(name)
    closed = scene.service.close_machine(name) if by == "machine" else scene.service.close_octopus("production")
    assert closed == 1  # what was with Octopus; the Tentacle's own connection has gone beside it
    with pytest.raises(TransferError):
        await call
    scene.held[0].callback("for nobody")
    assert scene.relay.calls() == ["cut"]
    await scene.polled(name)
    assert await scene.call(name) == name


@pytest_twisted.ensureDeferred
async def test_a_reload_keeps_polls_and_pollers_of_what_stays(scene: Scene) -> None:
    await scene.poll()
    await scene.polled()
    await scene.polled("web01")
    calls = [await scene.calling(name) for name in ("kiosk7", "web01")]
    web = replace(scene.web, timeouts=replace(scene.web.timeouts, front_idle=9.0))
    assert scene.reload(scene.kiosk, web).changed == ("web01",)
    for answer in scene.held:
        answer.callback("kept")
    assert [await call for call in calls] == ["kept", "kept"]
    assert (scene.service.polls("kiosk7"), scene.service.back_connections("kiosk7")) == (1, 1)
    assert len(scene.relay.log("node polled")) == 2


@pytest_twisted.ensureDeferred
async def test_calls_that_were_picked_up_end_under_the_settings_of_then(scene: Scene) -> None:
    await scene.poll()
    call = await scene.calling()
    web_call = await scene.calling("web01")
    scene.reload(machine("other", octopus=(scene.entry,)))  # both are gone
    for answer in scene.held:
        answer.callback("done")
    assert [await call, await web_call] == ["done", "done"]
    await scene.until(lambda: (scene.relay.metric("relay_polls"), scene.relay.metric("relay_pollers")) == (0, 0))
    await scene.until(lambda: scene.refused("unknown-subscription"))


@pytest_twisted.ensureDeferred
async def test_with_now_calls_of_a_node_that_is_trusted_no_more_are_cut(scene: Scene) -> None:
    await scene.poll()
    call = await scene.calling()
    entry = replace(scene.entry, thumbprints=(identity("stranger").thumbprint,))
    kiosk, web = (replace(each, octopus=(entry,)) for each in (scene.kiosk, scene.web))
    changes = scene.reload(kiosk, web, now=True, back_octopus=entry)
    assert changes.closed >= 1
    with pytest.raises(TransferError):
        await call
    assert scene.relay.calls() == ["cut"]
    scene.held[0].callback("for nobody")
    await scene.until(lambda: scene.service.last_failure("web01"))
    assert scene.relay.log("node not polled")[0]["reason"] == "wrong-certificate"
    failure = scene.service.last_failure("web01")
    assert failure
    assert (failure.word.value, failure.peer) == ("wrong-certificate", str(scene.entry.nodes[0]))
    assert (scene.relay.metric("relay_node_troubles_total", reason="wrong-certificate") or 0) >= 1


@pytest_twisted.ensureDeferred
async def test_with_now_calls_of_a_tentacle_without_a_pin_are_cut(scene: Scene) -> None:
    await scene.poll()
    call = await scene.calling()
    scene.reload(replace(scene.kiosk, thumbprints=(identity("stranger").thumbprint,)), scene.web, now=True)
    with pytest.raises(TransferError):
        await call
    assert scene.relay.calls() == ["cut"]
    scene.held[0].callback("for nobody")
    await scene.until(lambda: scene.refused("not-owner"))


@pytest_twisted.ensureDeferred
async def test_pollers_come_again_where_the_relay_shows_another_identity(scene: Scene) -> None:
    await scene.poll()
    put(scene.folder / "state" / "octopus" / "production.pem", identity("replaced"))
    assert scene.reload(scene.kiosk, scene.web).changed == ("kiosk7", "web01")
    assert scene.service.back_connections("kiosk7") == 0
    await scene.poll(face="replaced")
    await scene.polled()
    assert await scene.call() == "kiosk7"


@pytest_twisted.ensureDeferred
async def test_a_listening_tentacle_that_is_down_is_not_polled_for_until_it_is_up(scene: Scene) -> None:
    await scene.polled("web01")
    await scene.advance(10)
    assert scene.web.tentacle
    port = scene.web.tentacle.port
    await scene.tentacles.pop("web01").stop()
    await scene.until(lambda: scene.service.polls("web01") == 0 and scene.service.last_failure("web01"))
    [line] = scene.relay.log("Tentacle not ready, no node is polled for it")
    assert (line["machine"], line["outcome"]) == ("web01", "refused")
    failure = scene.service.last_failure("web01")
    assert failure
    assert (failure.word.value, failure.peer) == ("refused", scene.web.uri)
    await scene.tentacle("web01").listen(port)
    await scene.advance(10)
    await scene.polled("web01")


@pytest_twisted.ensureDeferred
async def test_an_id_that_is_not_written_is_made_once_and_kept(scene: Scene) -> None:
    web = replace(scene.web, subscription=None)
    scene.reload(scene.kiosk, web)
    [_, made] = [line["subscription"] for line in scene.relay.log("door open") if line["machine"] == "web01"]
    pin = str(identity("web01").thumbprint)
    assert await scene.octopus.polling_machine(made, pin).call("ITestService", "Name") == "web01"
    assert scene.reload(scene.kiosk, web).unchanged == ("kiosk7", "web01")
    file = scene.folder / "state" / "subscriptions" / "web01"
    assert (file.read_text().strip(), file.stat().st_mode & 0o777) == (made, 0o600)


@pytest_twisted.ensureDeferred
async def test_credentials_that_cannot_be_read_change_nothing(scene: Scene) -> None:
    await scene.polled("web01")
    entry = replace(scene.entry, proxy=HttpProxy(Address("127.0.0.1", 1), scene.folder / "none"))
    with pytest.raises(StartError, match=r"proxy_credentials: .*none: cannot read"):
        scene.reload(scene.kiosk, replace(scene.web, octopus=(entry,)), back_octopus=entry)
    assert await scene.call("web01") == "web01"


@pytest_twisted.ensureDeferred
async def test_the_back_door_comes_and_goes_by_reloads(scene: Scene) -> None:
    scene.reload(scene.web, back=None, back_octopus=None)
    assert scene.service.back_door is None
    scene.reload(scene.kiosk, scene.web)
    scene.back = scene.service.back_door
    await scene.poll()


@pytest_twisted.ensureDeferred
async def test_a_drain_waits_for_what_polls_have_picked_up(scene: Scene) -> None:
    call = await scene.calling("web01")
    over: list[bool] = []
    scene.service.finished = lambda: over.append(True)
    scene.service.start_drain()
    await turns()
    assert not over
    scene.held[0].callback("done")
    assert await call == "done"
    await scene.until(lambda: over)
    assert scene.relay.calls() == ["ok"]


@pytest_twisted.ensureDeferred
async def test_a_poller_that_says_nothing_is_looked_for(scene: Scene) -> None:
    street = Street()
    assert scene.back
    caller = await street.call(scene.back, client_side("TLSv1.3", identity("tentacle")))
    caller.write(PREAMBLE)
    await turns(10)
    for _ in range(int(61 / CHECK_EVERY) + 1):
        await scene.advance(CHECK_EVERY)
    await street.ended(caller)
    assert [line["reason"] for line in scene.relay.log("caller refused")] == ["identify-timeout"]
    await street.clean()


@pytest_twisted.ensureDeferred
async def test_a_back_door_that_cannot_be_opened_names_its_key(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        back = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartError, match=r"the door of polling Tentacles: cannot listen on .*`back\.listen`"):
            scene.reload(scene.kiosk, scene.web, back=back)
    assert scene.service.back_door == scene.back


@pytest_twisted.ensureDeferred
async def test_nodes_of_an_octopus_that_no_rule_lets_in_are_not_polled(scene: Scene) -> None:
    await scene.poll()
    await scene.polled()
    await scene.polled("web01")
    nobody = Rules((Rule(("scripts",), networks=(ip_network("10.0.0.0/8"),)),))
    assert scene.reload(replace(scene.kiosk, rules=nobody), scene.web).changed == ("kiosk7",)
    await scene.until(lambda: scene.service.polls("kiosk7") == 0)
    assert scene.service.polls("web01") == 1
    scene.reload(replace(scene.kiosk, rules=Rules((Rule(("scripts",)),))), scene.web)
    await scene.polled()


@pytest_twisted.ensureDeferred
async def test_with_now_calls_that_were_picked_up_for_an_octopus_that_no_rule_lets_in_are_cut(scene: Scene) -> None:
    await scene.poll()
    call = await scene.calling()
    nobody = Rules((Rule(octopus=("another",)),))
    assert scene.reload(replace(scene.kiosk, rules=nobody), scene.web, now=True).closed == 1
    with pytest.raises(TransferError):
        await call
    assert scene.relay.calls() == ["cut"]
    scene.held[0].callback("for nobody")
    await scene.until(lambda: scene.service.polls("kiosk7") == 0)
