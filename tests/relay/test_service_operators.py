"""What operators do with a running relay, and what it says about each machine."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from halibut_bytes import REQUEST, deflated, response
from identities import identity
from service_site import OCTOPUS, REPLY, REQUEST_ID, Site
from site_calls import in_call
from tables import machine
from tls_peer import FIN, RST, TlsPeer, client_side
from wires import Held

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.outcomes import Outcome, Refusal
from relay.route import Failure
from relay.service import NoSuchNameError


@pytest_twisted.async_yield_fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    await turns()
    before = Held.now()
    made = Site(tmp_path)
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


async def introduced(site: Site) -> TlsPeer:
    """A caller that has said who it is."""
    caller = await site.caller()
    caller.write(PREAMBLE)
    caller.write(CLIENT_IDENTITY)
    return caller


# ---- drain and resume ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drained_machine_ends_its_calls_and_takes_no_caller_until_it_is_resumed(site: Site) -> None:
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    busy = await introduced(site)
    await site.hears(pooled, NEXT)
    pooled.write(PROCEED)
    await site.hears(busy, SERVER_IDENTITY)
    unknown, waiting = await site.caller(), await introduced(site)
    await site.street.spin(site.dialled)
    dials = site.take_dials()
    site.service.drain_machine("web01")
    assert site.service.drained == frozenset({"web01"})
    for caller in (idle, unknown, waiting):
        assert await site.street.ended(caller) == FIN
        assert caller.data == b""
    await site.call(busy, pooled)
    assert await site.street.ended(busy) == FIN
    await site.changes.until(lambda: pooled.end)
    assert pooled.data == END
    caller = await site.street.call(site.address, client_side("TLSv1.3", identity("octopus")), shakes=False)
    assert await site.street.ended(caller) == FIN
    assert caller.records == []
    assert site.relay.metric("relay_refusals_total", reason="machine-drained") == 2
    outcomes = {line["outcome"]: line["detail"] for line in site.relay.access()}
    assert outcomes == {"ok": "", "cut": "the machine is drained"}
    site.service.resume_machine("web01")
    assert site.service.drained == frozenset()
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    caller.write(NEXT)
    await site.hears(tentacle, NEXT)  # connections are kept again
    assert [line["event"] for line in site.relay.log() if line["event"].startswith("machine ")] == [
        "machine drained",
        "machine resumed",
    ]
    for dial in dials:
        dial.close()


@pytest_twisted.ensureDeferred
async def test_a_machine_stays_drained_over_reloads_and_not_when_it_was_removed(site: Site) -> None:
    site.service.drain_machine("web01")
    site.relay.reload(site.machine)
    site.relay.reload(machine("web01", ready=7.0))
    assert site.service.drained == frozenset({"web01"})
    caller = await site.street.call(site.address, shakes=False)
    assert await site.street.ended(caller) == FIN
    assert caller.records == []
    site.relay.reload(machine("web02"))
    site.relay.reload(site.machine)
    assert site.service.drained == frozenset()
    await site.street.call(site.service.doors["web01"])


@pytest_twisted.ensureDeferred
async def test_draining_a_machine_dials_for_nobody(site: Site) -> None:
    callers = [await introduced(site) for _ in range(site.machine.limits.connections + 3)]
    await site.street.spin(lambda: site.service.in_flight("web01") == len(callers))
    dials = site.take_dials()
    site.service.drain_machine("web01")
    await turns(20)
    assert not site.dialled()
    assert site.relay.calls() == ["cut"] * len(callers)
    for dial in dials:
        dial.close()


@pytest_twisted.ensureDeferred
async def test_resuming_a_machine_that_is_not_drained_is_no_news(site: Site) -> None:
    site.service.resume_machine("web01")
    assert site.relay.log("machine resumed") == []


# ---- close --------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_close_cuts_all_connections_of_a_machine_within_the_turn_and_the_door_stays(site: Site) -> None:
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    busy = await introduced(site)
    await site.hears(pooled, NEXT)
    pooled.write(PROCEED)
    await site.hears(busy, SERVER_IDENTITY)
    busy.write(REQUEST)
    await site.hears(pooled, REQUEST)
    assert site.service.close_machine("web01") == 2
    assert (site.service.connections("web01"), site.service.back_connections("web01")) == (0, 0)
    [_, line] = site.relay.access()
    assert (line["outcome"], line["detail"]) == ("cut", "an operator has closed it")
    for peer in (idle, busy, pooled):
        assert await site.street.ended(peer) in (FIN, RST)
    [line] = site.relay.log("connections closed")
    assert (line["machine"], line["closed"]) == ("web01", 2)
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)


@pytest_twisted.ensureDeferred
async def test_close_dials_for_none_of_those_who_wait(site: Site) -> None:
    callers = [await introduced(site) for _ in range(site.machine.limits.connections + 3)]
    await site.street.spin(lambda: site.service.in_flight("web01") == len(callers))
    dials = site.take_dials()
    assert site.service.close_machine("web01") == len(callers)
    await turns(20)
    assert not site.dialled()
    for dial in dials:
        dial.close()


@pytest_twisted.ensureDeferred
async def test_close_of_an_octopus_entry_cuts_its_connections_and_no_others(site: Site) -> None:
    staging = machine("web01").octopus[1]
    other = type(staging)("staging", (identity("other octopus").thumbprint,), None)
    both = type(site.machine)(
        **{key: getattr(site.machine, key) for key in site.machine.__slots__ if key != "octopus"},
        octopus=(*site.machine.octopus, other),
    )
    site.relay.reload(both)
    caller, tentacle = await in_call(site)
    staged = await site.street.call(site.address, client_side("TLSv1.3", identity("other octopus")))
    staged.write(PREAMBLE)
    staged.write(CLIENT_IDENTITY)
    its_tentacle = await site.accept()
    await site.hears(staged, SERVER_IDENTITY)
    assert site.service.close_octopus("staging") == 1
    assert await site.street.ended(staged) == FIN
    assert await site.street.ended(its_tentacle) == FIN
    tentacle.write(REPLY)
    await site.hears(caller, REPLY)
    [line] = site.relay.log("connections closed")
    assert (line["octopus"], line["closed"]) == ("staging", 1)
    assert site.service.close_octopus("staging") == 0


@pytest.mark.parametrize(
    ("method", "name", "text"),
    [
        ("drain_machine", "web1", "no machine is named web1. Did you mean web01?"),
        ("resume_machine", "Web01", "no machine is named Web01. Did you mean web01?"),
        ("close_machine", "production", "no machine is named production. `relay-tentacle status` lists them."),
        ("close_octopus", "producton", "no octopus entry is named producton. There are: production."),
        ("connections", "", "no machine is named . `relay-tentacle status` lists them."),
        ("last_failure", "w", "no machine is named w. `relay-tentacle status` lists them."),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_name_that_there_is_not_is_told_with_those_that_come_near(
    site: Site, method: str, name: str, text: str
) -> None:
    with pytest.raises(NoSuchNameError) as raised:
        getattr(site.service, method)(name)
    assert str(raised.value) == text


@pytest_twisted.ensureDeferred
async def test_octopus_entries_that_there_are_are_told_nearest_first_and_not_all(site: Site) -> None:
    names = ("east", "staging", "west", "test", "production", "old", "next")
    site.relay.reload(replace(site.machine, octopus=tuple(replace(OCTOPUS, name=name) for name in names)))
    with pytest.raises(NoSuchNameError) as raised:
        site.service.close_octopus("nest")
    told = str(raised.value).removeprefix("no octopus entry is named nest. There are: ")
    assert told.startswith(("test, ", "next, ", "west, "))
    assert told.endswith(", and 2 more.")
    assert {*told.split(", ")[:4]} == {"east", "west", "test", "next"}


# ---- the whole relay ----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drain_of_the_relay_ends_calls_and_then_stops_it(site: Site) -> None:
    finished: list[bool] = []
    site.service.finished = lambda: finished.append(True)
    caller, tentacle = await in_call(site)
    site.service.start_drain()
    site.service.start_drain()
    assert site.service.draining
    await turns()
    assert finished == []
    tentacle.write(REPLY)
    await site.hears(caller, REPLY)
    assert await site.street.ended(caller) == FIN
    await site.street.spin(lambda: finished)
    assert finished == [True]
    assert [line["event"] for line in site.relay.log()] == ["door open", "draining", "stopped"]


# ---- how a machine is ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_it_says_what_each_machine_has(site: Site) -> None:
    def state() -> tuple[int, ...]:
        service = site.service
        return tuple(
            each("web01") for each in (service.connections, service.in_flight, service.back_connections, service.waiting)
        )

    assert abs(site.service.started - time.time()) < 60
    assert state() == (0, 0, 0, 0)
    caller, tentacle = await site.answered()
    assert state() == (1, 1, 1, 0)
    await site.call(caller, tentacle)
    assert state() == (1, 0, 1, 0)
    callers = [await introduced(site) for _ in range(site.machine.limits.connections + 2)]
    await site.street.spin(lambda: site.service.in_flight("web01") == len(callers))
    assert state() == (len(callers) + 1, len(callers), site.machine.limits.connections, 2)
    for dial in site.take_dials():
        dial.close()


@pytest_twisted.ensureDeferred
async def test_calls_of_a_removed_machine_are_told_until_they_have_ended(site: Site) -> None:
    caller, tentacle = await in_call(site)
    site.relay.reload(machine("web02"))
    [(left, load)] = site.service.leaving()
    assert (left.name, load) == ("web01", (1, 1, 0, 1, 0, 0))
    assert site.service.totals() == load
    gauges = ("relay_connections", "relay_exchanges_in_flight", "relay_back_connections")
    assert [site.relay.metric(gauge) for gauge in gauges] == [1, 1, 1]
    tentacle.write(REPLY)
    await site.hears(caller, REPLY)
    assert await site.street.ended(caller) == FIN
    await site.street.spin(lambda: not any(site.service.totals()))
    assert list(site.service.leaving()) == []


@pytest_twisted.ensureDeferred
async def test_it_says_which_connections_rest(site: Site) -> None:
    caller, tentacle = await site.answered()
    assert site.service.idle_back_connections("web01") == 0
    await site.call(caller, tentacle)
    assert site.service.idle_back_connections("web01") == 1
    with pytest.raises(NoSuchNameError):
        site.service.idle_back_connections("web99")


def test_it_says_when_identities_expire(site: Site) -> None:
    found = {(kind, name): time for kind, name, time in site.service.expiries()}
    assert found == {
        ("machine", "web01"): site.service.faces.of_machine("web01").expires.timestamp(),
        ("octopus", "production"): site.service.faces.of_octopus("production").expires.timestamp(),
    }


@pytest_twisted.ensureDeferred
async def test_it_says_whether_one_machine_is_drained(site: Site) -> None:
    assert not site.service.is_drained("web01")
    site.service.drain_machine("web01")
    assert site.service.is_drained("web01")
    with pytest.raises(NoSuchNameError):
        site.service.is_drained("web99")


@pytest_twisted.ensureDeferred
async def test_series_of_machines_come_and_go_with_the_configuration(site: Site) -> None:
    def has(name: str) -> bool:
        return site.relay.metric("relay_exchanges_total", machine=name, outcome="ok") is not None

    assert (has("web01"), has("web02")) == (True, False)
    site.relay.reload(replace(site.machine, name="web02"))
    assert (has("web01"), has("web02")) == (False, True)


@pytest_twisted.ensureDeferred
async def test_it_says_when_a_machine_has_last_served_a_call(site: Site) -> None:
    assert site.service.last_success("web01") is None
    caller, tentacle = await in_call(site)
    assert site.service.last_success("web01") is None
    tentacle.write(deflated(response(id=REQUEST_ID, error={"message": "no"})))  # served, whatever the Tentacle made of it
    await site.changes.until(lambda: caller.data)
    site.reactor.advance(100)
    served = site.service.last_success("web01")
    assert served is not None
    assert abs(time.time() - served - 100) < 60
    assert site.service.last_failure("web01") is None


@pytest_twisted.ensureDeferred
async def test_it_says_what_last_went_wrong_with_a_machine(site: Site) -> None:
    caller, tentacle = await in_call(site)
    tentacle.close()
    assert await site.street.ended(caller) == FIN
    failure = site.service.last_failure("web01")
    assert isinstance(failure, Failure)
    [line] = site.relay.access()
    assert (failure.word, failure.detail, failure.peer) == (Outcome.TENTACLE_GONE, line["detail"], line["peer"])
    assert abs(failure.time - time.time()) < 60
    stranger = await site.street.call(site.address, client_side("TLSv1.3", identity("stranger")))
    stranger.write(PREAMBLE)
    assert await site.street.ended(stranger) == FIN
    failure = site.service.last_failure("web01")
    assert failure
    assert failure.word is Refusal.UNTRUSTED
    assert str(identity("stranger").thumbprint) in failure.detail


@pytest_twisted.ensureDeferred
async def test_what_scanners_and_operators_do_is_no_failure_of_a_machine(site: Site) -> None:
    scanner = site.street.connect(site.address)
    await site.street.spin(lambda: site.relay.metric("relay_connections") == 1)
    scanner.send(b"GET / HTTP/1.0\r\n\r\n")
    await site.street.spin(lambda: site.relay.metric("relay_refusals_total", reason="not-tls") == 1)
    caller, tentacle = await in_call(site)
    caller.close()
    assert await site.street.ended(tentacle) == FIN
    site.service.drain_machine("web01")
    refused = await site.street.call(site.address, shakes=False)
    await site.street.ended(refused)
    assert site.service.last_failure("web01") is None
