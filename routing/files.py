"""The files of a configuration: the main one and those that it includes, each read whole and within bounds."""

import fnmatch
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from routing.mistakes import ConfigurationError, Mistake, WrongValueError

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_FILES: Final = 20_000
_PIECE: Final = 256 * 1024
_WILD = frozenset("*?[")
_SPLIT_REMEDY = "Split this over several relays."


@dataclass
class Bounds:
    """How many bytes may still be read, of all files of one configuration together; less than 0: it has more than that.

    seen: the files that were opened, by device and inode.
    """

    bytes: int = MAX_BYTES
    seen: dict[tuple[int, int], Path] = field(default_factory=dict)


def read_main(path: Path, bounds: Bounds) -> str:
    """The text of the main file, which may be a pipe. Raises ConfigurationError."""
    return _decoded(path, _read(path, os.O_RDONLY, bounds, "Name the configuration file in it."))


def read_included(path: Path, bounds: Bounds) -> str:
    """The text of an included file. Raises ConfigurationError."""
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    return _decoded(path, _read(path, os.O_RDONLY | os.O_NONBLOCK, bounds, "Move it away, or narrow the pattern."))


def matching(pattern: str, folder: Path) -> list[Path]:
    """The files that a pattern means, by name: one without a wildcard must be there.

    As in a shell, a wildcard does not stand for a dot in front. Raises WrongValueError.
    """
    parent, name = os.path.split(pattern)
    if _WILD & set(parent):
        raise WrongValueError("a wildcard in the name of a folder", "Write one pattern for each folder.")
    if not _WILD & set(name):
        if not os.path.lexists(folder / pattern):
            raise WrongValueError(f"no such file: {folder / pattern}", "Check the name. Only a pattern may match nothing.")
        if os.path.isdir(folder / pattern):
            raise WrongValueError("a folder", f"Write {pattern}/*.yaml for the files in it.")
        return [folder / pattern]
    try:
        names = os.listdir(folder / parent)
    except FileNotFoundError:
        # A folder that is not mounted must not look like one without machines.
        raise WrongValueError(f"no such folder: {folder / parent}", f"Run: mkdir {folder / parent}") from None
    except OSError as error:
        problem = f"{folder / parent} cannot be listed: {error.strerror or type(error).__name__}"
        raise WrongValueError(problem, "Check the folder and who may read it.") from None
    found = [each for each in names if fnmatch.fnmatchcase(each, name) and (name[0] == "." or each[0] != ".")]
    return [folder / parent / each for each in sorted(found)]


def _read(path: Path, flags: int, bounds: Bounds, folder_remedy: str) -> bytes:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            _check_kind(path, os.fstat(descriptor), flags, bounds, folder_remedy)
            with open(descriptor, "rb", closefd=False) as file:
                data = b"".join(_pieces(file, bounds.bytes + 1))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise unreadable(path, "no such file", "Check the path.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise unreadable(path, f"cannot be read: {reason}", "Check the path and who may read it.") from error
    bounds.bytes -= len(data)
    if bounds.bytes < 0:
        others = "" if len(bounds.seen) == 1 else ", with the files before it"
        raise unreadable(path, f"more than {MAX_BYTES} bytes{others}", _SPLIT_REMEDY)
    return data


def _pieces(file: BinaryIO, most: int) -> Iterator[bytes]:
    """Up to so many bytes. In pieces, because asking for many at once takes the memory for all of them."""
    while most > 0 and (piece := file.read(min(most, _PIECE))):
        most -= len(piece)
        yield piece


def _check_kind(path: Path, about: os.stat_result, flags: int, bounds: Bounds, folder_remedy: str) -> None:
    """Raises ConfigurationError for what is no file to read, and for one that was read before."""
    if stat.S_ISDIR(about.st_mode):
        raise unreadable(path, "a folder", folder_remedy)
    if flags & os.O_NONBLOCK and not stat.S_ISREG(about.st_mode):
        raise unreadable(path, "not a file", "Name a file, or a link to one.")
    first = bounds.seen.setdefault((about.st_dev, about.st_ino), path)
    if first is not path:
        problem = f"the same file as {first}" if first != path else "the main file, which includes itself"
        raise unreadable(path, problem, "Include each file once, and never the main one.")


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise unreadable(path, "not UTF-8", "Save the file as UTF-8.", line) from None


def unreadable(path: Path, problem: str, remedy: str, line: int = 0) -> ConfigurationError:
    """The error of a file that cannot be used at all."""
    return ConfigurationError([Mistake(path, line, "", None, problem, remedy)])
