"""The commands that messages tell operators to run: whole, so that they can be copied."""

import shlex
from pathlib import Path
from typing import Final

DEFAULT_CONFIG: Final = Path("/etc/relay-tentacle/relay.yaml")


def command(words: str, config: Path) -> str:
    """The command of these words (``identity new``) for this configuration, which is named where it is not the default one."""
    option = "" if config == DEFAULT_CONFIG else f" --config {shlex.quote(str(config))}"
    return f"relay-tentacle {words}{option}"
