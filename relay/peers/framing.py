"""What is due on a connection, as generators: each takes one TLS record per step and returns when its unit is complete.

Rules (wire.md 2.7): a record never holds bytes of two units, and a unit of the short kinds is never split. So a generator is
given whole records, and whatever does not fit is a PeerError. When the other side ends, EndedError is thrown in: where nothing
of a unit has come it passes through or counts as an orderly end, in the middle it becomes a TruncatedError.
"""

import re
import struct
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PROCEED, SERVER_IDENTITY
from relay.peers.documents import Reference, decode
from relay.peers.errors import EndedError, PeerError, TruncatedError
from relay.peers.messages import Request, Response, read, settled
from relay.peers.streams import ReceivedStream, Sink

_PREAMBLES = (b"MX\n\n", b"MX\r\n\r\n")
_PREAMBLE_LIMIT = 20000
_ENVELOPE_LIMIT = 256 << 20
_STREAM_LIMIT = 1 << 40
_SUBSCRIBER = re.compile(rb"MX-SUBSCRIBER 1\.0 (poll://[!-~]{1,900})\r\n\r\n")
_LENGTH = struct.Struct("<q")
_SIZE = struct.Struct("<i")

PAGE = (
    b"HTTP/1.0 200 OK\r\n",
    b"Content-Type: text/html; charset=utf-8\r\n",
    b"Content-Length: 39\r\n",
    b"\r\n",
    b"<html><body><p>Hello!</p></body></html>\r\n",
    b"\r\n",
)
"""The answer to whoever does not speak Halibut, a record per line as head writes it (wire.md 2.5)."""

OpenSink = Callable[[Reference], Sink]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who identified itself. subscription: None for a dialling client, the uri as it travelled for a dialling service."""

    subscription: str | None = None


def preamble() -> Generator[None, bytes, bool]:
    """Whether the dialler speaks Halibut (wire.md 2.1, 2.2); False: it gets the page."""
    came: list[bytes] = []
    while True:
        try:
            came.append((yield))
        except EndedError as error:
            if came and b"".join(came).startswith(b"MX"):
                raise TruncatedError("the end inside the preamble", "2.1", b"".join(came)) from error
            raise
        if len(came) == 1 and came[0] in _PREAMBLES:
            return True
        data = b"".join(came)
        plain = data.replace(b"\r", b"")
        if plain.startswith(b"MX"):
            raise PeerError("a preamble other than MX and a blank line in one record", "2.1", data)
        if b"\n\n" in plain or len(plain) >= _PREAMBLE_LIMIT:
            return False


def identity() -> Generator[None, bytes, Caller]:
    """The identity of a dialler (wire.md 2.4)."""
    record = yield
    if record == CLIENT_IDENTITY:
        return Caller()
    match = _SUBSCRIBER.fullmatch(record)
    if match is None:
        raise PeerError("an identity that is not one line and an empty one in one record", "2.4", record)
    return Caller(match[1].decode("ascii"))


def server_identity() -> Generator[None, bytes, None]:
    """The identity of a listener (wire.md 2.4)."""
    record = yield
    if record != SERVER_IDENTITY:
        raise PeerError("not the identity of a listener", "2.4", record)


def proceed() -> Generator[None, bytes, None]:
    """The answer to NEXT (wire.md 3)."""
    record = yield
    if record != PROCEED:
        raise PeerError("expected PROCEED", "3", record)


def next_or_end() -> Generator[None, bytes, bool]:
    """Whether the dialler wants to go on: NEXT; its END and a bare end say no alike (wire.md 1.10, 3.2, 3.4)."""
    try:
        record = yield
    except EndedError:
        return False
    if record not in (NEXT, END):
        raise PeerError("expected NEXT or END", "3", record)
    return record == NEXT


@dataclass(slots=True)
class Incoming:
    """One message as it came.

    message: None for a null message. streams: those that were spooled for it, for whoever has to clear them away. ended: the
    other side ended instead of sending one.
    """

    message: Request | Response | None = None
    streams: list[ReceivedStream] = field(default_factory=list)
    ended: bool = False


def message(open_sink: OpenSink, *, may_end: bool = False) -> Generator[None, bytes, Incoming]:
    """An envelope and its streams (wire.md 4, 5).

    may_end: whether END may come instead, which only a dialler sends (1.10); END and a bare end are then told alike.
    """
    try:
        record = yield
    except EndedError:
        if may_end:
            return Incoming(ended=True)
        raise
    if record == END and may_end:
        return Incoming(ended=True)
    if record in (NEXT, PROCEED, END):
        raise PeerError("a control line where an envelope is due", "3", record)
    root = decode((yield from _envelope(record)))
    content, references = read(root)
    sinks: list[Sink] = []
    spooled: list[ReceivedStream] = []
    try:
        for reference in references:
            if reference.length > _STREAM_LIMIT:
                raise PeerError(f"a data stream that announces {reference.length} bytes", "5.2")
            sinks.append(open_sink(reference))
            yield from _stream(reference, sinks[-1])
            value = sinks[-1].finish()
            reference.replace(value)
            if isinstance(value, ReceivedStream):
                spooled.append(value)
    except BaseException:
        # Also GeneratorExit: the connection was given up. What came before is of no use without the rest.
        for sink in sinks:
            sink.abort()
        raise
    return Incoming(settled(content, root), spooled)


def _envelope(record: bytes) -> Generator[None, bytes, bytes]:
    """One inflated document, from its first record on."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = bytearray()
    while True:
        try:
            inflated += inflater.decompress(record, _ENVELOPE_LIMIT + 1 - len(inflated))
        except zlib.error as error:
            raise PeerError(f"an envelope that does not inflate ({error})", "4.1", record) from error
        if len(inflated) > _ENVELOPE_LIMIT:
            raise PeerError(f"an envelope of more than {_ENVELOPE_LIMIT} bytes", "4.1")
        if inflater.unused_data:
            raise PeerError("bytes after an envelope's end in its last record", "2.7 a", inflater.unused_data)
        if inflater.eof:
            return bytes(inflated)
        if len(inflated) >= 4 and len(inflated) >= _SIZE.unpack_from(inflated)[0]:
            raise PeerError("a document that is complete before its envelope's last record", "2.7 c", record)
        record = yield from _more("the end inside an envelope", "4.1")


def _stream(reference: Reference, sink: Sink) -> Generator[None, bytes, None]:
    """One frame: id, length, body, length (wire.md 5.2)."""
    length = _LENGTH.pack(reference.length)
    record = yield from _more("the end before a data stream", "5.2")
    if record != reference.id:
        raise PeerError(f"not the data stream {reference.id.hex()} that is due", "5.7", record)
    record = yield from _more("the end inside a data stream's frame", "5.2")
    if record != length:
        raise PeerError(f"not the length {reference.length} that the document gives", "5.2", record)
    missing = reference.length
    while missing:
        record = yield from _more(f"the end inside a data stream, {missing} bytes before its own", "5.7")
        if len(record) > missing:
            raise PeerError("bytes after a data stream's end in its last record", "2.7 a", record[missing:])
        sink.write(record)
        missing -= len(record)
    record = yield from _more("the end before a data stream's closing length", "5.2")
    if record != length:
        raise PeerError(f"a closing length that is not {reference.length}", "5.7", record)


def _more(what: str, rule: str) -> Generator[None, bytes, bytes]:
    """The next record of something that has begun."""
    try:
        return (yield)
    except EndedError as error:
        raise TruncatedError(what, rule) from error
