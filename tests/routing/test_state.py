from pathlib import Path

import pytest

from routing.state import state_folder


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("relay: {name: a, state: s}", "s"),
        ("machines:\n- {state: no, relay: {state: no}}\nrelay:\n  limits: {state: no}\n  state: deep/s\n", "deep/s"),
        ("relay:\n  state: s\n  name: [\n", "s"),  # broken behind it
        ("relay:\n  name: &a x\n  other: *a\n  state: s\n", "s"),
        ("other: {relay: {state: no}}\nrelay: {list: [state, no], state: s}\n", "s"),
        ("relay:\n  nothing:\n  state: s\n", "s"),
        ("relay:\n  state: /var/lib/relay\n", "/var/lib/relay"),
        ("# yaml-language-server: $schema=x\nversion: 1\nrelay: {state: '~/x'}\n", "~/x"),
    ],
)
def test_it_is_found_whatever_the_rest_says(tmp_path: Path, text: str, state: str) -> None:
    (tmp_path / "relay.yaml").write_text(text)
    assert state_folder(tmp_path / "relay.yaml") == tmp_path / state


@pytest.mark.parametrize(
    "text",
    ["", "relay:\n", "relay: {name: a}", "relay: state", "- relay", "state: s", "relay:\n  state:\n", "relay:\n  state: [s]\n",
     "relay:\n  state: {s: t}\n", "[relay, state, s]", "relay: [\n", "a: b: c\nrelay: {state: s}\n", "\x00"],
)  # fmt: skip
def test_it_cannot_be_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "relay.yaml").write_text(text)
    assert state_folder(tmp_path / "relay.yaml") is None


def test_there_is_no_file(tmp_path: Path) -> None:
    assert state_folder(tmp_path / "relay.yaml") is None
    assert state_folder(tmp_path) is None


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_bytes(b"relay: {name: \xff\xfe, state: s}")
    assert state_folder(tmp_path / "relay.yaml") is None


def test_a_relative_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "relay.yaml").write_text("relay: {state: s}")
    monkeypatch.chdir(tmp_path)
    assert state_folder(Path("relay.yaml")) == tmp_path / "s"
