import socket
from pathlib import Path

from relay.demo.scene import Door, Scene, free_ports
from routing.load import load


def test_the_configuration_is_one(tmp_path: Path) -> None:
    doors = (Door("web01", 11001, "A" * 40, 10933, "B" * 40), Door("web02", 11002, "C" * 40, 10934, "D" * 40))
    scene = Scene(tmp_path, doors, "E" * 40, "F" * 40)
    scene.config.write_text(scene.configuration())
    table = load(scene.config)
    assert (table.relay.state, table.relay.access_log) == (scene.state, scene.access_log)
    [octopus] = table.octopus
    assert [str(thumbprint) for thumbprint in octopus.thumbprints] == ["E" * 40]
    assert [(machine.name, str(machine.tentacle), str(machine.door)) for machine in table.machines] == [
        ("web01", "127.0.0.1:10933", "127.0.0.1:11001"),
        ("web02", "127.0.0.1:10934", "127.0.0.1:11002"),
    ]
    assert [[str(thumbprint) for thumbprint in machine.thumbprints] for machine in table.machines] == [["B" * 40], ["D" * 40]]


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
