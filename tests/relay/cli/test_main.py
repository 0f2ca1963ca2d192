import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import main
from relay.version import VERSION


@pytest.mark.parametrize("command", list(main.commands))
def test_every_command_says_what_it_does(command: str) -> None:
    listed = CliRunner().invoke(main, ["-h"])
    assert f"  {command} " in listed.stdout
    helped = CliRunner().invoke(main, [command, "--help"])
    assert (helped.exit_code, helped.stderr) == (0, "")
    assert helped.stdout.startswith(f"Usage: main {command} ")


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "relay", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"relay-tentacle, version {VERSION}\n")


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2), ()])
def test_closed_standard_descriptors_are_opened_on_nothing(closed: tuple[int, ...]) -> None:
    """And the other ones are left alone; so are the streams of Python, which has none for a closed one."""
    seen = (
        "import os, sys; from relay.cli.main import open_standard_descriptors; before = sys.stdin, sys.stdout, sys.stderr; "
        "open_standard_descriptors(); after = sys.stdin, sys.stdout, sys.stderr; "
        "print('seen', *[n for n in range(3) if os.readlink(f'/proc/self/fd/{n}') == os.devnull and os.get_inheritable(n)], "
        "*[a is b for a, b in zip(before, after)], *[s.fileno() for s in after], file=open(9, 'w'))"
    )
    redirected = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec 9>&1; exec "$@" {redirected}', "sh", sys.executable, "-c", seen],
        stdin=subprocess.PIPE, capture_output=True, text=True,
    )  # fmt: skip
    kept = [str(number not in closed) for number in range(3)]
    assert done.stdout.split() == ["seen", *map(str, closed), *kept, "0", "1", "2"], done.stderr


@pytest.mark.parametrize("program", [["-m", "relay"], ["-c", "from relay.cli.main import main; main()"]])
def test_so_every_command_finds_them_open(program: list[str], tmp_path: Path) -> None:
    """Here the one that reads standard input."""
    none = str(tmp_path / "none")
    arguments = ["identity", "import", "--machine", "web01", "file", "--password-file", "-", "--config", none]
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, *program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert none in done.stderr.splitlines()[0]


def test_an_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "relay", "nix"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "No such command 'nix'" in done.stderr
