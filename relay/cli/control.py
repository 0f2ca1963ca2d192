"""``relay-tentacle reload``, ``drain``, ``resume`` and ``close``: what operators tell the running relay."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from relay.admin.control import SOCKET
from relay.admin.control_client import ControlError, ask
from relay.cli.completion import machine_names, octopus_names
from relay.cli.configuration import config_option
from relay.cli.exits import NOT_FINE, fail
from routing.state import state_folder

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT: Final = 30.0  # seconds for an answer
RELOAD_TIMEOUT: Final = 600.0  # 10 000 machines, and others who asked before

_socket_option = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    help="The relay's control socket, instead of the one in the configuration's state folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def relay_options(command: F) -> F:
    """The options that say which relay is meant."""
    return config_option(_socket_option(command))


@click.command("reload")
@relay_options
@click.option("--now", is_flag=True, help="Also cut, at once, what the new configuration no longer allows.")
@json_option
def reload_(config: Path, socket: Path | None, now: bool, as_json: bool) -> None:
    """Let the relay read its configuration again, and wait for the outcome.

    With mistakes in it, the relay runs on as it was; all of them are printed, and the exit code is 1.
    """
    answer = ask_relay(config, socket, {"command": "reload", "now": now}, RELOAD_TIMEOUT)
    _finish(
        answer,
        as_json,
        lambda: (
            f"reloaded; machines added: {len(answer['added'])}, changed: {len(answer['changed'])}, "
            f"removed: {len(answer['removed'])}, unchanged: {answer['unchanged']}"
            + (f"; connections cut: {answer['closed']}" if now else "")
        ),
    )


@click.command()
@click.argument("machine", required=False, shell_complete=machine_names)
@relay_options
@json_option
def drain(machine: str | None, config: Path, socket: Path | None, as_json: bool) -> None:
    """Take no callers for MACHINE any more, and let its calls end; it stays so, over reloads too, until resume.

    Without MACHINE: drain the whole relay, which then stops, as SIGTERM does.
    """

    def said() -> str:
        doing = "was draining already" if answer["already"] else "drains"
        calls = f"exchanges in flight: {answer['exchanges_in_flight']}"
        if machine:
            return f"machine {machine}: {'was drained already' if answer['already'] else 'drained'}; {calls}"
        return f"the relay {doing}; {calls}; it stops when they have ended, at the latest after {answer['drain_seconds']:g} s"

    answer = ask_relay(config, socket, {"command": "drain", **_given(machine=machine)})
    _finish(answer, as_json, said)


@click.command()
@click.argument("machine", required=False, shell_complete=machine_names)
@relay_options
@json_option
def resume(machine: str | None, config: Path, socket: Path | None, as_json: bool) -> None:
    """Let callers in again for MACHINE, or for every machine that was drained."""
    answer = ask_relay(config, socket, {"command": "resume", **_given(machine=machine)})
    _finish(answer, as_json, lambda: f"resumed: {', '.join(answer['resumed']) or 'none was drained'}")


@click.command()
@click.option("--machine", metavar="NAME", shell_complete=machine_names, help="Cut the connections of this machine.")
@click.option(
    "--octopus",
    metavar="NAME",
    shell_complete=octopus_names,
    help="Cut the connections of this octopus entry, to all machines.",
)
@relay_options
@json_option
def close(machine: str | None, octopus: str | None, config: Path, socket: Path | None, as_json: bool) -> None:
    """Cut connections at once, exchanges too. The doors stay open: who is still trusted may come again."""
    if (machine is None) == (octopus is None):
        fail("whose connections? Give either --machine NAME or --octopus NAME.")
    answer = ask_relay(config, socket, {"command": "close", **_given(machine=machine, octopus=octopus)})
    _finish(answer, as_json, lambda: f"connections cut: {answer['closed']}")


def ask_relay(config: Path, socket: Path | None, request: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    """What the relay answers; ends with exit code 1 where it cannot be asked, and 2 where nobody can say which one is meant."""
    if socket is None:
        state = state_folder(config)
        if state is None:
            fail(f"{config}: cannot find relay.state in this file. Name the configuration with --config, or --socket PATH.")
        socket = state / SOCKET
    try:
        return ask(socket, request, timeout)
    except ControlError as error:
        fail(str(error), NOT_FINE)


def print_json(answer: dict[str, Any]) -> None:
    """An answer, as docs/json describes it."""
    click.echo(json.dumps(answer, indent=2))


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _finish(answer: dict[str, Any], as_json: bool, said: Callable[[], str]) -> None:
    """Prints the answer; ends with exit code 1 where the relay says no."""
    if as_json:
        print_json(answer)
    elif answer["ok"]:
        click.echo(said())
    if not answer["ok"]:
        if not as_json:
            for line in answer.get("mistakes", ()):
                click.echo(line, err=True)
            click.echo(f"relay-tentacle: {answer['error']}", err=True)
        sys.exit(NOT_FINE)
