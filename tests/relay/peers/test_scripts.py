import signal

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relay.peers import scripts
from relay.peers.contracts import ExitCode, Source, StartScript, State
from relay.peers.errors import ServiceError
from relay.peers.isolation import Mutex
from relay.peers.scripts import Script
from relay.peers.streams import Spool


@pytest_twisted.async_yield_fixture()
async def start(tmp_path):
    made = []

    def new(body, *, mutex=None, isolated=True, files=(), clock=reactor, timeout=60.0, arguments=()):
        command = StartScript(body, isolated, "m", timeout, list(files), arguments, "task", f"T{len(made)}")
        made.append(Script(command.ticket, command, tmp_path / f"T{len(made)}", mutex or Mutex(), reactor, clock))
        return made[-1]

    yield new
    for script in made:
        script.cancel()
        await script.complete()
        script.remove()


def texts(script, source=Source.STDOUT):
    return [line.text for line in script.status(0).logs if line.source is source]


@pytest_twisted.ensureDeferred
async def test_output_is_told_line_by_line_with_sequence_numbers(start):
    script = start("echo one; echo two >&2; printf 'three\\r\\nfour'")
    assert script.status(0).state is State.RUNNING
    await script.complete()
    status = script.status(0)
    assert (status.state, status.exit_code, status.next_log) == (State.COMPLETE, 0, 4)
    assert texts(script) == ["one", "three", "four"]
    assert texts(script, Source.STDERR) == ["two"]
    assert len(script.status(3).logs) == 1
    assert script.status(3).next_log == 4
    assert script.status(99).logs == []


@pytest_twisted.ensureDeferred
async def test_it_runs_in_its_own_folder_and_group(start, tmp_path):
    script = start('pwd; [ "$(ps -o pgid= -p $$ 2>/dev/null || cut -d" " -f5 /proc/$$/stat)" -eq $$ ] && echo leader')
    await script.complete()
    assert texts(script) == [str(tmp_path / "T0"), "leader"]
    script.remove()
    assert not (tmp_path / "T0").exists()


@pytest_twisted.ensureDeferred
async def test_a_signal_gives_128_and_its_number(start):
    script = start("kill -TERM $$")
    await script.complete()
    assert script.status(0).exit_code == 128 + signal.SIGTERM


@pytest_twisted.ensureDeferred
async def test_a_cancel_kills_and_counts_once(start):
    script = start("sleep 600 & wait")
    script.cancel()
    script.cancel()
    await script.complete()
    assert script.status(0).exit_code == ExitCode.CANCELLED
    script.cancel()
    assert script.status(0).state is State.COMPLETE


@pytest_twisted.ensureDeferred
async def test_a_wait_has_an_end(start):
    clock = Clock()
    script = start("sleep 600", clock=clock)
    waiting = script.complete(5)
    clock.advance(4)
    assert not waiting.called
    clock.advance(1)
    await waiting
    assert script.status(0).state is State.RUNNING


@pytest_twisted.ensureDeferred
async def test_an_isolated_script_waits_for_the_other(start):
    mutex = Mutex()
    first = start("sleep 600", mutex=mutex)
    second = start("echo second", mutex=mutex)
    assert (first.status(0).state, second.status(0).state) == (State.RUNNING, State.PENDING)
    first.cancel()
    await second.complete()
    assert texts(second) == ["second"]


@pytest_twisted.ensureDeferred
async def test_scripts_without_isolation_run_together(start):
    mutex = Mutex()
    scripts_ = [start("sleep 600", mutex=mutex, isolated=False) for _ in range(2)]
    assert {script.status(0).state for script in scripts_} == {State.RUNNING}


@pytest_twisted.ensureDeferred
async def test_a_script_waits_for_the_mutex_only_so_long(start):
    mutex, clock = Mutex(), Clock()
    start("sleep 600", mutex=mutex)
    late = start("echo late", mutex=mutex, clock=clock, timeout=300)
    clock.advance(299)
    assert late.status(0).state is State.PENDING
    clock.advance(1)
    await late.complete()
    assert late.status(0).exit_code == ExitCode.TIMEOUT
    assert texts(late) == []


@pytest_twisted.ensureDeferred
async def test_a_cancel_while_waiting_for_the_mutex(start):
    mutex = Mutex()
    start("sleep 600", mutex=mutex)
    late = start("echo late", mutex=mutex)
    late.cancel()
    await late.complete()
    assert late.status(0).exit_code == ExitCode.CANCELLED


def spooled(tmp_path, data):
    spool = Spool(tmp_path)
    spool.write(data)
    return spool.finish()


@pytest.mark.parametrize("name", [scripts.BODY, "../outside", "/etc/x", ""])
def test_files_stay_in_the_folder_and_off_the_body(start, tmp_path, name):
    with pytest.raises(ServiceError):
        start("echo", files=[(name, spooled(tmp_path, b"x"))])
    assert not (tmp_path / "T0").exists()
    assert not (tmp_path / "outside").exists()


@pytest_twisted.ensureDeferred
async def test_what_an_earlier_run_left_is_cleared_away(start, tmp_path):
    (tmp_path / "T0").mkdir()
    (tmp_path / "T0/old").touch()
    script = start("ls")
    await script.complete()
    assert texts(script) == [scripts.BODY]


@pytest_twisted.ensureDeferred
async def test_endless_output_is_stopped(start, monkeypatch):
    monkeypatch.setattr(scripts, "_LOG_LIMIT", 1 << 20)
    script = start("while :; do echo 0123456789012345678901234567890123456789; done")
    await script.complete()
    status = script.status(0)
    assert status.exit_code == ExitCode.FATAL
    assert status.logs[-1].text.startswith("The script has written more than")
    assert sum(len(line.text) + 1 for line in status.logs) < (1 << 20) + 200


@pytest_twisted.ensureDeferred
async def test_an_endless_line_is_cut(start):
    script = start("head -c 200000 /dev/zero | tr '\\0' x")
    await script.complete()
    assert [len(text) for text in texts(script)] == [65536, 65536, 65536, 200000 - 3 * 65536]


@pytest_twisted.ensureDeferred
async def test_a_shell_that_cannot_start_is_told(start, monkeypatch):
    script = None

    def fails(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(reactor, "spawnProcess", fails)
    script = start("echo")
    await script.complete()
    assert script.status(0).exit_code == ExitCode.FATAL
    assert "no more processes" in script.status(0).logs[0].text


@pytest_twisted.ensureDeferred
async def test_whoever_waited_may_stop_waiting(start):
    script = start("sleep 600")
    waiting = script.complete()
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    script.cancel()
    done = Deferred()
    script.complete().chainDeferred(done)
    await done
    assert script.status(0).state is State.COMPLETE
