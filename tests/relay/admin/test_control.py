import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from fake_controls import FakeControls, FakeOutcome, FakeReloads
from json_lines import JsonLines
from stream_client import StreamClient

from certs.errors import CertificateError
from relay.admin import control
from relay.admin.commands import Commands
from relay.admin.control import IDLE, MAX_LINE, MAX_PATH, MOST, ControlPort, socket_name
from relay.admin.log import make_log
from relay.admin.status import Status
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.errors import StartError


class Desk:
    """A control socket in this process, and clients."""

    def __init__(self, folder: Path, machines: int = 2) -> None:
        self.state = folder / "state"
        self.controls = FakeControls(folder, *[f"web{number:05}" for number in range(machines)])
        self.reloads = FakeReloads(folder)
        self.reactor, self.changes, self._lines = ClockedReactor(), Changes(), JsonLines()
        self._log = make_log(LineWriter(self.reactor, self._lines), "debug")
        self.port = ControlPort(self.reactor, self.state, self._log)
        self._clients: list[StreamClient] = []

    def open(self) -> None:
        self.port.lock()
        status = Status(self.controls, self.reloads, self.controls.metrics)
        self.port.listen(Commands(self.controls, self.reloads, status, self._log))

    def client(self) -> StreamClient:
        self._clients.append(StreamClient.unix(self.changes, str(self.port.path)))
        return self._clients[-1]

    async def ask(self, line: bytes) -> dict[str, Any]:
        client = self.client()
        await client.write(line)
        answer: dict[str, Any] = json.loads(await client.end())
        return answer

    def logged(self) -> list[dict[str, Any]]:
        self.reactor.advance(FLUSH_AFTER)
        return self._lines.found

    async def clean(self) -> None:
        self.port.close()
        for client in self._clients:
            client.close()
        await turns()
        self.reactor.advance(FLUSH_AFTER)
        assert self.reactor.timers == []


@pytest_twisted.async_yield_fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    await turns()
    before = len(os.listdir("/proc/self/fd"))
    made = Desk(tmp_path)
    made.open()
    yield made
    await made.clean()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Desk]:
    """One that is not open yet."""
    made = Desk(tmp_path)
    yield made
    made.port.close()


# ---- the socket ---------------------------------------------------------------------------------------------------------


def test_nobody_else_can_touch_it(closed: Desk) -> None:
    before = os.umask(0)
    try:
        closed.open()
        assert stat.S_IMODE(closed.port.path.stat().st_mode) == 0o600
        assert stat.S_IMODE((closed.state / "control.lock").stat().st_mode) == 0o600
        assert stat.S_IMODE(closed.state.stat().st_mode) == 0o700
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_it_is_removed_at_the_end(closed: Desk) -> None:
    closed.open()
    assert closed.port.path.is_socket()
    closed.port.close()
    assert not closed.port.path.exists()
    closed.port.close()


def test_it_ends_well_where_somebody_removed_it(closed: Desk) -> None:
    closed.open()
    closed.port.path.unlink()
    closed.port.close()


def test_a_living_relay_s_is_left_alone(closed: Desk, tmp_path: Path) -> None:
    closed.open()
    inode = closed.port.path.stat().st_ino
    second = Desk(tmp_path)
    with pytest.raises(StartError) as raised:
        second.open()
    second.port.close()
    assert str(raised.value) == (
        f"another relay runs with this state folder: {closed.state}. "
        "Stop it, or give this one a folder of its own in relay.state."
    )
    assert closed.port.path.stat().st_ino == inode


def test_a_dead_relay_s_is_replaced(closed: Desk) -> None:
    """Its process was killed: the socket is still there, and the lock is not held."""
    closed.state.mkdir(0o700)
    program = (
        "import fcntl, os, signal, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
        "f = open(sys.argv[2], 'w'); fcntl.flock(f, fcntl.LOCK_EX); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(closed.port.path), str(closed.state / "control.lock")])
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(str(closed.port.path))
    closed.open()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(closed.port.path))


def test_what_is_no_socket_is_left_alone(closed: Desk) -> None:
    closed.state.mkdir(0o700)
    closed.port.path.write_text("precious")
    with pytest.raises(StartError, match=f"^{closed.port.path}: not a socket, and not the relay's. Move it away.$"):
        closed.open()
    closed.port.close()
    assert closed.port.path.read_text() == "precious"


def test_a_lock_that_is_a_link_is_not_followed(closed: Desk, tmp_path: Path) -> None:
    closed.state.mkdir(0o700)
    (closed.state / "control.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match="cannot be locked"):
        closed.open()
    assert not (tmp_path / "elsewhere").exists()


def test_a_state_folder_of_others_is_refused(closed: Desk) -> None:
    closed.state.mkdir()
    closed.state.chmod(0o755)
    with pytest.raises(CertificateError, match="chmod 700"):
        closed.open()


@pytest.mark.parametrize("excess", [0, 1, 500])
@pytest_twisted.ensureDeferred
async def test_its_path_may_be_longer_than_a_socket_s(tmp_path: Path, excess: int) -> None:
    folder = tmp_path
    while (room := MAX_PATH + excess - len(os.fsencode(folder / "state" / "control.sock"))) > 0:
        folder = folder / ("x" * min(room - 1, 200) or "x")
        folder.mkdir()
    desk = Desk(folder)
    assert len(os.fsencode(desk.port.path)) >= MAX_PATH + excess
    desk.open()
    try:
        with socket_name(desk.port.path) as name:
            client = StreamClient.unix(desk.changes, name)
        await client.write(b'{"command": "status"}\n')
        assert json.loads(await client.end())["ok"]
        client.close()
    finally:
        await desk.clean()
    assert not desk.port.path.exists()


def test_a_long_path_needs_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def without(path: Path) -> Iterator[str]:
        yield str(tmp_path / "no proc" / path.name)

    monkeypatch.setattr(control, "socket_name", without)
    desk = Desk(tmp_path / ("x" * 100))
    (tmp_path / ("x" * 100)).mkdir()
    with pytest.raises(StartError) as raised:
        desk.open()
    desk.port.close()
    assert str(raised.value) == (
        f"{desk.port.path}: cannot listen: No such file or directory. Check the folder relay.state; its path has more "
        "than 107 bytes, which works only where /proc is mounted."
    )


# ---- requests -----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_line_is_answered_with_a_line_and_the_end(desk: Desk) -> None:
    client = desk.client()
    await client.write(b'{"command": "drain", "machine": "web00001"}\n')
    data = await client.end()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert json.loads(data)["ok"]
    assert desk.controls.told == [("drain", "web00001")]


@pytest_twisted.ensureDeferred
async def test_who_asked_is_logged(desk: Desk) -> None:
    await desk.ask(b'{"command": "drain", "machine": "web00001"}\n')
    [line] = [line for line in desk.logged() if line["event"] == "an operator's command"]
    assert (line["pid"], line["uid"], line["command"], line["machine"]) == (os.getpid(), os.getuid(), "drain", "web00001")


@pytest_twisted.ensureDeferred
async def test_a_request_may_come_in_pieces(desk: Desk) -> None:
    client = desk.client()
    for byte in b'{"command": "status"}\n':
        await client.write(bytes([byte]))
    assert json.loads(await client.end())["ok"]


@pytest_twisted.ensureDeferred
async def test_only_the_first_of_two_requests_is_done(desk: Desk) -> None:
    client = desk.client()
    await client.write(b'{"command": "drain", "machine": "web00000"}\n{"command": "drain", "machine": "web00001"}\n')
    assert (await client.end()).count(b"\n") == 1
    assert desk.controls.told == [("drain", "web00000")]


@pytest.mark.parametrize("line", [b"", b"status", b"{", b"\xff\xfe", b"[" * 60_000, b'{"a":' * 12_000, b"\x00"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_json(desk: Desk, line: bytes) -> None:
    assert await desk.ask(line + b"\n") == {"ok": False, "error": "a request is one line of JSON"}


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest_twisted.ensureDeferred
async def test_a_line_that_is_too_long(desk: Desk, end: bytes) -> None:
    """Whether or not its end comes."""
    answer = await desk.ask(b'"' + b"x" * MAX_LINE + end)
    assert answer == {"ok": False, "error": f"a request has {MAX_LINE} bytes at most"}


@pytest_twisted.ensureDeferred
async def test_the_longest_line(desk: Desk) -> None:
    line = b'{"command": "status"}'
    assert (await desk.ask(line.ljust(MAX_LINE) + b"\n"))["ok"]


@pytest_twisted.ensureDeferred
async def test_a_bug_in_a_command_is_logged_and_told(desk: Desk) -> None:
    desk.controls.close_machine = None  # type: ignore[assignment,method-assign]
    answer = await desk.ask(b'{"command": "close", "machine": "web00000"}\n')
    assert answer == {"ok": False, "error": "the relay failed on this command; its log says how"}
    [line] = [line for line in desk.logged() if line["event"] == "a command failed"]
    assert "TypeError" in line["traceback"]


# ---- who ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uid", "served"), [(0, True), (1000, True), (1001, False)])
@pytest_twisted.ensureDeferred
async def test_only_root_and_the_relay_s_own_user_are_served(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, uid: int, served: bool
) -> None:
    """The relay's is 1000 here; a real other user cannot even connect."""
    monkeypatch.setattr(control.os, "geteuid", lambda: 1000)
    credentials = control._CREDENTIALS

    class Other:
        size = credentials.size

        @staticmethod
        def unpack(data: bytes) -> tuple[int, int, int]:
            pid, _, gid = credentials.unpack(data)
            return pid, uid, gid

    monkeypatch.setattr(control, "_CREDENTIALS", Other)
    answer = await desk.ask(b'{"command": "drain", "machine": "web00000"}\n')
    assert answer["ok"] is served
    assert desk.controls.told == ([("drain", "web00000")] if served else [])
    if not served:
        assert answer["error"] == "only root and the relay's own user are served; you are user 1001"
        [line] = desk.logged()
        assert (line["event"], line["level"], line["uid"]) == ("a stranger at the control socket", "warning", 1001)


# ---- those who come, go, or do nothing ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_who_asks_nothing_is_closed_in_time(desk: Desk) -> None:
    client = desk.client()
    await client.write(b'{"command"')
    desk.reactor.advance(IDLE - 0.1)
    await turns()
    assert not client.ended
    desk.reactor.advance(0.1)
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_drops_do_not_make_it_longer(desk: Desk) -> None:
    client = desk.client()
    for _ in range(4):
        await client.write(b" ")
        desk.reactor.advance(IDLE / 4)
    await client.end()


@pytest_twisted.ensureDeferred
async def test_a_reload_may_take_longer(desk: Desk) -> None:
    client = desk.client()
    await client.write(b'{"command": "reload"}\n')
    await turns(20)
    desk.reactor.advance(100 * IDLE)
    await turns()
    assert not client.ended
    desk.reloads.pending[0].callback(FakeOutcome())
    assert json.loads(await client.end())["ok"]


@pytest_twisted.ensureDeferred
async def test_who_leaves_in_the_middle_does_no_harm(desk: Desk) -> None:
    client = desk.client()
    await client.write(b'{"command": "reload"}\n')
    await turns(20)
    client.close()
    await turns(20)
    desk.reloads.pending[0].callback(FakeOutcome())
    await turns()
    assert [line["event"] for line in desk.logged()] == ["an operator's command"]
    assert (await desk.ask(b'{"command": "status"}\n'))["ok"]


@pytest.mark.parametrize("leaves", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_relay_drains_behind_the_answer_and_whether_or_not_somebody_takes_it(desk: Desk, leaves: bool) -> None:
    client = desk.client()
    await client.write(b'{"command": "drain"}\n')
    if leaves:
        client.close()
    else:
        assert json.loads(await client.end())["already"] is False
    await turns(20)
    assert desk.controls.told == [("start_drain",)]


@pytest_twisted.ensureDeferred
async def test_several_are_served_at_once(desk: Desk) -> None:
    waiting = desk.client()
    await waiting.write(b'{"command": "reload"}\n')
    silent = desk.client()
    for _ in range(3):
        assert (await desk.ask(b'{"command": "status"}\n'))["ok"]
    assert not waiting.ended
    assert not silent.ended
    desk.reloads.pending[0].callback(FakeOutcome())
    await waiting.end()


@pytest_twisted.ensureDeferred
async def test_there_are_only_so_many_at_once(desk: Desk) -> None:
    inside = []
    for _ in range(MOST):
        inside.append(desk.client())
        await turns()
    assert await desk.client().end() == b""
    assert not any(client.ended for client in inside)
    inside[0].close()
    await turns(20)
    assert (await desk.ask(b'{"command": "status"}\n'))["ok"]


@pytest_twisted.ensureDeferred
async def test_the_end_cuts_everybody(desk: Desk) -> None:
    clients = [desk.client(), desk.client()]
    await clients[0].write(b'{"command": "reload"}\n')
    await turns(20)
    desk.port.close()
    for client in clients:
        assert await client.end() == b""


# ---- a long answer ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_long_answer_is_made_as_it_is_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 10_000)
    desk.open()
    try:
        looked: list[str] = []
        whole = desk.controls.last_failure
        desk.controls.last_failure = lambda name: looked.append(name) or whole(name)  # type: ignore[method-assign,func-returns-value]
        slow = desk.client()
        slow.pause()
        await slow.write(b'{"command": "status"}\n')
        await turns(50)
        assert len(looked) < 2000
        desk.reactor.advance(IDLE - 0.1)
        slow.read()
        await desk.changes.until(lambda: len(slow.data) > 1_000_000)
        desk.reactor.advance(IDLE - 0.1)  # it goes on: no time is over
        answer = json.loads(await slow.end())
        assert len(answer["machines"]) == 10_000
    finally:
        await desk.clean()


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_it_is_closed_in_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 10_000)
    desk.open()
    try:
        stuck = desk.client()
        stuck.pause()
        await stuck.write(b'{"command": "status"}\n')
        await turns(50)
        desk.reactor.advance(IDLE)
        stuck.read()
        data = await stuck.end()
        assert not data.endswith(b"\n")
    finally:
        await desk.clean()
