"""``relay-tentacle identity``: what the relay shows to Octopus and to the Tentacles."""

import click

from relay.cli.identity_files import export, import_
from relay.cli.identity_rotate import rotate
from relay.cli.identity_show import new, show


@click.group()
def identity() -> None:
    """The certificates that the relay shows to Octopus and to the Tentacles."""


for command in (new, show, import_, export, rotate):
    identity.add_command(command)
