from pathlib import Path

from relay.program import DEFAULT_CONFIG, command


def test_another_configuration_is_named() -> None:
    assert command("identity new", DEFAULT_CONFIG) == "relay-tentacle identity new"
    assert command("reload", Path("/srv/my relay.yaml")) == "relay-tentacle reload --config '/srv/my relay.yaml'"
