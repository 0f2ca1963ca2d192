import zlib
from contextlib import suppress
from datetime import datetime

import bson
import pytest
from bson.int64 import Int64

from relay.peers import contracts
from relay.peers.contracts import ContractError, ExitCode, LogLine, Source, StartScript, State, Status, UploadResult
from relay.peers.documents import decode, encode, find_references, with_references
from relay.peers.errors import PeerError
from relay.peers.streams import DataStream, ReceivedStream

PLAIN_UPLOAD = "Octopus.Tentacle.Contracts.UploadResult, Octopus.Tentacle.Contracts"


@pytest.fixture
def recorded(recording):
    """The params[0] or result of the recorded messages whose id starts so, in order."""
    messages = []
    for _, record in recording("listening-head-to-head"):
        inflater = zlib.decompressobj(-15)
        with suppress(zlib.error, PeerError):  # what is not an envelope
            messages.append(decode(inflater.decompress(record))["Message"])

    def find(start, *, request):
        found = [message for message in messages if message["id"].startswith(start) and ("service" in message) is request]
        return [message["params"][-1] if request else message["result"] for message in found]

    return find


def same(ours, theirs):
    """Same members, order and types."""
    assert encode({"value": ours}) == encode({"value": theirs})


def test_start_script_v2_is_written_as_recorded(recorded):
    theirs = recorded("IScriptServiceV2::StartScript", request=True)[0]
    files = []
    for reference in find_references({"value": theirs}, "value"):
        stream = DataStream(reference.length, DataStream.of_bytes(b"").chunks, None, reference.id)
        files.append((reference.holder["Name"], stream))
    command = StartScript(
        body="echo deploy",
        isolated=True,
        mutex="RunningScript",
        mutex_timeout=300,
        files=files,
        arguments=["--verbose"],
        task="ServerTasks-1",
        ticket=theirs["ScriptTicket"]["TaskId"],
        wait=5,
    )
    same(with_references(contracts.start_script_v2(command), [], typed=True), theirs)


def test_script_requests_are_written_as_recorded(recorded):
    for method, kind, last_log in (
        ("GetStatus", "ScriptStatusRequestV2", 2),
        ("CancelScript", "CancelScriptCommandV2", 0),
        ("CompleteScript", "CompleteScriptCommandV2", None),
    ):
        theirs = recorded(f"IScriptServiceV2::{method}", request=True)[0]
        same(contracts.script_request(contracts.type_v2(kind), theirs["Ticket"]["TaskId"], last_log), theirs)


def test_status_is_read_and_written_as_recorded(recorded):
    theirs = recorded("IScriptServiceV2::GetStatus", request=False)[0]
    status = contracts.read_status(theirs)
    assert (status.next_log, status.state, status.exit_code) == (3, State.RUNNING, 0)
    assert status.logs[1] == LogLine(Source.STDOUT, datetime(1970, 1, 1, 0, 0, 1), "line 1 of the deployment log")
    same(contracts.status_document(contracts.type_v2("ScriptStatusResponseV2"), status), theirs)


def test_a_cancelled_script_has_the_recorded_exit_code(recorded):
    status = contracts.read_status(recorded("IScriptServiceV2::CancelScript", request=False)[0])
    assert status.exit_code == ExitCode.CANCELLED


def test_upload_result_and_capabilities_are_written_as_recorded(recorded):
    theirs = recorded("IFileTransferService::UploadFile", request=False)[0]
    same(contracts.upload_result_document(contracts.read_upload_result(theirs), PLAIN_UPLOAD), theirs)
    theirs = recorded("ICapabilitiesServiceV2", request=False)[0]
    same(contracts.capabilities_document(contracts.read_capabilities(theirs)), theirs)


@pytest.mark.parametrize("name", contracts.either("UploadResult"))
def test_v1_types_are_read_under_both_names(name):
    result = UploadResult("/x", "ab", 3)
    assert contracts.read_upload_result(contracts.upload_result_document(result, name)) == result


def test_v1_types_are_written_under_the_old_name():
    assert contracts.upload_result_document(UploadResult("/x", "ab", 3))["$type"] == (
        "Octopus.Shared.Contracts.UploadResult, Octopus.Shared"
    )
    assert contracts.start_script_v1(StartScript("b", False, "m", 0, [], [], "t"))["$type"].startswith("Octopus.Shared.")


def received(tmp_path, name="f"):
    path = tmp_path / name
    path.touch()
    return ReceivedStream(path, 0, "")


@pytest.mark.parametrize("v2", [True, False])
def test_commands_are_read_as_they_are_written(v2, tmp_path):
    command = StartScript(
        "body", False, "mutex", 1.5, [("f", received(tmp_path))], ["a"], "task", "T1" if v2 else "", 2.0 if v2 else None
    )
    document = contracts.start_script_v2(command) if v2 else contracts.start_script_v1(command)
    assert contracts.read_start_script(document, v2=v2) == command


BROKEN = {
    "ScriptBody": 1,
    "Isolation": "full",
    "ScriptIsolationMutexTimeout": "-1.00:00:00",
    "IsolationMutexName": None,
    "Files": [{"Name": "f", "Contents": None}],
    "Arguments": [1],
    "ScriptTicket": "x",
    "DurationToWaitForScriptToFinish": "soon",
    "$type": "Another.Type, Another",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_command_that_is_none_is_refused(name):
    document = contracts.start_script_v2(StartScript("b", True, "m", 1, [], [], "t", "T", 1))
    with pytest.raises(ContractError):
        contracts.read_start_script({**document, name: BROKEN[name]}, v2=True)


def test_an_encrypted_file_is_refused(tmp_path):
    document = contracts.start_script_v2(StartScript("b", True, "m", 1, [("f", received(tmp_path))], [], "t", "T", 1))
    document["Files"][0]["EncryptionPassword"] = "hush"
    with pytest.raises(ContractError, match="encrypted") as error:
        contracts.read_start_script(document, v2=True)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("changes", [{"State": 7}, {"Logs": [1]}, {"Logs": None}, {"ExitCode": "0"}, {"Ticket": None}])
def test_a_status_that_is_none_is_refused(changes):
    document = contracts.status_document(contracts.type_v2("ScriptStatusResponseV2"), Status("T", [], 0, State.PENDING, 0))
    with pytest.raises(ContractError):
        contracts.read_status({**document, **changes})


def test_log_sequences_are_int64_and_states_int32():
    document = decode(bson.encode(contracts.status_document("t", Status("T", [], 1, State.COMPLETE, -43))))
    assert type(document["NextLogSequence"]) is Int64
    assert type(document["State"]) is int
    assert type(document["ExitCode"]) is int
