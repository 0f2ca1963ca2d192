from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routing.yaml_lines import Document, parse, where

FILE = Path("relay.yaml")
ALIAS = "Write the value out, or in quotes if it is to begin with '*': aliases are not supported."


def said(text: str) -> list[str]:
    return [str(mistake) for mistake in parse(text, FILE).mistakes]


def test_values_stay_the_text_that_was_written() -> None:
    text = "a: 007\nb: no\nc: 12:30\nd: 1.50\ne: '~'\nf: 2024-01-01\ng: [1, {h: true}]\n"
    assert parse(text, FILE).data == {
        "a": "007",
        "b": "no",
        "c": "12:30",
        "d": "1.50",
        "e": "~",
        "f": "2024-01-01",
        "g": ["1", {"h": "true"}],
    }


def test_only_empty_values_are_none() -> None:
    assert parse("a:\nb: ~\nc: null\nd: ''\ne: 'null'\n", FILE).data == {"a": None, "b": None, "c": None, "d": "", "e": "null"}


def test_every_value_has_its_line() -> None:
    document = parse("# first\na:\n  - b\n  -\n    c: d\n\n    e: |\n      text\nf: {g: 1,\n  h: 2}\n", FILE)
    assert document.lines == {
        ("a",): 2,
        ("a", 0): 3,
        ("a", 1): 5,
        ("a", 1, "c"): 5,
        ("a", 1, "e"): 7,
        ("f",): 9,
        ("f", "g"): 9,
        ("f", "h"): 10,
    }


def test_what_is_not_in_the_file_has_the_line_of_what_is_around_it() -> None:
    document = parse("x: 1\na:\n  - b: 1\n", FILE)
    assert document.line(("a", 0, "missing", 3)) == 3
    assert document.line(("a", 9)) == 2
    assert document.line(("nothing",)) == 1
    assert document.known(("a", 0, "missing", 3)) == ("a", 0)


def test_keys_as_people_write_them() -> None:
    assert where(("machines", 1, "timeouts", "ready")) == "machines[1].timeouts.ready"
    assert where(()) == ""
    assert where(("a\nb",)) == "'a\\nb'"
    assert where(("x" * 100,)) == f"'{'x' * 59}…'"


def test_keys_given_twice_name_both_lines_and_the_rest_is_read() -> None:
    document = parse("a: 1\nb:\n  c: 2\n  c: {d: 3, d: 4}\nb:\n  e: 5\nf: 6\n", FILE)
    assert [str(mistake) for mistake in document.mistakes] == [
        "relay.yaml:4: b.c: given twice: on line 3 and again here. Keep one of them.",
        "relay.yaml:4: b.c.d: given twice: on line 4 and again here. Keep one of them.",
        "relay.yaml:5: b: given twice: on line 2 and again here. Keep one of them.",
    ]
    assert document.data == {"a": "1", "b": {"c": "2"}, "f": "6"}
    assert not document.broken


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: 1\n\tb: 2\n", "relay.yaml:2: a tab in the indentation, which YAML does not allow. Write spaces instead."),
        ("a:\n  b: 1\n\tc: 2\n", "relay.yaml:3: a tab in the indentation, which YAML does not allow. Write spaces instead."),
        ("a: [1, 2\n", "relay.yaml:1: not YAML: "),
        ("a: 1\nb: 'x\n", "relay.yaml:2: not YAML: "),
        ("a: b: c\n", "relay.yaml:1: not YAML: "),
        ("a: 1\n b: 2\n", "relay.yaml:2: not YAML: "),
        ("a: @x\n", "relay.yaml:1: not YAML: "),
        ("a: 1\nb: \x01\n", "relay.yaml:2: a control character, '\\x01'. Remove it."),
        ("a: \x00", "relay.yaml:1: a control character, '\\x00'. Remove it."),
        ("a: &x 1\nb: *x\n", f"relay.yaml:2: an alias, *x. {ALIAS}"),
        ("a: &a [*a]\n", f"relay.yaml:1: an alias, *a. {ALIAS}"),
        ("a: !!binary aGk=\n", "relay.yaml:1: a tag, tag:yaml.org,2002:binary. Remove it: tags are not supported."),
        ("a: !!python/object:os.system {}\n", "relay.yaml:1: a tag, tag:yaml.org,2002:python/object:os.syste. Remove it"),
        ("a: 1\n---\nb: 2\n", "relay.yaml:2: a second document in one file. Remove the line '---' and what follows."),
        ("? [a, b]\n: 1\n", "relay.yaml:1: a list or mapping as a key. Write a name as the key."),
        ("a: " + "[" * 17 + "]" * 17, "relay.yaml:1: nested more than 16 deep. Nothing here needs that: remove it."),
        ("[" * 100_000, "relay.yaml:1: nested more than 16 deep."),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, start: str) -> None:
    (one,) = said(text)
    assert one.startswith(start)
    assert parse(text, FILE).broken


def test_a_laughing_billion_is_refused_at_its_first_alias() -> None:
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert said("\n".join(lines)) == [f"relay.yaml:2: an alias, *a0. {ALIAS}"]


def test_values_are_counted() -> None:
    (one,) = said("[" + "1," * 1_000_001 + "]")
    assert one == "relay.yaml:1: more than 1000000 values. Split this over several relays."


def test_depth_at_the_limit_is_fine() -> None:
    assert said("[" * 16 + "]" * 16) == []


def test_the_parser_without_c_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a: 1\na: [2, {b: ~}]\n", "a: &x 1\nb: *x\n", "a: 1\n\tb: 2\n", "a: 'x\n"]
    fast = [parse(text, FILE) for text in texts]
    monkeypatch.setattr("routing.yaml_lines._LOADER", yaml.SafeLoader)
    slow = [parse(text, FILE) for text in texts]
    assert [d.broken for d in fast] == [False, True, True, True]
    assert (slow[0].data, slow[0].lines) == (fast[0].data, fast[0].lines)
    assert [d.broken for d in slow] == [d.broken for d in fast]
    assert [[m.line for m in d.mistakes] for d in slow] == [[m.line for m in d.mistakes] for d in fast]


@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?, \n\t~", max_size=200))
def test_any_text_is_read_or_has_a_mistake_on_one_of_its_lines(text: str) -> None:
    document = parse(text, FILE)
    assert document.broken <= bool(document.mistakes)
    for mistake in document.mistakes:
        assert 1 <= mistake.line <= text.count("\n") + text.count("\r") + text.count("\x85") + 1


@given(
    st.dictionaries(
        st.text(alphabet="abc", min_size=1, max_size=3),
        st.recursive(
            st.text(alphabet="abc:#- '\"\n", max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(alphabet="xyz", min_size=1, max_size=3), inner, max_size=3)
            ),
            max_leaves=10,
        ),
        max_size=4,
    )
)
def test_what_yaml_writes_is_read(data: dict[str, object]) -> None:
    document = parse(yaml.safe_dump(data, default_style='"'), FILE)
    assert (document.mistakes, document.data) == ([], data)


def test_a_document_can_say_a_mistake_at_a_key() -> None:
    document = Document(FILE, lines={("a",): 3})
    assert str(document.mistake(("a", "b"), "missing", "Add it.")) == "relay.yaml:3: a.b: missing. Add it."
