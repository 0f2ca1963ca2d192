import os
import signal
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from relay.demo import process
from relay.demo.process import RelayError, RelayProcess
from relay.demo.scene import Scene, Target, free_ports


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, (Target("web01", "", "B" * 40, door=free_ports(1)[0], tentacle=10933),), "E" * 40, "")
    scene.config.write_text(scene.configuration())
    return scene


@pytest_twisted.async_yield_fixture()
async def relay():
    relay = RelayProcess(reactor)
    yield relay
    try:
        await relay.stop()
    except RelayError:
        assert relay.exit_code is not None


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest_twisted.ensureDeferred
async def test_it_runs_until_it_is_stopped(relay: RelayProcess, scene: Scene) -> None:
    pid = await relay.start(scene.config, scene.log)
    assert os.getsid(pid) == pid
    assert b'"event": "running"' in scene.log.read_bytes()
    await relay.stop()
    assert relay.exit_code == 0
    assert gone(pid)
    assert b'"event": "stopped"' in scene.log.read_bytes()
    await relay.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_was_never_started_has_nothing_to_stop(relay: RelayProcess) -> None:
    await relay.stop()
    assert relay.exit_code is None


@pytest_twisted.ensureDeferred
async def test_a_relay_that_cannot_start_says_why(relay: RelayProcess, scene: Scene) -> None:
    scene.config.write_text("relay: {}\n")
    with pytest.raises(RelayError, match=r"did not start, and ended with 2; its last words: .*relay\.name: missing"):
        await relay.start(scene.config, scene.log)
    await relay.stop()


@pytest_twisted.ensureDeferred
async def test_a_relay_that_takes_too_long(relay: RelayProcess, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_WITHIN", 0.001)
    with pytest.raises(RelayError, match="not running after 0 s, without a word"):
        await relay.start(scene.config, scene.log)
    await relay.stop()
    assert relay.exit_code is not None


@pytest_twisted.ensureDeferred
async def test_a_relay_that_dies_did_not_end_well(relay: RelayProcess, scene: Scene) -> None:
    os.kill(await relay.start(scene.config, scene.log), signal.SIGKILL)
    with pytest.raises(RelayError, match="ended with exit code 137; its last words: "):
        await relay.stop()


@pytest_twisted.ensureDeferred
async def test_a_relay_that_does_not_listen_is_killed(
    relay: RelayProcess, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STOP_WITHIN", 0.05)
    pid = await relay.start(scene.config, scene.log)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(RelayError, match="exit code 137"):
        await relay.stop()
    assert gone(pid)
