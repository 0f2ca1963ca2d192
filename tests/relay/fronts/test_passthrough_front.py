"""What a caller and its Tentacle see of the relay between them, from the dial to the end of their connection."""

import errno
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from descriptors import no_descriptor_free
from identities import identity
from passthrough_site import HELLO, PassthroughSite
from tls_peer import FIN, RST
from wires import Held

from relay.fronts.passthrough import PassthroughFront
from relay.service import CHECK_EVERY
from relay.transport.connection import STALL
from relay.transport.splice import Leg
from routing.addresses import Address
from routing.table import RelayTimeouts, Timeouts

CONNECT = 20.0
IDENTIFY = RelayTimeouts().identify
RESET = struct.pack("ii", 1, 0)
NOT_TLS = b"CONNECT vault01.internal:10933 HTTP/1.1\r\n\r\n"


@pytest_twisted.async_yield_fixture
async def site(tmp_path: Path) -> AsyncIterator[PassthroughSite]:
    await turns()
    before = Held.now()
    made = PassthroughSite(tmp_path, front=Address("127.0.0.1", 0))
    yield made
    await made.clean()
    await turns()
    assert Held.now() == before


class Silent:
    """A resolver that never answers. asked: how often it was."""

    def __init__(self) -> None:
        self.asked = 0

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        self.asked += 1
        receiver.resolutionBegan(self)


def at(site: PassthroughSite, **changed: Any) -> None:
    """The machine is declared otherwise from now on."""
    site.relay.reload(
        site.passed_through(**{"tentacle": site.machine.tentacle, **changed}), site.other, front=Address("127.0.0.1", 0)
    )


def black_hole(site: PassthroughSite) -> socket.socket:
    """A Tentacle's host that answers nobody: its queue is full."""
    listener = site.keep(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(3):
        site.street.connect(listener.getsockname())
    return listener


# ---- the two and the relay between them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "vault01.relay.corp"])
@pytest_twisted.ensureDeferred
async def test_tls_is_between_the_two(site: PassthroughSite, name: str | None) -> None:
    """At the machine's own door, and by its name at the shared one."""
    at(site, host="vault01.relay.corp")
    caller, tentacle = await site.tls(name)
    assert caller.tls.getpeercert(binary_form=True) == identity("tentacle").der
    caller.write(b"MX\r\n\r\n")
    await site.changes.until(lambda: tentacle.data == b"MX\r\n\r\n")
    tentacle.write(b"MX-SERVER 1.0\r\n\r\n")
    await site.changes.until(lambda: caller.data == b"MX-SERVER 1.0\r\n\r\n")
    assert "vault01" not in site.relay.made


@pytest_twisted.ensureDeferred
async def test_whatever_is_no_tls_never_reaches_the_tentacle(site: PassthroughSite) -> None:
    caller = site.caller(NOT_TLS)
    assert await site.end(caller) in ("fin", "rst")
    await site.advance(1)
    with pytest.raises(BlockingIOError):
        site.listener.accept()
    assert site.relay.metric("relay_refusals_total", reason="not-tls") == 1
    assert site.relay.access() == []


@pytest_twisted.ensureDeferred
async def test_a_hello_that_has_not_come_whole_dials_nobody(site: PassthroughSite) -> None:
    caller = site.caller(HELLO[:-1])
    await turns(20)
    with pytest.raises(BlockingIOError):
        site.listener.accept()
    await site.send(caller, HELLO[-1:])
    assert await site.receive(await site.accepted(), len(HELLO)) == HELLO


@pytest_twisted.ensureDeferred
async def test_both_legs_have_keep_alive_and_no_delay(site: PassthroughSite) -> None:
    await site.joined()
    [front] = site.service.routes["vault01"]._fronts  # nothing else shows the options of the relay's own sockets
    for leg in (front._splice.near, front._splice.far):
        sock = leg._socket
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest_twisted.ensureDeferred
async def test_silence_has_no_limit(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    for _ in range(24):
        await site.advance(3600)
    await site.send(caller, b"still here")
    assert await site.receive(tentacle, 10) == b"still here"


# ---- strangers ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_caller_is_a_stranger_until_it_answers_its_tentacle(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    await site.send(caller, b"more, unasked")
    await site.receive(tentacle, 13)
    await site.send(tentacle, b"a flight")
    await site.receive(caller, 8)
    assert site.relay.metric("relay_strangers") == 1
    await site.send(caller, b"its answer")
    await site.receive(tentacle, 10)
    assert site.relay.metric("relay_strangers") == 0
    assert site.relay.metric("relay_connections") == 1
    caller.close()
    assert await site.end(tentacle) == "fin"


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest_twisted.ensureDeferred
async def test_whoever_shakes_hands_is_none(site: PassthroughSite, version: str) -> None:
    await site.tls(version=version)
    assert site.relay.metric("relay_strangers") == 0
    await site.advance(3600)
    assert site.service.connections("vault01") == 1


@pytest.mark.parametrize(
    ("spoken", "outcome", "detail"),
    [
        (b"", "ready-timeout", "the Tentacle sent nothing within 60 s"),
        (b"a flight", "caller-silent", "the caller did not answer the Tentacle within 60 s"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_comes_to_nothing(site: PassthroughSite, spoken: bytes, outcome: str, detail: str) -> None:
    caller, tentacle = await site.joined()
    if spoken:
        await site.send(tentacle, spoken)
        await site.receive(caller, len(spoken))
    await site.advance(IDENTIFY)
    assert site.service.connections("vault01") == 1
    await site.advance(CHECK_EVERY)
    assert [await site.end(sock) for sock in (caller, tentacle)] == ["rst", "rst"]
    line = await site.line()
    assert (line["outcome"], line["detail"]) == (outcome, detail)
    assert site.relay.metric("relay_passthrough_connections_total", machine="vault01", outcome=outcome) == 1
    assert site.relay.metric("relay_refusals_total", reason="identify-timeout") == 1
    [refused] = site.relay.log("caller refused")
    assert (refused["machine"], refused["reason"], refused["detail"]) == ("vault01", "identify-timeout", detail)
    assert site.relay.metric("relay_connections") == 0


@pytest_twisted.ensureDeferred
async def test_until_it_has_answered_it_shares_its_turns_with_its_source(
    site: PassthroughSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller, ask = site.service._loop.strangers, site.service._loop.strangers.ask  # type: ignore[union-attr]
    words = set()

    def noted(descriptor: int, polled: Any, events: int, sharing: str = "") -> None:
        if events and isinstance(polled, Leg | PassthroughFront):
            words.add((type(polled), sharing))
        ask(descriptor, polled, events, sharing)

    monkeypatch.setattr(poller, "ask", noted)
    site.caller()
    await site.accepted()
    await turns(20)
    assert words == {(Leg, "127.0.0.1"), (PassthroughFront, "127.0.0.1")}


@pytest_twisted.ensureDeferred
async def test_where_strangers_fill_the_relay_one_whose_tentacle_is_there_makes_room(site: PassthroughSite) -> None:
    site.relay.reload(site.machine, site.other, front=Address("127.0.0.1", 0), strangers=2)
    crowd = [await site.joined("127.0.0.2") for _ in range(2)]
    assert await site.joined("127.0.0.3")
    assert [await site.end(sock) for sock in crowd[0]] == ["rst", "rst"]
    line = await site.line()
    assert (line["outcome"], line["detail"]) == (
        "cut",
        "it made room: 2 callers of 127.0.0.2 were not identified, the most of all",
    )
    assert site.relay.metric("relay_refusals_total", reason="strangers") == 1
    assert site.service.connections("vault01") == 2


# ---- ends ---------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_is_logged_and_counted(site: PassthroughSite) -> None:
    caller = site.caller()
    await turns()
    tentacle = await site.accepted()
    await site.receive(tentacle, len(HELLO))
    await site.advance(2)
    await site.send(tentacle, b"a ServerHello")
    await site.receive(caller, 13)
    await site.advance(3)
    caller.shutdown(socket.SHUT_WR)
    assert await site.end(tentacle) == "fin"
    assert site.service.connections("vault01") == 1, "the other half is open"
    tentacle.close()
    assert await site.end(caller) == "fin"
    line = await site.line()
    assert line.pop("time")
    assert line == {
        "relay": "dc-east",
        "machine": "vault01",
        "passthrough": True,
        "door": f"127.0.0.1:{site.address[1]}",
        "peer": f"127.0.0.1:{caller.getsockname()[1]}",
        "outcome": "ok",
        "detail": "",
        "request_bytes": len(HELLO),
        "reply_bytes": 13,
        "dial_ms": 0.0,
        "first_byte_ms": 2000.0,
        "total_ms": 5000.0,
    }
    assert site.relay.metric("relay_passthrough_connections_total", machine="vault01", outcome="ok") == 1
    assert site.relay.metric("relay_bytes_total", machine="vault01", direction="request") == len(HELLO)
    assert site.relay.metric("relay_bytes_total", machine="vault01", direction="reply") == 13
    assert site.relay.metric("relay_exchanges_total", machine="vault01", outcome="ok") == 0
    assert site.relay.log("connection failed") == []


@pytest_twisted.ensureDeferred
async def test_half_a_close_is_half_a_close(site: PassthroughSite) -> None:
    caller, tentacle = await site.met()
    tentacle.shutdown(socket.SHUT_WR)
    assert await site.end(caller) == "fin"
    [front] = site.service.routes["vault01"]._fronts
    await site.street.spin(lambda: not front._splice.far.undelivered)  # a host takes 40 ms to acknowledge a FIN
    await site.advance(100)
    await site.send(caller, b"more")
    assert await site.receive(tentacle, 4) == b"more"
    caller.close()
    assert await site.end(tentacle) == "fin"
    assert (await site.line())["outcome"] == "ok"


@pytest.mark.parametrize(("who", "outcome"), [("caller", "cancelled"), ("tentacle", "tentacle-gone")])
@pytest_twisted.ensureDeferred
async def test_a_reset_is_a_reset(site: PassthroughSite, who: str, outcome: str) -> None:
    caller, tentacle = await site.joined()
    one, other = (caller, tentacle) if who == "caller" else (tentacle, caller)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.close()
    assert await site.end(other) == "rst"
    line = await site.line()
    assert (line["outcome"], line["detail"]) == (outcome, f"the {'caller' if who == 'caller' else 'Tentacle'}'s side: reset")
    assert [line["outcome"] for line in site.relay.log("connection failed")] == [outcome] * (who == "tentacle")


@pytest_twisted.ensureDeferred
async def test_a_reset_behind_the_others_close_is_no_news(site: PassthroughSite) -> None:
    caller, tentacle = await site.joined()
    caller.shutdown(socket.SHUT_WR)
    assert await site.end(tentacle) == "fin"
    tentacle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    tentacle.close()
    assert (await site.line())["outcome"] == "ok"
    assert site.service.last_failure("vault01") is None


@pytest_twisted.ensureDeferred
async def test_behind_a_close_whoever_takes_nothing_is_reset(site: PassthroughSite) -> None:
    _, tentacle = await site.joined()
    left = 64 * 1024 * 1024
    [front] = site.service.routes["vault01"]._fronts
    while not front._splice.far._waiting and left > 0:  # the relay itself has to wait
        left -= tentacle.send(bytes(64 * 1024))
        await turns()
    tentacle.shutdown(socket.SHUT_WR)
    await turns()
    await site.advance(STALL)
    line = await site.line()
    assert line["outcome"] == "stalled"
    assert line["detail"].startswith("the caller took nothing for 10 s")
    with pytest.raises(ConnectionError):
        tentacle.send(b"x")


# ---- no connection to be had --------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_refused(site: PassthroughSite) -> None:
    site.listener.close()
    caller = await site.street.call(site.address, shakes=False)
    assert await site.street.ended(caller) == RST
    assert caller.records == []
    line = await site.line()
    assert (line["outcome"], line["detail"], line["dial_ms"]) == ("refused", "Connection refused", None)
    failure = site.service.last_failure("vault01")
    assert failure
    assert failure.word.value == "refused"
    assert site.service.last_success("vault01") is None
    [logged] = site.relay.log("connection failed")
    assert (logged["machine"], logged["outcome"]) == ("vault01", "refused")


@pytest_twisted.ensureDeferred
async def test_nobody_answers(site: PassthroughSite) -> None:
    hole = black_hole(site)
    at(site, tentacle=Address("127.0.0.1", hole.getsockname()[1]), timeouts=Timeouts(connect=CONNECT))
    caller = await site.street.call(site.address, shakes=False)
    await site.street.spin(lambda: site.service.waiting("vault01"))
    await site.advance(CONNECT - 1)
    assert caller.end is None
    await site.advance(1)
    assert await site.street.ended(caller) == FIN
    assert caller.records == []
    line = await site.line()
    assert (line["outcome"], line["total_ms"]) == ("connect-timeout", CONNECT * 1000)


@pytest_twisted.ensureDeferred
async def test_the_name_does_not_resolve(site: PassthroughSite) -> None:
    at(site, tentacle=Address("nobody.invalid", 10933))
    site.reactor.nameResolver = _Unknown()
    caller = await site.street.call(site.address, shakes=False)
    await turns(20)
    await site.advance(0)
    assert await site.street.ended(caller) == FIN
    assert caller.records == []
    line = await site.line()
    assert (line["outcome"], line["detail"]) == ("resolve", "the name nobody.invalid does not resolve")


@pytest_twisted.ensureDeferred
async def test_whoever_comes_and_leaves_at_a_dead_name_takes_no_more_lookups(site: PassthroughSite) -> None:
    """Each takes a thread until the system gives it up, and other machines' names need some, too."""
    at(site, tentacle=Address("nobody.invalid", 10933))
    site.reactor.nameResolver = names = Silent()
    for count in range(1, 6):
        caller = site.caller()
        await site.street.spin(lambda: site.service.waiting("vault01"))
        caller.close()
        await site.street.spin(lambda count=count: len(site.relay.access()) >= count and not site.service.waiting("vault01"))
    assert names.asked == 1


class _Unknown:
    """A resolver that knows no name."""

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        receiver.resolutionBegan(self)
        receiver.resolutionComplete()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest_twisted.ensureDeferred
async def test_a_caller_who_does_not_wait(site: PassthroughSite, how: str) -> None:
    hole = black_hole(site)
    at(site, tentacle=Address("127.0.0.1", hole.getsockname()[1]))
    caller = site.caller()
    await site.street.spin(lambda: site.service.waiting("vault01"))
    if how == "reset":
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    caller.close()
    line = await site.line()
    assert (line["outcome"], line["request_bytes"]) == ("caller-left", 0)
    assert site.service.last_failure("vault01") is None
    assert site.service.connections("vault01") == 0


@pytest_twisted.ensureDeferred
async def test_no_descriptor_is_left_for_the_dial(site: PassthroughSite) -> None:
    caller = site.caller(HELLO[:-1])
    await turns(20)
    with no_descriptor_free():
        await site.send(caller, HELLO[-1:])
        await site.street.spin(lambda: site.reactor.advance(0) or site.relay.access())
    assert await site.end(caller) == "fin"
    assert (await site.line())["outcome"] == "descriptors"


# ---- faults of the relay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["dialled", "joined", "met"])
@pytest_twisted.ensureDeferred
async def test_a_log_that_fails_costs_nobody_a_place(
    site: PassthroughSite, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if phase == "dialled":
        at(site, tentacle=Address("127.0.0.1", black_hole(site).getsockname()[1]))
        caller = site.caller()
        await site.street.spin(lambda: site.service.waiting("vault01"))
    else:
        caller, _ = await getattr(site, phase)()
    said: list[object] = []

    def full(passed: object) -> None:
        said.append(passed)
        raise OSError("the disk is full")

    monkeypatch.setattr(site.service, "passed", full)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    caller.close()
    await site.street.spin(lambda: said)
    await turns()
    assert len(said) == 1
    assert site.service.connections("vault01") == 0
    assert site.relay.metric("relay_connections") == site.relay.metric("relay_strangers") == 0


@pytest_twisted.ensureDeferred
async def test_the_system_polls_no_more_sockets(site: PassthroughSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends go, and so do the places."""
    caller = site.caller(HELLO[:-1])
    await turns(20)
    poller, ask = site.service._loop.strangers, site.service._loop.strangers.ask  # type: ignore[union-attr]

    def full(descriptor: int, polled: Any, events: int, sharing: str = "") -> None:
        if isinstance(polled, Leg) and events:
            raise OSError(errno.ENOSPC, "No space left on device")
        ask(descriptor, polled, events, sharing)

    monkeypatch.setattr(poller, "ask", full)
    await site.send(caller, HELLO[-1:])
    assert await site.end(caller) == "rst"
    assert await site.end(await site.accepted()) == "rst"
    line = await site.line()
    assert (line["outcome"], line["detail"]) == ("descriptors", "No space left on device")
    assert site.relay.metric("relay_connections") == 0


@pytest_twisted.ensureDeferred
async def test_a_caller_whose_dial_cannot_begin(site: PassthroughSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("relay.fronts.passthrough.TcpDial", full)
    caller = site.caller()
    await turns(20)
    assert await site.end(caller) == "rst"
    line = await site.line()
    assert line["detail"] == "a fault of the relay: OSError: [Errno 28] No space left on device"
    assert site.relay.metric("relay_connections") == 0
