"""A reload takes trust away: what ends with its calls, and what is cut at once where that is asked for."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from halibut_bytes import REQUEST, deflated, response
from identities import identity
from service_site import OCTOPUS, REQUEST_ID, Site
from site_calls import ends_well, given_up, in_call, turn, waits
from tables import machine
from tls_peer import FIN, RST
from wires import Held

from relay.halibut.lines import CLIENT_IDENTITY, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from routing.rules import Rule, Rules
from routing.table import Machine

NO_LONGER_OCTOPUS = replace(OCTOPUS, thumbprints=(identity("new octopus").thumbprint,))
OTHER_PIN = identity("new tentacle").thumbprint


@pytest_twisted.async_yield_fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    await turns()
    before = Held.now()
    made = Site(tmp_path)
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


def changed(site: Site, **settings: Any) -> Machine:
    return replace(site.machine, **settings)


@pytest_twisted.ensureDeferred
async def test_a_thumbprint_that_was_taken_away_gets_no_next_call(site: Site) -> None:
    """Its call in flight ends; whoever is between calls, or waits for a Tentacle, is closed without another byte."""
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    busy = await site.caller()
    busy.write(PREAMBLE)
    busy.write(CLIENT_IDENTITY)
    await site.hears(pooled, NEXT)
    pooled.write(PROCEED)
    await site.hears(busy, SERVER_IDENTITY)
    asked, idle = idle, await site.caller()
    asked.write(NEXT)
    await site.street.spin(site.dialled)
    dials = site.take_dials()
    site.relay.reload(changed(site, octopus=(NO_LONGER_OCTOPUS,)))
    assert await site.street.ended(asked) == FIN
    assert asked.data == b""
    busy.write(REQUEST)
    await site.hears(pooled, REQUEST)
    await ends_well(site, busy, pooled)
    assert await site.street.ended(busy) == FIN
    assert busy.data == b""
    assert sorted(site.relay.calls()) == ["cut", "ok", "ok"]
    for dial in dials:
        dial.close()
    idle.close()


@pytest_twisted.ensureDeferred
async def test_now_cuts_callers_that_are_not_trusted_any_more_within_the_turn(site: Site) -> None:
    caller, tentacle = await in_call(site)
    changes = site.relay.reload(changed(site, octopus=(NO_LONGER_OCTOPUS,)), now=True)
    assert (changes.changed, changes.closed) == (("web01",), 1)
    [line] = site.relay.access()
    assert (line["outcome"], line["detail"]) == ("cut", "the configuration no longer allows it")
    assert site.service.in_flight("web01") == 0
    assert await site.street.ended(caller) == FIN
    assert await site.street.ended(tentacle) == FIN
    assert site.relay.log("call failed") == []


@pytest_twisted.ensureDeferred
async def test_now_cuts_a_call_that_new_rules_deny(site: Site) -> None:
    caller, tentacle = await in_call(site)
    assert site.relay.reload(changed(site, rules=Rules((Rule(words=("capabilities",)),))), now=True).closed == 1
    assert site.relay.calls() == ["cut"]
    assert await site.street.ended(caller) == FIN
    assert await site.street.ended(tentacle) == FIN


@pytest_twisted.ensureDeferred
async def test_now_leaves_a_call_that_new_rules_allow(site: Site) -> None:
    caller, tentacle = await in_call(site)
    assert site.relay.reload(changed(site, rules=Rules((Rule(words=("scripts",)),))), now=True).closed == 0
    await ends_well(site, caller, tentacle)


@pytest_twisted.ensureDeferred
async def test_now_leaves_alone_whoever_is_trusted(site: Site) -> None:
    caller, tentacle = await in_call(site)
    both = replace(OCTOPUS, thumbprints=(*OCTOPUS.thumbprints, *NO_LONGER_OCTOPUS.thumbprints))
    assert site.relay.reload(changed(site, octopus=(both,)), now=True).closed == 0
    await ends_well(site, caller, tentacle)
    await turn(site, caller, tentacle)


@pytest_twisted.ensureDeferred
async def test_now_lets_nothing_more_out_of_what_was_written(site: Site) -> None:
    """A caller that is slow, and revoked, does not get the rest of a reply that waits for it."""
    caller, tentacle = await in_call(site)
    caller.stop_reading()
    tentacle.write(deflated(response(os.urandom(8 << 20).hex(), id=REQUEST_ID), level=0))  # more than sockets hold
    before = -1
    while tentacle.unsent != before:
        before = tentacle.unsent
        await turns(50)
    assert before
    site.relay.reload(changed(site, octopus=(NO_LONGER_OCTOPUS,)), now=True)
    assert site.relay.calls() == ["cut"]
    caller.read()
    assert await site.street.ended(caller) == RST


@pytest_twisted.ensureDeferred
async def test_now_cuts_removed_machines_and_what_earlier_reloads_let_end(site: Site) -> None:
    first = await in_call(site)
    site.relay.reload(machine("web02"))
    assert first[0].end is None
    changes = site.relay.reload(machine("web02"), now=True)
    assert (changes.removed, changes.closed) == ((), 1)
    assert site.relay.calls() == ["cut"]
    for peer in first:
        assert await site.street.ended(peer) == FIN


@pytest_twisted.ensureDeferred
async def test_now_counts_callers_and_not_connections_to_tentacles(site: Site) -> None:
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    assert site.relay.reload(machine("web02"), now=True).closed == 1
    assert await site.street.ended(caller) == FIN
    await given_up(site, tentacle)


@pytest_twisted.ensureDeferred
async def test_a_tentacle_whose_pin_is_gone_ends_its_call_and_gets_no_other(site: Site) -> None:
    caller, tentacle = await in_call(site)
    site.relay.reload(changed(site, thumbprints=(OTHER_PIN,)))
    await ends_well(site, caller, tentacle)
    await given_up(site, tentacle)
    caller.write(NEXT)
    refused = await site.take_dial()
    assert await site.street.ended(refused) == FIN
    assert refused.data == b""
    assert await site.street.ended(caller) == FIN
    assert site.relay.calls() == ["ok", "wrong-certificate"]


@pytest.mark.parametrize("again", [False, True])
@pytest_twisted.ensureDeferred
async def test_now_cuts_a_call_to_a_tentacle_whose_pin_is_gone(site: Site, again: bool) -> None:
    """again: an earlier reload, without now, has taken the pin away."""
    caller, tentacle = await in_call(site)
    new = changed(site, thumbprints=(OTHER_PIN,))
    if again:
        site.relay.reload(new)
    assert site.relay.reload(new, now=True).closed == 1
    assert site.relay.calls() == ["cut"]
    assert await site.street.ended(caller) == FIN
    assert await site.street.ended(tentacle) == FIN


@pytest_twisted.ensureDeferred
async def test_now_leaves_a_call_to_a_tentacle_that_showed_a_pin_that_stays(site: Site) -> None:
    site.relay.reload(changed(site, thumbprints=(OTHER_PIN, *site.machine.thumbprints)))
    caller, tentacle = await in_call(site)
    assert site.relay.reload(site.machine, now=True).closed == 0
    await ends_well(site, caller, tentacle)


@pytest_twisted.ensureDeferred
async def test_now_cuts_who_waits_for_a_tentacle_that_could_show_a_pin_that_is_gone(site: Site) -> None:
    caller = await waits(site)
    dials = site.take_dials()
    assert site.relay.reload(changed(site, thumbprints=(OTHER_PIN,)), now=True).closed == 1
    assert await site.street.ended(caller) == FIN
    assert caller.data == b""
    for dial in dials:
        dial.close()
