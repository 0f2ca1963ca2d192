"""The command line as a process of its own, beside whatever the reactor of the tests serves."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


async def command(*arguments: str | Path, **environment: str) -> Done:
    """Runs ``relay-tentacle`` with these arguments."""
    program = ["-m", "relay", *map(str, arguments)]
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    out, err, code = await getProcessOutputAndValue(sys.executable, program, env=given, reactor=reactor)
    return Done(code, out.decode(), err.decode())


def checked_json(name: str, text: str) -> Any:
    """The output of a command's ``--json``, which docs/json describes."""
    schema = json.loads((ROOT / "docs" / "json" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    found = json.loads(text)
    Draft202012Validator(schema).validate(found)
    return found
