"""A relay in a process of its own."""

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

import relay
from relay.peers.times import Reactor

START_WITHIN: Final = 20.0  # seconds
STOP_WITHIN: Final = 10.0
_RUNNING: Final = "running"  # the log's event when all doors are open
# A session of its own: a Ctrl-C is for us alone, and the relay gets one signal, ours.
_LAUNCH: Final = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
_SOURCES: Final = Path(relay.__file__).parents[1]
_SHOWN: Final = 2000  # characters of its log in an error


class RelayError(Exception):
    """The relay did not start, or did not end as it should. The text says what, with the end of its log."""


class RelayProcess(ProcessProtocol):
    """Starts ``relay-tentacle run``, waits until it runs, and ends it by its pid."""

    transport: Any

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._log: BinaryIO
        self._tail = b""
        self._running: Deferred[None] = Deferred(_nothing_to_undo)
        self._ended: Deferred[None] = Deferred(_nothing_to_undo)
        self._started = False
        self._ran = False
        self.exit_code: int | None = None

    async def start(self, config: Path, log: Path) -> int:
        """Its pid, as soon as its doors are open. log: a file for what it says. Raises RelayError, OSError."""
        self._log = log.open("wb")
        # The very code that this is, wherever the shell stands: -P keeps the working directory out of the way.
        program = [sys.executable, "-P", "-m", "relay", "run", "--config", str(config)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SOURCES), *_given("PYTHONPATH")])}
        self._reactor.spawnProcess(self, sys.executable, [sys.executable, "-I", "-S", "-c", _LAUNCH, *program], environment)
        self._started = True
        pid: int = self.transport.pid
        await self._running.addTimeout(START_WITHIN, cast("Any", self._reactor), self._too_late)
        self._ran = True
        return pid

    async def stop(self) -> None:
        """Ends it with SIGTERM, and with SIGKILL where that does not help; returns when it is gone.

        Raises RelayError where it had been running and does not end well.
        """
        if not self._started:
            return
        if self.exit_code is None:
            self._signal("TERM")
            timer = self._reactor.callLater(STOP_WITHIN, self._signal, "KILL")
            await self._ended
            if timer.active():
                timer.cancel()
        if self._ran and self.exit_code:
            raise RelayError(f"the relay ended with exit code {self.exit_code}{self._said()}")

    def errReceived(self, data: bytes) -> None:
        self._log.write(data)
        self._log.flush()
        *lines, self._tail = (self._tail + data).split(b"\n")
        if not self._running.called and any(_event(line) == _RUNNING for line in lines):
            self._running.callback(None)

    def processEnded(self, reason: Failure) -> None:
        status: Any = reason.value
        self.exit_code = status.exitCode if status.exitCode is not None else 128 + status.signal
        self._log.close()
        if not self._running.called:
            self._running.errback(RelayError(f"the relay did not start, and ended with {self.exit_code}{self._said()}"))
        self._ended.callback(None)

    def _signal(self, name: str) -> None:
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            return  # and processEnded is on its way

    def _said(self) -> str:
        text = Path(self._log.name).read_text(encoding="utf-8", errors="replace").strip()
        return f"; its last words: {text[-_SHOWN:]}" if text else ", without a word"

    def _too_late(self, result: object, seconds: float) -> NoReturn:
        raise RelayError(f"the relay was not running after {seconds:.0f} s{self._said()}")


def _nothing_to_undo(waiting: Deferred[None]) -> None:
    """The process itself is ended by stop()."""


def _given(variable: str) -> list[str]:
    return [os.environ[variable]] if variable in os.environ else []


def _event(line: bytes) -> object:
    try:
        said = json.loads(line)
    except ValueError:
        return None  # a warning of Python's own, for example
    return said.get("event") if isinstance(said, dict) else None
