"""A machine that is passed through, as operators have it: limits, drain, close, reload, and how it is."""

import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from passthrough_site import HELLO, PassthroughSite
from service_site import DRAIN
from tables import machine
from tls_peer import FIN
from wires import Held

from relay.reload import Changes
from routing.addresses import Address
from routing.rules import Rule, Rules
from routing.table import Limits


@pytest_twisted.async_yield_fixture
async def site(tmp_path: Path) -> AsyncIterator[PassthroughSite]:
    await turns()
    before = Held.now()
    made = PassthroughSite(tmp_path)
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


def reload(site: PassthroughSite, *, now: bool = False, **changed: Any) -> Changes:
    """The machine is declared otherwise from now on."""
    return site.relay.reload(replace(site.machine, **changed), site.other, now=now)


async def another_tentacle(site: PassthroughSite) -> tuple[socket.socket, Address]:
    listener = site.keep(socket.create_server(("127.0.0.1", 0)))
    listener.setblocking(False)
    return listener, Address("127.0.0.1", listener.getsockname()[1])


async def goes_on(site: PassthroughSite, caller: socket.socket, tentacle: socket.socket) -> None:
    await site.send(caller, b"a call")
    assert await site.receive(tentacle, 6) == b"a call"
    await site.send(tentacle, b"its reply")
    assert await site.receive(caller, 9) == b"its reply"


async def is_cut(site: PassthroughSite, caller: socket.socket, tentacle: socket.socket) -> None:
    assert [await site.end(sock) for sock in (caller, tentacle)] == ["rst", "rst"]
    assert (await site.line())["outcome"] == "cut"


# ---- how it is ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_its_numbers(site: PassthroughSite) -> None:
    service = site.service
    assert service.last_success("vault01") is None
    caller, tentacle = await site.joined()
    assert [service.connections("vault01"), service.back_connections("vault01"), service.in_flight("vault01")] == [1, 1, 1]
    assert [service.waiting("vault01"), service.idle_back_connections("vault01")] == [0, 0]
    assert service.totals().connections == 1
    assert service.last_success("vault01") is None, "its Tentacle has said nothing yet"
    await site.send(tentacle, b"x")
    await site.receive(caller, 1)
    assert service.last_success("vault01") is not None
    caller.close()
    tentacle.close()
    await site.line()
    assert service.connections("vault01") == service.totals().connections == 0
    assert service.last_success("vault01") is not None


@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_resets_is_a_failure(site: PassthroughSite) -> None:
    _, tentacle = await site.joined()
    tentacle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    tentacle.close()
    await site.line()
    failure = site.service.last_failure("vault01")
    assert failure
    assert (failure.word.value, failure.detail) == ("tentacle-gone", "the Tentacle's side: reset")
    assert site.service.last_success("vault01") is None


@pytest_twisted.ensureDeferred
async def test_the_door_is_logged_without_a_thumbprint(site: PassthroughSite) -> None:
    [line] = site.relay.log("door open")[:1]
    assert (line["machine"], line["passthrough"], "thumbprint_for_octopus" in line) == ("vault01", True, False)
    assert set(site.relay.made) == {"production", "web01"}


@pytest_twisted.ensureDeferred
async def test_one_caller_more_than_the_limit(site: PassthroughSite) -> None:
    reload(site, limits=Limits(connections=2))
    await site.joined()
    second, its_tentacle = await site.joined()
    third = await site.street.call(site.address, shakes=False)
    assert await site.street.ended(third) == FIN
    assert third.records == []
    assert site.relay.metric("relay_refusals_total", reason="machine-connections") == 1
    [refused] = site.relay.log("caller refused")
    assert refused["detail"] == "2 connections to its Tentacle are open (limits.connections)"
    assert site.service.totals().connections == 2
    second.close()
    its_tentacle.close()
    await site.street.spin(lambda: site.service.connections("vault01") == 1)
    await site.joined()


@pytest_twisted.ensureDeferred
async def test_strangers_who_take_the_machines_places_make_room(site: PassthroughSite) -> None:
    """Or a few ClientHellos would close it."""
    reload(site, limits=Limits(connections=3))
    ours = await site.met("127.0.0.2")
    crowd = [await site.joined("127.0.0.3") for _ in range(2)]
    more = site.caller(source="127.0.0.3")
    assert await site.end(more) == "fin"
    assert site.relay.access() == [], "it had no more than its own"
    newcomer = await site.met("127.0.0.2")
    assert [await site.end(sock) for sock in crowd[0]] == ["rst", "rst"], "the oldest"
    line = await site.line()
    detail = "it made room: 2 callers of 127.0.0.3 had not answered the Tentacle, the most of the machine"
    assert (line["outcome"], line["detail"]) == ("cut", detail)
    assert site.relay.metric("relay_refusals_total", reason="machine-connections") == 2
    for pair in (ours, newcomer):
        await goes_on(site, *pair)


@pytest_twisted.ensureDeferred
async def test_whoever_may_not_come_takes_nobodys_place(site: PassthroughSite) -> None:
    reload(site, limits=Limits(connections=2), rules=only_from("127.0.0.3/32"))
    crowd = [await site.joined("127.0.0.3") for _ in range(2)]
    assert await site.end(site.caller(source="127.0.0.2")) == "fin"
    assert site.relay.metric("relay_refusals_total", reason="not-allowed") == 1
    await goes_on(site, *crowd[0])


# ---- drain and close ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drain_of_the_relay_waits_and_then_cuts(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    over = await site.drained()
    [line] = site.relay.log("draining")
    assert line["passed_through"] == 1
    await goes_on(site, caller, tentacle)
    await site.advance(DRAIN - 1)
    assert not over
    await goes_on(site, caller, tentacle)
    await site.advance(1)
    assert over
    site.service.stop()
    assert [await site.end(sock) for sock in (caller, tentacle)] == ["rst", "rst"]
    assert (await site.line())["outcome"] == "stopped"


@pytest_twisted.ensureDeferred
async def test_a_drain_is_over_with_the_last_connection(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    over = await site.drained()
    caller.close()
    assert await site.end(tentacle) == "fin"
    tentacle.close()
    await site.line()
    await site.advance(0)
    assert over


@pytest_twisted.ensureDeferred
async def test_a_machine_is_drained_and_resumed(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    site.service.drain_machine("vault01")
    refused = await site.street.call(site.address, shakes=False)
    assert await site.street.ended(refused) == FIN
    assert site.relay.metric("relay_refusals_total", reason="machine-drained") == 1
    await site.advance(DRAIN - 1)
    await goes_on(site, caller, tentacle)
    await site.advance(1)
    await is_cut(site, caller, tentacle)
    assert site.service.last_failure("vault01") is None
    site.service.resume_machine("vault01")
    await site.joined()


@pytest_twisted.ensureDeferred
async def test_whoever_is_there_when_it_is_resumed_stays(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    site.service.drain_machine("vault01")
    await site.advance(DRAIN - 1)
    site.service.resume_machine("vault01")
    await site.advance(100)
    await goes_on(site, caller, tentacle)
    await site.joined()


@pytest_twisted.ensureDeferred
async def test_a_drain_that_everybody_has_left_waits_for_nothing(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    site.service.drain_machine("vault01")
    due = site.reactor.seconds() + DRAIN
    assert [timer.getTime() for timer in site.reactor.timers].count(due) == 1
    caller.close()
    tentacle.close()
    assert (await site.line())["outcome"] == "ok"
    assert [timer.getTime() for timer in site.reactor.timers].count(due) == 0


@pytest_twisted.ensureDeferred
async def test_whose_tentacle_is_only_dialled_goes_at_once(site: PassthroughSite) -> None:
    site.listener.listen(0)
    for _ in range(3):
        site.street.connect(site.listener.getsockname())
    caller = site.caller()
    await site.street.spin(lambda: site.service.waiting("vault01"))
    site.service.drain_machine("vault01")
    assert await site.end(caller) == "fin"
    line = await site.line()
    assert (line["outcome"], line["detail"]) == ("cut", "the machine is drained")


@pytest_twisted.ensureDeferred
async def test_close_cuts_and_leaves_the_door_open(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    assert site.service.close_octopus("production") == 0
    await goes_on(site, caller, tentacle)
    assert site.service.close_machine("vault01") == 1
    await is_cut(site, caller, tentacle)
    await site.joined()


# ---- reload ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [False, True])
@pytest_twisted.ensureDeferred
async def test_another_address_of_the_tentacle(site: PassthroughSite, now: bool) -> None:
    caller, tentacle = await site.met()
    listener, address = await another_tentacle(site)
    changes = reload(site, tentacle=address, now=now)
    assert (changes.changed, changes.closed) == (("vault01",), int(now))
    if now:
        await is_cut(site, caller, tentacle)
    else:
        await site.advance(1000)
        await goes_on(site, caller, tentacle)
    site.caller()
    assert await site.receive(await site.accepted(listener), len(HELLO)) == HELLO


@pytest_twisted.ensureDeferred
async def test_whoever_was_left_with_the_old_address_is_cut_by_a_later_reload(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    _, address = await another_tentacle(site)
    reload(site, tentacle=address)
    await goes_on(site, caller, tentacle)
    assert reload(site, tentacle=address, now=True) == Changes(unchanged=("vault01", "web01"), closed=1)
    await is_cut(site, caller, tentacle)


@pytest.mark.parametrize("now", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_has_not_changed_stays(site: PassthroughSite, now: bool) -> None:
    caller, tentacle = await site.joined()
    assert reload(site, now=now) == Changes(unchanged=("vault01", "web01"))
    assert reload(site, limits=Limits(connections=1), now=now).closed == 0
    await goes_on(site, caller, tentacle)


@pytest.mark.parametrize("now", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_machine_that_is_removed(site: PassthroughSite, now: bool) -> None:
    caller, tentacle = await site.joined()
    changes = site.relay.reload(site.other, now=now)
    assert (changes.removed, changes.closed) == (("vault01",), int(now))
    if not now:
        assert [(each.name, load.connections) for each, load in site.service.leaving()] == [("vault01", 1)]
        await site.advance(DRAIN - 1)
        await goes_on(site, caller, tentacle)
        await site.advance(1)
    await is_cut(site, caller, tentacle)
    assert list(site.service.leaving()) == []
    assert site.relay.metric("relay_passthrough_connections_total", machine="vault01", outcome="cut") is None


@pytest.mark.parametrize("now", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_machine_that_is_not_passed_through_any_more(site: PassthroughSite, now: bool) -> None:
    caller, tentacle = await site.joined()
    opened = machine("vault01", tentacle=site.machine.tentacle, octopus=site.other.octopus)
    changes = site.relay.reload(opened, site.other, now=now)
    assert (changes.changed, changes.closed) == (("vault01",), int(now))
    if not now:
        await goes_on(site, caller, tentacle)
        await site.advance(DRAIN)
    await is_cut(site, caller, tentacle)
    assert "vault01" in site.relay.made
    await site.street.call(site.address)  # shakes hands with the relay itself, whose identity it is now
    assert site.relay.metric("relay_passthrough_connections_total", machine="vault01", outcome="cut") is None


@pytest_twisted.ensureDeferred
async def test_a_machine_that_is_drained_stays_so_whatever_it_becomes(site: PassthroughSite) -> None:
    site.service.drain_machine("vault01")
    opened = machine("vault01", tentacle=site.machine.tentacle, octopus=site.other.octopus)
    for declared in (opened, site.machine):
        site.relay.reload(declared, site.other)
        assert site.service.is_drained("vault01")
        caller = await site.street.call(site.address, shakes=False)
        assert await site.street.ended(caller) == FIN
        assert caller.records == []
    site.service.resume_machine("vault01")
    await site.joined()


@pytest_twisted.ensureDeferred
async def test_a_machine_that_is_passed_through_from_now_on(site: PassthroughSite) -> None:
    listener, address = await another_tentacle(site)
    passed = site.passed_through(name="web01", tentacle=address)
    before = await site.street.call(site.service.doors["web01"])
    assert site.relay.reload(site.machine, passed).changed == ("web01",)
    assert await site.street.ended(before), "it had no call yet"
    caller = site.keep(site.street.connect(site.service.doors["web01"]))
    await turns()
    await site.send(caller, HELLO)
    assert await site.receive(await site.accepted(listener), len(HELLO)) == HELLO
    assert site.relay.metric("relay_passthrough_connections_total", machine="web01", outcome="ok") == 0


# ---- rules ----------------------------------------------------------------------------------------------------------------


def only_from(network: str) -> Rules:
    return Rules((Rule(networks=(ipaddress.ip_network(network),)),))


@pytest_twisted.ensureDeferred
async def test_an_address_that_no_item_is_for(site: PassthroughSite) -> None:
    reload(site, rules=only_from("192.0.2.0/24"))
    caller = await site.street.call(site.address, shakes=False)
    assert await site.street.ended(caller) == FIN
    assert caller.records == []
    [refused] = site.relay.log("caller refused")
    assert (refused["reason"], refused["detail"]) == ("not-allowed", "no item of allow is for 127.0.0.1")
    assert site.service.totals().connections == 0
    reload(site, rules=only_from("127.0.0.0/8"))
    await goes_on(site, *await site.joined())


NOT_ALLOWED = "a reload has changed the rules: no item of allow is for its address"
NOBODY = only_from("192.0.2.0/24")


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_allowed_no_more_is_cut_by_reload_now(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    assert reload(site, now=True, rules=NOBODY).closed == 1
    await is_cut(site, caller, tentacle)


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_allowed_no_more_has_the_drain_time(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    assert reload(site, rules=NOBODY).closed == 0
    await site.advance(DRAIN / 2)
    assert reload(site, rules=NOBODY, limits=Limits(connections=5)).closed == 0, "another reload gives no more time"
    await site.advance(DRAIN / 2 - 1)
    await goes_on(site, caller, tentacle)
    await site.advance(1)
    await is_cut(site, caller, tentacle)
    assert (await site.line())["detail"] == NOT_ALLOWED
    assert site.relay.metric("relay_passthrough_connections_total", machine="vault01", outcome="cut") == 1


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_allowed_again_stays(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    reload(site, rules=NOBODY)
    reload(site, rules=only_from("127.0.0.0/8"))
    await site.advance(10 * DRAIN)
    await goes_on(site, caller, tentacle)


@pytest_twisted.ensureDeferred
async def test_only_who_is_refused_has_to_go(site: PassthroughSite) -> None:
    stays, goes = await site.met("127.0.0.2"), await site.met("127.0.0.3")
    reload(site, rules=only_from("127.0.0.2/32"))
    await site.advance(DRAIN)
    await is_cut(site, *goes)
    await goes_on(site, *stays)


@pytest_twisted.ensureDeferred
async def test_a_stranger_who_is_refused_goes_at_once(site: PassthroughSite) -> None:
    """No call is its own yet."""
    caller, tentacle = await site.joined()
    assert reload(site, rules=NOBODY).closed == 0
    await is_cut(site, caller, tentacle)
    assert (await site.line())["detail"] == NOT_ALLOWED
    assert site.relay.metric("relay_refusals_total", reason="not-allowed") == 1


@pytest_twisted.ensureDeferred
async def test_whose_tentacle_is_dialled_under_rules_that_are_gone_never_reaches_it(site: PassthroughSite) -> None:
    site.listener.listen(0)
    for _ in range(3):
        site.street.connect(site.listener.getsockname())
    caller = site.caller()
    await site.street.spin(lambda: site.service.waiting("vault01"))
    reload(site, rules=NOBODY)
    assert await site.end(caller) == "fin"
    assert (await site.line())["detail"] == NOT_ALLOWED
    assert site.service.connections("vault01") == 0


@pytest_twisted.ensureDeferred
async def test_a_drain_that_is_taken_back_allows_nobody(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    site.service.drain_machine("vault01")
    reload(site, rules=NOBODY)
    site.service.resume_machine("vault01")
    await site.advance(DRAIN)
    await is_cut(site, caller, tentacle)
    assert (await site.line())["detail"] == NOT_ALLOWED


@pytest_twisted.ensureDeferred
async def test_rules_take_no_drain_back(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    site.service.drain_machine("vault01")
    reload(site, rules=only_from("127.0.0.0/8"))
    await site.advance(DRAIN)
    await is_cut(site, caller, tentacle)
    assert (await site.line())["detail"] == "the machine is drained"
