"""Durations and sizes as operators write them: 500ms, 30s, 5m, 1h; 65536, 10MB, 64MiB."""

import re

from routing.mistakes import WrongValueError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
# Twelve digits are more than any limit here allows, in any unit.
_DURATION = re.compile(r"([0-9]{1,12})([A-Za-z]+)")
_SIZE = re.compile(r"([0-9]{1,12})([A-Za-z]*)")
_COUNT = re.compile(r"[0-9]{1,12}")

DURATION_REMEDY = "Write a whole number and a unit: 500ms, 30s, 5m or 1h."
SIZE_REMEDY = "Write a whole number of bytes, or one with a unit: 64MiB, 10MB."
COUNT_REMEDY = "Write a whole number, such as 10."


def duration(text: str) -> float:
    """Seconds. Raises WrongValueError."""
    if _COUNT.fullmatch(text):
        raise WrongValueError("a duration without a unit", f"Write {text}s for seconds, or another unit: 500ms, 5m, 1h.")
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _SECONDS:
        raise WrongValueError("not a duration", DURATION_REMEDY)
    # Milliseconds are divided: 3 * 0.001 is not 0.003.
    return int(match[1]) / 1000 if match[2] == "ms" else int(match[1]) * _SECONDS[match[2]]


def size(text: str) -> int:
    """Bytes. Raises WrongValueError."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _BYTES:
        raise WrongValueError("not a size", SIZE_REMEDY)
    return int(match[1]) * _BYTES[match[2]]


def count(text: str) -> int:
    """A whole number, not negative. Raises WrongValueError."""
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
    for unit in ("GiB", "MiB", "KiB"):
        if number and number % _BYTES[unit] == 0:
            return f"{number // _BYTES[unit]}{unit}"
    return str(number)
