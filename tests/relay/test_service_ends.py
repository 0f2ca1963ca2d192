"""Tentacles and nodes that die, or fall silent, while one polls the relay or is polled: a running service, real processes.

A killed process's connection is closed by its kernel, and a stopped one's is kept by it and never read. The relay's clock
stands still, so what takes a minute takes none. docs/topologies.md has the times.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from puppet import Puppet
from recorded_calls import Recorded, calls
from recordings import CAPTURES
from replay_site import Peer, ReplaySite
from tls_peer import FIN, RST
from wires import Held

from relay.halibut.lines import NEXT, NULL_ENVELOPE, PROCEED


def recorded(name: str) -> Recorded:
    """The longest call of a conversation."""
    return max(calls(CAPTURES / name / "conn-1.jsonl"), key=lambda call: sum(map(len, (*call.request, *call.reply))))


PLAIN = calls(CAPTURES / "polling-head-to-head" / "conn-1.jsonl")[0]
UPLOAD, DOWNLOAD = recorded("polling-upload-200k-head"), recorded("polling-download-200k")
SOME = 6  # records: within the stream
STAGES = ["parked", "in call", "in the request", "in the reply"]


@pytest_twisted.async_yield_fixture
async def sites() -> AsyncIterator[list[ReplaySite]]:
    await turns()
    before = Held.now()
    made: list[ReplaySite] = []
    yield made
    for site in made:
        await site.clean()
    await turns()
    assert Held.now().more_than(before) == ""


async def opened(sites: list[ReplaySite], folder: Path, back: str, puppet: str) -> ReplaySite:
    """puppet: octopus or tentacle, whichever is a process of its own, if one is."""
    site = ReplaySite(folder, "polling", back)
    sites.append(site)
    await site.open(puppet)
    await site.advance(5)  # so that the Tentacle has been there for a while
    return site


def node(site: ReplaySite) -> Peer:
    assert site.octopus
    return site.octopus


async def brought(site: ReplaySite, stage: str) -> None:
    """As far as that."""
    if stage == "parked":
        return
    request = UPLOAD.request[:SOME] if stage == "in the request" else DOWNLOAD.request
    for record in request:
        node(site).write(record)
    assert await site.takes(site.tentacle, sum(map(len, request))) == list(request)
    if stage == "in the reply":
        for record in DOWNLOAD.reply[:SOME]:
            site.tentacle.write(record)
        assert await site.takes(node(site), sum(map(len, DOWNLOAD.reply[:SOME]))) == list(DOWNLOAD.reply[:SOME])
    for peer in (site.tentacle, node(site)):
        peer.acknowledge()


async def call(site: ReplaySite) -> None:
    """A call goes through."""
    for record in PLAIN.request:
        node(site).write(record)
    await site.hears(site.tentacle, *PLAIN.request)
    for record in PLAIN.reply:
        site.tentacle.write(record)
    await site.hears(node(site), *PLAIN.reply, NEXT)
    assert site.relay.calls()[-1] == "ok"


def die(peer: Peer) -> None:
    peer.kill() if isinstance(peer, Puppet) else peer.close()


# ---- who dies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "closed"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_a_tentacle_dies(sites: list[ReplaySite], tmp_path: Path, back: str, stage: str, how: str) -> None:
    site = await opened(sites, tmp_path, back, "tentacle" if how == "killed" else "")
    await brought(site, stage)
    spare = await site.tentacle_comes() if back == "listening" and stage != "parked" else None
    die(site.tentacle)
    if back == "listening" and stage == "parked":  # another is had before anybody notices
        site.tentacle = await site.tentacle_comes()
        assert (node(site).end, node(site).data) == (None, b"")
        assert site.relay.calls() == []
    else:
        ended = await site.ended(node(site))
        assert ended == {"in the reply": RST}.get(stage, FIN)  # in a stream FIN could pass for its end (wire.md 5.7)
        assert node(site).data == b""
        assert site.relay.calls() == ([] if stage == "parked" else ["tentacle-gone"])
        site.tentacle = spare or await site.tentacle_comes()
        await site.advance(10)
        site.octopus = await site.octopus_comes()
    await call(site)


@pytest.mark.parametrize("how", ["killed", "closed"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_a_node_dies(sites: list[ReplaySite], tmp_path: Path, back: str, stage: str, how: str) -> None:
    site = await opened(sites, tmp_path, back, "octopus" if how == "killed" else "")
    await brought(site, stage)
    spare = await site.tentacle_comes() if back == "listening" and stage != "parked" else None
    die(node(site))
    if stage == "parked":
        await site.until(lambda: not site.service.polls("kiosk7"))
        assert (site.tentacle.end, site.tentacle.data) == (None, b"")
    else:
        assert await site.ended(site.tentacle) == {"in the request": RST}.get(stage, FIN)
        assert site.relay.calls() == ["cancelled"]
        site.tentacle = spare or await site.tentacle_comes()
    await site.advance(10)
    site.octopus = await site.octopus_comes()
    await call(site)


# ---- who falls silent ---------------------------------------------------------------------------------------------------


async def stopped(
    sites: list[ReplaySite], folder: Path, back: str, who: str, stage: str = "parked"
) -> tuple[ReplaySite, Puppet]:
    site = await opened(sites, folder, back, who)
    await brought(site, stage)
    puppet = site.tentacle if who == "tentacle" else node(site)
    assert isinstance(puppet, Puppet)
    puppet.stop()
    return site, puppet


async def minutes(site: ReplaySite, seconds: float) -> None:
    """The relay goes on as it is, and the node with it, which sends a null message every 25 s."""
    while seconds > 0:
        step = min(seconds, 5.0)
        seconds -= step
        await site.advance(step)
        if (site.reactor.seconds() // 5) % 5 == 0 and not node(site).end:
            node(site).write(NULL_ENVELOPE)
            await site.street.changes.until(lambda: node(site).data == NEXT or node(site).end)
            node(site).records.clear()
            node(site).write(PROCEED)
            await turns()


@pytest_twisted.ensureDeferred
async def test_a_parked_poller_that_is_silent_is_given_up_after_90_seconds(sites: list[ReplaySite], tmp_path: Path) -> None:
    site, puppet = await stopped(sites, tmp_path, "polling", "tentacle")
    await minutes(site, 84)  # with the 5 before, all but one
    assert site.service.back_connections("kiosk7") == 1
    await minutes(site, 1)
    assert site.service.back_connections("kiosk7") == 0
    assert await site.ended(node(site)) == FIN
    puppet.go_on()
    assert await site.ended(puppet) == RST
    assert puppet.data == NULL_ENVELOPE


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_silent_is_given_up_after_a_minute_and_dialled_again(
    sites: list[ReplaySite], tmp_path: Path
) -> None:
    site, puppet = await stopped(sites, tmp_path, "listening", "octopus")
    for _ in range(11):  # with the 5 s before, a minute
        await site.advance(5)
    assert site.service.last_failure("kiosk7") is None
    await site.advance(5)
    failure = site.service.last_failure("kiosk7")
    assert failure
    assert failure.word.value == "silent"
    assert (site.tentacle.end, site.tentacle.data) == (None, b"")
    puppet.go_on()
    assert await site.ended(puppet) == FIN
    await site.advance(10)
    site.octopus = await site.octopus_comes()
    await call(site)


@pytest_twisted.ensureDeferred
async def test_a_parked_listening_tentacle_that_is_silent_is_replaced_after_nine_minutes(
    sites: list[ReplaySite], tmp_path: Path
) -> None:
    site, puppet = await stopped(sites, tmp_path, "listening", "tentacle")
    await minutes(site, 534)  # with the 5 before, all but one
    assert not site.tentacles.dialled
    await minutes(site, 1)
    site.tentacle = await site.tentacle_comes()
    assert node(site).end is None
    puppet.go_on()
    assert await site.ended(puppet) == FIN
    await call(site)


@pytest.mark.parametrize("stage", ["in call", "in the request", "in the reply"])
@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_is_silent_in_a_call_ends_it_after_eleven_minutes(
    sites: list[ReplaySite], tmp_path: Path, back: str, stage: str
) -> None:
    site, puppet = await stopped(sites, tmp_path, back, "tentacle", stage)
    await silence(site)
    assert await site.ended(node(site)) == {"in the reply": RST}.get(stage, FIN)
    puppet.go_on()
    assert await site.ended(puppet) == (RST if stage == "in the request" else FIN)


@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_a_node_that_is_silent_in_its_request_ends_it_after_eleven_minutes(
    sites: list[ReplaySite], tmp_path: Path, back: str
) -> None:
    site, puppet = await stopped(sites, tmp_path, back, "octopus", "in the request")
    await silence(site)
    assert await site.ended(site.tentacle) == RST
    puppet.go_on()
    assert await site.ended(puppet) in (FIN, RST)


async def silence(site: ReplaySite) -> None:
    """Nothing moves until the relay gives the call up, which it looks for every 5 s."""
    for _ in range(131):
        await site.advance(5)
    assert site.relay.calls() == []
    for _ in range(4):
        await site.advance(5)
    assert site.relay.calls() == ["silent"]


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_silent_behind_a_reply_costs_the_tentacle_nothing(sites: list[ReplaySite], tmp_path: Path) -> None:
    site, puppet = await stopped(sites, tmp_path, "polling", "octopus", "in call")
    for record in (*DOWNLOAD.reply, NEXT):
        site.tentacle.write(record)
    await site.hears(site.tentacle, PROCEED)
    assert site.relay.calls() == ["ok"]
    for _ in range(13):
        await site.advance(5)
        if site.tentacle.data:
            await site.hears(site.tentacle, NULL_ENVELOPE)
            site.tentacle.write(NEXT)
            await site.hears(site.tentacle, PROCEED)
    failure = site.service.last_failure("kiosk7")
    assert failure
    assert failure.word.value == "silent"
    puppet.go_on()
    await site.advance(10)
    site.octopus = await site.octopus_comes()
    await call(site)
