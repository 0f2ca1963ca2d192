"""The CONNECT door in right configurations; wrong ones are in bad_configurations.txt."""

from pathlib import Path

import pytest
from configuration_text import B, C, configuration, machine

from routing.addresses import Address
from routing.load import load
from routing.table import ConnectDoor, Table


def loaded(front: str, machines: str, folder: Path) -> Table:
    path = folder / "relay.yaml"
    path.write_text(configuration(machines=machines) + (f"front: {{{front}}}\n" if front else "") + "back: {listen: 10943}\n")
    return load(path)


MACHINES = f"""\
{{name: web01, tentacle: 'https://Web01.internal.', thumbprint: {B}}}
{{name: web02, tentacle: 'https://web01.internal', thumbprint: {C}, connect: 'Web02.relay.corp'}}
{{name: web03, tentacle: 'https://web03.internal:1', thumbprint: {B}, connect: none, port: 11003}}
{{name: web04, tentacle: 'poll://SQ-1/', thumbprint: {B}, port: 11004}}
{{name: web05, tentacle: 'poll://SQ-2/', thumbprint: {B}, connect: '[2001:db8::5]:443'}}"""


def test_whom_a_target_means(tmp_path: Path) -> None:
    table = loaded("listen: 10933, connect: true, credentials: users", MACHINES, tmp_path)
    assert table.connect == ConnectDoor(tmp_path / "users")
    assert {str(target): machine.name for target, machine in table.targets.items()} == {
        "web01.internal:10933": "web01",
        "web02.relay.corp:10933": "web02",
        "[2001:db8::5]:443": "web05",
    }
    web03, web04 = table.machine("web03"), table.machine("web04")
    assert web03 is not None
    assert web04 is not None
    assert (web03.target, web04.target) == (None, None)


@pytest.mark.parametrize("front", ["", "listen: 10933", "listen: 10933, connect: false"])
def test_without_a_door_there_are_no_targets(front: str, tmp_path: Path) -> None:
    table = loaded(front, machine("web01", 11001), tmp_path)
    assert (table.connect, dict(table.targets), table.machines[0].target) == (None, {}, None)


def test_the_nodes_of_another_entry_need_no_further_way_in_where_there_is_a_target(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    octopus = f"{{name: one, thumbprint: {C}, nodes: 'https://o:1'}}\n{{name: two, thumbprint: {'D' * 40}}}"
    web01 = f"{{name: web01, tentacle: 'https://web01', thumbprint: {B}, octopus: [one, two], front: polling}}"
    path.write_text(configuration(octopus, web01) + "front: {listen: 10933, connect: true}\n")
    assert load(path).targets[Address("web01", 10933)].name == "web01"
