"""What may stand beside `passthrough: true`; the messages as a whole are in bad_configurations.txt, too."""

from pathlib import Path

import pytest

from routing.load import load
from routing.mistakes import ConfigurationError
from routing.table import Limits, Timeouts

TEXT = """\
relay: {name: r, state: /s}
octopus:
  - {name: production, thumbprint: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}
  - {name: staging, thumbprint: CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC}
front: {listen: 10933}
defaults: {limits: {envelope: 1MiB, connections: 7}, timeouts: {ready: 10s}}
machines:
  - {name: vault01, tentacle: "https://vault01", passthrough: true%s}
"""


def said(folder: Path, more: str) -> list[str]:
    path = folder / "relay.yaml"
    path.write_text(TEXT % more)
    try:
        load(path)
    except ConfigurationError as error:
        return [f"{mistake.where}: {mistake.problem}" for mistake in error.mistakes]
    return []


def test_it_needs_no_thumbprint_and_no_octopus(tmp_path: Path) -> None:
    assert said(tmp_path, ", port: 11001, host: vault01.corp") == []
    [vault] = load(tmp_path / "relay.yaml").machines
    assert (vault.passthrough, vault.octopus, vault.thumbprints, vault.identity) == (True, (), (), None)
    assert vault.limits == Limits(envelope=1024 * 1024, connections=7)


@pytest.mark.parametrize("value", ["5s", "50s", "1m"])
def test_the_time_for_a_connect_is_its_own(value: str, tmp_path: Path) -> None:
    """There is no `ready` that would have to cover it."""
    assert said(tmp_path, f", port: 11001, limits: {{connections: 3}}, timeouts: {{connect: {value}}}") == []
    [vault] = load(tmp_path / "relay.yaml").machines
    assert vault.timeouts.connect == {"5s": 5.0, "50s": 50.0, "1m": 60.0}[value]
    assert vault.timeouts.connect != Timeouts().connect


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("thumbprint", "B" * 40),
        ("thumbprints", f"[{'B' * 40}]"),
        ("octopus", "production"),
        ("identity", "vault01.pem"),
        ("front", "polling"),
    ],
)
def test_what_means_nothing_beside_it(key: str, value: str, tmp_path: Path) -> None:
    [mistake] = [each for each in said(tmp_path, f", port: 11001, {key}: {value}") if "no nodes" not in each]
    assert mistake.startswith(f"machines[0].{key}: given beside passthrough: the relay does not open TLS, and ")


@pytest.mark.parametrize("key", ["limits.envelope", "limits.waiting", "timeouts.ready", "timeouts.prove", "timeouts.back_idle"])
def test_settings_that_do_not_hold(key: str, tmp_path: Path) -> None:
    section, name = key.split(".")
    value = "30s" if section == "timeouts" else "5"
    [mistake] = said(tmp_path, f", port: 11001, {section}: {{{name}: {value}}}")
    assert mistake.startswith(f"machines[0].{key}: given beside passthrough: ")


def test_a_switch_that_is_off_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(
        TEXT.replace("passthrough: true%s", f"passthrough: false, port: 1, octopus: staging, thumbprint: {'B' * 40}")
    )
    [web] = load(path).machines
    assert (web.passthrough, [octopus.name for octopus in web.octopus]) == (False, ["staging"])


def test_a_switch_that_is_a_mistake_is_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(TEXT.replace("true%s", "yes, port: 11001"))
    with pytest.raises(ConfigurationError) as raised:
        load(path)
    assert [str(mistake).partition(": ")[2] for mistake in raised.value.mistakes] == [
        "machines[0].passthrough: 'yes': neither true nor false. Write true or false."
    ]
