"""The README says what is so: its commands, its configuration, its tables."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.admin.access_log import AccessLog
from relay.call import Call
from relay.cli.main import main
from relay.outcomes import Outcome
from routing.table import Limits, RelayLimits, RelayTimeouts, Timeouts
from routing.units import show_duration, show_size

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
SETUP = "python3 -m venv .venv && .venv/bin/pip install -q -e "


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def words(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def defaults() -> dict[str, str]:
    """Every limit and timeout by its key, as it is written in a file."""
    limits, relay_limits = Limits(), RelayLimits()
    found = {f"limits.{name}": str(getattr(limits, name)) for name in Limits.__slots__}
    found |= {f"timeouts.{name}": show_duration(getattr(Timeouts(), name)) for name in Timeouts.__slots__}
    found |= {f"relay.limits.{name}": str(getattr(relay_limits, name)) for name in RelayLimits.__slots__}
    found |= {"limits.envelope": show_size(limits.envelope), "relay.limits.buffered": show_size(relay_limits.buffered)}
    return found | {f"relay.timeouts.{name}": show_duration(getattr(RelayTimeouts(), name)) for name in RelayTimeouts.__slots__}


def test_the_first_screen_has_the_two_commands() -> None:
    screen = "\n".join(README.splitlines()[:22])
    assert blocks(screen, "sh") == [f"{SETUP}. && .venv/bin/relay-tentacle demo\n", f"{SETUP}'.[test]' && .venv/bin/pytest\n"]


def test_ci_runs_the_command_of_the_readme() -> None:
    [extract] = re.findall(r"^tests=\$\((.*)\) \|\| true$", CI, re.MULTILINE)
    found = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found == blocks(README, "sh")[1]
    assert 'check bash -euo pipefail -c "$tests"\n' in CI


def test_ci_fails_where_the_readme_has_no_such_command(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_text(CI)
    for text in ("nothing\n", blocks(README, "sh")[1] * 2):
        (tmp_path / "README.md").write_text(text)
        done = subprocess.run(["bash", str(script)], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == 1
        assert "not exactly one line" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(("broken", "code"), [("", 0), ("pytest", 1), ("pip", 1), ("ruff", 1), ("mypy", 1)])
def test_ci_fails_where_a_check_fails(tmp_path: Path, broken: str, code: int) -> None:
    """With programs that only say that they were called, and one of them broken."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_text(CI)
    (tmp_path / "README.md").write_text(README)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for path in (programs / "pip", programs / "pytest", programs / "ruff", programs / "mypy", tmp_path / "python3"):
        path.write_text(f"#!/bin/sh\necho {path.name} $*\n[ {path.name} != '{broken}' ]\n")
        path.chmod(0o755)
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode == code
    if broken != "pip":
        for called in ("pytest", "ruff check .", "ruff format --check .", "mypy"):
            assert f"\n{called}\n" in done.stdout
    assert ("All of it is fine." in done.stdout) == (code == 0)


def test_the_sample_configuration_is_fine(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(blocks(README, "yaml")[0])
    done = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert (done.exit_code, done.stderr) == (0, "")


def test_every_command_in_it_is_one() -> None:
    used = re.findall(r"relay-tentacle ([a-z]+(?: (?:show|import))?)", README)
    assert {"run", "check", "demo", "identity show", "identity import"} <= set(used)
    for command in used:
        assert CliRunner().invoke(main, [*command.split(), "--help"]).exit_code == 0


class Written:
    """Stands for a log's writer."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write_line(self, line: bytes) -> None:
        self.lines.append(line)


def test_the_access_log_has_these_fields() -> None:
    writer = Written()
    call = Call("web01", "production", "10.0.0.5:51644", 1.0)
    call.outcome = Outcome.CALLER_LEFT
    AccessLog("dc-east", writer).write(call)
    [line] = blocks(README, "json")
    assert list(json.loads(line)) == list(json.loads(writer.lines[0]))
    documented = {word for cells in rows(README.partition("| field |")[2].partition("\n\n")[0]) for word in words(cells[0])}
    assert documented == set(json.loads(line))


def test_every_outcome_is_explained() -> None:
    table = README.partition("| outcome |")[2].partition("\n\n")[0]
    documented = [word for cells in rows(table) for word in words(cells[0])]
    assert sorted(documented) == sorted(outcome.value for outcome in Outcome)


def test_every_limit_has_its_default() -> None:
    table = README.partition("## Limits and timeouts")[2].partition("## ")[0]
    assert {words(cells[0])[0]: cells[1] for cells in rows(table)[2:]} == defaults()


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CHANGELOG.md", "docs/configuration.md"])
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).is_file()
