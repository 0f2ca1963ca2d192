"""What the relay reads out of an envelope (wire.md 4.4, 4.5, 5.1)."""

from dataclasses import dataclass
from typing import NamedTuple

from relay.halibut.errors import SmugglingError
from relay.halibut.words import Word


class Kind(Word):
    """What an envelope is."""

    REQUEST = "request"
    RESPONSE = "response"
    NULL = "null"


class Reference(NamedTuple):
    """One data stream reference: id, the 16 bytes that its frame will repeat; length in bytes, as announced.

    place: one of placed.py; empty where it is none of these, or places are not noted (Limits.placed).
    """

    id: bytes
    length: int
    place: str = ""


@dataclass(slots=True)
class Message:
    """What the relay reads out of an envelope, from a copy (design, rule 1).

    id is the text that pairs request and response. activity_id: 16 bytes in .NET order, or None. failed: a response with an
    error. streams: every reference, in order of appearance, repeated ids included. unknown: members that no known version has.
    """

    kind: Kind
    id: str = ""
    activity_id: bytes | None = None
    service: str = ""
    method: str = ""
    failed: bool = False
    streams: tuple[Reference, ...] = ()
    unknown: tuple[str, ...] = ()


def judged_id(id_: bytes) -> bytes:
    """The id, if it is a version-4 GUID in .NET order and no reader could take its frame for ``NEXT`` (wire.md 5.5)."""
    if id_[7] & 0xF0 != 0x40 or id_[8] & 0xC0 != 0x80:
        raise SmugglingError("a data stream's id is not a version-4 GUID", "5.5", id_.hex())
    line = id_.lstrip(b"\r\n")
    if line.startswith((b"NEXT\r", b"NEXT\n")):
        raise SmugglingError("a data stream's id reads as a control line", "5.5", id_.hex())
    return id_
