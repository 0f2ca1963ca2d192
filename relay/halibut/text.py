"""Reading the lines of the protocol (wire.md 2.2, 2.4, 3): the preamble, identities, control lines."""

import re
from typing import Final
from urllib.parse import urlsplit

from relay.halibut.errors import LineError
from relay.halibut.events import Line, NotHalibut, Unit

PREAMBLE_SIZE: Final = 20_000  # characters that a listener keeps, carriage returns not counted
_RAW_PREAMBLE_SIZE: Final = 2 * PREAMBLE_SIZE  # and with them
_WORD: Final = b"MX"
_NEWLINE: Final = re.compile(rb"\r*\n")
_BLANK_LINE: Final = re.compile(rb"\n\r*\n")
_CONTROL_LINES: Final = {b"NEXT": Unit.NEXT, b"PROCEED": Unit.PROCEED, b"END": Unit.END}


class PreambleReader:
    """Reads the dialler's first lines, up to a blank one. Only their first two characters are kept; nothing else counts."""

    __slots__ = ("_kept", "_newline", "_raw", "_word")

    def __init__(self) -> None:
        self._word = b""  # the first two characters
        self._kept = 0  # characters so far, without carriage returns
        self._raw = 0  # and with them
        self._newline = False  # the last one that was kept is a newline

    def feed(self, data: bytes, start: int) -> tuple[Line | NotHalibut | None, int]:
        """What they were, if they are complete, and the offset of the first byte that does not belong to them."""
        chunk = data[start:] if start else data
        end = self._blank_end(chunk)
        complete = end > 0
        kept = (chunk[:end] if complete else chunk).replace(b"\r", b"")
        if self._kept + len(kept) >= PREAMBLE_SIZE:
            kept = kept[: PREAMBLE_SIZE - self._kept]
            end = self._end_of(chunk, len(kept))
            complete = True
        taken = end if complete else len(chunk)
        self._raw += taken
        if self._raw > _RAW_PREAMBLE_SIZE:
            raise LineError(f"a preamble of more than {_RAW_PREAMBLE_SIZE} bytes", "2.2")
        self._kept += len(kept)
        self._word = (self._word + kept[:2])[:2]
        self._newline = kept.endswith(b"\n") if kept else self._newline
        return self._judged() if complete else None, start + taken

    @property
    def begun(self) -> bool:
        """Something has come that counts."""
        return self._kept > 0

    def end(self) -> NotHalibut | None:
        """The peer has closed: whether there was enough to answer with the page."""
        return NotHalibut() if self._kept >= 2 and self._word != _WORD else None

    def _judged(self) -> Line | NotHalibut:
        return Line(Unit.PREAMBLE) if self._word == _WORD else NotHalibut()

    def _blank_end(self, chunk: bytes) -> int:
        """The offset behind the blank line, 0 if there is none."""
        found = (self._newline and _NEWLINE.match(chunk)) or _BLANK_LINE.search(chunk)
        return found.end() if found else 0

    @staticmethod
    def _end_of(chunk: bytes, count: int) -> int:
        """The offset behind so many characters that are kept; a rare case, and a bounded one."""
        for offset, byte in enumerate(chunk):
            count -= byte != 0x0D
            if not count:
                return offset + 1
        return len(chunk)


class LineReader:
    """Reads strict CRLF lines of bounded length. A lone line feed is a character like any other (wire.md 2.4).

    held: of a line that has begun.
    """

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self.held = b""
        self._limit = limit

    def feed(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        """A line without its end, if there is one, and the offset of what follows."""
        before = len(self.held)
        held = self.held + data[start:] if before or start else data
        found = held.find(b"\r", max(before - 1, 0))
        if found >= 0 and found + 1 < len(held) and held[found + 1] != 0x0A:
            raise LineError("a carriage return without a line feed", "2.4")
        if found > self._limit or (found < 0 and len(held) > self._limit):
            raise LineError(f"a line of more than {self._limit} bytes", "2.8")
        if found < 0 or found + 1 == len(held):
            self.held = held
            return None, len(data)
        self.held = b""
        return held[:found], start + found + 2 - before


def identity(line: bytes) -> Line:
    """What an identity line says. The version is sent by all and checked by none. Raises LineError."""
    words = [word for word in line.split(b" ") if word]
    if words and words[0] == b"MX-CLIENT":
        return Line(Unit.CLIENT_IDENTITY)
    if words and words[0] == b"MX-SERVER":
        return Line(Unit.SERVER_IDENTITY)
    if words and words[0] == b"MX-SUBSCRIBER":
        return Line(Unit.SUBSCRIBER_IDENTITY, _subscription(words))
    raise LineError("not an identity", "2.4", line)


def _subscription(words: list[bytes]) -> str:
    text = words[2].decode("ascii", "replace") if len(words) > 2 else ""
    if not text.isascii() or not text.isprintable() or not text:
        raise LineError("a subscriber without a subscription of printable ASCII", "2.4", b" ".join(words))
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        scheme = ""
    if not scheme:
        raise LineError("a subscription is not an absolute URI", "2.4", text)
    return text


def control_line(line: bytes) -> Unit | None:
    """The unit that a control line is, None for an empty line, of which there may be any before it (wire.md 3).

    Raises LineError.
    """
    if not line:
        return None
    unit = _CONTROL_LINES.get(line)
    if unit is None:
        raise LineError(f"not a control line, but {len(line)} other bytes", "3")
    return unit
