"""How much the codec takes from a peer before it gives up on it. Halibut itself has none of these limits (wire.md 2.8, 4.1)."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes unless said otherwise.

    line: an identity or control line. envelope: one inflated document. name: an element's name in a document. text: each of the
    header fields that the relay reads. depth: nested containers that the walk enters, in levels. elements: of a document that
    the walk looks at, in pieces; beyond them, only as many as have 16 bytes each on average (a record of 16 KiB can inflate to
    millions of nothing, and each costs a microsecond). streams: data streams of one message, in pieces. stream: the length
    that one data stream may announce. placed: not a size, but whether the places of data streams in their message are noted,
    which rules for single methods need.
    """

    line: int = 1 * KIB
    envelope: int = 256 * MIB
    name: int = 1 * KIB
    text: int = 4 * KIB
    depth: int = 128
    elements: int = 64 * KIB
    streams: int = 4096
    stream: int = 1 << 40
    placed: bool = False
