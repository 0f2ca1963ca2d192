import datetime as dt
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from clocked_reactor import ClockedReactor
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from halibut_bytes import REQUEST, deflated, frame, guid, reference, request, response
from identities import identity
from service_site import DRAIN, OCTOPUS, REPLY, REQUEST_ID, Service, Site
from tables import PRODUCTION, STAGING, machine
from tls_peer import FIN, client_side
from wires import Held

from certs.errors import CertificateError
from certs.identity import Identity
from certs.store import Provisioned
from certs.thumbprint import Thumbprint
from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED, SERVER_IDENTITY
from relay.outcomes import Refusal
from relay.refusals import SUMMARY
from relay.service import CHECK_EVERY, StartError
from relay.transport.listener import PAUSE
from routing.addresses import Address


@pytest_twisted.async_yield_fixture
async def nothing_left() -> AsyncIterator[None]:
    await turns()
    before = Held.now()
    yield
    await turns()
    assert Held.now() == before


@pytest_twisted.async_yield_fixture
async def site(tmp_path: Path, nothing_left: None) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.clean()


# ---- start --------------------------------------------------------------------------------------------------------------


def port_in_use() -> tuple[socket.socket, Address]:
    taken = socket.create_server(("127.0.0.1", 0))
    return taken, Address("127.0.0.1", taken.getsockname()[1])


def test_it_starts_whole_or_not_at_all(tmp_path: Path) -> None:
    taken, address = port_in_use()
    with taken:
        relay = Service(tmp_path, ClockedReactor(), machine("web01"), machine("web02", door=address))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(StartError) as error:
            relay.service.start()
        assert str(error.value) == (
            f"machine web02: cannot listen on {address}: Address already in use. Free the port, or write another one in `port`."
        )
        assert len(os.listdir("/proc/self/fd")) == before
        assert relay.service.doors == {}
        relay.service.stop()
        assert relay.log() == []


def test_a_door_whose_address_is_not_here_is_named(tmp_path: Path) -> None:
    relay = Service(tmp_path, ClockedReactor(), machine(door=Address("192.0.2.1", 11001)))
    with pytest.raises(StartError) as raised:
        relay.service.start()
    assert str(raised.value) == (
        "machine web01: cannot listen on 192.0.2.1:11001: Cannot assign requested address. "
        "This host does not have that address: write one that it has in `port`, or the port alone."
    )


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "Ports below 1024 need the right CAP_NET_BIND_SERVICE: grant it, or write another one in `port`."),
        (errno.EAFNOSUPPORT, "Write another address or port in `port`."),
    ],
)
def test_other_doors_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    def refused(sock: socket.socket, address: object) -> None:
        raise OSError(number, os.strerror(number))

    relay = Service(tmp_path, ClockedReactor(), machine(door=Address("127.0.0.1", 443)))
    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(StartError) as raised:
        relay.service.start()
    assert str(raised.value) == f"machine web01: cannot listen on 127.0.0.1:443: {os.strerror(number)}. {remedy}"


def test_an_identity_that_openssl_refuses_is_known_before_anything_runs(tmp_path: Path) -> None:
    """And not when the first caller comes."""
    path = tmp_path / "weak.pem"
    path.touch(0o600)
    path.write_bytes(weak_identity().pem())
    provisioned = Provisioned(path)
    for place in ({"identity": provisioned}, {"octopus": (replace(OCTOPUS, identity=provisioned),)}):
        with pytest.raises(CertificateError, match="OpenSSL refuses"):
            Service(tmp_path, ClockedReactor(), machine(**place))


def weak_identity() -> Identity:
    key = ec.generate_private_key(ec.SECP192R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    return Identity("weak", builder.sign(key, hashes.SHA256()), key)


@pytest_twisted.ensureDeferred
async def test_it_makes_missing_identities_and_says_where_its_doors_are(site: Site) -> None:
    assert site.relay.made == ["web01", "production"]
    [line] = site.relay.log("door open")
    assert (line["machine"], line["door"], line["tentacle"]) == ("web01", "127.0.0.1:0", str(site.machine.tentacle))
    caller = await site.caller()
    shown = caller.tls.getpeercert(binary_form=True)
    assert shown
    assert line["thumbprint_for_octopus"] == str(Thumbprint.of(shown))


@pytest_twisted.ensureDeferred
async def test_a_machine_whose_key_is_damaged_turns_callers_away_and_the_others_are_served(tmp_path: Path) -> None:
    site = Site(tmp_path)
    path = tmp_path / "state" / "machines" / "web03.pem"
    path.touch(0o600)
    path.write_bytes(identity("tentacle").pem().replace(b"\nM", b"\n!", 1))
    site.relay.reload(site.machine, *(replace(site.machine, name=name) for name in ("web02", "web03")))
    caller = await site.street.call(site.service.doors["web03"], client_side("TLSv1.3", identity("octopus")), shakes=False)
    await site.street.ended(caller)
    [line] = site.relay.log("caller refused")
    assert (line["machine"], line["reason"]) == ("web03", "tls")
    assert line["detail"].startswith(f"{path}: identity web03: the private key cannot be read")
    failure = site.service.last_failure("web03")
    assert failure
    assert failure.word is Refusal.TLS
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle)
    assert site.relay.metric("relay_connections") == 1
    await site.clean()


# ---- calls --------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_calls_go_through_and_are_logged_and_counted_once(site: Site) -> None:
    caller, tentacle = await site.answered()
    assert site.relay.metric("relay_connections") == 1
    assert site.relay.metric("relay_exchanges_in_flight") == 1
    assert site.relay.metric("relay_back_connections") == 1
    await site.call(caller, tentacle)
    caller.write(NEXT)
    await site.hears(tentacle, NEXT)
    tentacle.write(PROCEED)
    await site.hears(caller, PROCEED)
    await site.call(caller, tentacle, reply=deflated(response(id=REQUEST_ID, error={"message": "no"})))
    assert site.relay.calls() == ["ok", "error-reply"]
    assert site.relay.metric("relay_exchanges_total", machine="web01", outcome="ok") == 1
    assert site.relay.metric("relay_exchanges_total", machine="web01", outcome="error-reply") == 1
    assert site.relay.metric("relay_bytes_total", machine="web01", direction="request") == 2 * len(REQUEST)
    assert site.relay.metric("relay_exchanges_in_flight") == 0
    assert site.relay.metric("relay_back_connections") == 1
    assert [line["event"] for line in site.relay.log()] == ["door open"]


@pytest_twisted.ensureDeferred
async def test_both_ends_of_a_call_share_their_machine_s_turns_and_other_sources_hear_that_it_was_made(site: Site) -> None:
    service = site.relay.service
    caller, tentacle = await site.answered()
    assert service._loop
    assert sorted(sharing for *_, sharing in service._loop.poller._polled.values()) == ["web01", "web01"]
    assert not service.admission.others_call("192.0.2.1", service._reactor.seconds())
    await site.call(caller, tentacle)
    assert service.admission.others_call("192.0.2.1", service._reactor.seconds())
    assert not service.admission.others_call("127.0.0.1", service._reactor.seconds())


@pytest_twisted.ensureDeferred
async def test_a_call_that_fails_is_in_both_logs_once_and_says_whose_fault_it_is(site: Site) -> None:
    caller, tentacle = await site.answered()
    caller.write(REQUEST)
    await site.hears(tentacle, REQUEST)
    tentacle.write(b"\xff" * 20)
    assert await site.street.ended(caller) == FIN
    assert site.relay.calls() == ["tentacle-broke"]
    [line] = site.relay.log("call failed")
    assert (line["level"], line["machine"], line["octopus"], line["outcome"]) == (
        "warning",
        "web01",
        "production",
        "tentacle-broke",
    )
    assert line["side"] == "tentacle"
    assert "(wire.md " in line["detail"]
    assert site.relay.log("caller refused") == []


@pytest_twisted.ensureDeferred
async def test_nothing_secret_is_in_a_log(site: Site) -> None:
    """wire.md 10.20: parameters, the endpoint with its proxy password, results, errors and streams."""
    stream = frame(guid(7), b"secret stream")
    params = ("secret script", reference(guid(7), 13, typed=True))
    asks = deflated(request(params, endpoint={"Proxy": {"Password": "secret"}}), level=0) + stream
    answers = deflated(response("secret result", id=REQUEST_ID, error={"message": "secret error"}), level=0)
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle, asks, answers)
    caller.write(b"secret line\r\n")  # where NEXT belongs
    assert await site.street.ended(caller) == FIN
    caller = await site.caller()
    caller.write(PREAMBLE)
    caller.write(CLIENT_IDENTITY)
    await site.hears(tentacle, NEXT)
    tentacle.write(PROCEED)
    await site.hears(caller, SERVER_IDENTITY)
    caller.write(asks)
    await site.hears(tentacle, asks)
    tentacle.write(stream)  # where a reply belongs
    assert await site.street.ended(caller) == FIN
    assert site.relay.calls() == ["error-reply", "tentacle-broke"]
    for lines in (site.relay.log(), site.relay.access()):
        assert "secret" not in json.dumps(lines)


@pytest_twisted.ensureDeferred
async def test_a_cancel_is_no_trouble(site: Site) -> None:
    caller, tentacle = await site.answered()
    caller.write(REQUEST)
    await site.hears(tentacle, REQUEST)
    caller.close()
    assert await site.street.ended(tentacle) == FIN
    assert site.relay.calls() == ["cancelled"]
    assert site.relay.log("call failed") == []


@pytest_twisted.ensureDeferred
async def test_a_reply_with_another_id_passes_and_is_told(site: Site) -> None:
    """wire.md 11.3."""
    caller, tentacle = await site.answered()
    await site.call(caller, tentacle, request=deflated(request(id="call 1")), reply=deflated(response(id="call 2")))
    assert site.relay.calls() == ["ok"]
    assert site.relay.metric("relay_mismatched_replies_total", machine="web01") == 1
    [line] = site.relay.log("a reply's id is not its request's")
    assert (line["machine"], line["side"]) == ("web01", "tentacle")


@pytest_twisted.ensureDeferred
async def test_members_of_a_newer_halibut_are_told_once_for_each_machine(site: Site) -> None:
    """wire.md 5.5."""
    caller, tentacle = await site.answered()
    newer = deflated(request(later=1, **{"x" * 200: 2}))
    answer = deflated(response(alsoLater=1))
    await site.call(caller, tentacle, newer, answer)
    caller.write(NEXT)
    await site.hears(tentacle, NEXT)
    tentacle.write(PROCEED)
    await site.hears(caller, PROCEED)
    await site.call(caller, tentacle, newer, answer)
    [line] = site.relay.log("a newer Halibut: unknown members pass")
    assert (line["machine"], line["members"]) == ("web01", ["later", "x" * 40, "alsoLater"])
    assert site.relay.metric("relay_unknown_members_total", machine="web01") == 2


@pytest_twisted.ensureDeferred
async def test_two_octopus_servers_have_pools_of_their_own(tmp_path: Path, nothing_left: None) -> None:
    """Their Tentacles see another identity for each."""
    relay = Service(tmp_path, ClockedReactor(), machine(), machine("web02", octopus=(PRODUCTION,)))
    relay.service.start()
    first, second = relay.service.routes["web01"], relay.service.routes["web02"]
    backs = [first.back(PRODUCTION), first.back(STAGING), second.back(PRODUCTION)]
    assert len({id(back) for back in backs}) == 3
    assert first.back(PRODUCTION) is backs[0]
    relay.service.stop()


# ---- callers that do not get that far -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_stranger_is_logged_and_counted_once(site: Site) -> None:
    caller = await site.street.call(site.address, client_side("TLSv1.3", identity("stranger")))
    caller.write(PREAMBLE)
    assert await site.street.ended(caller) == FIN
    [line] = site.relay.log("caller refused")
    assert (line["reason"], line["machine"], line["level"]) == ("untrusted", "web01", "warning")
    assert line["peer"].startswith("127.0.0.1:")
    assert str(identity("stranger").thumbprint) in line["detail"]
    assert site.relay.metric("relay_refusals_total", reason="untrusted") == 1
    assert site.relay.calls() == []


@pytest_twisted.ensureDeferred
async def test_a_flood_of_strangers_costs_a_line_and_its_sum(site: Site) -> None:
    for port in range(1000):
        site.service.refused(Refusal.NOT_TLS, "web01", f"192.0.2.1:{port}", "not TLS")
    site.service.refused(Refusal.NOT_TLS, "web01", "[2001:db8::1]:1", "not TLS")
    assert len(site.relay.log("caller refused")) == 2
    assert site.relay.metric("relay_refusals_total", reason="not-tls") == 1001
    for _ in range(int(SUMMARY / CHECK_EVERY) + 1):
        await site.advance(CHECK_EVERY)
    [line] = site.relay.log("callers refused")
    assert (line["reason"], line["source"], line["count"], line["machines"]) == ("not-tls", "192.0.2.1", 999, ["web01"])


@pytest_twisted.ensureDeferred
async def test_no_more_callers_than_the_limit(tmp_path: Path, nothing_left: None) -> None:
    site = Site(tmp_path, connections=2)
    first, second = await site.caller(), await site.caller()
    third = await site.street.call(site.address, shakes=False)
    await site.street.ended(third)
    assert third.records == []
    assert site.relay.metric("relay_refusals_total", reason="connections") == 1
    assert site.relay.metric("relay_connections") == 2
    first.close()
    await site.street.spin(lambda: site.relay.metric("relay_connections") == 1)
    await site.caller()
    assert second.end is None
    await site.clean()


@pytest_twisted.ensureDeferred
async def test_a_lack_of_descriptors_is_told_and_passes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(sock: socket.socket) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "accept", no_descriptor)
        caller = await site.street.call(site.address, shakes=False)
        await site.street.spin(lambda: site.relay.metric("relay_accept_pauses_total"))
    [line] = site.relay.log("accepting pauses: no file descriptor is free")
    assert line["error"] == "Too many open files"
    await site.advance(PAUSE)
    await site.changes.until(lambda: caller.shaken)


@pytest_twisted.ensureDeferred
async def test_whoever_does_not_identify_itself_is_looked_for(site: Site) -> None:
    caller = await site.caller()
    for _ in range(13):
        await site.advance(CHECK_EVERY)
    assert await site.street.ended(caller) == FIN
    assert site.relay.metric("relay_refusals_total", reason="identify-timeout") == 1


# ---- the end ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drain_closes_what_is_idle_and_waits_for_what_is_busy(site: Site) -> None:
    idle, pooled = await site.answered()
    await site.call(idle, pooled)
    caller = await site.caller()
    caller.write(PREAMBLE)
    caller.write(CLIENT_IDENTITY)
    await site.hears(pooled, NEXT)
    pooled.write(PROCEED)
    await site.hears(caller, SERVER_IDENTITY)
    idle.write(NEXT)
    other = await site.accept()
    await site.hears(idle, PROCEED)
    await site.call(idle, other)
    caller.write(REQUEST)
    await site.hears(pooled, REQUEST)
    over = await site.drained()
    [line] = site.relay.log("draining")
    assert (line["exchanges"], line["connections"], line["passed_through"]) == (1, 2, 0)
    assert await site.street.ended(idle) == FIN
    await site.changes.until(lambda: other.end)
    assert other.data == END
    with pytest.raises(ConnectionRefusedError), socket.create_connection(site.address, 1):
        pass
    assert (caller.end, over) == (None, [])
    pooled.write(REPLY)
    await site.hears(caller, REPLY)
    assert await site.street.ended(caller) == FIN
    await site.street.spin(lambda: over)
    assert site.relay.calls() == ["ok", "ok", "ok"]


@pytest_twisted.ensureDeferred
async def test_the_last_call_of_a_drain_ends_as_any_other(site: Site) -> None:
    """The service hears that the connection has gone before its front does."""
    caller, tentacle = await site.answered()
    caller.write(REQUEST)
    await site.hears(tentacle, REQUEST)
    over = await site.drained(stops=True)
    caller.close()
    await site.street.spin(lambda: over)
    assert site.relay.calls() == ["cancelled"]


@pytest_twisted.ensureDeferred
async def test_a_drain_of_an_idle_relay_is_over_at_once(site: Site) -> None:
    assert await site.drained() == [True]


@pytest_twisted.ensureDeferred
async def test_a_drain_takes_no_longer_than_configured(site: Site) -> None:
    caller, tentacle = await site.answered()
    caller.write(REQUEST)
    await site.hears(tentacle, REQUEST)
    over = await site.drained()
    await site.advance(DRAIN - 1)
    assert over == []
    await site.advance(1)
    await site.street.spin(lambda: over)
    assert caller.end is None
    site.service.stop()
    assert await site.street.ended(caller) == FIN
    assert site.relay.calls() == ["stopped"]
    assert [line["event"] for line in site.relay.log()] == ["door open", "draining", "stopped"]


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_everything_a_drain_among_it_and_once(site: Site) -> None:
    caller, tentacle = await site.answered()
    over = await site.drained()
    site.service.stop()
    await site.street.spin(lambda: over)
    site.service.stop()
    assert await site.street.ended(caller) == FIN
    assert await site.street.ended(tentacle) == FIN
    assert site.relay.calls() == ["stopped"]
    assert len(site.relay.log("stopped")) == 1


@pytest_twisted.ensureDeferred
async def test_a_stop_dials_for_nobody(tmp_path: Path, nothing_left: None) -> None:
    """Each call that it ends frees a place, and others wait for it."""
    site = Site(tmp_path)
    callers = [await site.answered() for _ in range(site.machine.limits.connections)]
    waiting = await site.caller()
    waiting.write(PREAMBLE)
    waiting.write(CLIENT_IDENTITY)
    await site.street.spin(lambda: site.relay.metric("relay_exchanges_in_flight") == len(callers) + 1)
    site.service.stop()
    await turns(20)
    assert not site.dialled()
    assert site.relay.calls() == ["stopped"] * (len(callers) + 1)
    await site.clean()


@pytest_twisted.ensureDeferred
async def test_a_drain_dials_for_nobody(tmp_path: Path, nothing_left: None) -> None:
    """Callers that still wait for the Tentacle are closed one by one, and each frees a place that others wait for."""
    site = Site(tmp_path)
    callers = [await site.caller() for _ in range(site.machine.limits.connections + 3)]
    for caller in callers:
        caller.write(PREAMBLE)
        caller.write(CLIENT_IDENTITY)
    await site.street.spin(lambda: site.relay.metric("relay_exchanges_in_flight") == len(callers))
    dials = site.take_dials()
    assert len(dials) == site.machine.limits.connections
    await site.drained()
    await turns(20)
    assert not site.dialled()
    for dial in dials:
        dial.close()
    site.service.stop()
    assert site.relay.calls() == ["stopped"] * len(callers)
    await site.clean()


@pytest_twisted.ensureDeferred
async def test_what_was_not_summed_up_is_at_the_end(site: Site) -> None:
    for port in range(3):
        site.service.refused(Refusal.NOT_TLS, "web01", f"192.0.2.1:{port}", "not TLS")
    site.service.stop()
    assert [line["event"] for line in site.relay.log()] == ["door open", "caller refused", "callers refused", "stopped"]
