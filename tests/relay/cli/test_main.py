import subprocess
import sys

import pytest
from click.testing import CliRunner

from relay.cli.main import main
from relay.version import VERSION


@pytest.mark.parametrize("command", ["run", "check", "identity", "demo"])
def test_every_command_says_what_it_does(command: str) -> None:
    listed = CliRunner().invoke(main, ["-h"])
    assert f"  {command} " in listed.stdout
    helped = CliRunner().invoke(main, [command, "--help"])
    assert (helped.exit_code, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"Usage: main {command} ")


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "relay", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"relay-tentacle, version {VERSION}\n")


def test_an_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "relay", "nix"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "No such command 'nix'" in done.stderr
