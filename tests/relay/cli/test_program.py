"""How commands end whose output cannot be written, or that Ctrl-C ends: as processes, for Python's own end belongs to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "relay"]
CONFIG = f"""\
relay: {{name: r, state: state}}
octopus: [{{name: production, thumbprint: {"A" * 40}}}]
machines: [{{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, octopus: production, port: 11001}}]
"""
FULL = "relay-tentacle: the output cannot be written: No space left on device.\n"
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
LOADING = """
class Loading:
    def find_spec(name, *more):
        if name == "relay.cli.{module}":
            {interrupt}
sys.meta_path.insert(0, Loading)
"""


def run(command: list[str], stdout: int, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["check", "--help"],
        ["check"],
        ["check", "--json"],
        ["identity", "show", "--json"],
        ["schema"],
    ],
    ids=" ".join,
)  # schema: more than a buffer takes, and so another way through Python
def test_an_output_that_is_full(arguments: list[str], tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(CONFIG)
    given = ["--config", str(config)] if arguments[0] in ("check", "identity") else []
    with open("/dev/full", "w") as full:
        assert run([*PROGRAM, *arguments, *given], full.fileno()) == (2, FULL)


def test_an_error_that_cannot_be_told_keeps_its_exit_code() -> None:
    with open("/dev/full", "w") as full:
        assert run([*PROGRAM, "nix"], full.fileno(), full.fileno()) == (2, None)


@pytest.mark.parametrize("arguments", [["--help"], ["schema"], ["completion", "bash"]], ids=" ".join)
def test_nobody_reads_any_more(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run([*PROGRAM, *arguments], writing) == (141, "")
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "before",
    [
        LOADING.format(module="program", interrupt=INTERRUPT),
        LOADING.format(module="schema", interrupt=INTERRUPT),
        f"from relay.cli import schema; schema.json_schema.main_file = lambda: {INTERRUPT}",
        "import click; import relay.cli.schema as s; s.json_schema.main_file = lambda: click.prompt('', prompt_suffix='')",
    ],
    ids=["while the program loads", "while the command loads", "in a command", "at the end of what is typed"],
)
def test_ctrl_c(before: str) -> None:
    # Tests that a script runs in the background are born deaf to it, and so would the program be.
    hears = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"import os, signal, sys; {hears}\n{before}\nfrom relay.cli.main import main; main(['schema'], 'relay-tentacle')"
    assert run([sys.executable, "-c", program], subprocess.DEVNULL) == (130, "relay-tentacle: interrupted\n")


def test_another_error_is_no_error_of_the_output() -> None:
    """Nobody would find what is wrong with a program that says so of every error."""
    program = (
        "import relay.cli.schema as s; s.json_schema.main_file = lambda: open('/none'); from relay.cli.main import main; main()"
    )
    code, said = run([sys.executable, "-c", program, "schema"], subprocess.DEVNULL)
    assert (code, said.splitlines()[-1]) == (1, "FileNotFoundError: [Errno 2] No such file or directory: '/none'")


def test_a_command_does_not_wait_for_the_others_to_load() -> None:
    program = (
        "import sys, atexit; atexit.register(lambda: print('relay.cli.run' in sys.modules, file=sys.stderr)); "
        "from relay.cli.main import main; main(['schema'], 'relay-tentacle')"
    )
    assert run([sys.executable, "-c", program], subprocess.DEVNULL) == (0, "False\n")
