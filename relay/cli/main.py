"""The entry point: every command family under one name."""

import os
import sys

import click

from relay.cli.aliases import import_certificate, new_certificate, show_thumbprint
from relay.cli.backup import backup, restore
from relay.cli.completion import completion
from relay.cli.configuration import check
from relay.cli.control import close, drain, reload_, resume
from relay.cli.demo import demo
from relay.cli.explain import explain
from relay.cli.identity import identity
from relay.cli.init import init
from relay.cli.machines import machines
from relay.cli.probe import probe
from relay.cli.run import run
from relay.cli.schema import schema
from relay.cli.status import status
from relay.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="relay-tentacle")
def main() -> None:
    """Carries Octopus Deploy's calls to the Tentacles of a private network."""
    open_standard_descriptors()


def open_standard_descriptors() -> None:
    """Opens /dev/null in place of each standard descriptor that is closed.

    Otherwise the next socket or file would get its number, and be written to as if it were a log.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one: the lower ones are open
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8", closefd=False))  # Python has None there


commands = (run, init, check, schema, identity, backup, restore, completion, demo, explain, machines, probe)
operating = (status, reload_, drain, resume, close)
aliases = (new_certificate, import_certificate, show_thumbprint)
for command in (*commands, *operating, *aliases):
    main.add_command(command)
