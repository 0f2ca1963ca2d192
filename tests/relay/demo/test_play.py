import json
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relay.demo import play, setting
from relay.demo.play import Demo, DemoError, Exchanged, read_log, wait_for_log, wanting
from relay.demo.scene import Scene
from relay.demo.setting import ALL_FOUR, LISTENING
from routing.load import load

NAMES = tuple(each.name for each in LISTENING)
ALL_WELL = [
    Exchanged(name, "IService", method, play.UPLOAD + 100 if method == "UploadFile" else 500, 300, "ok", 1.5)
    for name in NAMES
    for method in (
        "GetCapabilities",
        "StartScript",
        "GetStatus",
        "CompleteScript",
        "UploadFile",
        "StartScript",
        "CompleteScript",
    )
]


def line(exchanged: Exchanged) -> bytes:
    """As the relay writes it, as far as it matters here."""
    said = {
        "machine": exchanged.machine, "service": exchanged.service, "method": exchanged.method, "outcome": exchanged.outcome,
        "request_bytes": exchanged.request_bytes, "reply_bytes": exchanged.reply_bytes, "total_ms": exchanged.ms,
    }  # fmt: skip
    return json.dumps(said).encode() + b"\n"


# ---- the access log -----------------------------------------------------------------------------------------------------


def test_a_log_of_a_demo_that_went_well_lacks_nothing() -> None:
    assert wanting(ALL_WELL, NAMES) == []


@pytest.mark.parametrize("index", [index for index, each in enumerate(ALL_WELL) if each.method != "GetStatus"])
def test_every_call_but_the_status_must_be_in_it(index: int) -> None:
    missing = ALL_WELL[index]
    [said] = wanting(ALL_WELL[:index] + ALL_WELL[index + 1 :], NAMES)
    assert said.startswith(f"{missing.machine}: {missing.method} ")


def test_what_must_not_be_in_it() -> None:
    assert wanting([replace(ALL_WELL[0], outcome="silent"), *ALL_WELL[1:]], NAMES) == [
        "web01: IService.GetCapabilities ended as silent"
    ]
    uploads = [replace(each, request_bytes=play.UPLOAD) if each.method == "UploadFile" else each for each in ALL_WELL]
    assert wanting(uploads, NAMES) == [f"{name}: an upload of {play.UPLOAD} bytes had {play.UPLOAD}" for name in NAMES]


def test_only_whole_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    log.write_bytes(line(ALL_WELL[0]) + line(ALL_WELL[1])[:-5])
    assert read_log(log) == ALL_WELL[:1]


def test_a_call_without_a_request_has_no_service(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    log.write_bytes(line(ALL_WELL[0]).replace(b'"IService"', b"null").replace(b'"GetCapabilities"', b"null"))
    assert read_log(log) == [replace(ALL_WELL[0], service="-", method="-")]


@pytest.mark.parametrize("junk", [b"junk\n", b"{}\n", b"[]\n", b"\xff\n"])
def test_a_line_that_is_none(tmp_path: Path, junk: bytes) -> None:
    log = tmp_path / "access.jsonl"
    log.write_bytes(junk)
    with pytest.raises(DemoError, match="not a line of an access log"):
        read_log(log)


def test_the_log_is_waited_for(tmp_path: Path) -> None:
    clock, log, seen = Clock(), tmp_path / "access.jsonl", list[list[Exchanged]]()
    log.write_bytes(b"".join(map(line, ALL_WELL[:5])))
    Deferred.fromCoroutine(wait_for_log(clock, log, NAMES)).addCallback(seen.append)
    clock.advance(0.2)
    assert seen == []
    log.write_bytes(b"".join(map(line, ALL_WELL)))
    clock.advance(0.2)
    assert seen == [ALL_WELL]


def test_the_log_is_not_waited_for_without_end(tmp_path: Path) -> None:
    clock, log, failed = Clock(), tmp_path / "access.jsonl", list[str]()
    log.write_bytes(b"".join(map(line, ALL_WELL[:-1])))
    Deferred.fromCoroutine(wait_for_log(clock, log, NAMES)).addErrback(lambda failure: failed.append(str(failure.value)))
    clock.pump([0.1] * 40)
    assert failed == []
    clock.pump([0.1] * 20)
    assert failed == ["the relay's access log says otherwise: web03: CompleteScript 1 times, not 2"]


# ---- the whole of it ----------------------------------------------------------------------------------------------------


class Watching:
    """Remembers what it is told. act: called with each of it, to interfere."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.exchanges: list[Exchanged] = []
        self.scene: Scene | None = None
        self.act: Callable[[str], None] = lambda text: None

    def say(self, text: str) -> None:
        self.said.append(text)
        self.act(text)

    def uploading(self, machine: str, sent: int, total: int) -> None:
        self.say(f"{machine} {sent}/{total}")

    def went_through(self, exchanges: list[Exchanged]) -> None:
        self.exchanges = exchanges

    def look_around(self, scene: Scene) -> None:
        self.scene = scene
        self.act("look around")

    @property
    def pid(self) -> int:
        return int(next(text for text in self.said if text.startswith("relay: process")).split()[2].strip(","))


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its folder. Uploads are small here: the whole demo runs elsewhere."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(play, "UPLOAD", 256 * 1024)
    return tmp_path


def all_is_gone(folder: Path, watching: Watching) -> bool:
    with pytest.raises(ProcessLookupError):
        os.kill(watching.pid, 0)
    return list(folder.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_it_goes_well_and_leaves_nothing(folder: Path, watching: Watching) -> None:
    await Demo(reactor, watching, keep=False).run()
    assert {each.machine for each in watching.exchanges} == set(NAMES)
    assert all(f"{name} {play.UPLOAD}/{play.UPLOAD}" in watching.said for name in NAMES)
    assert watching.scene is None
    assert all_is_gone(folder, watching)


@pytest_twisted.ensureDeferred
async def test_all_four_combinations_go_well_and_leave_nothing(folder: Path, watching: Watching) -> None:
    await Demo(reactor, watching, keep=False, polling=True).run()
    names = [each.name for each in ALL_FOUR]
    assert wanting(watching.exchanges, tuple(names)) == []
    assert [text.partition(":")[0] for text in watching.said[:4]] == names
    assert all_is_gone(folder, watching)


@pytest_twisted.ensureDeferred
async def test_it_stays_until_it_is_interrupted(folder: Path, watching: Watching) -> None:
    demo = Demo(reactor, watching, keep=True)

    def look(text: str) -> None:
        if text == "look around":
            assert watching.scene is not None
            os.kill(watching.scene.pid, 0)
            assert len(load(watching.scene.config).machines) == len(NAMES)
            reactor.callLater(0, demo.interrupt)

    watching.act = look
    await demo.run()
    assert watching.scene is not None
    assert watching.scene.pid == watching.pid
    assert all_is_gone(folder, watching)


@pytest_twisted.ensureDeferred
async def test_interrupted_in_an_upload_it_leaves_nothing(folder: Path, watching: Watching) -> None:
    demo = Demo(reactor, watching, keep=False)

    def interrupt(text: str) -> None:
        if "/" in text:
            reactor.callLater(0, demo.interrupt)

    watching.act = interrupt
    with pytest.raises(CancelledError):
        await demo.run()
    demo.interrupt()
    assert all_is_gone(folder, watching)


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_not_what_was_sent(folder: Path, watching: Watching) -> None:
    def spoil(text: str) -> None:
        if text.startswith("uploads:"):
            [file] = folder.glob("*/web02/web02.package")
            file.write_bytes(b"something else")

    watching.act = spoil
    with pytest.raises(DemoError, match=r"^web02: the file is not what was sent: .*web02\.package: FAILED"):
        await Demo(reactor, watching, keep=False).run()
    assert all_is_gone(folder, watching)


@pytest_twisted.ensureDeferred
async def test_a_relay_that_dies(folder: Path, watching: Watching) -> None:
    def kill(text: str) -> None:
        if text.startswith("health:"):
            os.kill(watching.pid, 9)

    watching.act = kill
    with pytest.raises(DemoError, match="the relay ended with exit code 137") as raised:
        await Demo(reactor, watching, keep=False).run()
    chain = raised.value.__context__
    assert chain is not None
    assert "the upload failed" in str(chain.__context__)
    assert all_is_gone(folder, watching)


@pytest_twisted.ensureDeferred
async def test_a_relay_that_cannot_listen(folder: Path, watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(setting, "free_ports", lambda count: [port] * count)
        with pytest.raises(DemoError, match="the relay did not start"):
            await Demo(reactor, watching, keep=False).run()
    assert os.listdir(folder) == []


@pytest_twisted.ensureDeferred
async def test_it_does_not_last_for_ever(folder: Path, watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "WITHIN", 0.01)
    with pytest.raises(DemoError, match="not done after 0 s"):
        await Demo(reactor, watching, keep=False).run()
    assert os.listdir(folder) == []
