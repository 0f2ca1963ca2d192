"""One reload at a time: reading, taking, telling. What it does to machines is in test_service_reload."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from changes import Changes as Waiting
from json_lines import JsonLines
from prometheus_client import CollectorRegistry
from scraped import sample
from tables import machine, table
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from certs.errors import CertificateError
from relay.admin.log import make_log
from relay.admin.metrics import Metrics
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.errors import StartError
from relay.faces import Faces
from relay.reload import Changes, Reloader, ReloadOutcome
from routing.load import load
from routing.mistakes import ConfigurationError, Mistake
from routing.table import Table

FACES = cast("Faces", "faces")


class FakeService:
    """What is reloaded: it writes down by what, and in which thread its identities were read."""

    def __init__(self) -> None:
        self.taken: list[tuple[Table, bool, Faces | None]] = []
        self.threads: list[threading.Thread] = []
        self.error: Exception | None = None
        self.changes = Changes()

    def read_faces(self, table: Table) -> Faces:
        self.threads.append(threading.current_thread())
        return FACES

    def reload(self, table: Table, now: bool = False, faces: Faces | None = None) -> Changes:
        assert threading.current_thread() is threading.main_thread()
        if self.error:
            raise self.error
        self.taken.append((table, now, faces))
        return self.changes


class Scene:
    """A Reloader with everything around it. read: what reading the file gives, in the thread."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "relay.yaml"
        self.table = table(folder, machine())
        self.service = FakeService()
        self.metrics = Metrics(CollectorRegistry())
        self._clock, self._lines = Clock(), JsonLines()
        self.read: Callable[[Path], Table] = lambda path: self.table
        log = make_log(LineWriter(self._clock, self._lines), "info")
        self.reloader = Reloader(reactor, self.path, self.service, log, self.metrics, load=self._load)

    def _load(self, path: Path) -> Table:
        return self.read(path)

    def log(self) -> list[dict[str, Any]]:
        self._clock.advance(FLUSH_AFTER)
        return self._lines.found

    def metric(self, name: str, **labels: str) -> float | None:
        return sample(self.metrics, name, **labels)

    def counts(self) -> tuple[float | None, float | None, float | None]:
        """Reloads that went well, that failed, and whether the last one went well."""
        name = "relay_reloads_total"
        successful = self.metric("relay_config_last_reload_successful")
        return self.metric(name, outcome="ok"), self.metric(name, outcome="failed"), successful


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def mistakes(*lines: int) -> ConfigurationError:
    return ConfigurationError([Mistake(Path("relay.yaml"), line, "key", "value", "wrong", "Mend it.") for line in lines])


def failing(error: Exception) -> Callable[[Path], Table]:
    def read(path: Path) -> Table:
        raise error

    return read


@pytest_twisted.ensureDeferred
async def test_a_reload_reads_in_a_thread_and_takes_it_in_the_reactor(scene: Scene) -> None:
    assert scene.counts() == (0, 0, 1)
    before = scene.metric("relay_config_last_reload_success_timestamp_seconds")
    names = tuple(f"web{number:02}" for number in range(25))
    scene.service.changes = changes = Changes(names, ("kiosk",), (), ("quay",), 3)
    assert await scene.reloader.reload() == ReloadOutcome(True, (), changes)
    assert scene.service.taken == [(scene.table, False, FACES)]
    [thread] = scene.service.threads
    assert thread is not threading.main_thread()
    [line] = scene.log()
    assert (line["event"], line["level"]) == ("reloaded", "info")
    assert line["added"] == [*names[:20], "and 5 more"]
    assert (line["changed"], line["removed"], line["unchanged"], line["closed"]) == (["kiosk"], [], 1, 3)
    assert scene.counts() == (1, 0, 1)
    after = scene.metric("relay_config_last_reload_success_timestamp_seconds")
    assert before is not None
    assert after is not None
    assert after >= before


@pytest_twisted.ensureDeferred
async def test_all_mistakes_are_told_and_nothing_is_taken(scene: Scene) -> None:
    scene.read = failing(mistakes(3, 7))
    texts = ("relay.yaml:3: key: 'value': wrong. Mend it.", "relay.yaml:7: key: 'value': wrong. Mend it.")
    assert await scene.reloader.reload() == ReloadOutcome(False, texts, None)
    assert scene.service.taken == []
    *told, last = scene.log()
    assert [(line["event"], line["mistake"]) for line in told] == [("a mistake in the configuration", text) for text in texts]
    assert (last["event"], last["level"]) == ("reload failed: the old configuration runs on", "error")
    assert (last["config"], last["mistakes"]) == (str(scene.path), 2)
    assert scene.counts() == (0, 1, 0)
    scene.read = lambda path: scene.table
    assert (await scene.reloader.reload()).ok
    assert scene.counts() == (1, 1, 1)


@pytest.mark.parametrize("error", [StartError("no port"), CertificateError("no key")])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_taken_is_told(scene: Scene, error: Exception) -> None:
    scene.service.error = error
    assert await scene.reloader.reload() == ReloadOutcome(False, (str(error),), None)
    assert [line.get("detail") for line in scene.log()] == [str(error), None]
    assert scene.counts() == (0, 1, 0)


@pytest_twisted.ensureDeferred
async def test_a_fault_of_ours_is_told_with_its_traceback_and_the_next_reload_goes_on(scene: Scene) -> None:
    scene.service.error = ZeroDivisionError("oh")
    outcome = await scene.reloader.reload()
    assert outcome.lines == ("a fault of the relay: ZeroDivisionError: oh",)
    [line] = [line for line in scene.log() if "exception" in line]
    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"
    scene.service.error = None
    assert (await scene.reloader.reload()).ok


@pytest_twisted.ensureDeferred
async def test_whoever_asks_meanwhile_shares_the_next_one(scene: Scene) -> None:
    """The file may have changed since the first was read. The next is now where one of them wants that."""
    go, begun, reads = threading.Event(), Waiting(), 0

    def slow(path: Path) -> Table:
        nonlocal reads
        reads += 1
        reactor.callFromThread(begun.changed)
        assert go.wait(20)
        if reads == 1:
            raise mistakes(1)
        return scene.table

    scene.read = slow
    outcomes: list[Deferred[ReloadOutcome]] = [Deferred.fromCoroutine(scene.reloader.reload())]
    await begun.until(lambda: reads)
    outcomes += [Deferred.fromCoroutine(scene.reloader.reload(now)) for now in (False, True, False)]
    go.set()
    first, *others = [await outcome for outcome in outcomes]
    assert not first.ok
    assert all(other is others[0] for other in others)
    assert others[0].ok
    assert reads == 2
    assert [now for _, now, _ in scene.service.taken] == [True]
    assert (await scene.reloader.reload()).ok
    assert [now for _, now, _ in scene.service.taken] == [True, False]


@pytest_twisted.ensureDeferred
async def test_it_reads_the_file(scene: Scene) -> None:
    scene.read = load
    outcome = await scene.reloader.reload()
    [line] = outcome.lines
    assert line.startswith(str(scene.path))
