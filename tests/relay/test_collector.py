import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.collector import collect, collector_off, settle


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_it_is_off_and_then_as_it_was() -> None:
    with collector_off():
        assert not gc.isenabled()
        with collector_off():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_off():
        1 / 0  # noqa: B018
    assert gc.isenabled()


def test_it_is_on_again_before_a_reactor_runs_and_leaves_alone_what_is_there() -> None:
    with collector_off():
        made = [[] for _ in range(1000)]
        collect()
        assert gc.isenabled()
        assert gc.get_freeze_count() > len(made)


def test_what_was_made_meanwhile_is_not_young_any_more() -> None:
    with collector_off():
        made = [[each] for each in range(1000)]
        settle()
        assert not any(each is made for young in (0, 1) for each in gc.get_objects(young))


# What a command does, in a process of its own: it says whether the collector is on, and ends.
RUNS = {
    "finish": "from relay.cli.reactor import finish as go",
    "wait_for": "from relay.cli.waiting import wait_for as go",
}


@pytest.mark.parametrize("way", RUNS)
def test_it_is_on_while_a_command_waits_for_the_network(way: str) -> None:
    text = f"import gc; {RUNS[way]}; gc.disable()\nasync def work(reactor): return gc.isenabled()\nprint(go(work))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


def test_it_is_off_while_run_starts_and_on_when_it_runs(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(
        f"""\
relay: {{name: test, state: state}}
admin: {{listen: none}}
octopus: [{{name: production, thumbprint: {"A" * 40}}}]
machines: [{{name: web01, tentacle: "https://127.0.0.1:1", thumbprint: {"C" * 40}, port: "127.0.0.1:0"}}]
""".replace('port: "127.0.0.1:0"', "front: polling").replace("production, t", "production, nodes: ['https://127.0.0.1:1'], t")
    )
    text = f"""\
import gc, os
from twisted.internet import reactor
import relay.service
start = relay.service.RelayService.start
def started(service):
    print(gc.isenabled())
    start(service)
relay.service.RelayService.start = started
def running():
    print(gc.isenabled(), gc.get_freeze_count() > 0, flush=True)
    os._exit(0)
reactor.callWhenRunning(running)
from relay.cli.main import main
main(["run", "--config", {str(config)!r}])
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\nTrue True\n"
