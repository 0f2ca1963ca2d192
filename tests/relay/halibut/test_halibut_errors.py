"""The tree of errors, and what they show."""

from relay.halibut import errors
from relay.halibut.errors import HalibutError, LocalProtocolError, RemoteProtocolError, SmugglingError


def test_each_error_is_ours_or_theirs() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HalibutError)]
    assert len(kinds) == 9
    for kind in kinds:
        assert kind is HalibutError or issubclass(kind, LocalProtocolError) != issubclass(kind, RemoteProtocolError)


def test_a_remote_error_names_its_rule_and_a_short_value() -> None:
    error = RemoteProtocolError("a line", "2.4", b"x" * 1000)
    assert error.rule == "2.4"
    assert str(error) == "a line: b'" + "x" * 78
    assert RemoteProtocolError("a line", "2.4").value is None
    assert str(SmugglingError("a line", "2.4")) == "a line"
    assert str(RemoteProtocolError("a number", "5.2", 0)) == "a number: 0"


def test_values_cannot_break_a_log_line() -> None:
    assert "\n" not in str(RemoteProtocolError("a line", "2.4", "one\ntwo\r\x1b[31m"))
    assert "\x1b" not in str(RemoteProtocolError("a line", "2.4", "one\ntwo\r\x1b[31m"))
