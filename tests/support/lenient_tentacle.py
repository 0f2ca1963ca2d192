"""A Tentacle that reads as real ones do (wire.md 5.5): it ignores members that it does not know, matches the others without
case, the last one winning, expects a frame for each data stream that its contracts have where it stands, and takes what follows
for a control line.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from relay.halibut.lines import DATA_STREAM_TYPE

STARTS = re.compile(r"[A-Za-z0-9_.]+\.(StartScriptCommand|StartScriptCommandV2|StartKubernetesScriptCommandV1), [A-Za-z0-9_.]+")
_WIDTHS = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}


class OutOfStepError(Exception):
    """It reads what it cannot understand, and closes."""


@dataclass(frozen=True)
class Document:
    """members: names and values in order, doubled ones too. Values that matter to nobody are their raw bytes."""

    members: tuple[tuple[str, "Document | str | bytes | None"], ...]
    array: bool

    def all(self, name: str) -> "list[Document | str | bytes | None]":
        """Every value that goes by this name; the last one wins."""
        return [value for known, value in self.members if known.lower() == name.lower()]

    @property
    def type(self) -> str:
        """Of a document: its ``$type``, where it begins with one."""
        first = self.members[0] if self.members and not self.array else ("", None)
        return first[1] if first[0] == "$type" and isinstance(first[1], str) else ""


class LenientTentacle:
    """ran: the services and methods that it has been made to run, in order."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

    def hears(self, data: bytes) -> None:
        """All that comes behind ``MX-SERVER``. Raises OutOfStepError where it closes in the middle of something."""
        while data:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                raw = inflate.decompress(data)
            except zlib.error as error:
                raise OutOfStepError from error
            if not inflate.eof:
                raise OutOfStepError("an envelope without an end")
            data = inflate.unused_data
            message = _parse(raw)[0].all("Message")[-1]
            if not isinstance(message, Document):
                return
            service, method = (message.all(name)[-1:] for name in ("service", "method"))
            if not (service and method and isinstance(service[0], str) and isinstance(method[0], str)):
                raise OutOfStepError("no request")
            data = _frames(set(_expected(message)), data)
            self.ran.append((service[0], method[0]))
            if data:
                line, data = _line(data)
                if line != b"NEXT":
                    raise OutOfStepError(line)


def _line(data: bytes) -> tuple[bytes, bytes]:
    """As the most generous of them reads it, 4.4.8: LF, CR or CRLF, and empty lines before."""
    found = re.match(rb"[\r\n]*([^\r\n]+)(?:\r\n|\r|\n)", data)
    if not found:
        raise OutOfStepError(data[:20])
    return found[1], data[found.end() :]


def _frames(expected: set[bytes], data: bytes) -> bytes:
    while expected:
        id_, data = data[:16], data[16:]
        if id_ not in expected or len(data) < 8:
            raise OutOfStepError("Unexpected stream!")
        expected.discard(id_)
        (length,) = struct.unpack("<q", data[:8])
        if length < 0 or data[8 + length : 16 + length] != data[:8]:
            raise OutOfStepError("a stream without its end")
        data = data[16 + length :]
    return data


def _expected(message: Document) -> Iterator[bytes]:
    """The ids of the streams that it reads as such: arguments that say so, and the files of a script."""
    for params in message.all("params"):
        for _, argument in params.members if isinstance(params, Document) and params.array else ():
            if not isinstance(argument, Document) or argument.array:
                continue
            if argument.type == DATA_STREAM_TYPE:
                yield from _id(argument)
            elif STARTS.fullmatch(argument.type):
                for files in argument.all("Files"):
                    for _, item in files.members if isinstance(files, Document) and files.array else ():
                        for contents in item.all("Contents") if isinstance(item, Document) and not item.array else ():
                            if isinstance(contents, Document):
                                yield from _id(contents)


def _id(stream: Document) -> Iterator[bytes]:
    for value in stream.all("id")[-1:]:
        if isinstance(value, bytes) and len(value) == 21:
            yield value[5:]


def _parse(data: bytes, start: int = 0, array: bool = False) -> tuple[Document, int]:
    """A document by its elements, and where it ends."""
    end = start + struct.unpack_from("<i", data, start)[0]
    members, position = [], start + 4
    while position < end - 1:
        type_, name_end = data[position], data.index(0, position + 1)
        name, position = data[position + 1 : name_end].decode("utf-8", "replace"), name_end + 1
        value: Document | str | bytes | None
        if type_ in (3, 4):
            value, position = _parse(data, position, type_ == 4)
        elif type_ == 2:
            length = struct.unpack_from("<i", data, position)[0]
            value = data[position + 4 : position + 3 + length].decode("utf-8", "replace")
            position += 4 + length
        else:
            width = 5 + struct.unpack_from("<i", data, position)[0] if type_ == 5 else _WIDTHS[type_]
            value = None if type_ == 10 else data[position : position + width]
            position += width
        members.append((name, value))
    return Document(tuple(members), array), end
