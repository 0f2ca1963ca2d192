"""The walk over an envelope's document: header fields by name, data streams by structure (wire.md 4.2 to 4.5, 5.1, 5.5).

Rules:
1. Lengths and types lead; nothing is searched for in strings or binaries. A byte search may only *skip* a container: one that
   nowhere holds the bytes with which every reference begins holds no reference.
2. The root has ``Message`` and nothing else. In it each known name stands at most once ignoring case, in its exact spelling.
3. References count under ``params`` of a request and ``result`` of a response; anywhere else they are an error.
4. Input comes in pieces of any size; what is kept between pieces is bounded by the limits, not by the document.
"""

from typing import Final

from relay.halibut.bson_values import (
    ARRAY,
    BINARY,
    CONTAINERS,
    DOCUMENT,
    GUID,
    INT32,
    INT64,
    LONG,
    NULL,
    STRING,
    STRINGS,
    value_end,
)  # fmt: skip
from relay.halibut.errors import EnvelopeError, SmugglingError
from relay.halibut.limits import Limits
from relay.halibut.lines import DATA_STREAM_TYPE, REQUEST_TYPE, RESPONSE_TYPE
from relay.halibut.message import Kind, Message, Reference, judged_id

SMALLEST_DOCUMENT: Final = 14  # {"Message": null}, the smallest that an envelope may hold
REFERENCE_START: Final = b"\x05id\x00\x10\x00\x00\x00\x04"  # element ``id``: binary, 16 bytes, subtype 4
ELEMENT_SIZE: Final = 16  # bytes that elements have on average, at the least, in a document of more than limits.elements
_UNKNOWN_MEMBERS: Final = 64

_FIELDS: Final[dict[Kind, dict[bytes, tuple[int, ...]]]] = {
    Kind.REQUEST: {
        b"$type": (STRING,),
        b"id": (STRING,),
        b"activityId": (BINARY,),
        b"endpoint": (DOCUMENT, NULL),
        b"service": (STRING,),
        b"method": (STRING,),
        b"params": (ARRAY, DOCUMENT, NULL),
    },
    Kind.RESPONSE: {b"$type": (STRING,), b"id": (STRING,), b"error": (DOCUMENT, NULL), b"result": tuple(range(256))},
}
_KEPT: Final = frozenset((b"$type", b"id", b"activityId", b"service", b"method"))  # their values are read
_PAYLOADS: Final = {Kind.REQUEST: b"params", Kind.RESPONSE: b"result"}
_TYPES: Final = {Kind.REQUEST: REQUEST_TYPE.encode(), Kind.RESPONSE: RESPONSE_TYPE.encode()}
_STREAM_TYPE: Final = DATA_STREAM_TYPE.encode()
_MESSAGE_START: Final = b"\x03Message\x00"
_PLAIN: Final = {STRING: 4, DOCUMENT: 0, ARRAY: 0, BINARY: 5}  # how many bytes a value's length leaves out


def folded(name: str) -> str:
    """The name as the most generous receiver that ignores case could compare it, Kelvin signs and dotless i's included."""
    return name.upper().casefold().replace("\u0307", "")


_FOLDED: Final = {kind: {folded(name.decode()) for name in names} for kind, names in _FIELDS.items()}


class Container:
    """A document or array that the walk is in.

    end: the offset behind it. level: 0 the root, 1 the message, 2 anything deeper. payload: references may stand here.
    id, length: of the reference that it may be; other: it is none.
    """

    __slots__ = ("empty", "end", "id", "length", "level", "other", "payload")

    def __init__(self, end: int, level: int, array: bool = False, payload: bool = False) -> None:
        self.end = end
        self.level = level
        self.payload = payload
        self.empty = True
        self.id: bytes | None = None
        self.length: int | None = None
        self.other = array or level < 2


class DocumentWalk:
    """Walks one document. kind says what its ``Message`` has to be where it is not null.

    start() takes the document's first four bytes, feed() the rest in pieces; then message() tells what was found.
    All raise EnvelopeError or SmugglingError.
    """

    __slots__ = ("_base", "_buffer", "_failed", "_kind", "_limits", "_members", "_nul_due", "_null", "_references", "_size",
                 "_skip_to", "_stack", "_unknown", "_walked")  # fmt: skip

    def __init__(self, kind: Kind, limits: Limits) -> None:
        self._kind = kind
        self._limits = limits
        self._size = 0
        self._buffer = b""
        self._base = 4  # the offset in the document of the buffer's first byte
        self._skip_to = 0  # the offset up to which a value is passed over; 0: none is
        self._nul_due = False  # the byte there has to be a string's final 0
        self._stack: list[Container] = []
        self._null: bool | None = None  # whether Message is null; None: not met yet
        self._failed = False
        self._members: dict[bytes, bytes] = {}  # of Message: the values of those in _KEPT, b"" for the others
        self._references: list[Reference] = []
        self._unknown: list[str] = []
        self._walked = 0  # elements

    def start(self, size: bytes) -> int:
        """The document's size in bytes, its first four included. Raises EnvelopeError for one that cannot be or may not be."""
        length: int = INT32.unpack(size)[0]
        if length < SMALLEST_DOCUMENT:
            raise EnvelopeError("a document cannot have this length", "4.2", length)
        if length > self._limits.envelope:
            raise EnvelopeError(f"an envelope may hold {self._limits.envelope} bytes (limits.envelope)", "4.1", length)
        self._size = length
        self._stack.append(Container(length, 0))
        return length

    def feed(self, piece: bytes) -> None:
        """Goes as far as the bytes reach."""
        data = self._buffer + piece if self._buffer else piece
        stack, base, size = self._stack, self._base, len(data)
        position, clear = 0, REFERENCE_START not in data
        while stack:
            if self._skip_to:
                position = self._skip(data, base)
                if self._skip_to:
                    break
            if base + position == stack[-1].end - 1:
                if position >= size:
                    break
                _check_zero(data, position)
                position += 1
                self._leave(stack.pop())
                continue
            name_end = data.find(0, position + 1, position + 2 + self._limits.name)
            if name_end < 0:
                if size - position > self._limits.name + 1:
                    raise EnvelopeError(f"an element's name is longer than {self._limits.name} bytes", "4.2")
                break
            if self._walked >= self._limits.elements + (base + position) // ELEMENT_SIZE:
                raise EnvelopeError("a document of more and smaller elements than any call has", "4.1", self._walked)
            end = self._element(data, position, name_end, base, clear)
            if end < 0:
                break
            self._walked += 1
            position = end
        self._buffer = data[position:]
        self._base = base + position

    def _skip(self, data: bytes, base: int) -> int:
        """On towards the offset that was aimed at, as far as the bytes go."""
        position = self._skip_to - base
        if position > len(data) or (self._nul_due and position == len(data)):
            return min(position, len(data))
        if self._nul_due:
            _check_zero(data, position)
            position += 1
            self._nul_due = False
        self._skip_to = 0
        return position

    def _element(self, data: bytes, position: int, name_end: int, base: int, clear: bool) -> int:
        """Judges the element at position. Returns the position of what follows, or -1 where more bytes are needed first."""
        type_, name, value = data[position], data[position + 1 : name_end], name_end + 1
        container = self._stack[-1]
        end = value_end(type_, data, value, self._limits.text)
        if end < 0:
            return -1
        if base + end > container.end - 1:
            raise EnvelopeError("an element reaches beyond its document", "4.1")
        whole = end <= len(data)
        if container.level == 2:
            taken = container.other or self._inside(container, type_, name, data[value:end], end - value)
        elif container.level == 1:
            taken = self._member(type_, name, data[value:end], end - value)
        else:
            taken = self._root(type_, name)
        if not taken:
            return -1
        if type_ not in CONTAINERS:
            if not whole:
                self._nul_due = type_ in STRINGS
                self._skip_to = base + end - self._nul_due
                return len(data)
            if type_ in STRINGS:
                _check_zero(data, end - 1)
            return end
        if whole and container.level and (clear or data.find(REFERENCE_START, value, end) < 0):
            _check_zero(data, end - 1)
            return end
        self._enter(container, type_, name, base + end)
        return value + 4

    def _enter(self, outer: Container, type_: int, name: bytes, end: int) -> None:
        if len(self._stack) >= self._limits.depth:
            raise EnvelopeError(f"a document is nested more than {self._limits.depth} deep", "4.1")
        payload = outer.payload or (outer.level == 1 and name == _PAYLOADS[self._kind])
        self._stack.append(Container(end, min(outer.level + 1, 2), type_ == ARRAY, payload))

    # Each of the three judges one element, and says whether it is done with it: False asks for the whole value first.

    def _root(self, type_: int, name: bytes) -> bool:
        if name != b"Message" or self._null is not None:
            raise SmugglingError("an envelope's root has one element, Message; this one also has", "5.5", name)
        if type_ not in (DOCUMENT, NULL):
            raise EnvelopeError("Message is a document or null, not of type", "4.2", type_)
        self._null = type_ == NULL
        return True

    def _member(self, type_: int, name: bytes, value: bytes, length: int) -> bool:
        types = _FIELDS[self._kind].get(name)
        if name in self._members:
            raise SmugglingError("a message has this member twice", "5.5", name)
        if types is None:
            self._judge_unknown(name)
        elif type_ not in types:
            raise EnvelopeError(f"{name.decode()} cannot be of type", "4.4", type_)
        if name not in _KEPT:
            self._members[name] = b""
            self._failed = self._failed or (name == b"error" and type_ != NULL)
            return True
        if length > self._limits.text:
            raise EnvelopeError(f"{name.decode()} is longer than {self._limits.text} bytes", "4.4", length)
        if len(value) < length:
            return False
        self._members[name] = value
        return True

    def _inside(self, container: Container, type_: int, name: bytes, value: bytes, length: int) -> bool:
        """Whether the container may still be a reference (wire.md 5.1) is found out element by element."""
        empty, fits = container.empty, len(value) >= length
        if name == b"id" and type_ == BINARY and container.id is None and length == 21:
            if fits:
                container.id, container.other = value[5:], value[4] != GUID
        elif name == b"length" and type_ == LONG and container.length is None:
            if fits:
                container.length = INT64.unpack(value)[0]
        elif name == b"$type" and type_ == STRING and empty and length == len(_STREAM_TYPE) + 5:
            container.other = fits and value[4:-1] != _STREAM_TYPE
        else:
            fits = container.other = True
        container.empty = empty and not fits
        return fits

    def _judge_unknown(self, name: bytes) -> None:
        """A newer Halibut's member passes; one that a receiver could take for a known one does not."""
        text = name.decode("utf-8", "replace")
        if text.startswith("$") or folded(text) in _FOLDED[self._kind]:
            raise SmugglingError("a message has a member that could be taken for another", "5.5", text)
        if len(self._unknown) >= _UNKNOWN_MEMBERS:
            raise EnvelopeError(f"a message has more than {_UNKNOWN_MEMBERS} unknown members", "5.5", text)
        self._unknown.append(text)

    def _leave(self, container: Container) -> None:
        if container.other or container.id is None or container.length is None:
            return
        if container.length < 0:
            raise EnvelopeError("a data stream reference with a negative length", "5.1", container.length)
        if not container.payload:
            raise SmugglingError("a data stream reference outside params and result", "5.5")
        if len(self._references) >= self._limits.streams:
            raise EnvelopeError(f"a message may have {self._limits.streams} data streams", "5.4")
        self._references.append(Reference(judged_id(container.id), container.length))

    @property
    def names(self) -> tuple[str, str] | None:
        """A request's service and method, as soon as both were met."""
        service, method = self._members.get(b"service"), self._members.get(b"method")
        return None if service is None or method is None else (_text(service), _text(method))

    def message(self) -> Message:
        """What the document says, once all of it was fed."""
        members, kind = self._members, self._kind
        if self._stack or self._null is None:
            raise EnvelopeError("a document ends before its length", "4.1")
        if self._null:
            return Message(Kind.NULL)
        try:
            if members[b"$type"][4:-1] != _TYPES[kind]:
                raise EnvelopeError(f"not a {kind.value}", "4.4", members[b"$type"][4:-1])
            activity = members.get(b"activityId")
            if activity is not None and (len(activity) != 21 or activity[4] != GUID):
                raise EnvelopeError("activityId is not a GUID", "4.4")
            service, method = (members[b"service"], members[b"method"]) if kind is Kind.REQUEST else (b"", b"")
            id_ = members[b"id"]
        except KeyError as missing:
            raise EnvelopeError(f"a {kind.value} without", "4.4", missing.args[0].decode()) from None
        return Message(
            kind, _text(id_), activity and activity[5:], _text(service), _text(method), self._failed,
            tuple(self._references), tuple(self._unknown),
        )  # fmt: skip


def _text(value: bytes) -> str:
    return value[4:-1].decode("utf-8", "replace")


def _check_zero(data: bytes, position: int) -> None:
    if data[position]:
        raise EnvelopeError("a string or document does not end where its length says", "4.1")
