from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import main

FINE = f"""\
relay: {{name: dc-east, state: state}}
octopus: [{{name: production, thumbprint: {"A" * 40}}}]
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, port: 11001}}
  - {{name: web02, tentacle: "https://web02", thumbprint: {"D" * 40}, port: 11002}}
"""
Check = Callable[[str], Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.yaml"


@pytest.fixture
def check(path: Path) -> Check:
    def check(text: str) -> Result:
        path.write_text(text, "utf-8")
        return CliRunner().invoke(main, ["check", "--config", str(path)])

    return check


def test_a_file_without_mistakes(check: Check, path: Path) -> None:
    result = check(FINE)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{path}: fine; machines: 2, octopus entries: 1\n"


def test_checking_makes_nothing(check: Check, path: Path) -> None:
    check(FINE)
    assert list(path.parent.iterdir()) == [path]


def test_all_mistakes_at_once_with_their_lines_on_standard_error(check: Check, path: Path) -> None:
    wrong = FINE.replace("C" * 40, "xyz").replace("11002", "99999").replace("name: production", "nam: production")
    result = check(wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    *mistakes, last = result.stderr.splitlines()
    lines = [line for line in mistakes if line.startswith(f"{path}:")]
    assert {int(line.removeprefix(f"{path}:").split(":")[0]) for line in lines} == {2, 4, 5}
    assert last == f"relay-tentacle: {len(lines)} mistakes in {path}; nothing was done"


def test_a_single_mistake(check: Check, path: Path) -> None:
    result = check(FINE.replace("11002", "99999"))
    assert result.exit_code == 2
    assert "99999" in result.stderr
    assert result.stderr.endswith(f"relay-tentacle: 1 mistake in {path}; nothing was done\n")


def test_a_file_that_is_not_there(path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(path) in result.stderr


@pytest.mark.parametrize("text", ["", "[", "\x00", "a: &a [*a]", "- x"])
def test_a_file_that_is_no_configuration(check: Check, text: str) -> None:
    result = check(text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_the_usual_place_is_in_the_help() -> None:
    result = CliRunner().invoke(main, ["check", "-h"])
    assert "/etc/relay-tentacle/relay.yaml" in "".join(result.stdout.split())
