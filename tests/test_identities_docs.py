"""docs/identities.md says what is so: its commands, options and sample are the real ones."""

import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from certs import sealing
from relay.cli.main import main
from relay.identities import SOON
from relay.trust import AT_ONCE
from routing.load import load

DOCS: Final = Path(__file__).parents[1] / "docs"
TEXT: Final = (DOCS / "identities.md").read_text()
ALIASES: Final = ("new-certificate", "import-certificate", "show-thumbprint")


def commands() -> list[str]:
    """Every line of the shell that calls the relay's program."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("relay-tentacle ")]


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words begin with, and what is left of them."""
    command: click.Command = main
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in option.opts if name.startswith("-")}


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one_with_these_options(line: str) -> None:
    command, rest = found(shlex.split(line)[1:])
    context = command.make_context(command.name, list(rest), resilient_parsing=True)
    assert {word for word in rest if word.startswith("--")} <= options(command)
    assert context.args == []


def test_every_option_that_it_names_is_one() -> None:
    tentacles = {"--trust", "--remove-trust", "--restart", "--export-pfx", "--pfx-password", "--from-file"}
    tentacles |= {"--oldThumbprint", "--newThumbprint"}
    known = {name for command in leaves(main) for name in options(command)}
    assert set(re.findall(r"(?<![\w-])--[a-z][A-Za-z-]+", TEXT)) - tentacles <= known


def leaves(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [leaf for each in command.commands.values() for leaf in leaves(each)]
    return [command]


def test_the_sample_is_fine(tmp_path: Path) -> None:
    [sample] = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    path = tmp_path / "relay.yaml"
    path.write_text(f"relay: {{name: r, state: s}}\noctopus: [{{name: o, thumbprint: {'A' * 40}}}]\n{sample}")
    [machine] = load(path).machines
    assert machine.identity is not None
    assert str(machine.identity.password) == "credential:web01"


def test_numbers_and_names() -> None:
    assert f"end within {SOON.days} days" in TEXT
    assert f"up to {AT_ONCE} are\nasked at a time" in TEXT
    assert f"the line `{sealing.MAGIC.decode().strip()}`" in TEXT
    assert all(f"`{alias}" in TEXT for alias in ALIASES)


def test_every_json_output_has_its_schema() -> None:
    for command in leaves(main):
        if command.name in ("show", "new", "rotate"):
            assert (DOCS / "json" / f"identity-{command.name}.json").is_file()
    assert {"backup.json", "restore.json", "show-thumbprint.json"} <= {path.name for path in (DOCS / "json").iterdir()}
