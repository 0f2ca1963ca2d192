"""The walk that also notes where data streams stand, for rules on single methods (wire.md 5.5, 9.1).

A receiver expects a frame for each reference that it reads *as a data stream*, and passes over what it does not know. So a
place counts only where every receiver reads one, whatever it makes of the rest:

1. an argument of its own, which says so by ``$type``: arguments have no declared type;
2. ``Files[n].Contents`` of a first argument that says by ``$type`` that it starts a script; the property's type is declared.

On the way to a place nothing may be read in two ways: arrays are arrays, documents are documents, names are exact and stand
once ignoring case, and ``$type`` alone begins with a dollar, in front. Otherwise no stream there has a place.
"""

import re
from typing import Final

from relay.halibut.bson_values import ARRAY, STRING, value_end
from relay.halibut.document import Container, DocumentWalk, folded

ARGUMENT: Final = "params[1]"
FILES: Final = "params[0].Files[].Contents"

_STARTS_SCRIPT: Final = re.compile(
    rb"[A-Za-z0-9_.]+\.(?:StartScriptCommand|StartScriptCommandV2|StartKubernetesScriptCommandV1), [A-Za-z0-9_.]+"
)
_ONCE: Final = {folded(name): name for name in ("Files", "Contents")}


class _Placed(Container):
    """array, name: what it is, and in the container around it. type: a document's ``$type``; None: none in front."""

    __slots__ = ("around", "array", "met", "name", "type", "unclear")

    def __init__(self, end: int, level: int, array: bool, payload: bool, around: Container, name: bytes) -> None:
        super().__init__(end, level, array, payload)
        self.array = array
        self.around = around
        self.name = name
        self.type: bytes | None = None
        self.unclear = False  # a member of it could be taken for another
        self.met: set[str] = set()  # which of _ONCE, and "" for any other


class PlacedWalk(DocumentWalk):
    """See above. Raises what DocumentWalk does."""

    __slots__ = ()

    def _enter(self, outer: Container, type_: int, name: bytes, end: int) -> None:
        super()._enter(outer, type_, name, end)
        plain = self._stack[-1]
        self._stack[-1] = _Placed(plain.end, plain.level, type_ == ARRAY, plain.payload, outer, name)

    def _element(self, data: bytes, position: int, name_end: int, base: int, clear: bool) -> int:
        outer = self._stack[-1]
        type_: bytes | None = None
        noted = isinstance(outer, _Placed) and outer.level == 2 and not outer.array
        if noted and data[position] == STRING and data[position + 1 : name_end] == b"$type":
            end = value_end(STRING, data, name_end + 1, self._limits.text)
            short = end - name_end <= self._limits.text
            if end < 0 or (end > len(data) and short):
                return -1  # the whole of it first
            type_ = data[name_end + 5 : end - 1] if short else b""
        found = super()._element(data, position, name_end, base, clear)
        if found >= 0 and noted:
            assert isinstance(outer, _Placed)
            self._note(outer, data[position + 1 : name_end], type_)
        return found

    def _note(self, outer: _Placed, name: bytes, type_: bytes | None) -> None:
        text = name.decode("utf-8", "replace")
        known = folded(text)
        if type_ is not None and not outer.met:
            outer.type = type_
        elif _on_the_way(outer) and (text.startswith("$") or (known in _ONCE and (known in outer.met or text != _ONCE[known]))):
            outer.unclear = True
            self._references = [found._replace(place="") if found.place == FILES else found for found in self._references]
        outer.met.add(known if known in _ONCE else "")

    def _leave(self, container: Container) -> None:
        before = len(self._references)
        super()._leave(container)
        if len(self._references) > before:
            assert isinstance(container, _Placed)
            self._references[-1] = self._references[-1]._replace(place=_place(container))


def _on_the_way(document: _Placed) -> bool:
    """Whether it is the first argument, or an item of its files. Only what has a reference in it is walked at all."""
    return _is_argument(document, b"0") or _is_file(document)


def _is_argument(container: _Placed, name: bytes) -> bool:
    around = container.around
    return container.name == name and isinstance(around, _Placed) and around.array and around.level == 2 and _is_payload(around)


def _is_payload(container: _Placed) -> bool:
    """``params`` or ``result`` itself, and not what is in it."""
    return container.payload and not container.around.payload


def _is_file(container: _Placed) -> bool:
    files = container.around
    if container.array or not (isinstance(files, _Placed) and files.array and files.name == b"Files"):
        return False
    command = files.around
    return isinstance(command, _Placed) and not command.array and _is_argument(command, b"0")


def _place(reference: _Placed) -> str:
    if _is_argument(reference, b"1"):
        return ARGUMENT if reference.type is not None else ""
    item = reference.around
    if reference.name != b"Contents" or not (isinstance(item, _Placed) and _is_file(item)):
        return ""
    command = item.around.around  # type: ignore[attr-defined] # as _is_file says
    unclear = item.unclear or command.unclear
    return FILES if _STARTS_SCRIPT.fullmatch(command.type or b"") and not unclear else ""
