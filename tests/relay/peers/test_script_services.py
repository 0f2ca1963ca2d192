"""IScriptService and IScriptServiceV2, without a wire between."""

import pytest
import pytest_twisted
from twisted.internet import reactor

from relay.peers import contracts
from relay.peers.contracts import ContractError, ExitCode, StartScript, State, script_request, type_v1, type_v2
from relay.peers.errors import ServiceError
from relay.peers.script_services import ScriptServices


@pytest_twisted.async_yield_fixture()
async def services(tmp_path):
    made = ScriptServices(reactor, reactor, tmp_path / "Work")
    yield made
    await made.stop()
    assert not (tmp_path / "Work").exists() or list((tmp_path / "Work").iterdir()) == []


def command(body, ticket="T1", wait=20.0, arguments=()):
    return StartScript(body, True, "m", 60.0, [], arguments, "task", ticket, wait)


async def start_v2(services, *args, **options):
    document = contracts.start_script_v2(command(*args, **options))
    return contracts.read_status(await services.v2.methods["StartScript"](document))


async def ask_v2(services, method, kind, ticket="T1", last_log=0):
    request = script_request(type_v2(kind), ticket, last_log)
    return contracts.read_status(await services.v2.methods[method](request))


async def complete_v2(services, ticket="T1"):
    return await services.v2.methods["CompleteScript"](script_request(type_v2("CompleteScriptCommandV2"), ticket))


@pytest_twisted.ensureDeferred
async def test_v2_from_start_to_complete(services, tmp_path):
    status = await start_v2(services, "echo one; exit 2")
    assert (status.ticket, status.state, status.exit_code, status.next_log) == ("T1", State.COMPLETE, 2, 1)
    again = await ask_v2(services, "GetStatus", "ScriptStatusRequestV2", last_log=1)
    assert (again.logs, again.next_log, again.state) == ([], 1, State.COMPLETE)
    assert (tmp_path / "Work/t1").is_dir()
    assert await complete_v2(services) is None
    assert not (tmp_path / "Work/t1").exists()
    assert await complete_v2(services) is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("wait", [None, 0.0])
async def test_v2_does_not_wait_unless_told_to(services, wait):
    assert (await start_v2(services, "sleep 600", wait=wait)).state is State.RUNNING


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ticket", ["T1", "t1"])
async def test_v2_the_same_ticket_is_the_same_script(services, tmp_path, ticket):
    body = f"echo run >> {tmp_path}/count; sleep 600"
    await start_v2(services, body, wait=0.5)
    await start_v2(services, body, ticket=ticket, wait=None)
    assert (tmp_path / "count").read_text() == "run\n"


@pytest_twisted.ensureDeferred
async def test_v2_cancel(services):
    await start_v2(services, "sleep 600", wait=None)
    status = await ask_v2(services, "CancelScript", "CancelScriptCommandV2")
    assert (status.state, status.exit_code) == (State.COMPLETE, ExitCode.CANCELLED)


@pytest_twisted.ensureDeferred
async def test_unknown_scripts(services):
    for method, kind in (("GetStatus", "ScriptStatusRequestV2"), ("CancelScript", "CancelScriptCommandV2")):
        status = await ask_v2(services, method, kind, "nobody", 3)
        assert (status.state, status.exit_code, status.next_log) == (State.COMPLETE, ExitCode.UNKNOWN_SCRIPT, 3)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ticket", ["", ".", "..", "../x", "a/b", "x" * 101, "a\n"])
async def test_a_ticket_names_a_folder_and_nothing_else(services, ticket):
    with pytest.raises(ServiceError, match="ticket"):
        await start_v2(services, "echo", ticket)


@pytest_twisted.ensureDeferred
async def test_arguments_hold_no_null(services):
    with pytest.raises(ContractError, match="null"):
        await start_v2(services, "echo", arguments=["a\0b"])


@pytest_twisted.ensureDeferred
async def test_v1_gives_each_start_a_ticket_of_its_own_and_the_last_status_at_the_end(services, tmp_path):
    document = contracts.start_script_v1(command("echo one"))
    tickets = []
    for _ in range(2):
        started = await services.v1.methods["StartScript"](document)
        assert started["$type"] == "Octopus.Shared.Contracts.ScriptTicket, Octopus.Shared"
        tickets.append(started["TaskId"])
    assert tickets[0] != tickets[1]
    state = State.PENDING
    while state is not State.COMPLETE:
        request = script_request(type_v1("ScriptStatusRequest"), tickets[0], 0)
        status = contracts.read_status(await services.v1.methods["GetStatus"](request))
        state = status.state
        await _a_moment()
    final = await services.v1.methods["CompleteScript"](script_request(type_v1("CompleteScriptCommand"), tickets[0], 0))
    assert final["$type"] == "Octopus.Shared.Contracts.ScriptStatusResponse, Octopus.Shared"
    assert [line.text for line in contracts.read_status(final).logs] == ["one"]
    assert not (tmp_path / "Work" / tickets[0]).exists()
    unknown = await services.v1.methods["CompleteScript"](script_request(type_v1("CompleteScriptCommand"), tickets[0], 0))
    assert contracts.read_status(unknown).exit_code == ExitCode.UNKNOWN_SCRIPT


@pytest_twisted.ensureDeferred
async def test_v1_requests_are_read_under_the_plain_names_too(services):
    _, plain = contracts.either("CancelScriptCommand")
    status = contracts.read_status(await services.v1.methods["CancelScript"](script_request(plain, "nobody", 0)))
    assert status.exit_code == ExitCode.UNKNOWN_SCRIPT


@pytest_twisted.ensureDeferred
async def test_other_requests_are_refused(services):
    with pytest.raises(ContractError):
        await services.v2.methods["GetStatus"](script_request(type_v2("CancelScriptCommandV2"), "T1", 0))
    with pytest.raises(ContractError):
        await services.v2.methods["GetStatus"]("T1")


def _a_moment():
    """A turn of the reactor."""
    from relay.peers.times import pause

    return pause(reactor, 0)
