"""Reading the lines of the protocol (wire.md 2.2, 2.4, 3): the preamble, identities, control lines."""

import re
from typing import Final
from urllib.parse import urlsplit

from relay.halibut.errors import LineError
from relay.halibut.events import Line, NotHalibut, Unit

PREAMBLE_SIZE: Final = 20_000  # characters that a listener keeps, carriage returns not counted
_RAW_PREAMBLE_SIZE: Final = 2 * PREAMBLE_SIZE  # and with them
_BLANK_LINE = re.compile(rb"\n\r*\n")
_CONTROL_LINES: Final = {b"NEXT": Unit.NEXT, b"PROCEED": Unit.PROCEED, b"END": Unit.END}


class PreambleReader:
    """Reads the dialler's first lines, up to a blank one."""

    __slots__ = ("_held", "_scanned")

    def __init__(self) -> None:
        self._held = b""
        self._scanned = 0

    def feed(self, data: bytes, start: int) -> tuple[Line | NotHalibut | None, int]:
        """What they were, if they are complete, and the offset of the first byte that does not belong to them."""
        before = len(self._held)
        held = self._held + data[start:] if before or start else data
        blank = _BLANK_LINE.search(held, self._scanned)
        end = blank.end() if blank else len(held)
        kept = end - held.count(b"\r", 0, end)
        if kept >= PREAMBLE_SIZE:
            end = self._end_of_kept(held)
        if end > _RAW_PREAMBLE_SIZE:
            raise LineError(f"a preamble of more than {_RAW_PREAMBLE_SIZE} bytes", "2.2")
        if not blank and kept < PREAMBLE_SIZE:
            self._held = held
            self._scanned = len(held.rstrip(b"\r\n"))
            return None, len(data)
        self._held = b""
        return self._judge(held[:end]), start + end - before

    @property
    def begun(self) -> bool:
        """Something has come that counts, and not yet all."""
        return bool(self._held.strip(b"\r"))

    def end(self) -> NotHalibut | None:
        """The peer has closed: whether there was enough to answer with the page."""
        kept = self._held.replace(b"\r", b"")
        return NotHalibut() if len(kept) >= 2 and not kept.startswith(b"MX") else None

    @staticmethod
    def _judge(held: bytes) -> Line | NotHalibut:
        return Line(Unit.PREAMBLE) if held.replace(b"\r", b"").startswith(b"MX") else NotHalibut()

    @staticmethod
    def _end_of_kept(held: bytes) -> int:
        """The offset behind the last character that is kept; a rare case, and a bounded one."""
        kept = 0
        for offset, byte in enumerate(held):
            kept += byte != 0x0D
            if kept == PREAMBLE_SIZE:
                return offset + 1
        return len(held)


class LineReader:
    """Reads strict CRLF lines of bounded length. A lone line feed is a character like any other (wire.md 2.4)."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._held = b""
        self._limit = limit

    @property
    def begun(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        """A line without its end, if there is one, and the offset of what follows."""
        before = len(self._held)
        held = self._held + data[start:] if before or start else data
        found = held.find(b"\r", max(before - 1, 0))
        if found >= 0 and found + 1 < len(held) and held[found + 1] != 0x0A:
            raise LineError("a carriage return without a line feed", "2.4", held[:found])
        if found > self._limit or (found < 0 and len(held) > self._limit):
            raise LineError(f"a line of more than {self._limit} bytes", "2.8", held[:40])
        if found < 0 or found + 1 == len(held):
            self._held = held
            return None, len(data)
        self._held = b""
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
        raise LineError("not a control line", "3", line)
    return unit
