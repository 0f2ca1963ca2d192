"""Each way in which a Tentacle cannot be had, made for real, and what the probe says of it."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from identities import identity
from strangers import (
    LOCAL,
    PAGE,
    answers,
    black_hole,
    closes,
    echo,
    free_port,
    greets,
    http,
    intercepts,
    issued,
    over_tls,
    says_nothing,
    stranger,
    tls_context,
    turns_away,
)
from tables import machine
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from certs.identity import Identity
from certs.thumbprint import Thumbprint
from relay.halibut.lines import SERVER_IDENTITY
from relay.peers.errors import ServiceError
from relay.peers.services import Service
from relay.peers.tentacle import Tentacle
from relay.probe import Cause, ProbeResult, StageName, probe
from routing.addresses import Address
from routing.table import Machine

PATIENT = 20.0
SHORT = 0.4  # for what is only over when the time is
OURS = identity("production")
PINNED = identity("tentacle")


def held() -> tuple[set[Any], set[Any]]:
    """The reactor's sockets and timers, without what it wakes itself up by."""
    descriptors = {each for each in reactor.getReaders() + reactor.getWriters() if not type(each).__name__.endswith("Waker")}
    return descriptors, set(reactor.getDelayedCalls())


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a probe opened is closed when it is over, and no timer runs on."""
    before = held()
    yield
    assert held() == before


@pytest_twisted.async_yield_fixture()
async def tentacle(tmp_path: Path) -> AsyncIterator[Any]:
    """Starts strict Tentacles; its port."""
    made = []

    async def start(who: Identity = PINNED, trusted: tuple[Thumbprint, ...] = (OURS.thumbprint,), **options: Any) -> int:
        made.append(Tentacle(reactor, who.pem(), [str(each) for each in trusted], tmp_path / "home", **options))
        return await made[-1].listen()

    yield start
    for each in made:
        await each.stop()
        assert not each.violations


def at(port: int, host: str = LOCAL) -> Machine:
    return machine(tentacle=Address(host, port), thumbprints=(PINNED.thumbprint,))


def probing(port: int, seconds: float = PATIENT, host: str = LOCAL, **options: Any) -> "Deferred[ProbeResult]":
    return Deferred.fromCoroutine(probe(reactor, at(port, host), OURS, seconds, **options))


def failed(result: ProbeResult, cause: Cause, stage: StageName) -> None:
    """For this reason, in this step, and those before it went well."""
    assert (result.cause, result.ok, result.capabilities) == (cause, False, ()), result
    assert result.stages[-1].name is stage
    assert [each.done for each in result.stages] == [True] * (len(result.stages) - 1) + [False]


# ---- it goes well ---------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_tentacle_answers(tentacle):
    result = await probing(await tentacle())
    assert (result.ok, result.cause, result.detail, result.remedy, result.note) == (True, None, "", "", "")
    assert result.capabilities == ("IScriptService", "IFileTransferService", "IScriptServiceV2")
    assert [each.name for each in result.stages] == [StageName.CONNECT, StageName.TLS, StageName.IDENTIFY, StageName.CALL]
    assert all(each.done and each.seconds >= 0 for each in result.stages)
    assert result.seconds == sum(each.seconds for each in result.stages) < PATIENT
    assert (result.machine, result.octopus, result.address, result.tls) == ("web01", "production", LOCAL, "TLSv1.3")
    assert result.thumbprint == OURS.thumbprint
    assert result.shown is not None
    assert result.shown.thumbprint == PINNED.thumbprint


@pytest_twisted.ensureDeferred
async def test_by_its_name_with_the_time_that_the_lookup_took(tentacle):
    result = await probing(await tentacle(), host="localhost")
    assert result.ok, result
    assert result.stages[0].name is StageName.LOOKUP


@pytest_twisted.ensureDeferred
async def test_each_address_of_a_name_is_tried(tentacle, monkeypatch):
    monkeypatch.setattr("relay.probe.lookup._addresses", lambda host, port: ["::1", LOCAL])
    result = await probing(await tentacle(), host="web01.corp")
    assert (result.ok, result.address) == (True, LOCAL)


@pytest_twisted.ensureDeferred
async def test_a_pin_of_sha256_is_as_good(tentacle):
    pinned = machine(tentacle=Address(LOCAL, await tentacle()), thumbprints=(Thumbprint.of(PINNED.der, "sha256"),))
    assert (await probe(reactor, pinned, OURS, PATIENT)).ok


@pytest_twisted.ensureDeferred
async def test_an_old_tentacle_knows_no_capabilities(tentacle):
    async def missing():
        raise ServiceError(
            "Octopus.Tentacle.Communications.UnknownServiceNameException", "Error: ICapabilitiesServiceV2", invoked=False
        )

    port = await tentacle(services=[Service("ICapabilitiesServiceV2", "old", {"GetCapabilities": missing})])
    result = await probing(port)
    assert (result.ok, result.capabilities) == (True, ("IScriptService", "IFileTransferService"))
    assert "old Tentacle" in result.note


# ---- no connection --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nobody_listens():
    result = await probing(free_port())
    failed(result, Cause.REFUSED, StageName.CONNECT)
    assert "refused" in result.detail
    assert "Start the Tentacle's service" in result.remedy
    assert (result.address, result.tls, result.shown) == ("", "", None)


@pytest_twisted.ensureDeferred
async def test_what_is_sent_is_dropped():
    with black_hole() as port:
        result = await probing(port, SHORT)
    failed(result, Cause.CONNECT_TIMEOUT, StageName.CONNECT)
    assert f"within {SHORT:g} s" in result.detail
    assert f"Allow TCP from this host to {LOCAL}:{port}" in result.remedy


@pytest.mark.parametrize(
    ("number", "cause", "remedy"),
    [(socket.EAI_NONAME, Cause.RESOLVE, "Correct the name"), (socket.EAI_AGAIN, Cause.RESOLVER, "name servers")],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_its_name_is_not_known(monkeypatch, number, cause, remedy):
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(number, "so says the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = await probing(10933, host="web01.internal")
    failed(result, cause, StageName.LOOKUP)
    assert "so says the resolver" in result.detail
    assert remedy in result.remedy


@pytest_twisted.ensureDeferred
async def test_a_name_that_nobody_has():
    """With this host's own resolver, which may have nobody to ask."""
    result = await probing(10933, host="no-such-machine.invalid")
    assert result.cause in (Cause.RESOLVE, Cause.RESOLVER)


@pytest_twisted.ensureDeferred
async def test_the_resolver_hangs(monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr("relay.probe.lookup._addresses", lambda host, port: answer.wait(PATIENT) and [LOCAL])
    result = await probing(10933, SHORT, host="web01.internal")
    failed(result, Cause.RESOLVER, StageName.LOOKUP)
    [thread] = [each for each in threading.enumerate() if each.name == "lookup web01.internal"]
    assert thread.daemon  # the process need not wait for it
    answer.set()  # it comes too late, and troubles nobody
    thread.join(PATIENT)


@pytest_twisted.ensureDeferred
async def test_no_way_to_its_address(monkeypatch):
    monkeypatch.setattr("relay.probe.lookup._addresses", lambda host, port: ["255.255.255.255"])
    result = await probing(10933, host="web01.internal")
    failed(result, Cause.UNREACHABLE, StageName.CONNECT)
    assert "255.255.255.255: " in result.detail


# ---- something else answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handle", "said"),
    [
        (echo, "sends back what it is sent"),
        (greets(b"SSH-2.0-OpenSSH_9.6\r\n"), "SSH-2.0-OpenSSH_9.6"),
        (greets(b"220 mail.corp ESMTP\r\n"), "220 mail.corp ESMTP"),
        (http, "a web server without TLS answers: 'HTTP/1.1 400 Bad Request'"),
    ],
    ids=["echo", "ssh", "smtp", "http"],
)
@pytest_twisted.ensureDeferred
async def test_something_without_tls(handle, said):
    with stranger(handle) as port:
        result = await probing(port)
    failed(result, Cause.NOT_A_TENTACLE, StageName.TLS)
    assert said in result.detail
    assert "Write the address of the Tentacle" in result.remedy


@pytest_twisted.ensureDeferred
async def test_something_that_says_too_little_for_tls():
    """Four bytes are no record, so TLS waits for more."""
    with stranger(greets(b"+OK ")) as port:
        result = await probing(port, SHORT)
    failed(result, Cause.NOT_A_TENTACLE, StageName.TLS)
    assert "'+OK '" in result.detail


@pytest_twisted.ensureDeferred
async def test_a_web_server():
    context = tls_context(issued("intranet.corp", "Corp Issuing CA 2"))
    page = b"HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/10.0\r\n\r\n<html>Welcome</html>"
    with stranger(over_tls(context, answers(page))) as port:
        result = await probing(port)
    failed(result, Cause.NOT_A_TENTACLE, StageName.TLS)
    assert "issued by 'CN=Corp Issuing CA 2'" in result.detail
    assert "a web server answers (Microsoft-IIS/10.0)" in result.detail
    assert "intercepts TLS" in result.remedy


@pytest_twisted.ensureDeferred
async def test_another_tls_service():
    """One that waits for its own protocol, and knows no browsers."""
    context = tls_context(issued("db.corp", "Corp Issuing CA 2"))
    with stranger(over_tls(context, closes)) as port:
        result = await probing(port)
    failed(result, Cause.NOT_A_TENTACLE, StageName.TLS)
    assert "another TLS service" in result.detail


@pytest.mark.parametrize("reads", [1, 2], ids=["answer lost", "answer comes"])
@pytest_twisted.ensureDeferred
async def test_the_pinned_certificate_on_a_web_server(reads):
    with stranger(over_tls(tls_context(PINNED), answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", reads))) as port:
        result = await probing(port)
    failed(result, Cause.NOT_A_TENTACLE, StageName.IDENTIFY)
    assert "answers like a web server" in result.detail


@pytest_twisted.ensureDeferred
async def test_tls_that_is_too_old():
    with stranger(over_tls(tls_context(PINNED, ssl.TLSVersion.TLSv1_1), closes)) as port:
        result = await probing(port)
    failed(result, Cause.OLD_TLS, StageName.TLS)
    assert "TLS 1.2 or later" in result.remedy


@pytest_twisted.ensureDeferred
async def test_tls_that_fails_in_another_way():
    alert_handshake_failure = bytes.fromhex("15030300020228")
    with stranger(answers(alert_handshake_failure)) as port:
        result = await probing(port)
    failed(result, Cause.TLS, StageName.TLS)
    assert "handshake failure" in result.detail


@pytest_twisted.ensureDeferred
async def test_accepted_and_closed():
    with stranger(closes) as port:
        result = await probing(port)
    failed(result, Cause.CLOSED, StageName.TLS)


@pytest_twisted.ensureDeferred
async def test_accepted_and_silent():
    with stranger(says_nothing) as port:
        result = await probing(port, SHORT)
    failed(result, Cause.SILENT, StageName.TLS)
    assert result.address == LOCAL


# ---- another certificate --------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_another_tentacle(tentacle):
    other = Identity.new("other", "Octopus Tentacle")
    result = await probing(await tentacle(other))
    failed(result, Cause.WRONG_CERTIFICATE, StageName.TLS)
    assert f"{other.thumbprint}, subject 'CN=Octopus Tentacle', signed by itself" in result.detail
    assert "Tentacle show-thumbprint" in result.remedy
    assert result.shown is not None
    assert result.shown.thumbprint == other.thumbprint


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_known(tentacle):
    asked = []

    def whose(der: bytes) -> str:
        asked.append(der)
        return "the one that machine web02 has pinned"

    other = identity("another")
    result = await probing(await tentacle(other), whose=whose)
    failed(result, Cause.WRONG_CERTIFICATE, StageName.TLS)
    assert asked == [other.der]
    assert result.detail.endswith(": the one that machine web02 has pinned")
    assert "Write the address of this machine's own Tentacle" in result.remedy


@pytest_twisted.ensureDeferred
async def test_an_octopus_server(tentacle):
    result = await probing(await tentacle(Identity.new("octopus", "Octopus Portal")))
    failed(result, Cause.WRONG_CERTIFICATE, StageName.TLS)
    assert "Write the address of the Tentacle" in result.remedy


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (("Octopus Tentacle", "Corp Root"), "made by a box that intercepts TLS"),
        (("web01.corp", "FortiGate CA"), "made by a box that intercepts TLS"),
        (("web01.corp", "Corp Root"), "a Tentacle answers behind it"),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_a_box_that_intercepts_tls(tentacle, shown, said):
    """In front of a Tentacle that would have been the right one."""
    with stranger(over_tls(tls_context(issued(*shown)), intercepts(await tentacle()))) as port:
        result = await probing(port)
    failed(result, Cause.INTERCEPTED, StageName.TLS)
    assert f"issued by 'CN={shown[1]}'" in result.detail
    assert said in result.detail
    assert f"Exempt connections from this host to {LOCAL}:{port} from TLS inspection" in result.remedy


@pytest_twisted.ensureDeferred
async def test_whoever_shows_another_certificate_gets_not_one_byte_of_halibut():
    heard = []

    def listens(sock: socket.socket) -> None:
        heard.append(sock.recv(4096))

    with stranger(over_tls(tls_context(identity("another")), listens)) as port:
        await probing(port)
    assert [said for said in heard if said and not said.startswith(b"GET / ")] == []


# ---- it does not trust us, or has its troubles ----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_does_not_trust_us(tentacle):
    result = await probing(await tentacle(trusted=()))
    failed(result, Cause.NOT_TRUSTED, StageName.IDENTIFY)
    assert "it runs and turns us away" in result.detail
    assert f"Tentacle configure --trust {OURS.thumbprint}" in result.remedy


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("reads", [1, 2], ids=["reset", "fin"])
@pytest_twisted.ensureDeferred
async def test_both_ways_in_which_it_closes(version, reads):
    """With the identity line unread, so that the system resets, and behind it, as in the recordings."""
    context = tls_context(PINNED)
    context.maximum_version = version
    with stranger(over_tls(context, turns_away(PAGE, reads))) as port:
        result = await probing(port)
    failed(result, Cause.NOT_TRUSTED, StageName.IDENTIFY)
    assert result.detail.startswith("it reset the connection" if reads == 1 else "it closed before")
    assert "it runs and turns us away" in result.detail


@pytest_twisted.ensureDeferred
async def test_one_that_turns_everybody_away():
    with stranger(over_tls(tls_context(PINNED), turns_away(b"", 2))) as port:
        result = await probing(port)
    failed(result, Cause.NOT_TRUSTED, StageName.IDENTIFY)
    assert "may be stopping or overloaded" in result.detail


@pytest_twisted.ensureDeferred
async def test_one_that_wants_a_certificate_of_a_ca_of_its_own():
    context = tls_context(PINNED)
    context.verify_mode = ssl.CERT_REQUIRED
    with stranger(over_tls(context, says_nothing)) as port:
        result = await probing(port)
    failed(result, Cause.NOT_TRUSTED, StageName.IDENTIFY)
    assert "it ended TLS (" in result.detail
    assert "alert" in result.detail


@pytest_twisted.ensureDeferred
async def test_one_that_never_says_who_it_is():
    with stranger(over_tls(tls_context(PINNED), says_nothing)) as port:
        result = await probing(port, SHORT)
    failed(result, Cause.MUTE, StageName.IDENTIFY)
    assert result.tls == "TLSv1.3"


@pytest_twisted.ensureDeferred
async def test_another_protocol_in_tls():
    with stranger(over_tls(tls_context(PINNED), answers(b"MX-SERVER 9.0\r\n\r\n", 2))) as port:
        result = await probing(port)
    failed(result, Cause.BROKE_PROTOCOL, StageName.IDENTIFY)
    assert "MX-SERVER 9.0" in result.detail


@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_is_slow(tentacle):
    asked: Deferred[None] = Deferred()

    async def busy():
        await asked

    port = await tentacle(services=[Service("ICapabilitiesServiceV2", "busy", {"GetCapabilities": busy})])
    result = await probing(port, SHORT)
    failed(result, Cause.SLOW, StageName.CALL)
    assert "--timeout" in result.remedy


@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_answers_with_an_error(tentacle):
    async def fails():
        raise ServiceError("System.IO.IOException", "There is not enough space on the disk.")

    port = await tentacle(services=[Service("ICapabilitiesServiceV2", "full", {"GetCapabilities": fails})])
    result = await probing(port)
    failed(result, Cause.ERROR_REPLY, StageName.CALL)
    assert "There is not enough space on the disk." in result.detail


@pytest.mark.parametrize(("reply", "cause"), [(b"", Cause.GONE), (b"\xff" * 64, Cause.BROKE_PROTOCOL)], ids=["gone", "garbage"])
@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_fails_in_the_call(reply, cause):
    def handle(sock: socket.socket) -> None:
        for _ in range(2):
            sock.recv(4096)
        sock.sendall(SERVER_IDENTITY)
        sock.recv(4096)
        sock.sendall(reply)

    with stranger(over_tls(tls_context(PINNED), handle)) as port:
        result = await probing(port)
    failed(result, cause, StageName.CALL)


@pytest_twisted.ensureDeferred
async def test_a_probe_that_is_given_up():
    with black_hole() as port:
        going = probing(port)
        await turns(2)  # so that it dials
        going.cancel()
        with pytest.raises(CancelledError):
            await going


# ---- a machine that is passed through -------------------------------------------------------------------------------------


def looking(port: int) -> "Deferred[ProbeResult]":
    vault = machine("vault01", tentacle=Address(LOCAL, port), passthrough=True, octopus=(), thumbprints=())
    return Deferred.fromCoroutine(probe(reactor, vault, None, PATIENT))


@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_cannot_be_called_is_looked_at(tentacle):
    """It need not trust anybody of the relay's."""
    result = await looking(await tentacle(trusted=()))
    assert (result.ok, result.octopus, result.thumbprint, result.capabilities) == (True, "", None, ())
    assert [each.name for each in result.stages] == [StageName.CONNECT, StageName.TLS]
    assert result.shown
    assert result.shown.thumbprint == PINNED.thumbprint
    assert result.note == (
        f"a Tentacle's page answers there; it is passed through, so Octopus has to have the thumbprint {PINNED.thumbprint}"
    )


@pytest_twisted.ensureDeferred
async def test_what_stands_in_its_place_is_told():
    with stranger(over_tls(tls_context(PINNED), http)) as port:
        result = await looking(port)
    assert (result.cause, result.ok) == (Cause.NOT_A_TENTACLE, False)
    assert "a web server answers (nginx)" in result.detail
    with stranger(over_tls(tls_context(issued("Octopus Tentacle", "Corp Root")), closes)) as port:
        result = await looking(port)
    assert result.cause is Cause.INTERCEPTED
    result = await looking(free_port())
    failed(result, Cause.REFUSED, StageName.CONNECT)
