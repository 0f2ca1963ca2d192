import errno
import json
import os
import select
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Self

import pytest
from descriptors import no_descriptor_free

from relay.transport import lanes
from relay.transport.lanes import listening_socket, listening_sockets

MANY = 8
SOURCES = [f"127.0.{net}.{host}" for net in range(1, 5) for host in range(1, 17)]
WHOLE_LOOPBACK = [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1")]
"""Where ours listens, and where its callers dial."""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def called(address: tuple[str, int], source: str = "") -> socket.socket:
    return socket.create_connection(address, 5, (source, 0) if source else None)


def taken(sockets: tuple[socket.socket, ...]) -> list[int]:
    """In which lanes somebody waited, one entry for each, who is gone now."""
    found = []
    for number, sock in enumerate(sockets):
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            found.append(number)
    return found


class Opened:
    """Lanes of one address, and how to call them."""

    def __init__(self, host: str, dialled: str, many: int = MANY) -> None:
        self.sockets = listening_sockets(host, 0, lanes=many)
        self.port: int = self.sockets[0].getsockname()[1]
        self.address = dialled, self.port

    def lane(self, source: str) -> int:
        """Of a caller from there."""
        with called(self.address, source):
            [lane] = taken(self.sockets)
        return lane

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.sockets:
            sock.close()


def test_a_source_has_one_lane_whatever_its_ports_and_sources_are_spread_over_all() -> None:
    with Opened("127.0.0.1", "127.0.0.1") as opened:
        chosen = {source: {opened.lane(source) for _ in range(4)} for source in SOURCES}
    assert all(len(found) == 1 for found in chosen.values())
    spread = [next(iter(found)) for found in chosen.values()]
    assert len(set(spread)) > MANY // 2
    assert max(map(spread.count, spread)) < len(SOURCES) // 2


@pytest.mark.parametrize(("host", "dialled"), [*WHOLE_LOOPBACK, ("::1", "::1"), ("::", "::1"), ("", "::1")])
def test_lanes_of_every_kind_of_address(host: str, dialled: str) -> None:
    """Of IPv6, one source is all that loopback has."""
    sources = ["::1"] if ":" in dialled else SOURCES[:8]
    with Opened(host, dialled) as opened:
        assert {sock.getsockname()[1] for sock in opened.sockets} == {opened.port}
        assert len(opened.sockets) == MANY
        for source in sources:
            assert len({opened.lane(source) for _ in range(8)}) == 1


_NETWORKS = """
import socket, subprocess
from relay.transport.lanes import listening_sockets
sources = [[f"2001:db8:{network}::{host}" for host in ("1", "99:2", "ffff:0:0:3")] for network in range(1, 33)]
for source in sum(sources, []):
    subprocess.run(["ip", "addr", "add", f"{source}/128", "dev", "lo", "nodad"], check=True)
sockets = listening_sockets("", 0, lanes=8)
port, seen = sockets[0].getsockname()[1], []
for network in sources:
    callers = [socket.create_connection((sources[0][0], port), 5, (source, 0)) for source in network]
    seen.append([])
    for number, sock in enumerate(sockets):
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            seen[-1].append(number)
print(seen)
"""


def test_of_ipv6_a_whole_network_is_one_source() -> None:
    within = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a network of its own")
    output = subprocess.run([*within, sys.executable, "-c", _NETWORKS], capture_output=True, text=True, check=True).stdout
    seen = json.loads(output)
    assert all(len(lanes) == 3 and len(set(lanes)) == 1 for lanes in seen)
    assert len({lanes[0] for lanes in seen}) > MANY // 2


def test_another_start_has_other_lanes() -> None:
    """Nobody can tell from outside who shares a lane with whom."""

    def groups() -> list[int]:
        with Opened("127.0.0.1", "127.0.0.1") as opened:
            return [opened.lane(source) for source in SOURCES]

    assert groups() != groups()


def test_a_source_whose_queue_is_full_keeps_no_other_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BACKLOG", 2)
    with Opened("127.0.0.1", "127.0.0.1") as opened, ExitStack() as held:
        flood = SOURCES[0]
        full = opened.lane(flood)
        other = next(source for source in SOURCES if opened.lane(source) != full)
        crowd = [held.enter_context(socket.socket()) for _ in range(10)]
        for each in crowd:
            each.setblocking(False)
            each.bind((flood, 0))
            each.connect_ex(opened.address)
        connected = select.select([], crowd, [], 0)[1]
        assert 0 < len(connected) < len(crowd)
        caller = held.enter_context(called(opened.address, other))
        accepted = []
        for sock in opened.sockets:  # what one turn of each lane gives
            try:
                accepted.append(held.enter_context(sock.accept()[0]).getpeername())
            except BlockingIOError:
                continue
        assert caller.getsockname() in accepted
        assert len(accepted) == 2


# ---- one socket ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.EPERM, errno.EINVAL])
def test_where_the_system_has_no_lanes_one_socket_does(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(sock: socket.socket, lanes: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lanes, "_choose_by_source", refused)
    before = descriptors()
    with Opened("127.0.0.1", "127.0.0.1") as opened:
        assert len(opened.sockets) == 1
        assert descriptors() == before + 1
        assert opened.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        assert {opened.lane(source) for source in SOURCES[:8]} == {0}
        with pytest.raises(OSError, match="in use"):
            listening_sockets("127.0.0.1", opened.port, lanes=MANY)


def test_where_there_are_no_descriptors_for_lanes_one_socket_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made = socket.socket

    def third_fails(family: socket.AddressFamily, kind: int) -> socket.socket:
        if descriptors() >= before + 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return made(family, kind)

    before = descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", third_fails)
        opened = Opened("127.0.0.1", "127.0.0.1")
    with opened:
        assert len(opened.sockets) == 1
        assert descriptors() == before + 1
        assert {opened.lane(source) for source in SOURCES[:8]} == {0}


def test_where_there_is_no_descriptor_at_all_that_is_said() -> None:
    with no_descriptor_free(), pytest.raises(OSError, match="Too many open files"):
        listening_sockets("127.0.0.1", 0, lanes=MANY)


# ---- others at the port -------------------------------------------------------------------------------------------------

_JOIN = """
import socket, sys
host, port, reuse = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
    try:
        sock.bind((host, port))
        sock.listen()
    except OSError as error:
        print(error.strerror, end="")
    else:
        print("let in", end="")
"""
_OPEN = """
import sys
from relay.transport.lanes import listening_sockets
try:
    listening_sockets(sys.argv[1], int(sys.argv[2]), lanes=8)
except OSError as error:
    print(error.strerror, end="")
else:
    print("let in", end="")
"""


def process(code: str, *argv: object) -> str:
    """What another process of this user says."""
    return subprocess.run([sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("many", [1, MANY])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", ""])
def test_another_relay_finds_the_port_in_use(host: str, many: int) -> None:
    with Opened(host, "", many) as opened:
        assert process(_OPEN, host, opened.port) == "Address already in use"
        if host != "::1":
            assert process(_OPEN, "127.0.0.1", opened.port) == "Address already in use"


@pytest.mark.parametrize("reuse", [0, 1])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_another_process_of_the_same_user_finds_it_in_use_even_where_it_would_share_it(host: str, reuse: int) -> None:
    with Opened(host, "") as opened:
        assert process(_JOIN, host, opened.port, reuse) == "Address already in use"


def test_a_second_relay_cannot_come_in_by_way_of_its_own_address_beside() -> None:
    """As at a reload that moves its door from another address of the same port."""
    with Opened("127.0.0.1", "") as opened, listening_socket("127.0.0.5", opened.port) as own:
        with pytest.raises(OSError, match="in use"):
            listening_sockets("127.0.0.1", opened.port, [own], lanes=MANY)
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


def test_a_port_in_use() -> None:
    with listening_socket("127.0.0.1", 0) as sock:
        before = descriptors()
        with pytest.raises(OSError, match="in use"):
            listening_sockets("127.0.0.1", sock.getsockname()[1], lanes=MANY)
        assert descriptors() == before


@pytest.mark.parametrize("many", [1, MANY])
def test_a_port_can_be_taken_again_at_once(many: int) -> None:
    with Opened("127.0.0.1", "127.0.0.1", many) as opened, called(opened.address):
        assert len(taken(opened.sockets)) == 1  # ours is the first close: it stays in TIME_WAIT
    for sock in (again := listening_sockets("127.0.0.1", opened.port, lanes=many)):
        sock.close()
    assert len(again) == many


@pytest.mark.parametrize("many", [1, MANY])
@pytest.mark.parametrize(("host", "other"), [("", "127.0.0.1"), ("127.0.0.1", ""), ("0.0.0.0", ""), ("127.0.0.1", "127.0.0.1")])
def test_an_address_that_overlaps_with_one_of_our_own(host: str, other: str, many: int) -> None:
    """It is opened beside it where that is asked for, and the port is taken for everybody else, before and after."""
    with Opened(host, "127.0.0.1", many) as ours:
        with pytest.raises(OSError, match="in use"):
            listening_sockets(other, ours.port, lanes=many)
        beside = listening_sockets(other, ours.port, ours.sockets, lanes=many)
        try:
            assert len(beside) == many
            shared = [
                sum(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in sockets)
                for sockets in (ours.sockets, beside)
            ]
            assert shared == [int(many > 1)] * 2
            with pytest.raises(OSError, match="in use"):
                listening_sockets(other, ours.port, lanes=many)
            for sock in ours.sockets:
                sock.close()
            for source in SOURCES[:8]:
                found = set()
                for _ in range(4):
                    with called(ours.address, source):
                        found.update(taken(beside))
                assert len(found) == 1
        finally:
            for sock in beside:
                sock.close()


# ---- the address --------------------------------------------------------------------------------------------------------


def test_every_address_where_there_is_only_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening_socket("", 0) as sock:
        assert sock.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize(("host", "only_ipv6"), [("::", 1), ("::1", 1), ("", 0)])
def test_an_address_of_ipv6_takes_no_callers_of_ipv4_unless_every_one_was_asked_for(host: str, only_ipv6: int) -> None:
    with Opened(host, "") as opened:
        assert {sock.family for sock in opened.sockets} == {socket.AF_INET6}
        assert {sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for sock in opened.sockets} == {only_ipv6}


def test_an_address_that_is_not_this_hosts() -> None:
    with pytest.raises(OSError, match="assign"):
        listening_sockets("192.0.2.1", 0, lanes=MANY)
