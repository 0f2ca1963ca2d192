"""``relay-tentacle check``, and what all commands share that read the configuration."""

import sys
from pathlib import Path

import click

from relay.cli.exits import MISUSE
from routing.load import load
from routing.mistakes import ConfigurationError
from routing.table import Table

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("/etc/relay-tentacle/relay.yaml"),
    show_default=True,
    help="The configuration file.",
)


def load_or_exit(config: Path) -> Table:
    """The routing table, or all mistakes of the file, and exit code 2."""
    try:
        return load(config)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        count = len(error.mistakes)
        click.echo(f"relay-tentacle: {count} mistake{'s' if count > 1 else ''} in {config}; nothing was done", err=True)
        sys.exit(MISUSE)


@click.command()
@config_option
def check(config: Path) -> None:
    """Check the configuration, and report all its mistakes at once."""
    table = load_or_exit(config)
    click.echo(f"{config}: fine; machines: {len(table.machines)}, octopus entries: {len(table.octopus)}")
