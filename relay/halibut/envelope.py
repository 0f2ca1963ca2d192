"""Where an envelope ends: the end of its deflate stream, found by inflating a copy (wire.md 4.1).

Rules:
1. The document's own length, its first four bytes, bounds the inflating; nothing is inflated that it does not cover.
   It is walked in blocks of one size, whatever pieces it came in, so that no verdict hangs on how input was split.
2. A document and its deflate stream end together. Old readers stop at the document's end and take what follows for the next
   unit (wire.md 2.7 c), and blocks that inflate to nothing can hold any bytes: behind the document only TRAILER bytes may come.
"""

import zlib
from typing import Final

from relay.halibut.document import DocumentWalk
from relay.halibut.errors import EnvelopeError
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message
from relay.halibut.placed import PlacedWalk

TRAILER: Final = 16  # a sync flush and a final empty block are 7 (wire.md 12.2)
_BLOCK: Final = 64 * 1024  # the most that is inflated at once, and walked at once
_SLACK: Final = 4096  # what deflate may add to a document, beside doubling it


class EnvelopeReader:
    """Reads one envelope. complete: its last byte has come; message: what its document says, then."""

    __slots__ = ("_block", "_blocked", "_head", "_inflate", "_left", "_size", "_taken", "_trailer", "_walk",
                 "complete", "message")  # fmt: skip

    def __init__(self, kind: Kind, limits: Limits) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._walk = (PlacedWalk if limits.placed else DocumentWalk)(kind, limits)
        self._head = b""
        self._block: list[bytes] = []  # inflated and not walked yet
        self._blocked = 0  # how many bytes these are
        self._size = 0  # of the document; 0 until known
        self._left = 0  # of the document, not inflated yet
        self._taken = 0  # compressed bytes so far
        self._trailer = 0  # compressed bytes since all but the document's last byte were there
        self.complete = False
        self.message: Message | None = None

    @property
    def names(self) -> tuple[str, str] | None:
        """A request's service and method, as soon as they are known."""
        return self._walk.names

    def feed(self, data: bytes) -> int:
        """Takes what comes next; how many of the bytes belong to this envelope.

        Raises EnvelopeError, SmugglingError among them.
        """
        inflate = self._inflate
        tail = data
        try:
            while True:
                wanted = self._wanted()
                before = len(tail)
                piece = inflate.decompress(tail, wanted)
                if self._size and self._left <= 1:
                    self._count_trailer(before - len(inflate.unused_data or inflate.unconsumed_tail))
                tail = inflate.unconsumed_tail
                if piece:
                    self._take(piece)
                if inflate.eof:
                    return self._end(len(data) - len(inflate.unused_data))
                if not tail and len(piece) < wanted:
                    break
        except zlib.error as error:
            raise EnvelopeError(f"an envelope is not deflated ({error})", "4.1") from None
        self._count(len(data))
        return len(data)

    def _wanted(self) -> int:
        """How many bytes to inflate next: four, all but the last, the last and one too many."""
        if not self._size:
            return 4 - len(self._head)
        return min(self._left - 1, _BLOCK - self._blocked) if self._left > 1 else 2

    def _take(self, piece: bytes) -> None:
        if not self._size:
            self._head += piece
            if len(self._head) == 4:
                self._size = self._walk.start(self._head)
                self._left = self._size - 4
            return
        self._left -= len(piece)
        if self._left < 0:
            raise EnvelopeError("an envelope holds more than its document", "4.1")
        self._block.append(piece)
        self._blocked += len(piece)
        if self._blocked == _BLOCK or not self._left:  # so a small document is walked in one go: that is fast
            block = b"".join(self._block)
            self._block, self._blocked = [], 0
            self._walk.feed(block)

    def _count(self, taken: int) -> None:
        self._taken += taken
        if self._size and self._taken > 2 * self._size + _SLACK:
            raise EnvelopeError("an envelope is far longer than its document", "4.1", self._taken)
        if not self._size and self._taken > _SLACK:
            raise EnvelopeError("an envelope inflates to nothing", "4.1", self._taken)

    def _count_trailer(self, taken: int) -> None:
        self._trailer += taken
        if self._trailer > TRAILER:
            raise EnvelopeError(f"more than {TRAILER} bytes behind a document", "4.1", self._trailer)

    def _end(self, taken: int) -> int:
        if not self._size or self._left:
            raise EnvelopeError("an envelope ends before its document does", "4.1")
        self._count(taken)
        self.message = self._walk.message()
        self.complete = True
        return taken
