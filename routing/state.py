"""Where a configuration has its state folder, whatever mistakes the rest of it may have.

A command that talks to the running relay needs nothing else of the file, and is needed most while somebody edits it.
"""

from pathlib import Path
from typing import Final

import yaml

_MAX_BYTES: Final = 16 * 1024 * 1024  # as load() takes
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def state_folder(config: Path) -> Path | None:
    """The folder that ``relay.state`` names; None where it cannot be found. Reads no further than to that line."""
    try:
        with open(config, "rb") as file:
            state = _find(file.read(_MAX_BYTES), ("relay", "state"))
    except (OSError, yaml.YAMLError, ValueError):
        return None
    return config.absolute().parent / state if state else None


def _find(text: bytes, keys: tuple[str, ...]) -> str | None:
    """The scalar at these keys of nested mappings. Raises yaml.YAMLError, ValueError."""
    path: list[str | None] = []  # of each open collection the key whose value comes; None of a list, or before a key
    lists: list[bool] = []
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            path.append(None)
            lists.append(isinstance(event, yaml.SequenceStartEvent))
            continue
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            path.pop()
            lists.pop()
        elif not isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)) or not path:
            continue
        elif not lists[-1] and path[-1] is None:
            path[-1] = event.value if isinstance(event, yaml.ScalarEvent) else ""
            continue
        elif tuple(path) == keys and isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        if path and not lists[-1]:
            path[-1] = None  # its value has been
    return None
