"""Durations and sizes as operators write them: 500ms, 30s, 1m30s, 1.5h; 65536, 10MB, 64MiB.

What could mean two things is refused: a duration without a unit, and a size in K, M or G, which are powers of 1000 to some
and of 1024 to others. The patterns are those of the JSON schema too, so they use nothing that ECMAScript has not.
"""

import re
from decimal import Decimal
from typing import Final

from routing.mistakes import WrongValueError

# Twelve digits are more than any limit here allows, in any unit.
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_UNITS: Final = {
    3_600_000: "h|hr|hrs|hour|hours",
    60_000: "m|min|mins|minute|minutes",
    1000: "s|sec|secs|second|seconds",
    1: "ms",
}
_BYTES: Final = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}

COUNT_PATTERN: Final = "[0-9]{1,12}|[0-9]{1,3}(?:_[0-9]{3}){1,3}"
SIZE_PATTERN: Final = rf"(?:{COUNT_PATTERN}|{_NUMBER})(?: ?(?:[KkMmGg][Ii]?)?[Bb])?"
# Each part once, the largest unit first.
DURATION_PATTERN: Final = "(?=[0-9])" + "".join(f"(?:({_NUMBER}) ?(?:{names}) ?)?" for names in _UNITS.values()) + "(?<! )"

_COUNT = re.compile(COUNT_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)
_DURATION = re.compile(DURATION_PATTERN)
_AMBIGUOUS = re.compile(rf"({COUNT_PATTERN}) ?([KkMmGg])")
_SPLIT = re.compile(r"([0-9_.]+) ?([A-Za-z]*)")

DURATION_REMEDY: Final = "Write a number and a unit: 500ms, 30s, 5m, 1m30s or 1h."
SIZE_REMEDY: Final = "Write a whole number of bytes, or one with a unit: 64MiB, 10MB."
COUNT_REMEDY: Final = "Write a whole number, such as 10."


def duration(text: str) -> float:
    """Seconds. Raises WrongValueError."""
    if _COUNT.fullmatch(text):
        raise WrongValueError("a duration without a unit", f"Write {text}s for seconds, or another unit: 500ms, 5m, 1h.")
    match = _DURATION.fullmatch(text)
    if match is None:
        raise WrongValueError("not a duration", DURATION_REMEDY)
    parts = zip(_UNITS, match.groups(), strict=True)
    milliseconds = sum((Decimal(number) * factor for factor, number in parts if number), Decimal())
    if milliseconds != int(milliseconds):
        raise WrongValueError("not whole milliseconds", DURATION_REMEDY)
    return int(milliseconds) / 1000


def size(text: str) -> int:
    """Bytes. Raises WrongValueError."""
    if doubtful := _AMBIGUOUS.fullmatch(text):
        number, unit = doubtful[1], doubtful[2].upper()
        raise WrongValueError(
            f"a size in {unit}, which means two things", f"Write {number}{unit}iB (of 1024) or {number}{unit}B (of 1000)."
        )
    match = _SPLIT.fullmatch(text) if _SIZE.fullmatch(text) else None
    if match is None:
        raise WrongValueError("not a size", SIZE_REMEDY)
    number_of_bytes = Decimal(match[1]) * _BYTES[match[2].lower()]
    if number_of_bytes != int(number_of_bytes):
        raise WrongValueError("not a whole number of bytes", SIZE_REMEDY)
    return int(number_of_bytes)


def count(text: str) -> int:
    """A whole number, not negative; 1_000 is 1000. Raises WrongValueError."""
    if not _COUNT.fullmatch(text):
        raise WrongValueError("not a whole number", COUNT_REMEDY)
    return int(text)


def show_duration(seconds: float) -> str:
    """A duration as it is written in a file, in the largest unit that keeps it whole (down to milliseconds)."""
    milliseconds = round(seconds * 1000)
    for unit, factor in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def show_size(number: int) -> str:
    """A size as it is written in a file, in the largest binary unit that keeps it whole."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)
