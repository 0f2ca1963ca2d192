import fcntl
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay import running
from relay.running import Reloaded


@contextmanager
def answering(state: Path, answer: bytes) -> Iterator[list[bytes]]:
    """What stands for a relay's control socket: each question gets this answer. Yields the questions."""
    questions: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(state / "control.sock"))
        door.listen()

        def serve() -> None:
            while True:
                try:
                    sock, _ = door.accept()
                except OSError:
                    return
                with sock:
                    line = sock.makefile("rb").readline()
                    if line:
                        questions.append(line)
                        sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield questions
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_nobody_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for state in (tmp_path, tmp_path / "none", file):
        assert not running.is_running(state)
        assert running.reload(state) == Reloaded(False)
    assert Reloaded(False).word == "not-running"


def test_what_a_dead_one_left_is_no_relay(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    assert not running.is_running(tmp_path)


def test_one_whose_socket_is_gone_runs(tmp_path: Path) -> None:
    with open(tmp_path / "control.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert running.is_running(tmp_path)
        reloaded = running.reload(tmp_path)
    assert reloaded.word == "failed"
    assert "its socket was removed" in reloaded.problem


def test_one_that_does_not_take_us_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    with answering(tmp_path, b""):
        monkeypatch.setattr(socket.socket, "connect", refuse)
        assert running.is_running(tmp_path)
        assert "no permission" in running.reload(tmp_path).problem


def test_it_reloads(tmp_path: Path) -> None:
    with answering(
        tmp_path, b'{"ok": true, "added": ["a"], "changed": ["b", "c"], "removed": [], "unchanged": 7}\n'
    ) as questions:
        assert running.is_running(tmp_path)
        reloaded = running.reload(tmp_path)
    assert [json.loads(question) for question in questions] == [{"command": "reload"}]
    assert (reloaded, reloaded.word) == (Reloaded(True, "", ("a",), ("b", "c"), ()), "done")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"ok": false, "error": "no", "mistakes": ["a: b", "c: d"]}\n', "no; a: b; c: d"),
        (b'{"ok": false}\n', "the relay refused"),
        (b"", "closed without a whole answer"),
        (b'{"ok": tr', "closed without a whole answer"),
        (b"[]\n", "closed without a whole answer"),
    ],
)
def test_it_does_not(tmp_path: Path, answer: bytes, said: str) -> None:
    with answering(tmp_path, answer):
        reloaded = running.reload(tmp_path)
    assert reloaded.running
    assert said in reloaded.problem
    assert reloaded.word == "failed"


def test_what_it_says_of_its_machines(tmp_path: Path) -> None:
    assert running.machines(tmp_path) is None
    with answering(tmp_path, b'{"ok": true, "machines": [{"name": "web01", "live": null}]}\n') as questions:
        assert running.machines(tmp_path) == {"web01": {"name": "web01", "live": None}}
    assert [json.loads(question) for question in questions] == [{"command": "status"}]
    (tmp_path / "control.sock").unlink()
    for answer in (b'{"ok": false, "error": "no"}\n', b"junk"):
        with answering(tmp_path, answer):
            assert running.machines(tmp_path) is None
        (tmp_path / "control.sock").unlink()
