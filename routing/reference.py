"""The tables of docs/configuration.md, made from the JSON schema.

    python -m routing.reference docs/configuration.md

writes them anew, each between the line <!-- keys: SECTION --> and the next <!-- end -->. What stands around them stays.
"""

import re
import sys
from pathlib import Path
from typing import Any, Final

from routing import json_schema

_MARK: Final = re.compile(r"(<!-- keys: ([a-z_.\[\]]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
_HEADING: Final = "| key | what to write | default | what it is |\n|---|---|---|---|\n"
MAIN: Final = "main"


def tables() -> dict[str, str]:
    """A Markdown table for each section, by its place in the file: main, relay, relay.limits, machines[]..."""
    schema = json_schema.main_file()
    sections: dict[str, dict[str, Any]] = {}
    _collect(schema, schema, "", sections)
    return {place: _HEADING + "".join(_rows(section)) for place, section in sections.items()}


def renewed(page: str) -> str:
    """The page with its tables made anew. Raises KeyError for a section that there is not."""
    made = tables()
    return _MARK.sub(lambda match: f"{match[1]}{made[match[2]]}{match[3]}", page)


def places(page: str) -> list[str]:
    """The sections whose tables the page has."""
    return [match[2] for match in _MARK.finditer(page)]


def _collect(root: dict[str, Any], section: dict[str, Any], place: str, found: dict[str, dict[str, Any]]) -> None:
    """Adds this section and those in it. What several have is told once, of the first that has it."""
    found[place or MAIN] = section
    for name, schema in section["properties"].items():
        inner = _inner(root, schema)
        if inner and inner not in found.values():
            mark = "" if "$ref" in schema else "[]"
            _collect(root, inner, f"{place}.{name}{mark}".removeprefix("."), found)


def _inner(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    reference = _reference(schema)
    found: dict[str, Any] | None = root["$defs"][reference.rpartition("/")[2]] if reference else None
    return found


def _reference(schema: dict[str, Any]) -> str:
    """The section that it is, or a list of, or may be among other things; empty for none."""
    within = [*([schema["items"]] if "items" in schema else []), *schema.get("anyOf", [])]
    return str(schema.get("$ref", "")) or next(filter(None, map(_reference, within)), "")


def _rows(section: dict[str, Any]) -> list[str]:
    required = section.get("required", [])
    rows = []
    for name, schema in section["properties"].items():
        kind = schema.get("title") or ("a list" if schema.get("type") == "array" else "keys and values")
        default = "required" if name in required else f"`{schema['default']}`" if "default" in schema else ""
        rows.append(f"| `{name}` | {kind} | {default} | {schema['description']} |\n")
    return rows


def main(arguments: list[str]) -> None:
    """Makes the tables of these pages anew."""
    for name in arguments:
        page = Path(name)
        page.write_text(renewed(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
