"""What check says of rules together: it accepts none of which two allow the same call, and refuses nothing else."""

import ipaddress
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from configuration_text import A, B, C, configuration, machine, read
from halibut_bytes import bounded
from hypothesis import given
from hypothesis import strategies as st
from rule_sets import OCTOPUS, PAIRS, Call, allowing, items, says

from routing.rules import Rule, Rules

SOURCES = ("10.1.2.3", "10.9.9.9", "192.0.2.7", "198.51.100.1", "2001:db8::5")  # one of each region
EVERY_CALL = [Call(name, source, *pair) for name, source, pair in product(OCTOPUS, SOURCES, PAIRS)]
THREE = "\n".join(f"{{name: {name}, thumbprint: {pin}}}" for name, pin in zip(OCTOPUS, (A, C, "D" * 40), strict=True))
OF_ALL = f", octopus: [{', '.join(OCTOPUS)}]"


def text(item: Rule) -> str:
    parts = [f"services: [{', '.join(item.words)}]"]
    if item.octopus:
        parts.append(f"octopus: [{', '.join(item.octopus)}]")
    if item.networks:
        networks = ", ".join(f'"{network}"' for network in item.networks)
        parts.append(f"from: [{networks}]")
    return "{" + ", ".join(parts) + "}"


def twofold(item: Rule) -> bool:
    """Two of its words, or of its networks, have something in common."""
    words = any(all(says(word, call) for word in pair) for pair in combinations(item.words, 2) for call in EVERY_CALL)
    sources = [ipaddress.ip_address(source) for source in SOURCES]
    return words or any(all(source in each for each in pair) for pair in combinations(item.networks, 2) for source in sources)


@bounded(150)
@given(st.lists(items(), min_size=1, max_size=3))
def test_two_items_that_allow_one_call_are_a_mistake_and_nothing_else_is(found: list[Rule]) -> None:
    allow = f", allow: [{', '.join(map(text, found))}]"
    with TemporaryDirectory() as folder:
        said = read(configuration(THREE, machine("web01", 11001, OF_ALL + allow)), Path(folder))
    rules = Rules(tuple(found))
    wrong = any(len(allowing(rules, call)) > 1 for call in EVERY_CALL) or any(map(twofold, found))
    assert bool(said) == wrong, (said, allow)


def said_of(allow: str, folder: Path, more: str = "", defaults: str = "") -> list[str]:
    """Of a machine with this allow, on line 7 of the file."""
    own = f", allow: {allow}" if allow else ""
    return read(configuration(THREE, machine("web01", 11001, OF_ALL + own + more), defaults=defaults), folder)


def test_the_two_items_and_a_call_are_named(tmp_path: Path) -> None:
    allow = (
        "[{from: 10.0.0.0/8, services: scripts}, {octopus: staging, from: [10.1.0.0/16], services: IScriptServiceV2.GetStatus}]"
    )
    (said,) = said_of(allow, tmp_path)
    call = "IScriptServiceV2.GetStatus by octopus staging from 10.1.0.0/16"
    assert said.startswith(f"7: machines[0].allow[1]: allow[0] on line 7 allows {call} too. Every call has one item")


@pytest.mark.parametrize(
    "allow",
    [
        "scripts",
        "[scripts, files]",
        "[capabilities, {octopus: staging, services: scripts}, {octopus: test, services: scripts}]",
        "[{from: 10.0.0.0/8, services: scripts}, {from: '2001:db8::/32', services: scripts}]",
        "[{octopus: staging, from: 10.0.0.0/8}, {octopus: test}]",
        "{from: 10.0.0.0/8}",
    ],
)
def test_what_is_no_mistake(allow: str, tmp_path: Path) -> None:
    assert said_of(allow, tmp_path) == []


def test_names_have_to_be_those_of_the_machine(tmp_path: Path) -> None:
    only = machine("web01", 11001, ", octopus: staging, allow: [{octopus: production}, {octopus: [staging]}]")
    (said,) = read(configuration(THREE, only), tmp_path)
    assert (
        said
        == "7: machines[0].allow[0].octopus: 'production': not among the octopus entries of this machine. Write one of staging."
    )


def test_names_of_the_defaults_have_to_be_entries(tmp_path: Path) -> None:
    said = said_of("all", tmp_path, defaults="allow: {octopus: prodution}")
    assert said == ["8: defaults.allow: 'prodution': no entry of the section octopus has this name. Did you mean production?"]


def test_a_machine_that_nobody_could_call(tmp_path: Path) -> None:
    defaults = "allow: [{octopus: staging, services: scripts}]"
    only = configuration(THREE, machine("web01", 11001, ", octopus: test"), defaults=defaults)
    (said,) = read(only, tmp_path)
    assert said.startswith("7: machines[0].name: 'web01': the allow of defaults on line 8 has no item for any of its octopus")


def test_a_machine_that_the_relay_polls_for_is_called_from_nowhere(tmp_path: Path) -> None:
    one = f"{{name: one, thumbprint: {A}, nodes: 'https://o:1'}}"
    polled = f"{{name: w, tentacle: 'https://w', thumbprint: {B}, front: polling, allow: [{{from: 10.0.0.0/8}}]}}"
    (said,) = read(configuration(one, polled), tmp_path)
    assert said.startswith("5: machines[0].allow: 'w': its allow has items with `from` only, and Octopus nodes")
    assert read(configuration(one, polled.replace("front: polling", "front: polling, port: 11001")), tmp_path) == []


def test_own_items_are_in_place_of_those_of_the_defaults(tmp_path: Path) -> None:
    assert said_of("[scripts]", tmp_path, defaults="allow: [scripts, files]") == []


@pytest.mark.parametrize(("allow", "mistakes"), [("all", 0), ("{from: 10.0.0.0/8}", 0), ("scripts", 1), ("{octopus: one}", 1)])
def test_of_whoever_is_passed_through_only_addresses_are_seen(allow: str, mistakes: int, tmp_path: Path) -> None:
    passed = f"{{name: w, tentacle: 'https://w', port: 11001, passthrough: true, allow: {allow}}}"
    assert len(read(configuration(machines=passed), tmp_path)) == mistakes
    shared = configuration(machines=passed.replace(f", allow: {allow}", ""), defaults=f"allow: {allow}")
    assert len(read(shared, tmp_path)) == mistakes
