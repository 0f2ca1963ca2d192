"""The entry point: every command family under one name."""

import click

from relay.cli.configuration import check
from relay.cli.demo import demo
from relay.cli.identity import identity
from relay.cli.run import run
from relay.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="relay-tentacle")
def main() -> None:
    """Carries Octopus Deploy's calls to the Tentacles of a private network."""


for command in (run, check, identity, demo):
    main.add_command(command)
