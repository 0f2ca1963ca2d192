from contextlib import AsyncExitStack
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from relay.demo.setting import ALL_FOUR, LISTENING, set_up
from relay.peers.errors import PeerError
from routing.load import load


@pytest_twisted.ensureDeferred
async def test_each_combination_is_another_one(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        made = await set_up(reactor, tmp_path, ALL_FOUR, stack)
        machines = load(made.scene.config).machines
        assert [(machine.polled_for, machine.tentacle is None) for machine in machines] == [
            (False, False),
            (False, True),
            (True, False),
            (True, True),
        ]
        assert list(made.machines) == [machine.name for machine in machines]


@pytest_twisted.ensureDeferred
async def test_where_all_listen_nobody_polls(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        made = await set_up(reactor, tmp_path, LISTENING, stack)
        assert (made.scene.node, made.scene.back) == (0, 0)
        assert all(target.door and target.tentacle and not target.subscription for target in made.scene.targets)


@pytest_twisted.ensureDeferred
async def test_what_a_peer_found_is_told(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        made = await set_up(reactor, tmp_path, LISTENING[:1], stack)
        assert made.violations() == []
        error = PeerError("broken", "2.4")
        made.tentacles[0].violations.append(error)
        assert made.violations() == [error]
