"""From a configuration file to a routing table, or to all of its mistakes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from routing import checks, reading, yaml_lines
from routing.mistakes import ConfigurationError, Mistake
from routing.schema import Configuration, MachineSection, OctopusSection
from routing.table import Machine, Octopus, Places, Relay, RelayLimits, Table
from routing.yaml_lines import Document, Key

_MAX_BYTES = 16 * 1024 * 1024


def load(path: Path) -> Table:
    """The table of this file. Raises ConfigurationError with every mistake in it.

    Reads this file only: files that it names may be missing. Relative paths in it start at its folder; '~' means nothing.
    """
    document = yaml_lines.parse(_text(path), path)
    if document.broken:
        raise ConfigurationError(document.mistakes)
    configuration, mistakes = reading.read(document)
    mistakes = [*document.mistakes, *mistakes, *checks.check(configuration, document)]
    if mistakes:
        raise ConfigurationError(mistakes)
    return _table(configuration, document)


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(path, "no such file", "Check the path.") from None
    except IsADirectoryError:
        raise _unreadable(path, "a folder", "Name the configuration file in it.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _unreadable(path, f"cannot be read: {reason}", "Check the path and who may read it.") from error
    if len(data) > _MAX_BYTES:
        raise _unreadable(path, f"more than {_MAX_BYTES} bytes", "Split this over several relays.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, "not UTF-8", "Save the file as UTF-8.", line) from None


def _unreadable(path: Path, problem: str, remedy: str, line: int = 0) -> ConfigurationError:
    return ConfigurationError([Mistake(path, line, "", None, problem, remedy)])


def _table(configuration: Configuration, document: Document) -> Table:
    folder = document.file.absolute().parent
    octopus = {
        entry.name: Octopus(
            entry.name, checks.pins(entry), _below(folder, entry.identity), _places(document, ("octopus", index))
        )
        for index, entry in enumerate(configuration.octopus)
    }
    machines = [
        _machine(configuration, section, octopus, folder, _places(document, ("machines", index)))
        for index, section in enumerate(configuration.machines)
    ]
    relay = _relay(configuration, folder)
    written = document.data if isinstance(document.data, dict) else {}
    sections = {name: _places(document, (name,)) for name in ("relay", "defaults") if name in written}
    return Table(relay, tuple(octopus.values()), tuple(machines), document.file, files=(document.file,), sections=sections)


def _octopus(section: OctopusSection, folder: Path, places: Places) -> Octopus:
    return Octopus(section.name, checks.pins(section), _below(folder, section.identity), places)


def _places(document: Document, entry: Key) -> Places:
    written: Any = document.data
    for part in entry:
        written = written[part]
    return Places(document.file, document.line(entry), dict(_lines(document, entry, written)))


def _lines(document: Document, entry: Key, written: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for key, value in written.items():
        yield key, document.line((*entry, key))
        if isinstance(value, dict):
            for inner, line in _lines(document, (*entry, key), value):
                yield f"{key}.{inner}", line


def _relay(configuration: Configuration, folder: Path) -> Relay:
    relay = configuration.relay
    return Relay(
        name=relay.name,
        state=folder / relay.state,
        access_log=None if relay.access_log == Path("-") else folder / relay.access_log,
        log_level=relay.log_level,
        limits=replace(RelayLimits(), **checks.given(relay.limits)),
        timeouts=checks.relay_timeouts(relay.timeouts),
    )


def _machine(
    configuration: Configuration, section: MachineSection, octopus: dict[str, Octopus], folder: Path, places: Places
) -> Machine:
    defaults = configuration.defaults
    return Machine(
        name=section.name,
        tentacle=section.tentacle,
        thumbprints=checks.pins(section),
        # Left out, it means the only entry there is: with several, that is a mistake.
        octopus=tuple(octopus[name] for name in section.octopus) or tuple(octopus.values()),
        door=section.port,
        identity=_below(folder, section.identity),
        limits=checks.limits(defaults.limits, section.limits),
        timeouts=checks.timeouts(defaults.timeouts, section.timeouts),
        places=places,
    )


def _below(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / path
