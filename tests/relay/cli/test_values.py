import click
import pytest
from click.testing import CliRunner

from relay.cli.values import duration_from


@click.command()
@click.option("--wait", callback=duration_from(0.5, 60.0), default="1s")
def waits(wait: float) -> None:
    click.echo(wait)


@pytest.mark.parametrize(("written", "read"), [("500ms", "0.5"), ("30s", "30.0"), ("1m", "60.0")])
def test_durations(written, read):
    assert CliRunner().invoke(waits, ["--wait", written]).stdout == f"{read}\n"


@pytest.mark.parametrize("written", ["499ms", "61s", "30", "soon", ""])
def test_wrong_ones(written):
    done = CliRunner().invoke(waits, ["--wait", written])
    assert (done.exit_code, done.stdout) == (2, "")
    assert repr(written) in done.stderr
    assert "Write " in done.stderr


def test_the_default_is_read_too():
    assert CliRunner().invoke(waits).stdout == "1.0\n"
