from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import checked_json

from relay.cli.exits import MISUSE, NOT_FINE, fail
from relay.cli.main import main


@pytest.mark.parametrize(("arguments", "code"), [((), MISUSE), ((NOT_FINE,), NOT_FINE)])
def test_failing_says_why_and_ends(capsys: pytest.CaptureFixture[str], arguments: tuple[int, ...], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        fail("the port is taken", *arguments)
    assert end.value.code == code
    assert capsys.readouterr() == ("", "relay-tentacle: the port is taken\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["machines", "nope"], NOT_FINE),
        (["identity", "show", "nope"], NOT_FINE),
        (["identity", "new", "nope"], NOT_FINE),
        (["identity", "rotate", "nope"], NOT_FINE),
        (["probe", "nope"], NOT_FINE),
        (["probe"], MISUSE),
        (["explain", "nope"], NOT_FINE),
        (["restore", "nope"], NOT_FINE),
        (["backup", "nope", "--no-password"], NOT_FINE),
        (["status"], NOT_FINE),
        (["close"], MISUSE),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_with_json_the_error_is_json_too(
    identity_config: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(identity_config.parent)
    text = CliRunner().invoke(main, [*arguments, "--config", str(identity_config)])
    assert (text.exit_code, text.stdout) == (code, "")
    done = CliRunner().invoke(main, [*arguments, "--json", "--config", str(identity_config)])
    error = checked_json("error", done.stdout)["error"]
    assert (done.exit_code, done.stderr) == (code, f"relay-tentacle: {error}\n")


def test_so_are_the_mistakes_of_a_configuration(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["machines", "--json", "--config", str(tmp_path / "none")])
    assert (done.exit_code, checked_json("error", done.stdout)) == (
        MISUSE,
        {
            "ok": False,
            "error": f"1 mistake in {tmp_path / 'none'}; nothing was done",
            "mistakes": [f"{tmp_path / 'none'}: no such file. Check the path."],
        },
    )
    assert done.stderr.splitlines()[0] == f"{tmp_path / 'none'}: no such file. Check the path."
