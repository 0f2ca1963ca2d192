"""``relay-tentacle schema``: the JSON schema of the configuration."""

import json

import click

from routing import json_schema


@click.command()
@click.option("--machines", is_flag=True, help="Of an included file, instead of the main one.")
def schema(machines: bool) -> None:
    """Print the JSON schema of the configuration file (draft 2020-12).

    Editors use it to complete and check the file: `relay-tentacle init` writes it beside the configuration.
    """
    click.echo(json.dumps(json_schema.machines_file() if machines else json_schema.main_file(), indent=2))
