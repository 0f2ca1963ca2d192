"""What is kept of sections with mistakes. What is said about the mistakes is in test_schema.py."""

from pathlib import Path

import pytest

from routing.addresses import Address
from routing.reading import read
from routing.yaml_lines import parse

FILE = Path("relay.yaml")
A = "A" * 40


def test_good_keys_of_a_bad_section_are_kept() -> None:
    document = parse(
        f"relay: {{name: '?', state: /s}}\noctopus: [{{name: one, thumbprint: {A}, x: 1}}]\n"
        "machines:\n  - just text\n  - {name: web01, port: 1, thumbprint: xyz, limits: {connections: 0, envelope: 1KiB}}\n",
        FILE,
    )
    configuration, mistakes = read(document)
    assert sorted({mistake.where for mistake in mistakes}) == [
        "machines[0]",
        "machines[1].limits.connections",
        "machines[1].tentacle",
        "machines[1].thumbprint",
        "octopus[0].x",
        "relay.name",
    ]
    assert configuration.relay.model_fields_set == {"state"}
    assert configuration.relay.state == Path("/s")
    assert configuration.octopus[0].model_fields_set == {"name", "thumbprint"}
    first, second = configuration.machines
    assert first.model_fields_set == set()
    assert second.model_fields_set == {"name", "port"}
    assert second.port == Address("", 1)


@pytest.mark.parametrize("text", ["", "text", "- a", "relay: 1\noctopus: 2\nmachines: 3\ndefaults: 4", "machines: [[], {}, ~]"])
def test_any_shape_gives_mistakes_and_no_error(text: str) -> None:
    configuration, mistakes = read(parse(text, FILE))
    assert mistakes
    assert all(mistake.problem and mistake.remedy for mistake in mistakes)
    assert configuration.relay.model_fields_set == set()


def test_a_shape_that_is_wrong_says_what_belongs_there() -> None:
    _, mistakes = read(parse("relay: x\noctopus: y\nmachines: {}\n", FILE))
    assert [str(mistake) for mistake in mistakes] == [
        (
            "relay.yaml:1: relay: 'x': not a mapping. Write keys and values below it, each on a line of its own: "
            "name, state, access_log, log_level, limits, timeouts."
        ),
        "relay.yaml:2: octopus: 'y': not a list. Write a list: each item on a line of its own, after '- '.",
        "relay.yaml:3: machines: not a list. Write a list: each item on a line of its own, after '- '.",
    ]
