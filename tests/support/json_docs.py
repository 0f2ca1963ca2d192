"""The JSON schemas of the documentation, and whether real output is as they say."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[2] / "docs" / "json"


def parsed(text: str, name: str) -> Any:
    """The JSON in `text`, which must be as docs/json/NAME.json says."""
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    found = json.loads(text)
    Draft202012Validator(schema).validate(found)
    return found
