"""YAML with line numbers, and without what a configuration does not need.

Built from the parser's events, so that the line of every value is known and nothing is guessed: every plain value stays
the text that was written (an all-digit thumbprint keeps its zeros, `no` is not false), only an empty value is None.
Refused: keys given twice, aliases (they expand), tags, a second document, deep nesting.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from routing.mistakes import Mistake, shown

Key = tuple[str | int, ...]
"""Where a value is: ("machines", 1, "port")."""

_MAX_KEY = 60
_MAX_DEPTH = 16
_TOO_DEEP = (f"nested more than {_MAX_DEPTH} deep", "Nothing here needs that: remove it.")
_MAX_VALUES = 1_000_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML 1.1, 5.1: what no YAML file may hold.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMPTY = ("", "~", "null", "Null", "NULL")


@dataclass
class Document:
    """A YAML file: its value (None, str, list and dict, with text as keys), lines from 1 for each key, and its mistakes.

    If `broken`, reading stopped at the last mistake, and the value is not all of the file.
    """

    file: Path
    data: object = None
    lines: dict[Key, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    broken: bool = False

    def line(self, key: Key) -> int:
        """The line of this key, or of the nearest one around it."""
        return self.lines.get(self.known(key), 1)

    def known(self, key: Key) -> Key:
        """The longest part of `key` that is written in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return key

    def mistake(self, key: Key, problem: str, remedy: str, value: str | None = None) -> Mistake:
        """A mistake at this key; at the line of the nearest key around it if the file does not have it."""
        return Mistake(self.file, self.line(key), where(key), value, problem, remedy)


def where(key: Key) -> str:
    """The key as people write it: machines[1].port."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in key)
    return text.removeprefix(".")


def _key(text: str) -> str:
    return text if text.isprintable() and len(text) <= _MAX_KEY else shown(text)


def parse(text: str, file: Path) -> Document:
    """Reads one YAML document. Never raises for what is in `text`: see `mistakes` of the document."""
    document = Document(file)
    if stranger := _UNPRINTABLE.search(text):
        _break(document, text.count("\n", 0, stranger.start()) + 1, f"a control character, {stranger.group()!a}", "Remove it.")
        return document
    try:
        _Builder(document).run(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # Where something is missing at the end, the mark stands behind the last line.
        line = min(mark.line + 1 if mark else 1, text.rstrip().count("\n") + 1)
        problem = error.problem or error.context or "not YAML"
        _break(document, line, *_explained(problem, text, line))
    except _BrokenError as error:
        _break(document, error.line, error.problem, error.remedy)
    return document


def _break(document: Document, line: int, problem: str, remedy: str) -> None:
    document.mistakes.append(Mistake(document.file, line, "", None, problem, remedy))
    document.broken = True


def _explained(problem: str, text: str, line: int) -> tuple[str, str]:
    written = [*text.split("\n"), ""][line - 1]
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent:
        return "a tab in the indentation, which YAML does not allow", "Write spaces instead."
    if "expected alphabetic or numeric character" in problem:  # of an alias or an anchor
        return "a text that begins with '*' or '&' and has no quotes", "Put it in quotes, such as '*.yaml'."
    if "nesting depth" in problem:  # libyaml 0.2.6 has a limit of its own, and looks so far ahead that it may come first
        return _TOO_DEEP
    return f"not YAML: {problem}", "Check the indentation, colons, quotes and brackets here and on the line before."


class _BrokenError(Exception):
    def __init__(self, line: int, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.line, self.problem, self.remedy = line, problem, remedy


@dataclass(slots=True)
class _Level:
    """An open list or mapping. `add` takes its next value; `key` is the key of that value, None before a mapping's key."""

    path: Key
    items: list[object] | dict[str, object]
    key: str | int | None
    twice: bool = False

    def add(self, value: object) -> None:
        if isinstance(self.items, list):
            self.items.append(value)
            self.key = len(self.items)
        else:
            if not self.twice:
                self.items[str(self.key)] = value
            self.key = None


class _Builder:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._levels: list[_Level] = []
        self._values = 0
        self._documents = 0

    def run(self, text: str) -> None:
        handlers: Mapping[type[yaml.Event], Callable[..., None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: lambda event: self._open(event, {}),
            yaml.SequenceStartEvent: lambda event: self._open(event, []),
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start,
        }
        for event in yaml.parse(text, Loader=_LOADER):
            handler = handlers.get(type(event))
            if handler:
                handler(event)

    def _start(self, event: yaml.Event) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _BrokenError(_line(event), "a second document in one file", "Remove the line '---' and what follows.")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        self._refuse_tag(event)
        level = self._levels[-1] if self._levels else None
        if level is not None and level.key is None:
            self._begin(level, event.value, _line(event))
            return
        plain_and_empty = event.implicit[0] and event.value in _EMPTY
        self._put(None if plain_and_empty else event.value, event)

    def _begin(self, level: _Level, key: str, line: int) -> None:
        assert isinstance(level.items, dict)
        path = (*level.path, key)
        level.key, level.twice = key, key in level.items
        if level.twice:
            first = self._document.lines[path]
            self._document.mistakes.append(
                Mistake(
                    self._document.file,
                    line,
                    where(path),
                    None,
                    f"given twice: on line {first} and again here",
                    "Keep one of them.",
                )
            )
        else:
            self._document.lines.setdefault(path, line)

    def _open(self, event: yaml.CollectionStartEvent, items: list[object] | dict[str, object]) -> None:
        self._refuse_tag(event)
        if len(self._levels) == _MAX_DEPTH:
            raise _BrokenError(_line(event), *_TOO_DEEP)
        path = self._put(items, event)
        self._levels.append(_Level(path, items, 0 if isinstance(items, list) else None))

    def _close(self, event: yaml.Event) -> None:
        self._levels.pop()

    def _alias(self, event: yaml.AliasEvent) -> None:
        raise _BrokenError(
            _line(event),
            f"an alias, *{(event.anchor or '')[:40]}",
            "Write the value out, or in quotes if it is to begin with '*': aliases are not supported.",
        )

    def _put(self, value: object, event: yaml.Event) -> Key:
        """Adds a value to the innermost open level; its path."""
        self._values += 1
        if self._values > _MAX_VALUES:
            raise _BrokenError(_line(event), f"more than {_MAX_VALUES} values", "Split this over several relays.")
        if not self._levels:
            self._document.data = value
            return ()
        level = self._levels[-1]
        if level.key is None:
            raise _BrokenError(_line(event), "a list or mapping as a key", "Write a name as the key.")
        path = (*level.path, level.key)
        self._document.lines.setdefault(path, _line(event))
        level.add(value)
        return path

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None:
            raise _BrokenError(_line(event), f"a tag, {event.tag[:40]}", "Remove it: tags are not supported.")


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 1
