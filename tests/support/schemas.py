"""The JSON schemas of the docs."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[2] / "docs" / "json"


def described(command: str, answer: Any) -> Any:
    """The answer, which has to be as docs/json says."""
    schema = json.loads((FOLDER / f"{command}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(answer)
    return answer
