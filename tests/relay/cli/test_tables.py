import io

import pytest

from relay.cli.tables import print_table

THUMBPRINT = "F69040D4D55F46B30A3719B816AB234433049F9D"
COLUMNS, ROWS = ("NAME", "THUMBPRINT"), [("web01", THUMBPRINT), ("[b]x[/b]", "")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    """What a terminal of this width shows."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        print_table(COLUMNS, ROWS)
    return terminal.getvalue()


def test_aligned_columns_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out == f"NAME      THUMBPRINT\nweb01     {THUMBPRINT}\n[b]x[/b]\n"


def test_no_rows_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [])
    assert capsys.readouterr().out == "NAME  THUMBPRINT\n"


def test_drawn_where_a_terminal_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(monkeypatch, 55)
    assert f"│ web01    │ {THUMBPRINT} │\n" in text
    assert "│ [b]x[/b] │" in text


def test_not_drawn_where_it_would_break_a_thumbprint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, 54).splitlines()[1] == f"web01     {THUMBPRINT}"
