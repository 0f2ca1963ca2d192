"""The kinds of values: what their readers take, their JSON schema takes too. What readers refuse is in test_schema.py."""

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from routing import units, values
from routing.mistakes import WrongValueError

KINDS: dict[str, Any] = {
    "name": values.Name,
    "names": values.Names,
    "pins": values.Pins,
    "path": values.FilePath,
    "patterns": values.Patterns,
    "version": values.Version,
    "level": values.LogLevel,
    "tentacle": values.TentacleAddress,
    "subscription": values.OptionalSubscription,
    "nodes": values.Nodes,
    "proxy": values.OptionalProxy,
    "front": values.FrontStyle,
    "door": values.Door,
    "admin": values.AdminDoor,
    "host": values.ServerName,
    "switch": values.Switch,
    "target": values.OptionalTarget,
    "ready": values.Ready,
    "count": Annotated[int, values.count(10)],
    "size": Annotated[int, values.size(2**20)],
    "duration": Annotated[float, values.duration(1.0, 60.0)],
}
GOOD = {
    "name": ["web01", "0815", "1.5", "_", "x" * 64],
    "names": ["one", ["one", "two"], "12"],
    "pins": [
        "A" * 40,
        "a" * 64,
        "1" * 40,
        ":".join(["0f"] * 20),
        " ".join(["0F"] * 20),
        "-".join(["0F"] * 32),
        "\u200e" + "A" * 40,
        ["A" * 40, "B" * 40],
    ],
    "path": ["/var/lib", "state", "./a b/c", "-", "a~", "ü"],
    "patterns": ["machines.d/*.yaml", ["a.yaml", "/x/?.yaml"]],
    "version": ["1"],
    "level": list(values.LOG_LEVELS),
    "tentacle": [
        "https://web01",
        "HTTPS://Web01:1/",
        "https://10.0.0.1:65535",
        "https://[2001:db8::1]:10933",
        "https://a_b.",
        "poll://SQ-1",
    ],
    "subscription": ["poll://SQ-7Q2M4Z/", "POLL://a", "poll://a.b_c-d9/"],
    "nodes": ["https://octopus-1", ["https://octopus-1:10943", "https://[2001:db8::1]"]],
    "proxy": ["http://proxy", "HTTP://proxy.corp:3128/", "http://[2001:db8::1]:8080"],
    "front": ["polling"],
    "door": ["1", "65535", "127.0.0.1:11001", "[::1]:11001", "[fe80::1%eth0]:1", "0011"],
    "admin": ["none", "9933", "0.0.0.0:9933", "[::]:9933"],
    "host": ["web01", "WEB01.relay.corp.", "a_b", "xn--bcher-kva.example", "1a"],
    "switch": ["true", "false", "True", "FALSE"],
    "target": ["web01", "WEB01.corp.:1", "10.0.0.1:65535", "[2001:DB8::1]", "[::1]:10933", "b\u00fccher.example:1", "none"],
    "ready": ["45s", "59999ms", "1ms", "0.5s"],
    "count": ["1", "10", "0_010"],
    "size": ["1", "1024", "1KiB", "1MB", "1 mib", "0.5MiB", "10_000", "7B"],
    "duration": ["1s", "1m", "1000ms", "59s", "0.5 min", "30 seconds", "1s 500ms"],
}
WRONG: dict[str, list[Any]] = {
    "name": ["", "a b", "-a", ".a", "x" * 65, ["a"], {"a": "b"}],
    "names": ["", [], ["a", "a"], {"a": "b"}, [["a"]]],
    "pins": ["", "A" * 39, "G" * 40, [], ["A" * 40, "A" * 40], {"a": "b"}],
    "path": ["", "~/x", "a\nb", ["a"]],
    "patterns": ["", [], ["a", "a"], {"a": "b"}],
    "version": ["2", "1.0"],
    "level": ["INFO", "trace"],
    "tentacle": ["web01", "http://web01", "poll://", "https://", "https://web01/x", "https://u@web01"],
    "subscription": ["", "sq-1", "https://a", "poll://", "poll:///", "poll://a/b", "poll://-a/", f"poll://{'a' * 64}/"],
    "nodes": ["", [], "octopus-1", "http://octopus-1", ["https://a", "https://a"], {"a": "b"}],
    "proxy": ["", "proxy:3128", "https://proxy", "http://user@proxy"],
    "front": ["", "listening", "Polling"],
    "door": ["", "x", ":1", "localhost:1", "::1:1", "[::1]", "127.0.0.1:123456"],
    "admin": ["off", "", "x"],
    "switch": ["", "yes", "1", "truely"],
    "target": ["", ":1", "web01:", "a b", "https://web01:1", "2001:db8::1", "[::1", "[::1]1", "[::1]:"],
    "host": ["", "-a", "*.a", "a/b", "a:1", "[::1]", "a..b", "ü", "x" * 64],
    "ready": ["45", "", "s", "5x"],
    "count": ["-1", "1.5", "x", "1e3", ""],
    "size": ["1TB", "64M", "-1", "x"],
    "duration": ["30", "x", "1s1m", ""],
}


def schema(kind: str) -> Draft202012Validator:
    made = TypeAdapter(KINDS[kind]).json_schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def seen(value: Any) -> Any:
    """As an editor sees it, which takes some texts for numbers."""
    if isinstance(value, list):
        return [seen(each) for each in value]
    plain = value if re.fullmatch(r"[A-Za-z0-9./:_]+", value) else f"'{value}'"
    return yaml.safe_load(plain)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, found in GOOD.items() for value in found])
def test_what_is_right_is_right_for_editors_too(kind: str, value: Any) -> None:
    TypeAdapter(KINDS[kind]).validate_python(value)
    schema(kind).validate(seen(value))
    schema(kind).validate(value)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, found in WRONG.items() for value in found])
def test_what_is_wrong_is_wrong_for_editors_too(kind: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(KINDS[kind]).validate_python(value)
    assert not schema(kind).is_valid(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("count", 0),
        ("count", 11),
        ("count", True),
        ("size", 0),
        ("size", 2**20 + 1),
        ("door", 0),
        ("door", 65536),
        ("duration", 30),
        ("version", 2),
    ],
)
def test_editors_know_the_ranges_of_numbers(kind: str, value: object) -> None:
    assert not schema(kind).is_valid(value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_to_write(kind: str) -> None:
    assert schema(kind).schema["title"]


@given(st.sampled_from(list(KINDS)), st.text(max_size=50) | st.from_regex(units.DURATION_PATTERN, fullmatch=True))
def test_an_editor_takes_whatever_the_relay_takes(kind: str, text: str) -> None:
    try:
        TypeAdapter(KINDS[kind]).validate_python(text)
    except ValidationError:
        return
    schema(kind).validate(text)


def test_names_and_paths_by_themselves() -> None:
    assert (values.name("web01"), values.path("a/b")) == ("web01", Path("a/b"))
    for read, text in [(values.name, "a/b"), (values.path, "~")]:
        with pytest.raises(WrongValueError):
            read(text)
