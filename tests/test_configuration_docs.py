"""docs/configuration.md says what is so: every key, default, range and word."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import main
from relay.outcomes import Outcome, Refusal
from routing.load import load
from routing.reference import places, renewed, tables
from routing.schema import ADMIN, Configuration, Section
from routing.table import Limits, RelayLimits, RelayTimeouts, Timeouts
from routing.units import show_duration, show_size

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "configuration.md").read_text()
SAMPLE, INCLUDED = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


RANGED = ("relay.limits", "relay.timeouts", "machines[].limits", "machines[].timeouts")


def table(start: str) -> list[list[str]]:
    """The rows of the table whose heading starts so, without its heading."""
    text = TEXT.partition(start)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def rows(place: str) -> list[tuple[str, str, str]]:
    """Key, what to write and default of each row in the table of a section."""
    found = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \| `?([^|`]*)`? \|", tables()[place], re.MULTILINE)
    assert found
    return found


def keys(model: type[Section]) -> set[str]:
    """Every key that the schema knows, at any depth."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                found |= keys(kind)
    return found


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    (tmp_path / "machines.d").mkdir()
    (tmp_path / "machines.d" / "more.yaml").write_text(INCLUDED)
    (tmp_path / "relay.yaml").write_text(SAMPLE)
    return tmp_path / "relay.yaml"


def test_the_sample_is_fine(sample: Path) -> None:
    done = CliRunner().invoke(main, ["check", "--no-identities", "--config", str(sample)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert [machine.name for machine in load(sample).machines] == ["web01", "web02", "web03", "kiosk7", "vault01", "web04"]


def test_the_sample_has_every_key() -> None:
    assert set(re.findall(r"\b([a-z_]+):", SAMPLE + INCLUDED)) >= keys(Configuration)


def test_the_samples_defaults_are_the_defaults(sample: Path) -> None:
    loaded = load(sample)
    machine = loaded.machines[1]
    assert (machine.limits, machine.timeouts) == (Limits(), Timeouts())
    assert (loaded.relay.limits, loaded.relay.timeouts) == (RelayLimits(), RelayTimeouts())
    assert (loaded.relay.access_log, loaded.relay.log_level, loaded.admin) == (None, "info", ADMIN)


def test_its_tables_are_those_of_the_schema() -> None:
    assert renewed(TEXT) == TEXT, "run: python -m routing.reference docs/configuration.md"


def test_it_has_the_table_of_every_section_once() -> None:
    assert sorted(places(TEXT)) == sorted(tables())


def test_the_tables_have_every_limit_with_its_default() -> None:
    limits = {
        f"{place}.{name}": show_size(value) if name in ("envelope", "buffered") else str(value)
        for place, held in (("machines[].limits", Limits()), ("relay.limits", RelayLimits()))
        for name, value in asdict(held).items()
    }
    limits |= {f"machines[].timeouts.{name}": show_duration(getattr(Timeouts(), name)) for name in Timeouts.__slots__}
    limits |= {f"relay.timeouts.{name}": show_duration(getattr(RelayTimeouts(), name)) for name in RelayTimeouts.__slots__}
    found = {f"{place}.{name}": default for place in RANGED for name, _, default in rows(place)}
    assert found == limits


def test_the_ranges_are_the_ranges(tmp_path: Path) -> None:
    """One step outside is a mistake, and the ends are not."""
    machine = f"{{name: w, tentacle: 'https://w', thumbprint: {'B' * 40}, port: 1, %s}}"
    shapes = {
        "machines[].limits": (machine % "limits: {%s: %s}", ""),
        "machines[].timeouts": (machine % "timeouts: {ready: 59s, %s: %s}", ""),
        "relay.limits": (machine % "", ", limits: {connections: 1000000, strangers: 1000000, handshakes: 1000000, %s: %s}"),
        "relay.timeouts": (machine % "", ", timeouts: {identify: 1m, %s: %s}"),
    }
    ranges = [(place, key, *values.removesuffix(" bytes").split(" to ")) for place in RANGED for key, values, _ in rows(place)]
    ranges.remove(("machines[].timeouts", "ready", "more than 0s, less than 60s"))
    assert len(ranges) == 18
    for place, key, least, most in ranges:
        in_machine, in_relay = shapes[place]
        for value, fine in [(least, True), (most, True), (below(least), False), (above(most), False)]:
            machines = in_machine % (key, value) if "%s" in in_machine else in_machine
            relay = in_relay % (key, value) if in_relay else ""
            relay = relay.replace("identify: 1m, identify", "identify")
            for whole in ("connections", "strangers", "handshakes"):
                if (place, key) == ("relay.limits", whole):
                    relay = f", limits: {{{key}: {value}}}"
            if (place, key, value) == ("relay.limits", "strangers", most):
                relay = relay.replace("{", "{connections: 1000000, ")
            if (place, key) == ("relay.timeouts", "identify"):
                relay = relay.replace("{", "{client_hello: 1ms, ")
            if key in ("connect", "prove") and value == most:
                continue  # inside the range, and never less than ready
            (tmp_path / "relay.yaml").write_text(
                f"relay: {{name: r, state: s{relay}}}\noctopus: [{{name: o, thumbprint: {'A' * 40}}}]\nmachines: [{machines}]\n"
            )
            done = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "relay.yaml")])
            assert done.exit_code == (0 if fine else 2), (place, key, value, done.stderr)


def below(value: str) -> str:
    return {"1": "0", "1ms": "0ms", "1s": "999ms", "0ms": "-1ms"}[value]


def above(value: str) -> str:
    number, unit = re.fullmatch(r"([0-9]+)([a-z]*)", value).groups()
    milliseconds = {"s": 1000, "m": 60_000, "h": 3_600_000}
    return f"{int(number) * milliseconds[unit] + 1}ms" if unit else str(int(number) + 1)


def test_every_refusal_is_explained() -> None:
    documented = [word for cells in table("| reason |") for word in re.findall(r"`([a-z-]+)`", cells[0])]
    assert sorted(documented) == sorted(refusal.value for refusal in Refusal)


def test_every_outcome_it_names_is_one() -> None:
    named = re.findall(r"outcomes? `([a-z-]+)`(?:,? (?:or )?`([a-z-]+)`)?", TEXT)
    words = {word for pair in named for word in pair if word}
    assert "queue-timeout" in words
    assert words <= {outcome.value for outcome in Outcome}


def test_every_metric_it_names_is_counted() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "relay").rglob("*.py"))
    named = set(re.findall(r"`(relay_[a-z_]+)`", TEXT))
    assert named
    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in source} == set()
