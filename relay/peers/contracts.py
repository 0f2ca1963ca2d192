"""Octopus's contracts: the values that go into params and results, with the type names of real peers (wire.md 9.1).

V2 types carry the names that were recorded. V1-era types are written as ``Octopus.Shared.Contracts.<Type>, Octopus.Shared`` and
read under both names. Members, their order and their types are those of the recordings; V1 commands, of which there is no
recording, follow the contracts' source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from bson.int64 import Int64

from relay.peers.documents import TYPE, seconds, timespan
from relay.peers.streams import DataStream, ReceivedStream

CAPABILITIES = "ICapabilitiesServiceV2"
FILES = "IFileTransferService"
SCRIPTS_V1 = "IScriptService"
SCRIPTS_V2 = "IScriptServiceV2"

_ASSEMBLY = "Octopus.Tentacle.Contracts"
_LEGACY = "Octopus.Shared"


class ContractError(Exception):
    """A value that is not what the contract says. The text names it."""


class State(IntEnum):
    """ProcessState."""

    PENDING = 0
    RUNNING = 1
    COMPLETE = 2


class Source(IntEnum):
    """ProcessOutputSource."""

    STDOUT = 0
    STDERR = 1
    DEBUG = 2


class ExitCode(IntEnum):
    """ScriptExitCodes: what a script's exit code says when it is not the script's own."""

    FATAL = -41
    CANCELLED = -43
    TIMEOUT = -44
    UNKNOWN_SCRIPT = -45


@dataclass(frozen=True, slots=True)
class LogLine:
    """ProcessOutput. occurred: UTC, without a time zone, as BSON keeps it."""

    source: Source
    occurred: datetime
    text: str


@dataclass(frozen=True, slots=True)
class UploadResult:
    """hash: SHA-256, 64 lower-case hex digits. length in bytes."""

    full_path: str
    hash: str
    length: int


@dataclass(frozen=True, slots=True)
class Status:
    """ScriptStatusResponse, V1 and V2. next_log: what to send as LastLogSequence the next time."""

    ticket: str
    logs: list[LogLine]
    next_log: int
    state: State
    exit_code: int


@dataclass(frozen=True, slots=True)
class StartScript:
    """StartScriptCommand, V1 and V2.

    ticket and wait are V2's alone: wait is DurationToWaitForScriptToFinish in seconds, or None. mutex_timeout: seconds to wait
    for other scripts that hold the mutex. files: name and contents, a DataStream to send or what was received.
    """

    body: str
    isolated: bool
    mutex: str
    mutex_timeout: float
    files: Sequence[tuple[str, DataStream | ReceivedStream]]
    arguments: Sequence[str]
    task: str
    ticket: str = ""
    wait: float | None = None


def type_v2(name: str) -> str:
    """``$type`` of a type of IScriptServiceV2."""
    return f"{_ASSEMBLY}.ScriptServiceV2.{name}, {_ASSEMBLY}"


def type_v1(name: str) -> str:
    """``$type`` of a V1-era type, as real peers write it."""
    return f"{_LEGACY}.Contracts.{name}, {_LEGACY}"


def ticket(name: str) -> dict[str, object]:
    """ScriptTicket in a slot of its own type."""
    return {"TaskId": name}


def start_script_v2(command: StartScript) -> dict[str, object]:
    """StartScriptCommandV2."""
    return {
        TYPE: type_v2("StartScriptCommandV2"),
        "ScriptTicket": ticket(command.ticket),
        "ScriptBody": command.body,
        "TaskId": command.task,
        "DurationToWaitForScriptToFinish": None if command.wait is None else timespan(command.wait),
        "Isolation": int(command.isolated),
        "ScriptIsolationMutexTimeout": timespan(command.mutex_timeout),
        "IsolationMutexName": command.mutex,
        "Files": _files(command),
        "Arguments": list(command.arguments),
    }


def start_script_v1(command: StartScript) -> dict[str, object]:
    """StartScriptCommand."""
    return {
        TYPE: type_v1("StartScriptCommand"),
        "ScriptBody": command.body,
        "Isolation": int(command.isolated),
        "Scripts": {},
        "Files": _files(command),
        "Arguments": list(command.arguments),
        "TaskId": command.task,
        "ScriptIsolationMutexTimeout": timespan(command.mutex_timeout),
        "IsolationMutexName": command.mutex,
    }


def _files(command: StartScript) -> list[object]:
    return [{"Name": name, "Contents": contents, "EncryptionPassword": None} for name, contents in command.files]


def script_request(kind: str, name: str, last_log: int | None = None) -> dict[str, object]:
    """A request that names a script; kind is its ``$type``. last_log: None where the type has no LastLogSequence."""
    request: dict[str, object] = {TYPE: kind, "Ticket": ticket(name)}
    return request if last_log is None else {**request, "LastLogSequence": Int64(last_log)}


def status_document(kind: str, status: Status) -> dict[str, object]:
    """ScriptStatusResponse or ScriptStatusResponseV2; kind is its ``$type``."""
    logs = [{"Source": int(line.source), "Occurred": line.occurred, "Text": line.text} for line in status.logs]
    return {
        TYPE: kind,
        "Ticket": ticket(status.ticket),
        "Logs": logs,
        "NextLogSequence": Int64(status.next_log),
        "State": int(status.state),
        "ExitCode": status.exit_code,
    }


def upload_result_document(result: UploadResult, kind: str = type_v1("UploadResult")) -> dict[str, object]:
    """UploadResult."""
    return {TYPE: kind, "FullPath": result.full_path, "Hash": result.hash, "Length": Int64(result.length)}


def capabilities_document(names: Sequence[str]) -> dict[str, object]:
    """CapabilitiesResponseV2."""
    return {TYPE: f"{_ASSEMBLY}.Capabilities.CapabilitiesResponseV2, {_ASSEMBLY}", "SupportedCapabilities": list(names)}


# Reading. Each raises ContractError where the value is not what it must be.


def typed(value: object, *names: str) -> Mapping[str, object]:
    """A document whose ``$type`` is one of these; V1-era types go by both their names."""
    if isinstance(value, dict) and value.get(TYPE) in names:
        return value
    raise ContractError(f"expected {names[0]}, not {value.get(TYPE) if isinstance(value, dict) else type(value).__name__!r}")


def either(name: str) -> tuple[str, str]:
    """Both ``$type`` names of a V1-era type, the written one first."""
    return type_v1(name), f"{_ASSEMBLY}.{name}, {_ASSEMBLY}"


def text(document: Mapping[str, object], name: str) -> str:
    """A member that is a string."""
    value = document.get(name)
    if not isinstance(value, str):
        raise ContractError(f"{name} is no string")
    return value


def number(document: Mapping[str, object], name: str) -> int:
    """A member that is an integer of either size."""
    value = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ContractError(f"{name} is no integer")
    return int(value)


def items(document: Mapping[str, object], name: str) -> list[object]:
    """A member that is an array."""
    value = document.get(name)
    if not isinstance(value, list):
        raise ContractError(f"{name} is no array")
    return value


def ticket_name(value: object) -> str:
    """The name in a ScriptTicket."""
    if not isinstance(value, dict):
        raise ContractError("a ticket is a document")
    return text(value, "TaskId")


def _span(document: Mapping[str, object], name: str) -> float:
    try:
        return seconds(text(document, name))
    except ValueError as error:
        raise ContractError(f"{name}: {error}") from error


def read_status(value: object) -> Status:
    """A ScriptStatusResponse of either version."""
    document = typed(value, type_v2("ScriptStatusResponseV2"), *either("ScriptStatusResponse"))
    logs = [_log_line(line) for line in items(document, "Logs")]
    try:
        state = State(number(document, "State"))
    except ValueError as error:
        raise ContractError(f"State: {error}") from error
    name = ticket_name(document.get("Ticket"))
    return Status(name, logs, number(document, "NextLogSequence"), state, number(document, "ExitCode"))


def _log_line(value: object) -> LogLine:
    if not isinstance(value, dict) or not isinstance(value.get("Occurred"), datetime):
        raise ContractError("a log line is a document with Source, Occurred and Text")
    try:
        return LogLine(Source(number(value, "Source")), value["Occurred"], text(value, "Text"))
    except ValueError as error:
        raise ContractError(f"Source: {error}") from error


def read_start_script(value: object, *, v2: bool) -> StartScript:
    """A StartScriptCommand whose streams have been received."""
    document = typed(value, *((type_v2("StartScriptCommandV2"),) if v2 else either("StartScriptCommand")))
    arguments = items(document, "Arguments")
    if not all(isinstance(argument, str) for argument in arguments):
        raise ContractError("Arguments are strings")
    waits = document.get("DurationToWaitForScriptToFinish") is not None
    return StartScript(
        body=text(document, "ScriptBody"),
        isolated=number(document, "Isolation") == 1,
        mutex=text(document, "IsolationMutexName"),
        mutex_timeout=_span(document, "ScriptIsolationMutexTimeout"),
        files=[_file(item) for item in items(document, "Files")],
        arguments=[str(argument) for argument in arguments],
        task=text(document, "TaskId"),
        ticket=ticket_name(document.get("ScriptTicket")) if v2 else "",
        wait=_span(document, "DurationToWaitForScriptToFinish") if waits else None,
    )


def _file(value: object) -> tuple[str, ReceivedStream]:
    if not isinstance(value, dict) or not isinstance(value.get("Contents"), ReceivedStream):
        raise ContractError("a script file has a name and a data stream")
    if value.get("EncryptionPassword") is not None:
        raise ContractError("a script file that is to be encrypted: this Tentacle cannot")
    return text(value, "Name"), value["Contents"]


def read_upload_result(value: object) -> UploadResult:
    """An UploadResult."""
    document = typed(value, *either("UploadResult"))
    return UploadResult(text(document, "FullPath"), text(document, "Hash"), number(document, "Length"))


def read_capabilities(value: object) -> list[str]:
    """The names in a CapabilitiesResponseV2."""
    names = items(typed(value, str(capabilities_document([])[TYPE])), "SupportedCapabilities")
    if not all(isinstance(name, str) for name in names):
        raise ContractError("SupportedCapabilities are strings")
    return [str(name) for name in names]
