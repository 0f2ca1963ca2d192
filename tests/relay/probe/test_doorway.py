"""The CONNECT door of a relay in this process, asked as Octopus asks it: what is said of each way in which it may go."""

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from clocked_reactor import real
from connect_corner import TARGET, ConnectCorner, asking

from certs.store import IdentityStore
from certs.thumbprint import Thumbprint
from relay.identities import NoSuchEntryError
from relay.peers.tunnel import WebProxy
from relay.probe.doorway import DoorResult, Knock, knock
from relay.probe.doorways import knock_many, visits
from relay.probe.many import NotReadyError
from routing.addresses import Address
from routing.targets import target

HERE = "127.0.0.1"


@pytest_twisted.async_yield_fixture
async def corner(tmp_path: Path) -> AsyncIterator[ConnectCorner]:
    await turns()
    made = ConnectCorner(tmp_path, users="octo:s3cret:x\n", connections=2)
    yield made
    await made.clean()


async def asked(
    corner: ConnectCorner,
    text: str = TARGET,
    password: str = "s3cret:x",
    expected: Thumbprint | None = None,
    seconds: float = 20.0,
) -> DoorResult:
    proxy = WebProxy(*corner.address, "octo", password)
    return await knock(real, "web01", target(text), proxy, expected, seconds)


@pytest_twisted.ensureDeferred
async def test_what_the_relay_s_own_door_says(corner: ConnectCorner) -> None:
    own = corner.service.faces.of_machine("web01").thumbprint
    fine = await asked(corner, expected=own)
    assert (fine.knock, fine.detail, fine.remedy, fine.shown) == (Knock.FINE, "", "", str(own))
    assert (await asked(corner)).ok
    wrong = await asked(corner, expected=Thumbprint.of(b"another"))
    assert wrong.knock is Knock.WRONG_CERTIFICATE
    assert wrong.detail == f"it showed {own}, and the machine has {Thumbprint.of(b'another')}"
    assert (await asked(corner, "web03.internal:1")).knock is Knock.UNKNOWN_TARGET
    refused = await asked(corner, password="old")
    assert (refused.knock, refused.detail) == (Knock.PROXY_CREDENTIALS, "it answered 407 Proxy Authentication Required")
    corner.service.drain_machine("web01")
    closed = await asked(corner)
    assert (closed.knock, closed.shown) == (Knock.CLOSED, None)
    assert "drained" in closed.remedy


@pytest_twisted.ensureDeferred
async def test_a_full_relay(corner: ConnectCorner) -> None:
    for _ in range(2):
        await corner.through(asking(TARGET, "octo:s3cret:x"))
    assert (await asked(corner)).knock is Knock.CLOSED


async def said(answer: bytes, closes: bool, seconds: float = 20.0) -> DoorResult:
    """Of something else than a relay."""
    with socket.create_server((HERE, 0)) as server:
        server.setblocking(False)
        taken: list[socket.socket] = []

        def take() -> None:
            try:
                sock, _ = server.accept()
            except BlockingIOError:
                real.callLater(0, take)
                return
            taken.append(sock)
            sock.send(answer)
            if closes:
                sock.shutdown(socket.SHUT_WR)

        real.callLater(0, take)
        found = await knock(real, "web01", Address("web01", 1), WebProxy(HERE, server.getsockname()[1]), None, seconds)
        for sock in taken:
            sock.close()
        return found


@pytest.mark.parametrize(
    ("answer", "closes", "expected"),
    [
        (b"", True, Knock.NO_PROXY),
        (b"SSH-2.0-x\r\n\r\n", False, Knock.NO_PROXY),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", False, Knock.REFUSED),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, Knock.CLOSED),
    ],
)
@pytest_twisted.ensureDeferred
async def test_somebody_else_s_door(answer: bytes, closes: bool, expected: Knock) -> None:
    found = await said(answer, closes)
    assert found.knock is expected
    assert found.detail
    assert found.remedy.endswith(".")


@pytest_twisted.ensureDeferred
async def test_a_door_that_says_nothing_and_one_that_is_not_there() -> None:
    silent = await said(b"", False, 0.05)
    assert (silent.knock, silent.detail) == (Knock.SILENT, "not done within 0.05 s")
    with socket.create_server((HERE, 0)) as server:
        port = server.getsockname()[1]
    assert (await knock(real, "web01", Address("web01", 1), WebProxy(HERE, port), None, 20.0)).knock is Knock.UNREACHABLE


@pytest_twisted.ensureDeferred
async def test_each_machine_with_a_target_is_asked_for_as_the_first_user(corner: ConnectCorner, tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "state", lambda *_: None, pytest.fail)
    work = visits(corner.service.table, store, [], HERE)
    assert [visit.machine for visit in work] == ["web01", "web02"]
    assert {(visit.proxy.host, visit.proxy.user, visit.proxy.password) for visit in work} == {(HERE, "octo", "s3cret:x")}
    assert work[0].expected == corner.service.faces.of_machine("web01").thumbprint
    assert visits(corner.service.table, store, ["web02"], None)[0].target == Address("2001:db8::2", 10933)
    with pytest.raises(NoSuchEntryError, match="web09"):
        visits(corner.service.table, store, ["web09"], None)
    corner.credentials.chmod(0o644)
    with pytest.raises(NotReadyError, match=r"front.credentials: .*chmod 600"):
        visits(corner.service.table, store, [], None)
    nowhere = [visit for visit in work if visit.machine == "web01"]
    [found] = await knock_many(real, nowhere, 20.0, 1)
    assert found.knock is Knock.UNREACHABLE  # port 0, which this test's table has


def test_one_that_is_passed_through_is_asked_for_by_name(tmp_path: Path, corner: ConnectCorner) -> None:
    """Whatever certificate its Tentacle has, an identity that is left from before is not it."""
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda text: None)
    store.machine("web01")
    table = corner.service.table
    vault = replace(table.machines[0], passthrough=True, thumbprints=(), octopus=())
    [visit] = visits(replace(table, machines=(vault,)), store, ["web01"], HERE)
    assert (visit.machine, visit.target, visit.expected) == ("web01", target(TARGET), None)


def test_no_door_and_no_target(tmp_path: Path, corner: ConnectCorner) -> None:
    store = IdentityStore(tmp_path / "state", lambda *_: None, pytest.fail)
    with pytest.raises(NotReadyError, match="there is no CONNECT door"):
        visits(corner.relay.table(*corner.machines), store, [], None)
