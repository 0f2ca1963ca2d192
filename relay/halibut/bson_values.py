"""How far a BSON value reaches (bsonspec.org, version 1.1), for the walk over a document that may not be all there yet."""

from struct import Struct
from typing import Final

from relay.halibut.errors import EnvelopeError, SmugglingError

STRING: Final = 2
DOCUMENT: Final = 3
ARRAY: Final = 4
BINARY: Final = 5
NULL: Final = 10
LONG: Final = 18
_REGEX, _POINTER = 11, 12

STRINGS: Final = frozenset((STRING, 13, 14))  # string, JavaScript, symbol
CONTAINERS: Final = frozenset((DOCUMENT, ARRAY))
GUID: Final = 4  # a binary's subtype
OLD_BINARY: Final = 2  # the subtype whose data repeat their length; receivers believe the repeated one

# type: (bytes that its length leaves out, the smallest length)
SIZED: Final = {STRING: (4, 1), 13: (4, 1), 14: (4, 1), DOCUMENT: (0, 5), ARRAY: (0, 5), BINARY: (5, 0), _POINTER: (16, 1)}
_WIDTHS: Final = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, NULL: 0, 16: 4, 17: 8, LONG: 8, 19: 16, 127: 0, 255: 0}

INT32: Final = Struct("<i")
INT64: Final = Struct("<q")


def value_end(type_: int, data: bytes, value: int, text_limit: int) -> int:
    """Where the value of this type that starts at ``value`` ends, or -1 where more bytes are needed to say so.

    text_limit: the longest part of a regular expression, in bytes. Raises EnvelopeError for a type that Halibut never writes
    (code with scope, unknown numbers) and for impossible lengths, SmugglingError for a length that readers take in two ways.
    """
    width = _WIDTHS.get(type_)
    if width is not None:
        return value + width
    if type_ == _REGEX:
        return _regex_end(data, value, text_limit)
    sized = SIZED.get(type_)
    if sized is None:
        raise EnvelopeError("an element of a type that Halibut never writes", "4.6", type_)
    if value + 4 > len(data):
        return -1
    length: int = INT32.unpack_from(data, value)[0]
    if length < sized[1]:
        raise EnvelopeError("an element cannot have this length", "4.1", length)
    if type_ == BINARY and not _binary_judged(data, value, length):
        return -1
    return value + sized[0] + length


def _regex_end(data: bytes, value: int, text_limit: int) -> int:
    end = value
    for _ in range(2):  # pattern, options
        found = data.find(0, end, end + text_limit)
        if found < 0:
            if len(data) - end >= text_limit:
                raise EnvelopeError(f"a regular expression is longer than {text_limit} bytes", "4.6")
            return -1
        end = found + 1
    return end


def _binary_judged(data: bytes, value: int, length: int) -> bool:
    """False where more bytes are needed to judge it."""
    if value + 5 > len(data):
        return False
    if data[value + 4] != OLD_BINARY:
        return True
    if length >= 4 and value + 9 > len(data):
        return False
    if length < 4 or INT32.unpack_from(data, value + 5)[0] != length - 4:
        raise SmugglingError("a binary of the old kind with two lengths", "5.5", length)
    return True
