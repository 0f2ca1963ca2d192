"""The CONNECT door of a relay in this process: every caller gets its machine, or a complete answer, or begins with TLS."""

import base64
import errno
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from clocked_reactor import real
from connect_corner import TARGET, ConnectCorner, asking, client_hello
from identities import identity
from tls_peer import FIN, RST
from twisted.internet.defer import Deferred
from wires import Held

from relay.fronts.porch import AGAIN, AWAY_WITHIN, LINGER, LONGEST_AGAIN, TURNED_AWAY
from relay.fronts.tunnel_answers import CREDENTIALS, ESTABLISHED, FORBIDDEN, HALF, LATE, NO_HTTP, NO_TUNNEL, PAGE, UNAVAILABLE
from relay.page import PAGE as MACHINE_PAGE
from relay.peers.errors import ConnectingError, ProxyError
from relay.peers.octopus import Octopus
from relay.peers.tunnel import WebProxy
from routing.table import RelayTimeouts

CAPTURES = Path(__file__).parents[2] / "captures"
HELLO_WITHIN = RelayTimeouts().client_hello
USERS = "octo:s3cret:x\nocto:the next one\n"

Make = Callable[..., ConnectCorner]


@pytest_twisted.async_yield_fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    await turns()
    before = Held.now()
    corners: list[ConnectCorner] = []

    def made(**options: object) -> ConnectCorner:
        corners.append(ConnectCorner(tmp_path, **options))
        return corners[-1]

    yield made
    for corner in corners:
        await corner.clean()
    await turns()
    assert Held.now() == before


@pytest.fixture
def corner(make: Make) -> ConnectCorner:
    return make()


# ---- let through --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "machine"),
    [
        (asking(), "web01"),
        (asking("WEB01.Internal.:10933", version="1.1"), "web01"),
        (asking("web01.internal"), "web01"),
        (asking("[2001:db8:0::2]:10933"), "web02"),
        (asking(credentials="anybody:will do"), "web01"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_target_says_which_machine_is_meant(corner: ConnectCorner, header: bytes, machine: str) -> None:
    assert corner.shown(await corner.through(header)) == machine
    assert corner.refusals() == []


@pytest_twisted.ensureDeferred
async def test_a_browser_gets_the_machine_s_page_through_the_tunnel(corner: ConnectCorner) -> None:
    caller = await corner.through(asking())
    caller.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await corner.street.ended(caller) == FIN
    assert caller.data == MACHINE_PAGE


@pytest_twisted.ensureDeferred
async def test_callers_with_tls_find_the_shared_door_as_ever(corner: ConnectCorner) -> None:
    caller = await corner.street.call(corner.address, name="web01.relay.corp")
    assert corner.shown(caller) == "web01"
    stranger = await corner.street.call(corner.address, shakes=False, name="web02.relay.corp")
    assert await corner.street.ended(stranger) == FIN
    assert stranger.records == []
    assert [reason for reason, _ in corner.refusals()] == ["unknown-name"]


@pytest_twisted.ensureDeferred
async def test_nothing_follows_the_answer_until_the_client_hello(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(asking())
    assert await visitor.answered() == ESTABLISHED
    await turns(20)
    assert visitor.look() == ESTABLISHED
    await visitor.says(client_hello())
    await corner.street.spin(lambda: len(visitor.look()) > len(ESTABLISHED))
    assert visitor.data[len(ESTABLISHED)] == 0x16


@pytest_twisted.ensureDeferred
async def test_a_caller_that_does_not_wait_for_the_answer(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(asking() + client_hello())
    await corner.street.spin(lambda: len(visitor.look()) > len(ESTABLISHED))
    assert visitor.data.startswith(ESTABLISHED + b"\x16\x03")


@pytest_twisted.ensureDeferred
async def test_a_header_that_comes_byte_by_byte(corner: ConnectCorner) -> None:
    visitor = await corner.visitor()
    header = asking()
    for index in range(len(header)):
        assert visitor.look() == b""
        await visitor.says(header[index : index + 1])
        await turns(2)
        await corner.advance(AGAIN)
    await corner.advance(LONGEST_AGAIN)
    assert await visitor.answered() == ESTABLISHED


@pytest_twisted.ensureDeferred
async def test_a_header_that_is_not_whole_is_left_alone_for_a_moment(corner: ConnectCorner) -> None:
    """Whoever sends one byte by byte costs the others no look at each byte."""
    visitor = await corner.visitor(asking()[:-1])
    await turns()
    await visitor.says(b"\n")
    await turns(20)
    assert visitor.look() == b""
    await corner.advance(AGAIN)
    assert await visitor.answered() == ESTABLISHED


@pytest_twisted.ensureDeferred
async def test_a_header_that_comes_byte_by_byte_is_looked_at_less_and_less(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(asking()[:-4])
    for missing, pause in ((b"\r", AGAIN), (b"\n", 2 * AGAIN), (b"\r", 4 * AGAIN)):
        await turns()
        await visitor.says(missing)
        await corner.advance(pause)
    await turns()
    await visitor.says(b"\n")
    await corner.advance(LONGEST_AGAIN - AGAIN)
    await turns(20)
    assert visitor.look() == b""
    await corner.advance(AGAIN)
    assert await visitor.answered() == ESTABLISHED


# ---- not let through ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("web03.internal:10933", "no machine has the target web03.internal:10933"),
        ("web01.internal:22", "no machine has the target web01.internal:22"),
        (
            "127.0.0.1:1",
            "no machine has the target 127.0.0.1:1",
        ),  # where the Tentacles are: there is no way but the declared one
        ("web01.internal:0", "it asked for web01.internal:0: not a port from 1 to 65535"),
        ("http://web01/", "it asked for http://web01/: more than a host and a port"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_declared_is_forbidden(corner: ConnectCorner, target: str, detail: str) -> None:
    assert await corner.gets(asking(target)) == FORBIDDEN.data
    assert corner.refusals() == [("unknown-target", detail)]
    assert corner.relay.metric("relay_refusals_total", reason="unknown-target") == 1


@pytest.mark.parametrize(
    ("request_", "answer", "detail"),
    [
        (b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", PAGE.data, "it asked for GET /"),
        (b"HEAD / HTTP/1.1\r\n\r\n", PAGE.head, "it asked for HEAD /"),
        (b"GET http://web01.internal/ HTTP/1.1\r\n\r\n", NO_TUNNEL.data, "it asked for GET http://web01.internal/"),
        (b"SSH-2.0-x\r\n", NO_HTTP.data, "not HTTP: SSH-2.0-x"),
        (b"\x03\x00\x00\x13\x0e\xe0", NO_HTTP.data, "a byte that no HTTP has: b'\\x03'"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_whoever_wants_no_tunnel_is_told_what_this_is(
    corner: ConnectCorner, request_: bytes, answer: bytes, detail: str
) -> None:
    assert await corner.gets(request_) == answer
    assert corner.refusals() == [("not-connect", detail)]


@pytest_twisted.ensureDeferred
async def test_credentials_are_asked_for_before_anything_is_told(make: Make) -> None:
    corner = make(users=USERS)
    for credentials in (None, "octo:wrong", "octo:", "Octo:s3cret:x"):
        for target in (TARGET, "web03.internal:10933"):
            assert await corner.gets(asking(target, credentials)) == CREDENTIALS.data
    assert b'\r\nProxy-Authenticate: Basic realm="relay"\r\n' in CREDENTIALS.data
    assert corner.refusals() == [("proxy-credentials", f"no credentials; it asked for {TARGET}")]
    for credentials in ("octo:s3cret:x", "octo:the next one"):
        assert corner.shown(await corner.through(asking(TARGET, credentials))) == "web01"
        assert await corner.gets(asking("web03.internal:10933", credentials)) == FORBIDDEN.data


@pytest_twisted.ensureDeferred
async def test_credentials_are_in_no_line_of_the_log(make: Make) -> None:
    corner = make(users=USERS)
    value = base64.b64encode(b"octo:wr0ng").decode()
    await corner.gets(asking(TARGET, "octo:wr0ng"))
    await corner.gets(f"GET / HTTP/1.1\r\nProxy-Authorization: Basic {value}\r\nX\r\n".encode())
    lines = json.dumps(corner.relay.log())
    assert "wrong credentials" in lines
    assert all(each not in lines for each in ("wr0ng", "s3cret", value))


# ---- half a header ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_whoever_closes_within_its_header_is_answered(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(asking()[:-2])
    visitor.sock.shutdown(socket.SHUT_WR)
    assert await visitor.ended() == HALF.data
    assert corner.refusals() == [("left-early", "closed within its header")]


@pytest_twisted.ensureDeferred
async def test_whoever_closes_before_a_byte_is_not(corner: ConnectCorner) -> None:
    visitor = await corner.visitor()
    visitor.sock.shutdown(socket.SHUT_WR)
    assert await visitor.ended() == b""
    assert corner.refusals() == [("left-early", "closed before its ClientHello")]


@pytest_twisted.ensureDeferred
async def test_a_reset_ends_it(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(b"CONNECT")
    visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visitor.sock.close()
    await corner.street.spin(lambda: corner.connections == 0)
    assert [reason for reason, _ in corner.refusals()] == ["left-early"]


@pytest.mark.parametrize(("begun", "detail"), [(b"", "not a byte in time"), (b"CONNECT web", "no whole header in time")])
@pytest_twisted.ensureDeferred
async def test_whoever_is_late_is_answered(corner: ConnectCorner, begun: bytes, detail: str) -> None:
    visitor = await corner.visitor(begun)
    await turns()
    await corner.advance(HELLO_WITHIN - 0.1)
    assert (visitor.look(), visitor.end) == (b"", None)
    await corner.advance(0.1)
    assert await visitor.ended() == LATE.data
    assert corner.refusals() == [("hello-timeout", detail)]


@pytest_twisted.ensureDeferred
async def test_where_the_system_polls_no_more_sockets_no_place_is_lost(
    corner: ConnectCorner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    loop = corner.service._loop
    assert loop
    with monkeypatch.context() as patch:
        patch.setattr(loop.strangers, "ask", full)
        assert await (await corner.visitor()).ended() == b""
    assert corner.connections == 0
    assert corner.shown(await corner.through(asking())) == "web01"


@pytest_twisted.ensureDeferred
async def test_whoever_is_greeted_shares_the_turns_of_its_source(corner: ConnectCorner) -> None:
    """Among strangers, who go behind those that are known."""
    await corner.visitor(asking()[:-2])
    begun = await corner.visitor(asking())
    assert await begun.answered() == ESTABLISHED
    loop = corner.service._loop
    assert loop
    callers = [sharing for *_, sharing in loop.strangers._polled.values() if not sharing.startswith("door ")]
    assert callers == ["127.0.0.1", "127.0.0.1"]


@pytest_twisted.ensureDeferred
async def test_the_time_for_the_client_hello_begins_with_the_connection(corner: ConnectCorner) -> None:
    visitor = await corner.visitor()
    await corner.advance(HELLO_WITHIN - 1)
    await visitor.says(asking())
    assert await visitor.answered() == ESTABLISHED
    await corner.advance(0.9)
    assert visitor.look() == ESTABLISHED
    await corner.advance(0.1)
    assert await visitor.ended() == ESTABLISHED
    assert corner.refusals() == [("hello-timeout", f"no ClientHello in time behind its CONNECT to {TARGET}")]


@pytest_twisted.ensureDeferred
async def test_no_tls_behind_the_answer(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(asking())
    assert await visitor.answered() == ESTABLISHED
    await visitor.says(b"SSH-2.0-x\r\n")
    await visitor.ended(RST)
    assert corner.refusals() == [("not-tls", f"not TLS behind its CONNECT to {TARGET}")]


# ---- the answer is taken --------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_whoever_goes_on_sending_gets_the_answer_all_the_same(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 20_000)
    await visitor.answered()
    await visitor.says(b"x" * 20_000)
    assert await visitor.ended() == NO_TUNNEL.data
    await corner.street.spin(lambda: corner.connections == 0)


@pytest_twisted.ensureDeferred
async def test_whoever_does_not_close_behind_its_answer_is_closed(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(b"GET / HTTP/1.1\r\n\r\n")
    await visitor.answered()
    await corner.advance(LINGER - 0.1)
    assert corner.connections == 1
    await corner.advance(0.1)
    assert corner.connections == 0


@pytest_twisted.ensureDeferred
async def test_whoever_floods_behind_its_answer_is_closed(corner: ConnectCorner) -> None:
    visitor = await corner.visitor(b"GET / HTTP/1.1\r\n\r\n")
    await visitor.answered()

    def flooded() -> bool:
        try:
            visitor.sock.send(b"x" * 65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return False

    await corner.street.spin(flooded)
    assert corner.connections == 0


# ---- what will not last -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_drained_machine_is_a_tunnel_that_closes(corner: ConnectCorner) -> None:
    corner.service.drain_machine("web01")
    caller = await corner.through(asking(), shakes=False)
    assert await corner.street.ended(caller) == FIN
    assert caller.records == []
    assert corner.relay.metric("relay_refusals_total", reason="machine-drained") == 1
    assert await corner.gets(asking("web03.internal:10933")) == FORBIDDEN.data
    corner.service.resume_machine("web01")
    assert corner.shown(await corner.through(asking())) == "web01"


@pytest_twisted.ensureDeferred
async def test_a_full_relay_answers_before_it_closes(make: Make) -> None:
    corner = make(connections=1)
    first = await corner.through(asking())
    assert await corner.gets(asking()) == ESTABLISHED  # will not last: Octopus tries again
    assert await corner.gets(asking("web03.internal:10933")) == FORBIDDEN.data
    assert await corner.gets(b"GET / HTTP/1.1\r\n\r\n") == PAGE.data
    caller = await corner.street.call(corner.address, shakes=False, name="web01.relay.corp")
    assert await corner.street.ended(caller) == FIN
    assert caller.records == []
    assert corner.refusals()[0] == ("connections", "1 callers are there (relay.limits.connections)")
    assert corner.relay.metric("relay_refusals_total", reason="connections") == 2
    silent = await corner.visitor()
    await corner.advance(AWAY_WITHIN)
    assert await silent.ended() == UNAVAILABLE.data
    assert corner.connections == 1
    first.close()
    await corner.street.spin(lambda: corner.connections == 0)
    await corner.through(asking())


@pytest_twisted.ensureDeferred
async def test_of_a_crowd_at_a_full_relay_everybody_is_answered_at_once(make: Make) -> None:
    corner = make(connections=1)
    await corner.through(asking())
    crowd = [await corner.visitor() for _ in range(TURNED_AWAY)]
    assert await corner.gets(b"") == UNAVAILABLE.data
    assert [visitor.look() for visitor in crowd] == [b""] * TURNED_AWAY
    await crowd[0].says(asking())
    assert await crowd[0].ended() == ESTABLISHED
    await turns()
    last = await corner.visitor()
    assert last.look() == b""


@pytest_twisted.ensureDeferred
async def test_a_drain_answers_whoever_is_here(corner: ConnectCorner) -> None:
    half, silent, unknown = [await corner.visitor(data) for data in (asking()[:-2], b"", b"CONNECT web03:1 ")]
    tls = await corner.visitor(client_hello()[:50])
    begun = await corner.visitor(asking())
    assert await begun.answered() == ESTABLISHED
    await turns()
    corner.service.start_drain()
    assert await begun.ended() == ESTABLISHED
    assert await tls.ended(RST) == b""
    await half.says(b"\r\n")
    await unknown.says(b"HTTP/1.0\r\n\r\n")
    await corner.advance(AGAIN)
    assert await half.ended() == ESTABLISHED
    assert await unknown.ended() == FORBIDDEN.data
    assert (silent.look(), silent.end) == (b"", None)
    await corner.advance(AWAY_WITHIN)
    assert await silent.ended() == UNAVAILABLE.data
    await corner.street.spin(lambda: corner.relay.log("stopped"))
    assert [reason for reason, _ in corner.refusals()] == ["draining", "unknown-target"]


@pytest_twisted.ensureDeferred
async def test_a_stop_answers_whoever_is_here_at_once(corner: ConnectCorner) -> None:
    visitors = [await corner.visitor(data) for data in (asking()[:-2], b"")]
    answered = await corner.visitor(b"GET / HTTP/1.1\r\n\r\n")
    await answered.answered()
    visitors[1].sock.sendall(asking())  # nobody has read it when the relay stops
    corner.service.stop()
    await corner.street.spin(lambda: visitors[1].look() and visitors[1].end)
    assert visitors[1].sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # no reset came to take the answer back
    assert [await visitor.ended() for visitor in visitors] == [UNAVAILABLE.data] * 2
    assert await answered.ended() == PAGE.data


# ---- a strict Octopus ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_strict_octopus_can_take_every_answer(make: Make, tmp_path: Path) -> None:
    corner = make(users=USERS, connections=3)
    octopus = Octopus(real, identity("octopus").pem(), spool=tmp_path)
    thumbprint = str(corner.service.faces.of_machine("web01").thumbprint)

    async def outcome(host: str = "web01.internal", user: str = "octo", password: str = "s3cret:x") -> str:
        proxy = WebProxy(*corner.address, user, password)
        try:
            return await octopus.discover(host, 10933, proxy)
        except ProxyError as error:
            return f"{error.status} {error.reason}"
        except ConnectingError as error:
            return f"a close, {'to be tried again' if error.retry else 'for good'}"

    assert await outcome() == thumbprint
    assert await outcome("WEB03.internal") == "403 Forbidden"
    assert await outcome(password="wrong") == "407 Proxy Authentication Required"
    assert await outcome(user="") == "407 Proxy Authentication Required"
    corner.service.drain_machine("web01")
    assert await outcome() == "a close, to be tried again"
    corner.service.resume_machine("web01")
    await corner.street.spin(lambda: corner.connections == 0)
    held = [await corner.through(asking(TARGET, "octo:s3cret:x")) for _ in range(3)]
    assert await outcome() == "a close, to be tried again"
    assert await outcome("WEB03.internal") == "403 Forbidden"
    held[0].close()
    await corner.street.spin(lambda: corner.connections == 2)
    late = Deferred.fromCoroutine(outcome())
    await corner.street.spin(lambda: corner.connections == 3)
    corner.service.start_drain()
    assert await late == "a close, to be tried again"
    assert list(octopus.violations) == []
    await octopus.stop()


# ---- reload -------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_reload_brings_the_door_takes_it_away_and_loses_nobody(corner: ConnectCorner) -> None:
    caller = await corner.through(asking())
    silent, half = [await corner.visitor(data) for data in (b"", asking()[:-2])]
    front = corner.service.table.front
    corner.relay.reload(*corner.machines, front=front)
    await half.says(b"\r\n")
    assert await half.ended() == FORBIDDEN.data  # it is not declared any more
    await silent.says(client_hello("web01.relay.corp"))
    await corner.street.spin(silent.look)
    assert silent.look()[0] == 0x16
    assert await corner.gets(asking(), RST) == b""
    assert [reason for reason, _ in corner.refusals()] == ["unknown-target", "not-tls"]
    assert caller.end is None
    corner.relay.reload(*corner.machines, front=front, connect=corner.connect)
    assert corner.shown(await corner.through(asking())) == "web01"


@pytest_twisted.ensureDeferred
async def test_a_reload_between_the_answer_and_the_client_hello(corner: ConnectCorner) -> None:
    visitors = [await corner.visitor(asking()) for _ in range(2)]
    for visitor in visitors:
        await visitor.answered()
    corner.relay.reload(corner.machines[1], front=corner.service.table.front, connect=corner.connect)
    await visitors[0].says(client_hello())
    assert await visitors[0].ended() == ESTABLISHED
    corner.relay.reload(*corner.machines, front=corner.service.table.front)
    await visitors[1].says(client_hello())
    assert await visitors[1].ended() == ESTABLISHED
    assert corner.refusals() == [
        ("unknown-target", f"no machine has the target {TARGET}"),
        ("draining", "a reload has closed the CONNECT door"),
    ]


@pytest_twisted.ensureDeferred
async def test_a_reload_that_closes_the_whole_door_answers_whoever_is_here(corner: ConnectCorner) -> None:
    half = await corner.visitor(asking()[:-2])
    address = corner.address
    await turns()
    corner.relay.reload(*corner.machines)
    await half.says(b"\r\n")
    await corner.advance(AGAIN)
    assert await half.ended() == FORBIDDEN.data
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, 1):
        pass


@pytest_twisted.ensureDeferred
async def test_a_stop_soon_after_such_a_reload_answers_whoever_is_still_here(corner: ConnectCorner) -> None:
    half = await corner.visitor(asking()[:-2])
    await turns()
    corner.relay.reload(*corner.machines)
    corner.service.stop()
    assert await half.ended() == UNAVAILABLE.data


@pytest_twisted.ensureDeferred
async def test_a_reload_reads_the_credentials_again(make: Make) -> None:
    corner = make(users=USERS)
    corner.credentials.write_text("octo:newest\n")
    assert await corner.gets(asking(TARGET, "octo:newest")) == CREDENTIALS.data
    before = await corner.through(asking(TARGET, "octo:s3cret:x"))
    corner.relay.reload(*corner.machines, front=corner.service.table.front, connect=corner.connect)
    assert await corner.gets(asking(TARGET, "octo:s3cret:x")) == CREDENTIALS.data
    await corner.through(asking(TARGET, "octo:newest"))
    assert before.end is None


# ---- the recordings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recording", sorted(each.parent.name for each in CAPTURES.glob("listening-*/proxy*-*.jsonl")))
@pytest_twisted.ensureDeferred
async def test_what_octopus_was_recorded_to_send(corner: ConnectCorner, recording: str) -> None:
    file = next((CAPTURES / recording).glob("proxy*.jsonl"))
    sent = next(base64.b64decode(line["b64"]) for line in map(json.loads, file.read_text().splitlines()))
    target = sent.split(b" ")[1].decode()
    assert await corner.gets(sent) == FORBIDDEN.data
    assert corner.refusals() == [("unknown-target", f"no machine has the target {target}")]
