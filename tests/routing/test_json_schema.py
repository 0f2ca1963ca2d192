"""The schemas that editors use: what `check` takes they take, and what it refuses in single values and keys they refuse."""

import copy
import functools
import operator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from routing import json_schema
from routing.load import load

A, B, C = "A" * 40, "B" * 40, "C" * 64
MAIN = Draft202012Validator(json_schema.main_file())
MACHINES = Draft202012Validator(json_schema.machines_file())
ROOT = Path(__file__).parents[2]

SMALL = f"""\
relay: {{name: r, state: /s}}
octopus: [{{name: o, thumbprint: {A}}}]
machines: [{{name: w, tentacle: "https://w", thumbprint: {B}, port: 11001}}]
"""
FULL = f"""\
version: 1
relay:
  name: 0815
  state: 2026
  access_log: "-"
  log_level: debug
  limits: {{connections: 500, handshakes: "50"}}
  timeouts: {{client_hello: 5s, identify: 30s, drain: 1m30s}}
octopus:
  - {{name: production, thumbprints: [{A}, {C}], identity: /k.pem}}
  - {{name: staging, thumbprint: 1234567890123456789012345678901234567890}}
front: {{listen: "[::]:10933", connect: true, credentials: users}}
machines:
  - name: web01
    tentacle: https://[2001:db8::1]
    thumbprint: {B}
    octopus: [production, staging]
    port: 11001
    host: Web01.relay.
    connect: Web01.internal.
    identity: web01.pfx
    limits: {{connections: 3, envelope: 64MiB}}
    timeouts: {{ready: 40s, connect: 500ms, prove: 1s, back_idle: 30s, front_idle: 5 min}}
  - {{name: web02, tentacle: "https://w2:1", thumbprints: [{"D" * 40}], octopus: staging, port: 127.0.0.1:11002}}
include: [more.yaml]
defaults: {{limits: {{envelope: 65536}}, timeouts: {{ready: 41s}}}}
admin: {{listen: none}}
"""
MORE = f"machines: [{{name: k, tentacle: 'https://k', thumbprint: {'E' * 40}, octopus: staging, host: k}}]\n"


@pytest.mark.parametrize("text", [SMALL, FULL, SMALL.partition("machines")[0] + "include: more.yaml\n"])
def test_what_check_takes_they_take(text: str, tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(text)
    more = MORE if "staging" in text else "machines: []\n"
    (tmp_path / "more.yaml").write_text(more)
    load(tmp_path / "relay.yaml")
    MAIN.validate(yaml.safe_load(text))
    MACHINES.validate(yaml.safe_load(more))


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_they_take_the_samples_of_the_docs(page: str) -> None:
    sample = (ROOT / page).read_text().partition("```yaml\n")[2].partition("```")[0]
    MAIN.validate(yaml.safe_load(sample))


def test_they_are_schemas() -> None:
    for validator in (MAIN, MACHINES):
        Draft202012Validator.check_schema(validator.schema)
        assert validator.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def sections(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every mapping."""
    found = [path] if isinstance(value, dict) else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [inner for key, each in items for inner in sections(each, (*path, key))]


FULL_DATA = yaml.safe_load(FULL)


def changed(path: tuple[Any, ...], key: str, value: object) -> Any:
    data = copy.deepcopy(FULL_DATA)
    section = data
    for part in path:
        section = section[part]
    section[key] = value
    return data


@pytest.mark.parametrize("path", sections(FULL_DATA))
def test_an_unknown_key_is_wrong_in_every_section(path: tuple[Any, ...]) -> None:
    assert MAIN.is_valid(FULL_DATA)
    assert not MAIN.is_valid(changed(path, "colour", "red"))


KEYS = [(path, key) for path in sections(FULL_DATA) for key in functools.reduce(operator.getitem, path, FULL_DATA)]


@pytest.mark.parametrize(("path", "key"), KEYS)
@pytest.mark.parametrize("value", [None, True, {"a": {"b": "c"}}, [[]]])
def test_a_value_of_another_type_is_wrong_everywhere(path: tuple[Any, ...], key: str, value: object) -> None:
    if (path, key, value) == (("front",), "connect", True):
        return  # the one switch there is
    assert not MAIN.is_valid(changed(path, key, value))


def without(path: tuple[Any, ...], key: str) -> Any:
    data = changed(path, key, None)
    section = data
    for part in path:
        section = section[part]
    del section[key]
    return data


@pytest.mark.parametrize(
    ("path", "key", "needed"),
    [
        ((), "version", False),
        ((), "relay", True),
        ((), "octopus", True),
        ((), "machines", False),
        ((), "include", False),
        (("relay",), "name", True),
        (("relay",), "state", True),
        (("octopus", 0), "thumbprints", True),
        (("machines", 0), "tentacle", True),
        (("machines", 0), "thumbprint", True),
        (("machines", 0), "host", False),
        (("machines", 1), "port", False),  # a target may be its way in, which the main file says
        (("front",), "listen", True),
        (("admin",), "listen", False),
    ],
)
def test_what_must_be_there(path: tuple[Any, ...], key: str, needed: bool) -> None:
    assert MAIN.is_valid(without(path, key)) is not needed


def test_machines_or_an_include_and_one_word_for_thumbprints() -> None:
    data = without((), "machines")
    del data["include"]
    assert not MAIN.is_valid(data)
    assert not MAIN.is_valid(changed(("machines", 0), "thumbprints", ["E" * 40]))
    assert not MAIN.is_valid(changed((), "octopus", []))


@pytest.mark.parametrize("data", [{}, [], {"machines": None}, {"machines": [], "include": "x"}, {"machines": [{"name": "x"}]}])
def test_what_is_no_included_file(data: object) -> None:
    assert not MACHINES.is_valid(data)


def properties(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    sections = [schema, *schema["$defs"].values()]
    return [(name, each) for section in sections for name, each in section["properties"].items()]


@pytest.mark.parametrize("schema", [MAIN.schema, MACHINES.schema])
def test_every_key_is_described_and_its_examples_and_default_are_right(schema: dict[str, Any]) -> None:
    for name, each in properties(schema):
        assert each["description"].endswith("."), name
        assert "title" in each or "$ref" in each or each["type"] == "array", name
        validator = Draft202012Validator({**each, "$defs": schema["$defs"]})
        for value in [*each.get("examples", []), *([each["default"]] if "default" in each else [])]:
            validator.validate(value)
