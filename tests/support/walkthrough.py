"""Console blocks of a page: commands and what they print, with what differs each time put back as the page has it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NUMBERS: Final = re.compile(r" +[0-9]+\.[0-9](?= ms)")


@dataclass(frozen=True)
class Block:
    """``$ command``, and its output. line: in the page."""

    command: list[str]
    output: str
    line: int


def console_blocks(page: Path) -> list[Block]:
    """Of one command each."""
    text = page.read_text()
    found = [
        Block(match[1].split(), match[2], text.count("\n", 0, match.start()) + 1)
        for match in re.finditer(r"^```console\n\$ ([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]
    assert len(found) == text.count("```console\n"), "a block that does not begin with '$ '"
    return found


def alike(text: str, values: dict[str, str] | None = None) -> str:
    """For a comparison: values as the page has them, no milliseconds, and columns of any width."""
    for actual, written in (values or {}).items():
        text = text.replace(actual, written)
    text = _NUMBERS.sub(" N", text)
    return "\n".join(re.sub(r"(?<=\S) {2,}", "  ", line).rstrip() for line in text.splitlines())
