"""Writing a new site: all of it or nothing. What is in it is in test_cli_init.py."""

import os
from pathlib import Path

import pytest

from routing import starter
from routing.starter import SiteExistsError, write


def test_all_that_is_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "c").symlink_to("nowhere")
    contents = {tmp_path / name: "new" for name in "abc"}
    with pytest.raises(SiteExistsError) as raised:
        write(contents)
    assert raised.value.paths == (tmp_path / "a", tmp_path / "c")
    assert not (tmp_path / "b").exists()


def test_somebody_else_is_as_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file comes to be between the look and the writing: it stays, and ours go."""
    theirs = tmp_path / "d" / "b"
    link = os.link

    def race(source: Path, target: Path) -> None:
        if target == theirs:
            theirs.write_text("theirs")
        link(source, target)

    monkeypatch.setattr(starter.os, "link", race)
    with pytest.raises(SiteExistsError) as raised:
        write({tmp_path / "a": "new", theirs: "new"})
    assert raised.value.paths == (theirs,)
    assert theirs.read_text() == "theirs"
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "d", theirs]
