"""One script of a Tentacle: a folder, a /bin/sh in a process group of its own, its output line by line."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from relay.peers.contracts import ExitCode, LogLine, Source, StartScript, State, Status
from relay.peers.errors import ServiceError
from relay.peers.files import inside
from relay.peers.isolation import Mutex
from relay.peers.streams import ReceivedStream
from relay.peers.times import Clock, Reactor

BODY = "Bootstrap.sh"
# The shell leads a process group, so that a cancel also reaches what it has started.
_LAUNCH = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
_LINE_LIMIT = 64 << 10
_LOG_LIMIT = 16 << 20


class Script:
    """From started to complete. folder: made here, removed by `remove`."""

    def __init__(self, ticket: str, command: StartScript, folder: Path, mutex: Mutex, reactor: Reactor, clock: Clock) -> None:
        self._ticket = ticket
        self._command = command
        self._folder = folder
        self._mutex = mutex
        self._reactor = reactor
        self._clock = clock
        self._state = State.PENDING
        self._exit_code = 0
        self._log: list[LogLine] = []
        self._log_size = 0
        self._why: ExitCode | None = None
        self._lock: Deferred[None] | None = None
        self._process: _Shell | None = None
        self._waiting: list[Deferred[None]] = []
        self._prepare()
        self._run = Deferred.fromCoroutine(self._from_start_to_end())

    def status(self, last_log: int) -> Status:
        """Where it stands, with the log from that sequence number on."""
        return Status(self._ticket, self._log[max(last_log, 0) :], len(self._log), self._state, self._exit_code)

    def complete(self, limit: float | None = None) -> Deferred[None]:
        """Fires when it is complete, at the latest after limit seconds where one is given."""
        done: Deferred[None] = Deferred(self._forget)
        if self._state is State.COMPLETE:
            done.callback(None)
            return done
        self._waiting.append(done)
        if limit is not None:
            timer = self._clock.callLater(limit, self._wait_no_longer, done)
            done.addBoth(_stopping, timer)
        return done

    def cancel(self) -> None:
        """Kill it and everything it has started, or let it wait no longer for the mutex."""
        self._give_up(ExitCode.CANCELLED)

    def remove(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, source: Source, text: str) -> None:
        """One line of its output. A script that writes too much is stopped: its log is kept in memory."""
        if self._log_size > _LOG_LIMIT:
            return
        self._log_size += len(text) + 1
        if self._log_size > _LOG_LIMIT:
            source, text = Source.STDERR, f"The script has written more than {_LOG_LIMIT >> 20} MiB; it has been stopped."
            self._give_up(ExitCode.FATAL)
        self._log.append(LogLine(source, datetime.now(UTC).replace(tzinfo=None), text))

    def _forget(self, waiting: Deferred[None]) -> None:
        self._waiting.remove(waiting)

    def _wait_no_longer(self, waiting: Deferred[None]) -> None:
        self._waiting.remove(waiting)
        waiting.callback(None)

    def _prepare(self) -> None:
        # What an earlier run of this Tentacle may have left under the same ticket.
        self.remove()
        try:
            self._fill_folder(self._folder / BODY)
        except OSError as error:
            self.remove()
            raise ServiceError("System.IO.IOException", f"{error.strerror} : '{self._folder}'") from error
        except ServiceError:
            self.remove()
            raise

    def _fill_folder(self, body: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True)
        for name, contents in self._command.files:
            assert isinstance(contents, ReceivedStream)
            path = inside(self._folder, name)
            if path == body:
                raise ServiceError("System.ArgumentException", f"A script's file cannot be named {BODY}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            contents.move_to(path)
        body.write_text(self._command.body, encoding="utf-8", newline="")

    async def _from_start_to_end(self) -> None:
        try:
            if not await self._hold_mutex():
                return
            try:
                self._state = State.RUNNING
                self._exit_code = await self._shell()
            except OSError as error:
                self.add(Source.STDERR, f"The shell could not be started: {error}")
                self._why = ExitCode.FATAL
            finally:
                self._mutex.release()
        finally:
            if self._why is not None:
                self._exit_code = self._why
            self._state = State.COMPLETE
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                done.callback(None)

    async def _hold_mutex(self) -> bool:
        self._lock = self._mutex.acquire(alone=self._command.isolated)
        timer = self._clock.callLater(self._command.mutex_timeout, self._give_up, ExitCode.TIMEOUT)
        try:
            await self._lock
        except CancelledError:
            return False
        finally:
            self._lock = None
            if timer.active():
                timer.cancel()
        return True

    async def _shell(self) -> int:
        if self._why is not None:
            return self._why
        self._process = _Shell(self.add)
        arguments = [sys.executable, "-I", "-S", "-c", _LAUNCH, "/bin/sh", str(self._folder / BODY), *self._command.arguments]
        self._reactor.spawnProcess(self._process, sys.executable, arguments, dict(os.environ), str(self._folder))
        return await self._process.ended

    def _give_up(self, why: ExitCode) -> None:
        if self._state is State.COMPLETE or self._why is not None:
            return
        self._why = why
        if self._lock is not None:
            self._lock.cancel()
        elif self._process is not None:
            self._process.kill()


def _stopping(result: Failure | None, timer: DelayedCall) -> Failure | None:
    if timer.active():
        timer.cancel()
    return result


class _Shell(ProcessProtocol):
    """The process. ended: fires with its exit code, 128 + signal where a signal ended it, when its output is closed too."""

    transport: Any

    def __init__(self, add: Callable[[Source, str], None]) -> None:
        self.ended: Deferred[int] = Deferred()
        self._add = add
        self._rest = {Source.STDOUT: b"", Source.STDERR: b""}
        self._pid: int | None = None

    def connectionMade(self) -> None:
        self._pid = self.transport.pid
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._received(Source.STDOUT, data)

    def errReceived(self, data: bytes) -> None:
        self._received(Source.STDERR, data)

    def processEnded(self, reason: Failure) -> None:
        for source, rest in self._rest.items():
            if rest:
                self._line(source, rest)
        status: Any = reason.value
        self.ended.callback(status.exitCode if status.exitCode is not None else 128 + status.signal)

    def kill(self) -> None:
        """SIGKILL to the group; to the process alone while it has not made its group yet, when it has no children."""
        assert self._pid is not None
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def _received(self, source: Source, data: bytes) -> None:
        *lines, rest = (self._rest[source] + data).split(b"\n")
        for line in lines:
            self._line(source, line)
        while len(rest) > _LINE_LIMIT:
            self._line(source, rest[:_LINE_LIMIT])
            rest = rest[_LINE_LIMIT:]
        self._rest[source] = rest

    def _line(self, source: Source, line: bytes) -> None:
        self._add(source, line.removesuffix(b"\r").decode("utf-8", "replace"))
