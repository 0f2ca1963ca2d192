"""Data streams: what a peer sends, and where it puts what it receives (wire.md 5)."""

import hashlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

RECORD = 16384


def _new_id() -> bytes:
    return uuid.uuid4().bytes_le


@dataclass(frozen=True, slots=True)
class DataStream:
    """A stream to send, anywhere in a call's parameters or a service's result.

    length: in bytes, exactly what chunks gives. chunks: called when the stream is sent, gives pieces of any size. progress:
    called with (bytes sent, length) as records leave. id: 16 bytes in .NET order, a version-4 GUID.
    """

    length: int
    chunks: Callable[[], AsyncIterator[bytes]]
    progress: Callable[[int, int], None] | None = None
    id: bytes = field(default_factory=_new_id)

    @classmethod
    def of_bytes(cls, data: bytes, progress: Callable[[int, int], None] | None = None) -> "DataStream":
        """A stream of bytes in memory."""

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(data), RECORD):
                yield data[start : start + RECORD]

        return cls(len(data), chunks, progress)

    @classmethod
    def of_file(cls, path: Path, progress: Callable[[int, int], None] | None = None) -> "DataStream":
        """A stream of a file, read piece by piece as it is sent. Raises OSError where the file is not there."""

        async def chunks() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(RECORD):
                    yield piece

        return cls(path.stat().st_size, chunks, progress)

    @classmethod
    def of(cls, source: "bytes | Path | DataStream", progress: Callable[[int, int], None] | None = None) -> "DataStream":
        """A stream of whatever a caller has at hand; progress is for bytes and files."""
        if isinstance(source, DataStream):
            return source
        return cls.of_bytes(source, progress) if isinstance(source, bytes) else cls.of_file(source, progress)


@dataclass(frozen=True, slots=True)
class ReceivedStream:
    """A stream that has arrived whole, in a file. sha256: 64 lower-case hex digits."""

    path: Path
    length: int
    sha256: str

    def move_to(self, path: Path) -> None:
        """Give the file its place; path must be on the same file system. Raises OSError."""
        self.path.replace(path)

    def discard(self) -> None:
        """Remove the file, if it is still where it arrived."""
        self.path.unlink(missing_ok=True)


class Sink(Protocol):
    """Takes one stream as it comes."""

    def write(self, data: bytes) -> None:
        """The next piece, at most one TLS record."""

    def finish(self) -> object:
        """The stream is whole. The answer takes the reference's place in the message."""

    def abort(self) -> None:
        """The stream will not become whole."""


class Spool:
    """A sink that writes to a new file in a folder, mode 0600, and hashes as it goes."""

    def __init__(self, folder: Path) -> None:
        handle, name = tempfile.mkstemp(prefix="stream-", dir=folder)
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._hash = hashlib.sha256()
        self._length = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._length += len(data)

    def finish(self) -> ReceivedStream:
        self._file.close()
        return ReceivedStream(self._path, self._length, self._hash.hexdigest())

    def abort(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class CallbackSink:
    """A sink that hands each piece on as it comes; its length takes the reference's place."""

    def __init__(self, callback: Callable[[bytes], None]) -> None:
        self._callback = callback
        self._length = 0

    def write(self, data: bytes) -> None:
        self._callback(data)
        self._length += len(data)

    def finish(self) -> int:
        return self._length

    def abort(self) -> None:
        """Nothing is kept here."""
