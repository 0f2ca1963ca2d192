"""The command reference, docs/commands.md, out of the commands themselves.

    python -m relay.cli.reference > docs/commands.md

A test fails where the file is not what this prints.
"""

import inspect
import textwrap
from collections.abc import Iterator

import click

from relay.cli.main import main

PROGRAM = "relay-tentacle"
_WIDTH = 128
_HEAD = """\
# Commands

Made from the commands themselves: `python -m relay.cli.reference > docs/commands.md`. Do not edit it. Every command prints the
same with `--help`.

Exit codes, of every command: 0 fine; 1 the thing asked about is not fine; 2 usage, configuration, or what the relay needs to
start.

Where a command has `--json`, a JSON schema in [json](json) describes its output.
"""


def reference(program: click.Command = main) -> str:
    """The whole page."""
    commands = dict(_commands(program, PROGRAM))
    first: dict[object, str] = {}
    for path, command in commands.items():
        first.setdefault(command.callback, path)
    rows, sections = [], []
    for path, command in sorted(commands.items()):
        same = first[command.callback]
        if path == same:
            rows.append(f"| [`{path}`](#{_anchor(path)}) | {_cell(_summary(command))} |\n")
            sections.append("\n".join(_section(path, command)))
        else:
            rows.append(f"| `{path}` | Another name of [`{same}`](#{_anchor(same)}). |\n")
    return "\n".join([_HEAD, f"| command | what it does |\n|---|---|\n{''.join(rows)}", *sections])


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """The command and those in it, by full name. Left out: what is hidden, and groups that only hold others."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from _commands(inner, f"{path} {name}")
        if not command.invoke_without_command:
            return
    yield path, command


def _summary(command: click.Command) -> str:
    return _help(command).partition("\n\n")[0].replace("\n", " ")


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def _section(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"## {path}"
    yield ""
    yield "```"
    yield " ".join([path, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    yield from _text(_help(command))
    options = [option for option in command.params if isinstance(option, click.Option)]  # --help is everywhere
    records = [record for option in options if (record := option.get_help_record(context))]
    if not records:
        return
    yield "| option | what it is |"
    yield "|---|---|"
    for names, text in records:
        yield f"| `{_cell(names)}` | {_cell(text)} |"
    yield ""


def _text(text: str) -> Iterator[str]:
    """Paragraphs, as they will be read; those that click must not wrap are code."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```", *paragraph.splitlines()[1:], "```", "")
        else:
            yield from (*textwrap.wrap(paragraph.replace("\n", " "), _WIDTH), "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(path: str) -> str:
    """As GitHub makes it of a heading."""
    return path.lower().replace(" ", "-")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
