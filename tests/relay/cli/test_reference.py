from pathlib import Path

import click
import pytest

from relay.cli.main import main
from relay.cli.reference import PROGRAM, reference

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "commands.md"


def test_the_page_is_what_the_commands_say():
    assert PAGE.read_text() == reference(), "run: python -m relay.cli.reference > docs/commands.md"


def leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        return [found for name, inner in command.commands.items() for found in leaves(inner, f"{path} {name}")]
    return [(path, command)]


@pytest.mark.parametrize(("path", "command"), leaves(main, PROGRAM), ids=str)
def test_every_command_and_every_option_is_in_it(path, command):
    text = PAGE.read_text()
    assert f"`{path}`" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert any(f"`{name}" in text or f", {name}" in text for name in parameter.opts)
            assert parameter.help, f"{path} {parameter.opts}: no help"
    assert command.help


@click.group()
def program() -> None:
    """Not shown."""


@program.group()
def inner() -> None:
    """Not shown either."""


@inner.command()
@click.argument("name")
@click.option("--size", default=3, show_default=True, help="a|b")
@click.option("--secret", hidden=True)
def act(name: str, size: int, secret: str) -> None:
    """Do it now. And
    twice.

    \b
    as  written

    More."""


@program.command(hidden=True)
def ghost() -> None:
    """Not shown at all."""


program.add_command(act, "shortcut")
program.add_command(act, "also")


def test_groups_aliases_and_what_is_hidden():
    text = reference(program)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "relay-tentacle" in line]
    assert rows == [
        "| `relay-tentacle also` | Another name of [`relay-tentacle inner act`](#relay-tentacle-inner-act). |",
        "| [`relay-tentacle inner act`](#relay-tentacle-inner-act) | Do it now. And twice. |",
        "| `relay-tentacle shortcut` | Another name of [`relay-tentacle inner act`](#relay-tentacle-inner-act). |",
    ]
    section = text.partition("## relay-tentacle inner act\n")[2]
    assert section == (
        "\n```\nrelay-tentacle inner act [OPTIONS] NAME\n```\n\nDo it now. And twice.\n\n```\nas  written\n```\n\nMore.\n\n"
        "| option | what it is |\n|---|---|\n| `--size INTEGER` | a\\|b  [default: 3] |\n"
    )
    assert "ghost" not in text
    assert "secret" not in text
