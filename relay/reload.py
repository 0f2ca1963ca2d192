"""A running relay takes another configuration: read in a thread, and taken whole in one turn of the reactor or not at all."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeVar

from twisted.internet.defer import Deferred

from certs.errors import CertificateError
from relay.admin.log import Log
from relay.admin.metrics import Metrics
from relay.collector import collector_off, settle
from relay.errors import StartError
from relay.faces import Faces
from routing.load import load
from routing.mistakes import ConfigurationError
from routing.table import Table

OK: Final = "ok"
FAILED: Final = "failed"
FILES_WITHIN: Final = 30.0  # seconds to read and check the files; 10 000 machines take one or two
IDENTITIES_WITHIN: Final = 600.0  # seconds; each that is missing is made, some 20 a second
MOST_STUCK: Final = 8  # threads that may hang in readings that were given up
_SHOWN: Final = 20  # names in a line of the log
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload did, by names of machines. closed: callers' connections that were cut, with `now`."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    closed: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What another table brings, compared with the one in force.

    doors: machines of whose doors something else has to be said than before.
    """

    table: Table
    faces: Faces
    changes: Changes
    doors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """lines: all mistakes, where it failed; empty where it went well. changes: None where it failed."""

    ok: bool
    lines: tuple[str, ...]
    changes: Changes | None


def compare(before: Table, after: Table, faces_before: Faces, faces: Faces) -> Changes:
    """A machine has changed where its settings have, those of its octopus entries, or a certificate that it is served by."""
    added, changed, unchanged = [], [], []
    for machine in after.machines:
        known = before.machine(machine.name)
        if known is None:
            added.append(machine.name)
        elif known == machine and faces.same(faces_before, machine):
            unchanged.append(machine.name)
        else:
            changed.append(machine.name)
    removed = tuple(machine.name for machine in before.machines if after.machine(machine.name) is None)
    return Changes(tuple(added), tuple(changed), removed, tuple(unchanged))


class Step(Protocol):
    """A change that is ready: whatever could fail has been done."""

    def commit(self) -> None:
        """Makes it. Must not fail."""

    def abandon(self) -> None:
        """Gives back what was made ready; nothing has changed."""


class Follower(Protocol):
    """Something beside the machines that follows the configuration as well, such as a log, or the admin listener."""

    def prepare(self, table: Table) -> Step:
        """Makes ready what this table asks for, and changes nothing yet. Raises StartError."""


class Service(Protocol):
    """What is reloaded (service.RelayService)."""

    def read(self, table: Table) -> News:
        """Reads its identities, and compares it with the table in force; in a thread. Raises CertificateError, StartError."""

    def reload(self, news: News, now: bool = False) -> Changes:
        """Raises StartError; then nothing has changed."""


class Reloader:
    """One reload at a time. Whoever asks meanwhile shares the next one, which is `now` where one of them wants that.

    Logs and counts the outcomes. path: the configuration file. last: the last outcome, if there was one, and last_at: when
    (unix, seconds).
    """

    def __init__(
        self, reactor: Any, path: Path, service: Service, log: Log, metrics: Metrics, load: Callable[[Path], Table] = load
    ) -> None:
        """path: the main file. load: reads and checks it, in a thread."""
        self._reactor = reactor
        self._service = service
        self._log = log
        self._load = load
        self._running = False
        self._stuck: list[threading.Thread] = []  # in readings that were given up
        self._waiting: list[Deferred[ReloadOutcome]] = []
        self._now = False  # of those who wait
        self._counts = {OK: 0, FAILED: 0}
        self.path = path
        self.last: ReloadOutcome | None = None
        self.last_at = 0.0  # unix
        self.last_ok = True
        self.last_success = time.time()  # unix; the start has read a configuration as well
        metrics.counters("relay_reloads", "Reloads of the configuration, by what became of them.", "outcome", self._counts)
        metrics.gauge(
            "relay_config_last_reload_successful", "1 where the last reload went well, or there was none.", lambda: self.last_ok
        )
        metrics.gauge(
            "relay_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken, at the start or by a reload.",
            lambda: self.last_success,
        )

    async def reload(self, now: bool = False) -> ReloadOutcome:
        """Reads the configuration and runs by it; whatever is wrong is in the outcome, and never raised.

        now: cut at once what it does not allow any more.
        """
        if self._running:
            outcome: Deferred[ReloadOutcome] = Deferred()
            self._waiting.append(outcome)
            self._now = self._now or now
            return await outcome
        self._running = True
        try:
            self.last = await self._reload(now)
            self.last_at = time.time()
            return self.last
        finally:
            self._running = False
            self._next()

    def _next(self) -> None:
        waiting, self._waiting = self._waiting, []
        now, self._now = self._now, False
        if waiting:
            Deferred.fromCoroutine(self._share(waiting, now))

    async def _share(self, waiting: list[Deferred[ReloadOutcome]], now: bool) -> None:
        outcome = await self.reload(now)
        for each in waiting:
            each.callback(outcome)

    async def _reload(self, now: bool) -> ReloadOutcome:
        try:
            with collector_off(self._reactor):
                table = await self._read(
                    lambda: self._load(self.path),
                    FILES_WITHIN,
                    f"{self.path}, or a file that it includes, cannot be read within {FILES_WITHIN:.0f} s. See whether its "
                    "disk or its mount answers, and whether the machine is overloaded",
                )
                settle()
            news = await self._read(
                lambda: self._service.read(table),
                IDENTITIES_WITHIN,
                f"the identities cannot be read or made within {IDENTITIES_WITHIN:.0f} s. Those made so far are kept. See "
                "whether the disk or the mount of relay.state and of each identity's file answers",
            )
            changes = self._service.reload(news, now)
        except ConfigurationError as error:
            for mistake in error.mistakes:
                self._log.error("a mistake in the configuration", mistake=str(mistake))
            return self._failed(map(str, error.mistakes))
        except (CertificateError, StartError) as error:
            self._log.error("the configuration cannot be taken", detail=str(error))
            return self._failed(iter([str(error)]))
        except Exception as error:  # a bug of ours must neither stop the relay nor those who wait for the next reload
            self._log.exception("the reload failed by a fault of the relay")
            return self._failed(iter([f"a fault of the relay: {type(error).__name__}: {error}"]))
        self._counts[OK] += 1
        self.last_ok, self.last_success = True, time.time()
        self._log.info(
            "reloaded",
            added=_some(changes.added),
            changed=_some(changes.changed),
            removed=_some(changes.removed),
            unchanged=len(changes.unchanged),
            closed=changes.closed,
        )
        return ReloadOutcome(True, (), changes)

    async def _read(self, work: Callable[[], T], within: float, problem: str) -> T:
        """In a thread: this is work for the processor, may make keys, and hangs where a disk does.

        One that is late goes on in its thread, and nobody looks at what becomes of it. Raises StartError then, with `problem`.
        """
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= MOST_STUCK:
            raise StartError(
                f"{len(self._stuck)} readings of the configuration before this one still hang. Mend the disk or the mount "
                "that they wait for, then reload again."
            )
        thread, done = _in_thread(self._reactor, work)

        def late(result: object, seconds: float) -> NoReturn:
            self._stuck.append(thread)
            raise StartError(f"{problem}, then reload again.")

        return await done.addTimeout(within, self._reactor, onTimeoutCancel=late)

    def _failed(self, lines: Iterator[str]) -> ReloadOutcome:
        self._counts[FAILED] += 1
        self.last_ok = False
        outcome = ReloadOutcome(False, tuple(lines), None)
        self._log.error(
            "reload failed: the old configuration runs on", config=str(self.path.absolute()), mistakes=len(outcome.lines)
        )
        return outcome


def _in_thread(reactor: Any, work: Callable[[], T]) -> tuple[threading.Thread, Deferred[T]]:
    """In one of its own: those of the reactor may all wait for names that do not resolve."""
    done: Deferred[T] = Deferred()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            reactor.callFromThread(done.errback, error)
        else:
            reactor.callFromThread(done.callback, result)

    thread = threading.Thread(target=run, name="reload", daemon=True)
    thread.start()
    return thread, done


def _some(names: tuple[str, ...]) -> list[str]:
    return list(names[:_SHOWN]) + ([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])
