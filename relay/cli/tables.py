"""Tables: drawn where a terminal has room for them, aligned columns otherwise and in pipes and files.

No cell is ever shortened or broken: they hold thumbprints and paths, which people copy.
"""

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

_PADDING = 3  # columns that drawing takes for each cell: a line and two spaces


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text below their heading."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    console = Console(markup=False, highlight=False)
    if sys.stdout.isatty() and sum(widths) + _PADDING * len(widths) + 1 <= console.width:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    for row in (columns, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
