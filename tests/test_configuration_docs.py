"""docs/configuration.md says what is so: every key, default, range and word."""

import re
from pathlib import Path

from click.testing import CliRunner

from relay.cli.main import main
from relay.outcomes import Outcome, Refusal
from routing.load import load
from routing.schema import Configuration, Section
from routing.table import Limits, RelayLimits, RelayTimeouts, Timeouts
from routing.units import show_duration, show_size

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "configuration.md").read_text()
SAMPLE = TEXT.partition("```yaml\n")[2].partition("```")[0]


def table(start: str) -> list[list[str]]:
    """The rows of the table whose heading starts so, without its heading."""
    text = TEXT.partition(start)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def keys(model: type[Section]) -> set[str]:
    """Every key that the schema knows, at any depth."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                found |= keys(kind)
    return found


def test_the_sample_is_fine(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(SAMPLE)
    done = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "relay.yaml")])
    assert (done.exit_code, done.stderr) == (0, "")


def test_the_sample_has_every_key() -> None:
    assert set(re.findall(r"\b([a-z_]+):", SAMPLE)) >= keys(Configuration)


def test_the_samples_defaults_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(SAMPLE.partition("    limits: {connections: 5}")[0] + SAMPLE.partition("9m}")[2])
    loaded = load(tmp_path / "relay.yaml")
    [machine] = loaded.machines
    assert (machine.limits, machine.timeouts) == (Limits(), Timeouts())
    assert (loaded.relay.limits, loaded.relay.timeouts) == (RelayLimits(), RelayTimeouts())
    assert (loaded.relay.access_log, loaded.relay.log_level) == (None, "info")


def test_the_tables_have_every_limit_with_its_default() -> None:
    limits = {
        "limits.connections": str(Limits().connections),
        "limits.envelope": show_size(Limits().envelope),
        "relay.limits.connections": str(RelayLimits().connections),
        "relay.limits.handshakes": str(RelayLimits().handshakes),
    }
    timeouts = {f"timeouts.{name}": show_duration(getattr(Timeouts(), name)) for name in Timeouts.__slots__}
    timeouts |= {f"relay.timeouts.{name}": show_duration(getattr(RelayTimeouts(), name)) for name in RelayTimeouts.__slots__}
    tables = TEXT.partition("## Limits")[2].partition("## Timeouts")
    for text, expected in ((tables[0], limits), (tables[2].partition("## ")[0], timeouts)):
        assert dict(re.findall(r"^\| `([a-z_.]+)` \| (\w+) \|", text, re.MULTILINE)) == expected


def test_the_ranges_are_the_ranges(tmp_path: Path) -> None:
    """One step outside is a mistake, and the ends are not."""
    machine = f"{{name: w, tentacle: 'https://w', thumbprint: {'B' * 40}, port: 1, %s}}"
    places = {
        "limits": (machine % "limits: {%s: %s}", ""),
        "timeouts": (machine % "timeouts: {ready: 59s, %s: %s}", ""),
        "relay.limits": (machine % "", ", limits: {%s: %s}"),
        "relay.timeouts": (machine % "", ", timeouts: {identify: 1m, %s: %s}"),
    }
    ranges = re.findall(r"^\| `([a-z_.]+)\.([a-z_]+)` \| \w+ \| (\w+) to (\w+)", TEXT, re.MULTILINE)
    assert len(ranges) == 11  # all but ready
    for place, key, least, most in ranges:
        in_machine, in_relay = places[place]
        for value, fine in [(least, True), (most, True), (below(least), False), (above(most), False)]:
            machines = in_machine % (key, value) if "%s" in in_machine else in_machine
            relay = in_relay % (key, value) if in_relay else ""
            relay = relay.replace("identify: 1m, identify", "identify")
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
    return {"1": "0", "1ms": "0ms", "1s": "999ms", "0s": "-1s"}[value]


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
