import pytest

from relay.cli.exits import MISUSE, NOT_FINE, fail


@pytest.mark.parametrize(("arguments", "code"), [((), MISUSE), ((NOT_FINE,), NOT_FINE)])
def test_failing_says_why_and_ends(capsys: pytest.CaptureFixture[str], arguments: tuple[int, ...], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        fail("the port is taken", *arguments)
    assert end.value.code == code
    assert capsys.readouterr() == ("", "relay-tentacle: the port is taken\n")
