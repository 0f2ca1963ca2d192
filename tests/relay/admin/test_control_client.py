import json
import os
import pwd
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.admin import control_client
from relay.admin.control import socket_name
from relay.admin.control_client import ControlError, ask

Serve = Callable[[socket.socket], None]


class Relay:
    """Something that listens where a relay would, in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self.over = threading.Event()

    def serve(self, once: Serve) -> None:
        def run() -> None:
            sock, _ = self._listener.accept()
            with sock:
                once(sock)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def close(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(20)
        self._listener.close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    made = Relay(tmp_path / "control.sock")
    yield made
    made.close()


def error(path: Path, timeout: float = 20.0) -> str:
    with pytest.raises(ControlError) as raised:
        ask(path, {"command": "status"}, timeout)
    return str(raised.value)


def says(*parts: bytes) -> Serve:
    def once(sock: socket.socket) -> None:
        sock.recv(1000)
        for part in parts:
            sock.sendall(part)

    return once


def test_a_request_is_a_line_and_the_answer_is_all_until_the_end(relay: Relay) -> None:
    heard: list[bytes] = []

    def once(sock: socket.socket) -> None:
        heard.append(sock.recv(1000))
        for part in (b'{"ok"', b": true, ", b'"machine": "web01"}\n'):
            sock.sendall(part)

    relay.serve(once)
    assert ask(relay.path, {"command": "status", "machine": "web01"}, 20.0) == {"ok": True, "machine": "web01"}
    assert heard[0].endswith(b"\n")
    assert json.loads(heard[0]) == {"command": "status", "machine": "web01"}


def test_a_long_answer(relay: Relay) -> None:
    text = "x" * 5_000_000
    relay.serve(says(json.dumps({"ok": False, "error": text}).encode() + b"\n"))
    assert ask(relay.path, {}, 20.0) == {"ok": False, "error": text}


def test_there_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    assert error(path) == (
        f"no relay runs here: there is no {path}. "
        "Start it, or name its configuration with --config, or its socket with --socket."
    )


def test_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    assert error(path) == f"no relay runs here: nobody listens at {path}. Start it."


def test_a_socket_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("")
    assert error(path) == f"no relay runs here: nobody listens at {path}. Start it."


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    assert "AF_UNIX path too long" in error(tmp_path / ("x" * 200))


def test_a_long_path_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 150)
    folder.mkdir()
    with socket_name(folder / "control.sock") as name:
        relay = Relay(Path(name))
    try:
        relay.serve(says(b'{"ok": true}\n'))
        assert ask(folder / "control.sock", {}, 20.0) == {"ok": True}
    finally:
        relay.close()


def test_it_does_not_answer(relay: Relay) -> None:
    relay.serve(lambda sock: bool(relay.over.wait(20)))
    assert error(relay.path, 0.05) == (
        f"the relay at {relay.path} does not answer within 0 s. See its log, and whether its process is stuck."
    )


def test_it_trickles(relay: Relay) -> None:
    """The time is for all of it."""

    def once(sock: socket.socket) -> None:
        while not relay.over.wait(0.01):
            try:
                sock.sendall(b" ")
            except OSError:
                return

    relay.serve(once)
    assert "does not answer within" in error(relay.path, 0.2)


@pytest.mark.parametrize("data", [b"", b'{"ok": true', b'{"ok": true}', b"ok\n", b"[]\n", b"{}\n", b'{"ok": 1}\n', b"\xff\n"])
def test_an_answer_that_is_none(relay: Relay, data: bytes) -> None:
    relay.serve(says(data))
    assert error(relay.path) == (f"the relay at {relay.path} closed without a whole answer. It may be stopping; see its log.")


def test_an_answer_is_not_read_forever(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "MAX_ANSWER", 1000)

    def once(sock: socket.socket) -> None:
        try:
            while not relay.over.is_set():
                sock.sendall(b" " * 1000)
        except OSError:
            return

    relay.serve(once)
    assert "closed without a whole answer" in error(relay.path)


def test_no_permission_for_real(relay: Relay) -> None:
    relay.path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may do everything
    try:
        assert "no permission" in error(relay.path)
    finally:
        if root:
            os.seteuid(0)


def test_no_permission_says_whose_it_is(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    class Refusing(socket.socket):
        connect = refuse  # type: ignore[assignment]

    monkeypatch.setattr(control_client.socket, "socket", Refusing)
    user = pwd.getpwuid(os.getuid()).pw_name
    users = "root" if user == "root" else f"root or as {user}"
    assert error(relay.path) == (f"{relay.path}: no permission: the relay's socket belongs to {user}. Run this as {users}.")
