"""Whole configurations that are bad, each with all that is said about it: bad_configurations.txt.

There, "=== CASE" begins a case, "--- FILE" each of its files, of which relay.yaml is the main one, and "--- said" the messages.
"""

import re
from pathlib import Path

import pytest

from routing.load import load
from routing.mistakes import ConfigurationError

TEXT = Path(__file__).with_name("bad_configurations.txt").read_text("utf-8")


def split(text: str, mark: str) -> dict[str, str]:
    """What stands below each line that begins with this mark, by the rest of that line."""
    _, *parts = re.split(rf"^{mark} (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


CASES = split(TEXT, "===")


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
    assert len(CASES) == TEXT.count("=== ")


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = split(CASES[case], "---")
    said = files.pop("said").splitlines()
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, "utf-8")
    with pytest.raises(ConfigurationError) as raised:
        load(Path("relay.yaml"))
    assert str(raised.value).splitlines() == said
    assert said
