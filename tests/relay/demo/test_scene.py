import socket
from dataclasses import replace
from pathlib import Path

import pytest

from relay.demo.scene import Scene, Target, free_ports
from routing.load import load

TARGETS = (
    Target("both-listen", "1" * 40, "A" * 40, door=11001, tentacle=10933),
    Target("tentacle-polls", "2" * 40, "B" * 40, door=11002, subscription="poll://kiosk/"),
    Target("relay-polls", "3" * 40, "C" * 40, tentacle=10934, subscription="poll://pulled/"),
    Target("both-poll", "4" * 40, "D" * 40, subscription="poll://both/"),
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, TARGETS, "E" * 40, "F" * 40, node=10943, back=10944)


def test_the_configuration_is_one(scene: Scene) -> None:
    scene.config.write_text(scene.configuration())
    table = load(scene.config)
    assert (table.relay.state, table.relay.access_log, str(table.back)) == (scene.state, scene.access_log, "127.0.0.1:10944")
    [octopus] = table.octopus
    assert ([str(pin) for pin in octopus.thumbprints], [str(node) for node in octopus.nodes]) == (
        ["E" * 40],
        ["127.0.0.1:10943"],
    )
    assert [
        (machine.name, machine.tentacle and str(machine.tentacle), machine.door and str(machine.door), machine.subscription)
        for machine in table.machines
    ] == [
        ("both-listen", "127.0.0.1:10933", "127.0.0.1:11001", None),
        ("tentacle-polls", None, "127.0.0.1:11002", "poll://kiosk/"),
        ("relay-polls", "127.0.0.1:10934", None, "poll://pulled/"),
        ("both-poll", None, None, "poll://both/"),
    ]
    assert [machine.polled_for for machine in table.machines] == [False, False, True, True]
    assert [str(machine.thumbprints[0]) for machine in table.machines] == [letter * 40 for letter in "ABCD"]


def test_where_nobody_polls_there_is_no_door_and_no_node_for_it(scene: Scene) -> None:
    text = replace(scene, targets=TARGETS[:1], node=0, back=0).configuration()
    assert "back" not in text
    assert "nodes" not in text


def test_who_connects_to_whom(scene: Scene) -> None:
    assert [scene.way(target) for target in TARGETS] == [
        "Octopus dials the relay at 11001, the relay dials the Tentacle at 10933",
        "Octopus dials the relay at 11002, the Tentacle polls the relay at 10944",
        "the relay polls Octopus at 10943, and dials the Tentacle at 10934",
        "the relay polls Octopus at 10943, the Tentacle polls the relay at 10944",
    ]


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
