"""What is kept of sections with mistakes. What is said about the mistakes is in test_schema.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from routing.addresses import Address
from routing.mistakes import Mistake
from routing.reading import read, read_machines
from routing.schema import Section
from routing.yaml_lines import Document, parse

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
            "name, state, access_log, contact, log_level, limits, timeouts."
        ),
        "relay.yaml:2: octopus: 'y': not a list. Write a list: each item on a line of its own, after '- '.",
        "relay.yaml:3: machines: not a list. Write a list: each item on a line of its own, after '- '.",
    ]


def said(text: str, read: Callable[[Document], tuple[Section, list[Mistake]]] = read) -> list[str]:
    _, mistakes = read(parse(text, FILE))
    return [str(mistake) for mistake in mistakes]


@pytest.mark.parametrize(
    ("section", "key", "remedy"),
    [
        ("relay", "stat", "Did you mean state?"),
        ("relay", "STATE", "Did you mean state?"),
        ("relay", "access-log", "Did you mean access_log?"),
        ("relay", "accessLog", "Did you mean access_log?"),
        ("relay", "drain", "Did you mean timeouts.drain?"),
        ("relay", "connections", "Did you mean limits.connections?"),
        ("machines", "prove", "Did you mean timeouts.prove?"),
        ("machines", "listen", "Did you mean port?"),
        ("machines", "hostname", "Did you mean host?"),
        ("machines", "thumbprin", "Did you mean thumbprint?"),
        (
            "machines",
            "x" * 100_000,
            "Known here: name, tentacle, thumbprint, thumbprints, octopus, port, host, connect, front, passthrough, ",
        ),
        ("front", "x", "Known here: listen, connect, credentials."),
        ("admin", "port", "Known here: listen."),
    ],
)
def test_what_is_suggested_for_an_unknown_key(section: str, key: str, remedy: str) -> None:
    text = f"{section}: [{{{key}: 1}}]\n" if section == "machines" else f"{section}: {{{key}: 1}}\n"
    [line] = [line for line in said(text) if "unknown key" in line]
    assert f"unknown key. {remedy}" in line


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("log_level", "Did you mean relay.log_level?"),
        ("handshakes", "Did you mean relay.limits.handshakes?"),
        ("tentacle", "Did you mean machines[].tentacle?"),
        (
            "name",
            "Known here: version, relay, octopus, front, back, machines, include, defaults, admin.",
        ),  # of several sections
        ("machine", "Did you mean machines?"),
        ("tentacles", "Did you mean machines?"),
    ],
)
def test_what_is_suggested_for_an_unknown_section(key: str, remedy: str) -> None:
    assert f"relay.yaml:1: {key}: unknown key. {remedy}" in said(f"{key}: 1\n")


def test_good_machines_of_a_bad_included_file_are_kept() -> None:
    document = parse("relay: {}\nmachines:\n  - {name: web01, port: x}\n  - {name: web02, port: 2}\n", FILE)
    content, mistakes = read_machines(document)
    assert len(mistakes) == 4  # relay, port, and the Tentacles that the two lack
    assert [machine.model_fields_set for machine in content.machines] == [{"name"}, {"name", "port"}]
