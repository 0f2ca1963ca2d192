"""Thumbprints: how Octopus, Tentacles and this relay name a certificate.

A thumbprint is a hash over the certificate's DER, nothing else (wire.md 1.5). Octopus shows SHA-1 in upper-case
hexadecimal digits; SHA-256 is accepted as a pin too. Nothing here parses a certificate: this runs once per connection.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["sha1", "sha256"]

_BY_DIGITS: dict[int, Algorithm] = {40: "sha1", 64: "sha256"}
_BY_BYTES: dict[int, Algorithm] = {20: "sha1", 32: "sha256"}
# What people paste between or around the digits: separators, no-break spaces, and the marks that cannot be seen.
# Windows' certificate dialogue puts U+200E in front.
_BETWEEN_DIGITS = re.compile("[\\s:\\-\u200b\u200e\u200f\ufeff]")
_NOT_HEX = re.compile("[^0-9A-Fa-f]")
# Twice the longest sensible spelling, so that a wrong paste costs nothing.
_MAX_CHARACTERS = 256


class ThumbprintError(ValueError):
    """A text is not a thumbprint. `problem` says why, `remedy` what to write; the text of the error is both."""

    remedy = "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}. {self.remedy}")
        self.problem = problem


@dataclass(frozen=True, slots=True, repr=False)
class Thumbprint:
    """The hash of one certificate: 20 bytes of SHA-1, or 32 of SHA-256. Raises ValueError for any other length."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) not in _BY_BYTES:
            raise ValueError(f"a thumbprint has 20 (SHA-1) or 32 (SHA-256) bytes, not {len(self.digest)}")

    @classmethod
    def parse(cls, text: str) -> "Thumbprint":
        """Reads any spelling: any case, with or without colons, spaces, dashes and invisible marks.

        Raises ThumbprintError.
        """
        if len(text) > _MAX_CHARACTERS:
            raise ThumbprintError(f"not a thumbprint: {len(text)} characters")
        digits = _BETWEEN_DIGITS.sub("", text)
        if len(digits) not in _BY_DIGITS:
            raise ThumbprintError(f"not a thumbprint: {_count(len(digits))}")
        if stranger := _NOT_HEX.search(digits):
            raise ThumbprintError(f"not a thumbprint: {stranger.group()!a} is not a hexadecimal digit")
        return cls(bytes.fromhex(digits))

    @classmethod
    def of(cls, der: bytes, algorithm: Algorithm = "sha1") -> "Thumbprint":
        """The thumbprint of a certificate, given as DER."""
        return cls(_hash(der, algorithm))

    @property
    def algorithm(self) -> Algorithm:
        return _BY_BYTES[len(self.digest)]

    def matches(self, der: bytes) -> bool:
        """Whether the certificate `der` (DER) has this thumbprint; in constant time."""
        return hmac.compare_digest(self.digest, _hash(der, self.algorithm))

    def __str__(self) -> str:
        return self.digest.hex().upper()

    def __repr__(self) -> str:
        return f"Thumbprint({self})"


def _hash(der: bytes, algorithm: Algorithm) -> bytes:
    # SHA-1 is Halibut's choice, not ours. A pin needs resistance against second preimages, which SHA-1 still has.
    if algorithm == "sha1":
        return hashlib.sha1(der, usedforsecurity=False).digest()
    return hashlib.sha256(der).digest()


def _count(characters: int) -> str:
    if characters == 0:
        return "empty"
    return "1 character" if characters == 1 else f"{characters} characters"
