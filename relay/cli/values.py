"""Values of options, in the spelling of the configuration file."""

from collections.abc import Callable

import click

from routing.mistakes import WrongValueError
from routing.units import duration, show_duration


def duration_from(least: float, most: float) -> Callable[[click.Context, click.Parameter, str], float]:
    """An option's callback: reads 500ms, 30s or 5m; seconds. least, most: seconds too."""

    def read(context: click.Context, parameter: click.Parameter, value: str) -> float:
        try:
            seconds = duration(value)
        except WrongValueError as error:
            raise click.BadParameter(f"{value!r}: {error}") from None
        if not least <= seconds <= most:
            bounds = f"{show_duration(least)} to {show_duration(most)}"
            raise click.BadParameter(f"{value!r}: out of range. Write a duration from {bounds}.")
        return seconds

    return read
