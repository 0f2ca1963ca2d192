"""A running relay takes another table: what stays, what ends with its calls, what is cut, and what refuses it whole."""

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from identities import identity
from service_site import OCTOPUS, Site
from site_calls import dials_anew, ends_well, given_up, in_call, turn, waits
from tables import machine
from tls_peer import FIN, TlsPeer, client_side
from wires import Held

from certs.errors import CertificateError
from certs.store import Provisioned
from certs.thumbprint import Thumbprint
from relay.halibut.lines import CLIENT_IDENTITY, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.reload import Changes
from relay.service import StartError
from routing.addresses import Address
from routing.table import Machine, Octopus, Table, Timeouts

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


# ---- what has not changed -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_unchanged_machine_keeps_its_door_its_callers_and_its_pool(site: Site) -> None:
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    busy, used = await site.caller(), tentacle
    changes = site.relay.reload(changed(site), machine("web02"))
    assert changes == Changes(added=("web02",), unchanged=("web01",))
    assert site.service.doors["web01"] == site.address
    await turn(site, caller, used)
    assert not site.dialled()
    assert busy.end is None
    assert [line["reused"] for line in site.relay.access()] == [False, True]


@pytest_twisted.ensureDeferred
async def test_an_added_machine_has_its_door_and_is_logged(site: Site) -> None:
    site.relay.reload(site.machine, changed(site, name="web02"))
    caller = await site.street.call(site.service.doors["web02"], client_side("TLSv1.3", identity("octopus")))
    caller.write(PREAMBLE)
    caller.write(CLIENT_IDENTITY)
    tentacle = await site.accept()
    await site.hears(caller, SERVER_IDENTITY)
    await site.call(caller, tentacle)
    assert [line["machine"] for line in site.relay.log("door open")] == ["web01", "web02"]
    assert [line["machine"] for line in site.relay.access()] == ["web02"]


@pytest_twisted.ensureDeferred
async def test_a_door_is_logged_again_where_what_was_said_of_it_is_not_so_any_more(site: Site) -> None:
    site.relay.reload(changed(site, timeouts=Timeouts(ready=7.0)))
    assert len(site.relay.log("door open")) == 1
    site.relay.reload(changed(site, tentacle=Address("127.0.0.1", 1)))
    assert [line["tentacle"] for line in site.relay.log("door open")] == [str(site.machine.tentacle), "127.0.0.1:1"]


@pytest_twisted.ensureDeferred
async def test_the_shared_door_is_logged_with_how_many_machines_are_reached_there_when_that_changes(tmp_path: Path) -> None:
    front = Address("127.0.0.1", 0)
    site = Site(tmp_path, front=front)
    named = [machine(name, octopus=(OCTOPUS,), door=None, host=f"{name}.relay.corp") for name in ("web02", "web03")]
    site.relay.reload(site.machine, *named, front=front)
    site.relay.reload(site.machine, *named, front=front)
    assert [line["hosts"] for line in site.relay.log("shared door open")] == [0, 2]
    assert [line["machine"] for line in site.relay.log("door open")] == ["web01"]
    await site.clean()


# ---- what has changed ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_caller_stays_and_its_next_call_goes_by_the_new_settings(site: Site) -> None:
    """The call in flight ends by the old ones, and its connection to the Tentacle is not kept."""
    caller, tentacle = await in_call(site)
    changes = site.relay.reload(changed(site, timeouts=Timeouts(ready=7.0)))
    assert changes == Changes(changed=("web01",))
    await ends_well(site, caller, tentacle)
    await given_up(site, tentacle)
    await dials_anew(site, caller)
    again = await site.caller()
    again.write(PREAMBLE)
    again.write(CLIENT_IDENTITY)
    await site.street.spin(lambda: site.service.in_flight("web01"))
    await site.advance(7.0)
    assert await site.street.ended(again) == FIN
    assert site.relay.calls() == ["ok", "ok", "ready-timeout"]


@pytest_twisted.ensureDeferred
async def test_idle_connections_of_old_settings_are_given_up_at_once(site: Site) -> None:
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    site.relay.reload(changed(site, timeouts=Timeouts(ready=7.0)))
    await given_up(site, tentacle)
    await dials_anew(site, caller)


@pytest_twisted.ensureDeferred
async def test_a_pool_stays_where_its_tentacle_is_the_same(site: Site) -> None:
    """A thumbprint more for Octopus is nothing to Tentacles, and nothing to callers who are trusted still."""
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    both = replace(OCTOPUS, thumbprints=(*OCTOPUS.thumbprints, *NO_LONGER_OCTOPUS.thumbprints))
    assert site.relay.reload(changed(site, octopus=(both,))).changed == ("web01",)
    await turn(site, caller, tentacle)
    other = await site.street.call(site.address, client_side("TLSv1.3", identity("new octopus")))
    other.write(PREAMBLE)
    other.write(CLIENT_IDENTITY)
    await site.hears(tentacle, NEXT)
    tentacle.write(PROCEED)
    await site.hears(other, SERVER_IDENTITY)


@pytest_twisted.ensureDeferred
async def test_whoever_waits_for_a_tentacle_still_gets_it(site: Site) -> None:
    """And whoever queues behind it: none is sent away because of a reload."""
    full = changed(site, limits=replace(site.machine.limits, connections=1))
    site.relay.reload(full)
    callers = [await waits(site)]
    callers.append(await waits(site))
    await site.street.spin(lambda: site.service.waiting("web01") == 1)
    site.relay.reload(replace(full, timeouts=Timeouts(front_idle=1.0)))
    first = await site.accept()
    await site.hears(callers[0], SERVER_IDENTITY)
    await site.call(callers[0], first)
    await site.hears(first, NEXT)
    first.write(PROCEED)
    await site.hears(callers[1], SERVER_IDENTITY)
    await site.call(callers[1], first)
    await given_up(site, first)
    assert site.relay.calls() == ["ok", "ok"]


@pytest_twisted.ensureDeferred
async def test_whoever_has_not_said_who_it_is_is_judged_by_the_new_settings(site: Site) -> None:
    shaken, introduced = await site.caller(), await site.caller()
    introduced.write(PREAMBLE)
    other = await site.street.call(site.address, client_side("TLSv1.3", identity("new octopus")))
    await turns()
    site.relay.reload(changed(site, octopus=(NO_LONGER_OCTOPUS,)))
    shaken.write(PREAMBLE)
    for caller in (shaken, introduced):
        assert await site.street.ended(caller) == FIN
        assert caller.data == b""
    other.write(PREAMBLE)
    other.write(CLIENT_IDENTITY)
    await site.accept()
    await site.hears(other, SERVER_IDENTITY)
    assert site.relay.metric("relay_refusals_total", reason="untrusted") == 2


@pytest_twisted.ensureDeferred
async def test_a_changed_port_closes_the_old_door_and_its_callers_behind_their_calls(site: Site) -> None:
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    busy = await site.caller()
    busy.write(PREAMBLE)
    busy.write(CLIENT_IDENTITY)
    await site.hears(pooled, NEXT)
    pooled.write(PROCEED)
    await site.hears(busy, SERVER_IDENTITY)
    new = await site.caller()
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    site.relay.reload(changed(site, door=Address("127.0.0.1", port)))
    assert await site.street.ended(idle) == FIN
    with pytest.raises(ConnectionRefusedError), socket.create_connection(site.address, 1):
        pass
    assert site.service.doors == {"web01": ("127.0.0.1", port)}
    await site.call(busy, pooled)
    assert await site.street.ended(busy) == FIN
    new.write(PREAMBLE)
    new.write(CLIENT_IDENTITY)
    await site.hears(pooled, NEXT)  # the pool is the same
    pooled.write(PROCEED)
    await site.hears(new, SERVER_IDENTITY)
    await site.call(new, pooled)
    assert await site.street.ended(new) == FIN
    assert site.relay.calls() == ["ok", "ok", "ok"]


@pytest_twisted.ensureDeferred
async def test_a_new_target_closes_nobody_and_another_one_closes_callers_behind_their_calls(site: Site) -> None:
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    site.relay.reload(changed(site, target=Address("web01.internal", 10933)))
    await turns()
    assert idle.end is None
    await turn(site, idle, pooled)
    site.relay.reload(changed(site, target=Address("web01.internal", 1)))
    assert await site.street.ended(idle) == FIN
    site.relay.reload(changed(site))
    assert [line.get("connect") for line in site.relay.log("door open")] == [
        None,
        "web01.internal:10933",
        "web01.internal:1",
        None,
    ]


# ---- identities ---------------------------------------------------------------------------------------------------------


def shown(caller: TlsPeer) -> Thumbprint:
    certificate = caller.tls.getpeercert(binary_form=True)
    assert certificate
    return Thumbprint.of(certificate)


@pytest_twisted.ensureDeferred
async def test_another_identity_in_the_same_file_is_taken(site: Site, tmp_path: Path) -> None:
    caller, tentacle = await in_call(site)
    before = site.service.faces.of_machine("web01").thumbprint
    assert shown(caller) == before
    (tmp_path / "state/machines/web01.pem").write_bytes(identity("replaced").pem())
    assert site.relay.reload(site.machine) == Changes(changed=("web01",))
    assert site.relay.reload(site.machine) == Changes(unchanged=("web01",))
    again = await site.caller()
    assert shown(again) == identity("replaced").thumbprint != before
    await ends_well(site, caller, tentacle)
    assert await site.street.ended(caller) == FIN  # it would go on with what it was shown
    again.write(PREAMBLE)
    again.write(CLIENT_IDENTITY)
    await site.hears(tentacle, NEXT)  # what faces Tentacles is the same, and so is the pool


@pytest_twisted.ensureDeferred
async def test_another_identity_of_an_octopus_entry_is_shown_to_tentacles(site: Site, tmp_path: Path) -> None:
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    (tmp_path / "state/octopus/production.pem").write_bytes(identity("replaced").pem())
    assert site.relay.reload(site.machine) == Changes(changed=("web01",))
    await given_up(site, tentacle)
    await dials_anew(site, caller)
    assert site.service.faces.of_octopus("production").thumbprint == identity("replaced").thumbprint


# ---- removed ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_removed_machine_ends_its_calls_and_then_is_gone(site: Site) -> None:
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    new = await site.caller()
    idle.write(NEXT)
    await site.hears(pooled, NEXT)
    pooled.write(PROCEED)
    await site.hears(idle, PROCEED)
    busy, idle = idle, await site.caller()
    idle.write(PREAMBLE)
    idle.write(CLIENT_IDENTITY)
    other = await site.accept()
    await site.hears(idle, SERVER_IDENTITY)
    await site.call(idle, other)
    assert site.relay.reload(machine("web02")) == Changes(added=("web02",), removed=("web01",))
    assert await site.street.ended(idle) == FIN
    assert await site.street.ended(new) == FIN
    assert new.data == b""
    await given_up(site, other)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(site.address, 1):
        pass
    assert site.relay.metric("relay_exchanges_in_flight") == 1
    await site.call(busy, pooled)
    assert await site.street.ended(busy) == FIN
    await given_up(site, pooled)
    assert site.relay.calls() == ["ok"] * 3
    assert site.relay.metric("relay_back_connections") == 0
    assert list(site.service.routes) == ["web02"]


@pytest_twisted.ensureDeferred
async def test_whoever_waits_for_the_tentacle_of_a_removed_machine_is_closed_without_a_byte(site: Site) -> None:
    caller = await waits(site)
    dials = site.take_dials()
    site.relay.reload(machine("web02"))
    assert await site.street.ended(caller) == FIN
    assert caller.data == b""
    [line] = site.relay.access()
    assert (line["outcome"], line["detail"]) == ("cut", "a reload has removed the machine")
    for dial in dials:
        dial.close()


@pytest_twisted.ensureDeferred
async def test_a_machine_may_come_back_while_its_last_calls_end(site: Site) -> None:
    caller, tentacle = await in_call(site)
    site.relay.reload(machine("web02"))
    site.relay.reload(site.machine)
    again = await site.street.call(site.service.doors["web01"], client_side("TLSv1.3", identity("octopus")))
    again.write(PREAMBLE)
    again.write(CLIENT_IDENTITY)
    await site.accept()
    await site.hears(again, SERVER_IDENTITY)
    assert site.relay.metric("relay_exchanges_in_flight") == 2
    await ends_well(site, caller, tentacle)
    assert await site.street.ended(caller) == FIN


# ---- the relay itself ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_limits_and_timeouts_of_the_relay_are_taken(site: Site) -> None:
    site.relay.reload(site.machine, connections=1, client_hello=3.0, identify=20.0)
    silent = site.street.connect(site.address)
    await site.street.spin(lambda: site.relay.metric("relay_connections") == 1)
    beyond = await site.street.call(site.address, shakes=False)
    await site.street.ended(beyond)
    assert site.relay.metric("relay_refusals_total", reason="connections") == 1
    await site.advance(3.0)
    assert site.relay.metric("relay_refusals_total", reason="hello-timeout") == 1
    assert silent.fileno() > 0
    caller = await site.caller()
    for _ in range(5):
        await site.advance(5.0)
    assert await site.street.ended(caller) == FIN
    assert site.relay.metric("relay_refusals_total", reason="identify-timeout") == 1


@pytest_twisted.ensureDeferred
async def test_the_drain_time_is_that_of_the_table_in_force(site: Site) -> None:
    await in_call(site)
    site.relay.reload(site.machine, drain=2.0)
    over = await site.drained()
    await site.advance(2.0)
    await site.street.spin(lambda: over)


@pytest_twisted.ensureDeferred
async def test_handshakes_per_second_are_those_of_the_table_in_force(site: Site) -> None:
    site.relay.reload(site.machine, handshakes=1)
    await site.caller()
    late = await site.street.call(site.address, shakes=False)
    await site.street.spin(lambda: site.relay.metric("relay_handshakes_delayed_total") == 1)
    await site.advance(1.0)
    await site.changes.until(lambda: late.shaken)


# ---- refused whole ------------------------------------------------------------------------------------------------------


async def expect_untouched(site: Site, before: Table, caller: TlsPeer, tentacle: TlsPeer) -> None:
    assert site.service.table is before
    assert site.service.doors == {"web01": site.address}
    await turn(site, caller, tentacle)
    assert not site.dialled()


async def served(site: Site) -> tuple[TlsPeer, TlsPeer]:
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    return caller, tentacle


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_leaves_everything_as_it_was(site: Site) -> None:
    peers, before = await served(site), site.service.table
    held = Held.now()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        door = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartError, match="web03: cannot listen on"):
            site.relay.reload(changed(site, octopus=(NO_LONGER_OCTOPUS,)), machine("web02"), machine("web03", door=door))
    assert Held.now() == held
    await expect_untouched(site, before, *peers)


@pytest_twisted.ensureDeferred
async def test_an_identity_that_cannot_be_used_leaves_everything_as_it_was(site: Site, tmp_path: Path) -> None:
    peers, before = await served(site), site.service.table
    held = Held.now()
    (tmp_path / "state/octopus/production.pem").write_bytes(b"nothing")
    for machines in [(site.machine,), (machine("web02"), machine("web03", identity=Provisioned(tmp_path / "missing.pem")))]:
        with pytest.raises(CertificateError):
            site.relay.reload(*machines)
    assert Held.now() == held
    await expect_untouched(site, before, *peers)


@pytest.mark.parametrize("key", ["name", "state"])
@pytest_twisted.ensureDeferred
async def test_what_takes_a_restart_is_refused_and_not_ignored(site: Site, tmp_path: Path, key: str) -> None:
    peers, before = await served(site), site.service.table
    old, new = {"name": ("dc-east", "dc-west"), "state": (tmp_path / "state", tmp_path / "other")}[key]
    with pytest.raises(StartError) as raised:
        site.relay.reload(machine("web02"), **{key: new})
    assert str(raised.value) == f"relay.{key}: it is {old} in the running relay and {new} in the file, which takes a restart."
    assert not (tmp_path / "other").exists()
    await expect_untouched(site, before, *peers)


class Beside:
    """A Follower that writes down what it is told."""

    def __init__(self, told: list[str], refuses: bool = False) -> None:
        self._told = told
        self._refuses = refuses

    def prepare(self, table: Table) -> "Beside":
        if self._refuses:
            raise StartError("cannot be")
        self._told.append(f"prepare {len(table.machines)}")
        return self

    def commit(self) -> None:
        self._told.append("commit")

    def abandon(self) -> None:
        self._told.append("abandon")


@pytest_twisted.ensureDeferred
async def test_whatever_follows_the_configuration_takes_it_or_refuses_it_for_all(site: Site) -> None:
    told: list[str] = []
    site.service.follow(Beside(told))
    site.relay.reload(site.machine, machine("web02"))
    assert told == ["prepare 2", "commit"]
    site.service.follow(Beside(told, refuses=True))
    before = site.service.table
    with pytest.raises(StartError, match="cannot be"):
        site.relay.reload(site.machine)
    assert told[2:] == ["prepare 1", "abandon"]
    assert site.service.table is before
    assert list(site.service.doors) == ["web01", "web02"]


@pytest_twisted.ensureDeferred
async def test_a_relay_that_is_stopping_takes_no_other_configuration(site: Site) -> None:
    await in_call(site)
    await site.drained()
    with pytest.raises(StartError, match="the relay is stopping"):
        site.relay.reload(site.machine)
    site.service.stop()
    with pytest.raises(StartError, match="the relay is stopping"):
        site.relay.reload(site.machine)


def test_octopus_entries_are_compared_too() -> None:
    entry = Octopus("production", OCTOPUS.thumbprints, None)
    assert machine(octopus=(entry,)) == machine(octopus=(OCTOPUS,)) != machine(octopus=(NO_LONGER_OCTOPUS,))
