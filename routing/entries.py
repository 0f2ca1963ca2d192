"""What the operator declared, in however many files: each entry with the file and key that it has there."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from routing.mistakes import Mistake
from routing.schema import Configuration, MachineSection, OctopusSection
from routing.sections import Section
from routing.table import Places
from routing.yaml_lines import Document, Key, where

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Entry(Generic[S]):
    """A section and its place. One with mistakes has its good keys only: ask `has` before reading one without default."""

    section: S
    document: Document
    key: Key
    is_mapping: bool = field(init=False)
    """Whether there are keys at all in the file."""
    written: dict[str, object] = field(init=False)
    """All that the file has here, right or wrong; empty where it is no mapping."""

    def __post_init__(self) -> None:
        value = self.document.data
        for part in self.key:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                value = None
        object.__setattr__(self, "is_mapping", isinstance(value, dict))
        object.__setattr__(self, "written", value if isinstance(value, dict) else {})

    def has(self, name: str) -> bool:
        """Whether the file gives this key, and its value is right."""
        return name in self.section.model_fields_set

    def mistake(self, key: str | Key, problem: str, remedy: str, value: str | None = None) -> Mistake:
        """A mistake at a key of this entry."""
        return self.document.mistake((*self.key, *((key,) if isinstance(key, str) else key)), problem, remedy, value)

    def seen_from(self, other: "Entry[Any]", *names: str, dotted: bool = False) -> str:
        """This entry, and the line of the first of these keys that the file gives, as a message at `other` names them.

        The file is named if it is another one: "machines[0] on line 5 of machines.d/web.yaml".
        """
        name = next((each for each in names if each in self.written), "")
        key = (*self.key, name) if name else self.key
        place = f"on line {self.document.line(key)}"
        if self.document is not other.document:
            place += f" of {self.document.file}"
        return f"{where(key if dotted else self.key)} {place}"

    @property
    def places(self) -> Places:
        return Places(self.document.file, self.document.line(self.key), dict(_lines(self.document, self.key, self.written)))


def _lines(document: Document, key: Key, written: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The line of each key, of those in sections within, "limits.connections", and of the items of `allow`: "allow[1]"."""
    for name, value in written.items():
        yield name, document.line((*key, name))
        if name == "allow" and isinstance(value, list):
            yield from ((f"{name}[{index}]", document.line((*key, name, index))) for index in range(len(value)))
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", line) for inner, line in _lines(document, (*key, name), value))


@dataclass
class Declaration:
    """All files of a configuration, as they were read. The lists of `main` are those of the main file alone.

    mistakes: in single files. complete: every file could be read, so that what is missing is missing.
    """

    document: Document
    main: Configuration
    octopus: list[Entry[OctopusSection]] = field(default_factory=list)
    machines: list[Entry[MachineSection]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    complete: bool = True

    def gives(self, name: str) -> bool:
        """Whether the main file has this section, right or wrong."""
        return isinstance(self.document.data, dict) and name in self.document.data

    def entry(self, name: str, section: S) -> Entry[S]:
        """One of the main file's own sections."""
        return Entry(section, self.document, (name,))
