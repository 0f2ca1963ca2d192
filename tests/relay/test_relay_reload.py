"""One reload at a time: reading, taking, telling. What it does to machines is in test_service_reload."""

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from changes import Changes as Waiting
from clocked_reactor import ClockedReactor
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
from relay.collector import SOON
from relay.errors import StartError
from relay.faces import Faces
from relay.reload import FILES_WITHIN, IDENTITIES_WITHIN, MOST_STUCK, Changes, News, Reloader, ReloadOutcome
from routing.load import load
from routing.mistakes import ConfigurationError, Mistake
from routing.table import Table

FACES = cast("Faces", "faces")


class FakeService:
    """What is reloaded: it writes down by what, and in which thread its identities were read."""

    def __init__(self) -> None:
        self.taken: list[tuple[Table, bool, Faces]] = []
        self.threads: list[threading.Thread] = []
        self.error: Exception | None = None
        self.changes = Changes()

    def read(self, table: Table) -> News:
        self.threads.append(threading.current_thread())
        return News(table, FACES, self.changes)

    def reload(self, news: News, now: bool = False) -> Changes:
        assert threading.current_thread() is threading.main_thread()
        if self.error:
            raise self.error
        self.taken.append((news.table, now, news.faces))
        return news.changes


class Scene:
    """A Reloader with everything around it. read: what reading the file gives, in the thread."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "relay.yaml"
        self.table = table(folder, machine())
        self.service = FakeService()
        self.metrics = Metrics(CollectorRegistry())
        self._clock, self._lines, self.reactor = Clock(), JsonLines(), ClockedReactor()
        self.read: Callable[[Path], Table] = lambda path: self.table
        log = make_log(LineWriter(self._clock, self._lines), "info")
        self.reloader = Reloader(self.reactor, self.path, self.service, log, self.metrics, load=self._load)

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


class Hanging:
    """What hangs in its thread, as a read from a dead mount does. go: lets go of all of it. begun, ended: how many have."""

    def __init__(self) -> None:
        self.go, self.changes = threading.Event(), Waiting()
        self.begun = self.ended = 0

    def hang(self, *_: object) -> Any:
        reactor.callFromThread(self._begin)
        try:
            assert self.go.wait(20)
            raise StartError("too late")
        finally:
            reactor.callFromThread(self._end)

    def _begin(self) -> None:
        self.begun += 1
        self.changes.changed()

    def _end(self) -> None:
        self.ended += 1
        self.changes.changed()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.go.set()


async def given_up(scene: Scene, hanging: Hanging, within: float) -> ReloadOutcome:
    """A reload that hangs until its time is over."""
    outcome: Deferred[ReloadOutcome] = Deferred.fromCoroutine(scene.reloader.reload())
    count = hanging.begun
    await hanging.changes.until(lambda: hanging.begun > count)
    scene.reactor.advance(within - 0.1)
    assert not outcome.called
    scene.reactor.advance(0.1)
    return await outcome


@pytest_twisted.ensureDeferred
async def test_files_that_hang_fail_the_reload_and_hold_up_no_other(scene: Scene, hanging: Hanging) -> None:
    scene.read = hanging.hang
    outcome = await given_up(scene, hanging, FILES_WITHIN)
    [said] = outcome.lines
    assert said == (
        f"{scene.path}, or a file that it includes, cannot be read within 30 s. See whether its disk or its mount answers, "
        "and whether the machine is overloaded, then reload again."
    )
    assert [line.get("detail") for line in scene.log()] == [said, None]
    assert scene.counts() == (0, 1, 0)
    scene.read = lambda path: scene.table
    assert (await scene.reloader.reload()).ok
    hanging.go.set()
    await hanging.changes.until(lambda: hanging.ended)
    assert scene.counts() == (1, 1, 1)  # what it gave at last was thrown away
    assert len(scene.service.taken) == 1
    assert not scene.reactor.timers


@pytest_twisted.ensureDeferred
async def test_identities_that_hang_fail_the_reload(scene: Scene, hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.service, "read", hanging.hang)
    [line] = (await given_up(scene, hanging, IDENTITIES_WITHIN)).lines
    assert line.startswith("the identities cannot be read or made within 600 s.")
    monkeypatch.undo()
    assert (await scene.reloader.reload()).ok


@pytest_twisted.ensureDeferred
async def test_those_that_hang_are_bounded(scene: Scene, hanging: Hanging) -> None:
    scene.read = hanging.hang
    for _ in range(MOST_STUCK):
        await given_up(scene, hanging, FILES_WITHIN)
    [line] = (await scene.reloader.reload()).lines
    assert line.startswith("8 readings of the configuration before this one still hang. ")
    assert hanging.begun == MOST_STUCK
    hanging.go.set()
    for thread in threading.enumerate():
        if thread.name == "reload":
            thread.join(20)
    scene.read = lambda path: scene.table
    assert (await scene.reloader.reload()).ok
    await hanging.changes.until(lambda: hanging.ended == MOST_STUCK)


# ---- the collector of garbage -------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_it_is_off_while_files_are_read_and_on_again_however_that_ends(scene: Scene, hanging: Hanging) -> None:
    seen: list[bool] = []

    def reading(path: Path) -> Table:
        seen.append(gc.isenabled())
        return scene.table

    scene.read = reading
    assert (await scene.reloader.reload()).ok
    scene.read = hanging.hang
    assert not (await given_up(scene, hanging, FILES_WITHIN)).ok
    assert (seen, gc.isenabled()) == ([False], True)
    hanging.go.set()
    await hanging.changes.until(lambda: hanging.ended)


@pytest_twisted.ensureDeferred
async def test_it_does_not_stay_off_as_long_as_a_disk_hangs(scene: Scene, hanging: Hanging) -> None:
    scene.read = hanging.hang
    outcome = Deferred.fromCoroutine(scene.reloader.reload())
    await hanging.changes.until(lambda: hanging.begun)
    scene.reactor.advance(SOON - 0.1)
    assert not gc.isenabled()
    scene.reactor.advance(0.1)
    assert gc.isenabled()
    scene.reactor.advance(FILES_WITHIN - SOON)
    assert not (await outcome).ok
    hanging.go.set()
    await hanging.changes.until(lambda: hanging.ended)
