"""Targets: what means the same host and port to Octopus is one, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.addresses import Address, tentacle
from routing.mistakes import WrongValueError
from routing.targets import REMEDY, of_tentacle, optional_target, target


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("web01.internal:10933", "web01.internal", 10933),
        ("WEB01.Internal.:443", "web01.internal", 443),
        ("web01", "web01", 10933),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[2001:DB8:0:0::7]:10933", "2001:db8::7", 10933),
        ("[2001:db8::7]", "2001:db8::7", 10933),
        ("[fe80::1%eth0]:1", "fe80::1", 1),  # .NET sends no zone
        ("[::ffff:10.0.0.1]:1", "10.0.0.1", 1),
        ("M\u00dcNCHEN.example:1", "xn--mnchen-3ya.example", 1),
        ("xn--mnchen-3ya.example:1", "xn--mnchen-3ya.example", 1),
        ("a_b:1", "a_b", 1),
    ],
)
def test_one_spelling_for_each(text: str, host: str, port: int) -> None:
    found = target(text)
    assert found == Address(host, port)
    assert target(str(found)) == found
    assert optional_target(text) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a host name"),
        (":1", "not a host name"),
        ("web01:", "not a port from 1 to 65535"),
        ("web01:0", "not a port from 1 to 65535"),
        ("web01:65536", "not a port from 1 to 65535"),
        ("web01:\u0661", "not a port from 1 to 65535"),
        ("2001:db8::7", "an IPv6 address without brackets"),
        ("[web01]:1", "no IPv6 address in the brackets"),
        ("[::1]:", "not a port from 1 to 65535"),
        ("https://web01:1", "more than a host and a port"),
        ("user@web01:1", "more than a host and a port"),
        ("web01..a:1", "not a host name"),
        ("we b01:1", "not a host name"),
        ("256.0.0.1:1", "not an IPv4 address, and not a host name either"),
        ("\ufffd:1", "not a host name"),
        ("\u00fc" * 100 + ":1", "not a host name"),
        ("a" * 301, "too long for a host and a port"),
    ],
)
def test_what_is_none(text: str, problem: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        target(text)
    assert problem in caught.value.problem
    assert caught.value.remedy == REMEDY


def test_no_target_at_all() -> None:
    assert optional_target("none") is None
    assert optional_target("NONE") is None


@pytest.mark.parametrize("uri", ["https://Web01.internal.:10933", "https://web01.internal"])
def test_the_one_of_a_tentacle(uri: str) -> None:
    assert of_tentacle(tentacle(uri)) == target("web01.internal:10933")


@given(st.text() | st.text("[]:.@%/a1\u00fc-", max_size=20))
def test_whatever_is_written_it_is_a_target_or_none(text: str) -> None:
    try:
        found = target(text)
    except WrongValueError:
        return
    assert target(str(found)) == found
    assert str(found).isascii()
    assert str(found) == str(found).lower()
