"""``relay-tentacle completion``: what a shell needs to complete commands, options, and the names in the configuration.

A completion must neither hang a shell nor write into it: what takes too long or has mistakes completes nothing.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from click.shell_completion import CompletionItem, get_completion_class

from relay.cli.exits import fail
from routing.load import load
from routing.mistakes import ConfigurationError
from routing.table import Table

PROGRAM = "relay-tentacle"
_VARIABLE = "_RELAY_TENTACLE_COMPLETE"
_WITHIN = 2.0  # seconds
_MOST = 500  # names

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completions for SHELL.

    \b
    bash:  relay-tentacle completion bash > /etc/bash_completion.d/relay-tentacle
    zsh:   relay-tentacle completion zsh > "${fpath[1]}/_relay-tentacle"
    fish:  relay-tentacle completion fish > ~/.config/fish/completions/relay-tentacle.fish

    Names of machines and octopus entries are those of the configuration, of the one in --config where that stands before them.
    """
    kind = get_completion_class(shell)
    if kind is None:
        fail(f"{shell}: this version of click has no completions for it. Update click.")
    click.echo(kind(context.find_root().command, {}, PROGRAM, _VARIABLE).source())


def _completer(names: Callable[[Table], Iterable[str]]) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        table = _table(context)
        found = sorted({name for name in names(table) if name.startswith(incomplete)}) if table else []
        return [CompletionItem(name) for name in found[:_MOST]]

    return complete


machine_names = _completer(lambda table: [machine.name for machine in table.machines])
octopus_names = _completer(lambda table: [octopus.name for octopus in table.octopus])
entry_names = _completer(
    lambda table: [each.name for each in table.machines if not each.passthrough] + [each.name for each in table.octopus]
)
host_names = _completer(lambda table: list(table.hosts))
target_names = _completer(lambda table: [str(target) for target in table.targets])


def _table(context: click.Context) -> Table | None:
    """The configuration, if it can be had in time."""
    config = context.params.get("config")
    try:
        with _time_limit(_WITHIN):
            return load(Path(config)) if config else None
    except (ConfigurationError, TimeoutError, OSError, ValueError):
        return None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer. For the main thread of a command."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
