"""Dials to Octopus nodes, on real sockets."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from identities import identity
from strangers import LOCAL, free_port, says_nothing, stranger
from tables import PRODUCTION, machine, table
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from certs.identity import Identity
from certs.store import IdentityStore
from relay.outcomes import NodeTrouble
from relay.peers.octopus import Octopus
from relay.probe.many import NotReadyError
from relay.probe.nodes import NodeJob, NodeResult, node_jobs, probe_nodes
from routing.addresses import Address
from routing.table import HttpProxy

ENTRY = replace(PRODUCTION, thumbprints=(identity("octopus").thumbprint,))


@pytest_twisted.async_yield_fixture
async def node() -> AsyncIterator[Octopus]:
    made = Octopus(reactor, identity("octopus").pem())
    made.polling_machine("poll://kiosk7/", str(identity("kiosk7").thumbprint))
    made.port = await made.listen()  # type: ignore[attr-defined]
    yield made
    await made.stop()
    assert not made.violations


async def probed(port: int, who: Identity, seconds: float = 20.0, entry: object = ENTRY) -> NodeResult:
    job = NodeJob(machine("kiosk7", octopus=(entry,)), entry, Address(LOCAL, port), who, None)  # type: ignore[arg-type]
    [result] = await Deferred.fromCoroutine(probe_nodes(reactor, [job], seconds, 1))
    return result


@pytest_twisted.ensureDeferred
async def test_a_node_that_trusts_the_machine_and_loses_no_call(node: Octopus) -> None:
    result = await probed(node.port, identity("kiosk7"))  # type: ignore[attr-defined]
    assert (result.ok, result.detail, result.remedy) == (True, "", "")
    assert result.seconds > 0


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not(node: Octopus) -> None:
    result = await probed(node.port, identity("stranger"))  # type: ignore[attr-defined]
    assert result.trouble is NodeTrouble.NOT_TRUSTED
    assert "`machines NAME`" in result.remedy


@pytest_twisted.ensureDeferred
async def test_a_node_with_another_certificate(node: Octopus) -> None:
    other = replace(ENTRY, thumbprints=(identity("another").thumbprint,))
    result = await probed(node.port, identity("kiosk7"), entry=other)  # type: ignore[attr-defined]
    assert result.trouble is NodeTrouble.WRONG_CERTIFICATE
    assert str(identity("octopus").thumbprint) in result.detail


@pytest_twisted.ensureDeferred
async def test_nobody_is_there() -> None:
    assert (await probed(free_port(), identity("kiosk7"))).trouble is NodeTrouble.REFUSED


@pytest_twisted.ensureDeferred
async def test_one_that_says_nothing_is_given_up() -> None:
    with stranger(says_nothing) as port:
        result = await probed(port, identity("kiosk7"), 0.2)
    assert result.trouble is NodeTrouble.CONNECT_TIMEOUT
    assert result.detail == "it did not say within 0.2 s who it is"


# ---- what is to be polled ----------------------------------------------------------------------------------------------


def test_a_job_for_each_machine_that_is_polled_for_and_each_node(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    nodes = (Address("octopus-1", 10943), Address("octopus-2", 10943))
    entry = replace(ENTRY, nodes=nodes, proxy=HttpProxy(Address("proxy", 3128)))
    dialled = machine("web01", octopus=(entry,))
    polled = replace(machine("kiosk7", octopus=(entry,)), polled_for=True)
    there = replace(table(tmp_path, dialled, polled), octopus=(entry,))
    with pytest.raises(NotReadyError, match="machine kiosk7: its identity was not made yet"):
        node_jobs(store, there, there.machines, None)
    made = store.machine("kiosk7")
    found = node_jobs(store, there, there.machines, None)
    assert [(job.machine.name, job.node, job.identity, str(job.proxy)) for job in found] == [
        ("kiosk7", node, made, "proxy:3128") for node in nodes
    ]
    assert node_jobs(store, there, there.machines, "staging") == []


def test_credentials_that_cannot_be_read(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    entry = replace(ENTRY, nodes=(Address("a", 1),), proxy=HttpProxy(Address("proxy", 3128), tmp_path / "none"))
    there = replace(table(tmp_path, machine("web01", octopus=(entry,))), octopus=(entry,))
    with pytest.raises(NotReadyError, match=r"octopus entry production: proxy_credentials: .*none"):
        node_jobs(store, there, there.machines, None)
