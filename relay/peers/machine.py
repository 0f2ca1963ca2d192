"""What Octopus does with a machine, whichever way it reaches it (wire.md 9)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from relay.peers import contracts
from relay.peers.connection import spool_to
from relay.peers.contracts import CAPABILITIES, FILES, SCRIPTS_V1, SCRIPTS_V2, LogLine, StartScript, State, Status, UploadResult
from relay.peers.errors import CallError, ScriptTimeoutError
from relay.peers.framing import OpenSink
from relay.peers.messages import Request
from relay.peers.streams import DataStream, ReceivedStream
from relay.peers.times import Clock, pause

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_MUTEX = "RunningScript"
_MUTEX_TIMEOUT = 300.0
_TASK = "ServerTasks-1"
_WAIT = 5.0

Files = Mapping[str, bytes | Path | DataStream]


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """exit_code as the script gave it, or one of ScriptExitCodes; log in order."""

    exit_code: int
    log: list[LogLine]

    def text(self) -> str:
        """The log's lines."""
        return "\n".join(line.text for line in self.log)


class Machine(ABC):
    """One Tentacle. Every call raises ServerError, ConnectingError, TransferError or PeerError; see `call`."""

    def __init__(self, endpoint: dict[str, object], clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._calls: dict[str, int] = {}

    @abstractmethod
    async def call(self, service: str, method: str, *params: object, receive: OpenSink | None = None) -> object:
        """Make one call; the result as plain values, ReceivedStream in place of data streams.

        params: plain values of BSON, with DataStreams wherever a stream goes. receive: opens the sink for each of the result's
        streams; without it they are spooled, and the caller moves or discards them.

        Raises ServerError; ConnectingError where nothing ran; TransferError where it may have; PeerError where the other side
        broke a rule; StreamLengthError where a DataStream did not give what it announced.
        """

    def request(self, service: str, method: str, params: list[object]) -> Request:
        """A request to this machine; head counts the calls of each service's proxy."""
        number = self._calls[service] = self._calls.get(service, 0) + 1
        return Request.new(number, self._endpoint, service, method, params)

    async def get_capabilities(self) -> list[str]:
        """What the Tentacle can do: the health check's first question."""
        return contracts.read_capabilities(await self.call(CAPABILITIES, "GetCapabilities"))

    async def upload_file(
        self, remote_path: str, source: bytes | Path | DataStream, progress: Callable[[int, int], None] | None = None
    ) -> UploadResult:
        """Store a file on the machine. progress: called with (bytes sent, bytes in all). Raises OSError for the source."""
        stream = DataStream.of(source, progress)
        return contracts.read_upload_result(await self.call(FILES, "UploadFile", remote_path, stream))

    async def download_file(self, remote_path: str, to: Path) -> ReceivedStream:
        """Fetch a file to ``to``, which appears only when it is whole. Raises OSError, and CallError where there is none."""
        result = await self.call(FILES, "DownloadFile", remote_path, receive=spool_to(to.parent))
        if not isinstance(result, ReceivedStream):
            raise CallError(f"the machine has no file {remote_path!r}")
        result.move_to(to)
        return ReceivedStream(to, result.length, result.sha256)

    async def run_script(
        self,
        body: str,
        *,
        files: Files | None = None,
        arguments: Sequence[str] = (),
        isolated: bool = True,
        time_limit: float = 600,
    ) -> ScriptResult:
        """Run a script by IScriptServiceV2 until it is complete.

        time_limit: seconds, after which it is cancelled and ScriptTimeoutError raised.
        """
        ticket = f"{_TASK}-{uuid4().hex}"
        command = _command(body, files, arguments, isolated=isolated, ticket=ticket, wait=min(_WAIT, time_limit))
        script = _Script(self, SCRIPTS_V2, command.ticket, time_limit)
        first = contracts.read_status(await self.call(SCRIPTS_V2, "StartScript", contracts.start_script_v2(command)))
        result = await script.follow(first)
        await self.call(SCRIPTS_V2, "CompleteScript", script.request("CompleteScriptCommandV2", None))
        return result

    async def run_script_v1(
        self,
        body: str,
        *,
        files: Files | None = None,
        arguments: Sequence[str] = (),
        isolated: bool = True,
        time_limit: float = 600,
    ) -> ScriptResult:
        """As `run_script`, by IScriptService."""
        command = _command(body, files, arguments, isolated=isolated)
        started = await self.call(SCRIPTS_V1, "StartScript", contracts.start_script_v1(command))
        ticket = contracts.ticket_name(contracts.typed(started, *contracts.either("ScriptTicket")))
        script = _Script(self, SCRIPTS_V1, ticket, time_limit)
        followed = await script.follow(Status(ticket, [], 0, State.PENDING, 0))
        final = contracts.read_status(
            await self.call(SCRIPTS_V1, "CompleteScript", script.request("CompleteScriptCommand", script.next_log))
        )
        return ScriptResult(final.exit_code, followed.log + final.logs)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await pause(self._clock, seconds)

    def now(self) -> float:
        """The clock's seconds."""
        return self._clock.seconds()


def _command(
    body: str,
    files: Files | None,
    arguments: Sequence[str],
    *,
    isolated: bool,
    ticket: str = "",
    wait: float | None = None,
) -> StartScript:
    streams = [(name, DataStream.of(source)) for name, source in (files or {}).items()]
    return StartScript(body, isolated, _MUTEX, _MUTEX_TIMEOUT, streams, arguments, _TASK, ticket, wait)


class _Script:
    """One script on its way from started to complete."""

    def __init__(self, machine: Machine, service: str, ticket: str, time_limit: float) -> None:
        self.next_log = 0
        self._machine = machine
        self._service = service
        self._ticket = ticket
        self._deadline = machine.now() + time_limit

    def request(self, kind: str, last_log: int | None) -> dict[str, object]:
        name = contracts.type_v2(kind) if self._service == SCRIPTS_V2 else contracts.type_v1(kind)
        return contracts.script_request(name, self._ticket, last_log)

    async def follow(self, status: Status) -> ScriptResult:
        log = list(status.logs)
        self.next_log = status.next_log
        wait = _FIRST_PAUSE
        while status.state is not State.COMPLETE:
            if self._machine.now() > self._deadline:
                await self._cancel()
            await self._machine.pause(wait)
            wait = min(2 * wait, _LONGEST_PAUSE)
            status = await self._ask("GetStatus", "ScriptStatusRequest")
            log += status.logs
            self.next_log = status.next_log
        return ScriptResult(status.exit_code, log)

    async def _ask(self, method: str, kind: str) -> Status:
        kind = kind + "V2" if self._service == SCRIPTS_V2 else kind
        return contracts.read_status(await self._machine.call(self._service, method, self.request(kind, self.next_log)))

    async def _cancel(self) -> None:
        await self._ask("CancelScript", "CancelScriptCommand")
        if self._service == SCRIPTS_V2:
            await self._machine.call(self._service, "CompleteScript", self.request("CompleteScriptCommandV2", None))
        else:
            await self._ask("CompleteScript", "CompleteScriptCommand")
        raise ScriptTimeoutError(f"the script {self._ticket} did not finish in time; it has been cancelled")
