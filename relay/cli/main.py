"""The entry point: every command family under one name."""

import os
import sys

try:
    import click

    from relay.cli.program import Families, Program
    from relay.version import VERSION
except KeyboardInterrupt:  # loading takes long enough for a Ctrl-C
    from relay.cli.exits import interrupted

    interrupted()

COMMANDS = {
    "backup": "backup:backup",
    "check": "configuration:check",
    "close": "control:close",
    "completion": "completion:completion",
    "demo": "demo:demo",
    "drain": "control:drain",
    "explain": "explain:explain",
    "identity": "identity:identity",
    "import-certificate": "aliases:import_certificate",
    "init": "init:init",
    "machines": "machines:machines",
    "new-certificate": "aliases:new_certificate",
    "probe": "probe:probe",
    "reload": "control:reload_",
    "restore": "backup:restore",
    "resume": "control:resume",
    "run": "run:run",
    "schema": "schema:schema",
    "show-thumbprint": "aliases:show_thumbprint",
    "status": "status:status",
}
"""Where each is: a module of this package, and its name there."""


@click.group(cls=Program, commands=Families(COMMANDS), context_settings={"help_option_names": ["-h", "--help"]})
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
