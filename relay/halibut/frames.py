"""Data stream frames behind an envelope: id, length, body, the length again (wire.md 5.2, 5.3, 5.4).

As many are due as the envelope has distinct ids, in any order. For ids that it repeats, further frames may follow: some senders
write one frame an occurrence, some one an id, so they are taken and never waited for (wire.md 5.5).
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from relay.halibut.errors import StreamError
from relay.halibut.events import Part, Unit
from relay.halibut.limits import Limits
from relay.halibut.message import Reference

ID_SIZE: Final = 16
LENGTH_SIZE: Final = 8
_LENGTH = Struct("<q")
_SIZES: Final = {Unit.STREAM_ID: ID_SIZE, Unit.STREAM_LENGTH: LENGTH_SIZE, Unit.STREAM_CLOSING_LENGTH: LENGTH_SIZE}


class FrameReader:
    """Reads the frames of one message. Raises StreamError.

    body_left: bytes of the present body that may pass unseen.
    """

    __slots__ = ("_due", "_extra", "_held", "_length", "_limit", "_more", "_unit", "body_left")

    def __init__(self, references: Sequence[Reference], limits: Limits) -> None:
        self._limit = limits.stream
        self._due: set[bytes] = set()
        self._more: list[bytes] = []
        for reference in references:
            if reference.id in self._due:
                self._more.append(reference.id)
            self._due.add(reference.id)
        self._extra = False  # those that are due have all come
        self._unit = Unit.STREAM_ID
        self._held = b""  # of an id or a length, which travel whole
        self._length = 0
        self.body_left = 0

    @property
    def due(self) -> bool:
        """Frames have to come, or the last of them has to end."""
        return not self._extra

    @property
    def more(self) -> bool:
        """Frames may come for ids that the envelope repeats."""
        return bool(self._more)

    @property
    def inside(self) -> bool:
        """A frame has begun and not ended."""
        return self._unit is not Unit.STREAM_ID or bool(self._held)

    def may_begin(self, begin: bytes) -> bool:
        """Whether these bytes, at most an id's, are the start of one more frame for a repeated id."""
        return any(id_.startswith(begin) for id_ in self._more)

    def feed(self, data: bytes, start: int) -> tuple[Part | None, int]:
        """The next part, if the bytes from ``start`` on complete one, and the offset of what they do not cover."""
        if self._unit is Unit.STREAM_BODY:
            end = min(len(data), start + self.body_left)
            body = data if end - start == len(data) else data[start:end]
            self.body_passed(end - start)
            return Part(Unit.STREAM_BODY, body, extra=self._extra), end
        size = _SIZES[self._unit]
        end = min(len(data), start + size - len(self._held))
        held = self._held + data[start:end] if self._held else data[start:end]
        if len(held) < size:
            self._held = held
            return None, end
        self._held = b""
        unit, extra, last = self._unit, self._extra, False
        if unit is Unit.STREAM_ID:
            self._take_id(held)
        elif unit is Unit.STREAM_LENGTH:
            self._take_length(held)
        elif _LENGTH.unpack(held)[0] != self._length:
            raise StreamError("a stream's closing length differs from its first", "5.2")
        else:
            self._unit = Unit.STREAM_ID
            last = not extra and not self._due
            self._extra = extra or last
        return Part(unit, held, last=last, extra=extra), end

    def body_passed(self, count: int) -> None:
        """That many bytes of the present body have gone by, seen or unseen."""
        self.body_left -= count
        if not self.body_left:
            self._unit = Unit.STREAM_CLOSING_LENGTH

    def _take_id(self, id_: bytes) -> None:
        if id_ in self._due:
            self._due.discard(id_)
        elif id_ in self._more:
            self._more.remove(id_)
        else:
            raise StreamError("a frame for a stream that its envelope does not announce", "5.6", id_.hex())
        self._unit = Unit.STREAM_LENGTH

    def _take_length(self, held: bytes) -> None:
        self._length = self.body_left = _LENGTH.unpack(held)[0]
        if not 0 <= self._length <= self._limit:
            raise StreamError(f"a stream's length is not between 0 and {self._limit}", "5.2", self._length)
        self._unit = Unit.STREAM_BODY if self._length else Unit.STREAM_CLOSING_LENGTH
