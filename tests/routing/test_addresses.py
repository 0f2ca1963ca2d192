import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.addresses import ADMIN_REMEDY, Address, admin_door, door, overlap, own_hosts, server_name, tentacle
from routing.mistakes import WrongValueError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("https://web01.internal:10933", "web01.internal", 10933),
        ("https://web01", "web01", 10933),
        ("HTTPS://WEB01:65535/", "web01", 65535),
        ("https://10.0.0.1:1", "10.0.0.1", 1),
        ("https://[2001:DB8:0::1]", "2001:db8::1", 10933),
        ("https://my_host-1.a.", "my_host-1.a.", 10933),
        ("https://xn--mnchen-3ya.de:443", "xn--mnchen-3ya.de", 443),
    ],
)
def test_tentacles(text: str, host: str, port: int) -> None:
    assert tentacle(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a URI"),
        ("web01:10933", "not a URI"),
        ("https:/web01", "not a URI"),
        ("http://web01", "a Tentacle listens for https"),
        ("wss://web01", "a Tentacle listens for https"),
        ("poll://sq-1/", "a Tentacle listens for https"),
        ("https://", "no host"),
        ("https://:10933", "no host"),
        ("https://web01:", "not a URI with a host and a port from 1 to 65535"),
        ("https://web01:0", "not a URI with a host and a port from 1 to 65535"),
        ("https://web01:65536", "not a URI with a host and a port from 1 to 65535"),
        ("https://web01:abc", "not a URI with a host and a port from 1 to 65535"),
        ("https://[::1", "not a URI with a host and a port from 1 to 65535"),
        ("https://web01/path", "more than a host and a port"),
        ("https://web01?x=1", "more than a host and a port"),
        ("https://web01#x", "more than a host and a port"),
        ("https://user@web01", "more than a host and a port"),
        ("https://web 01", "not a host name or IP address"),
        ("https://-web01", "not a host name or IP address"),
        ("https://web01..a", "not a host name or IP address"),
        (f"https://{'a' * 64}", "not a host name or IP address"),
        (f"https://{'.'.join(['a' * 60] * 5)}", "not a host name or IP address"),
        ("https://10.0.0.256", "not an IPv4 address, and not a host name either"),
        ("https://10.0.1", "not an IPv4 address, and not a host name either"),
        ("https://münchen.de", "the host name has letters beyond ASCII"),
        ("https://0.0.0.0", "not an address of one machine"),
        ("https://[::]", "not an address of one machine"),
        ("https://224.0.0.1", "not an address of one machine"),
        ("https://[::ffff:127.0.0.1]", "an IPv4 address in IPv6 clothes"),
    ],
)
def test_what_is_no_tentacle(text: str, problem: str) -> None:
    with pytest.raises(WrongValueError) as raised:
        tentacle(text)
    assert raised.value.problem == problem


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("11001", "", 11001),
        ("1", "", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("0.0.0.0:11001", "0.0.0.0", 11001),
        ("[::1]:11001", "::1", 11001),
        ("[0:0::0]:11001", "::", 11001),
        ("[fe80::1%eth0]:11001", "fe80::1%eth0", 11001),
    ],
)
def test_doors(text: str, host: str, port: int) -> None:
    assert door(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a port, nor an IP address and a port"),
        ("abc", "not a port, nor an IP address and a port"),
        (":11001", "not a port, nor an IP address and a port"),
        ("-1", "not a port, nor an IP address and a port"),
        ("0", "not a port from 1 to 65535"),
        ("65536", "not a port from 1 to 65535"),
        ("9" * 5000, "not a port from 1 to 65535"),
        ("127.0.0.1:", "not a port from 1 to 65535"),
        ("127.0.0.1:0", "not a port from 1 to 65535"),
        ("[::1]:x", "not a port from 1 to 65535"),
        ("::1:11001", "an IPv6 address without brackets"),
        ("localhost:11001", "the part before the port is not an IP address"),
        ("*:11001", "the part before the port is not an IP address"),
        ("[]:11001", "the part before the port is not an IP address"),
        ("[::1]", "an IPv6 address without brackets"),
        ("[127.0.0.1]:11001", "brackets are for IPv6 addresses"),
        ("[::ffff:127.0.0.1]:11001", "an IPv4 address in IPv6 clothes"),
        ("https://127.0.0.1:11001", "an IPv6 address without brackets"),
    ],
)
def test_what_is_no_door(text: str, problem: str) -> None:
    with pytest.raises(WrongValueError) as raised:
        door(text)
    assert raised.value.problem == problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9933", Address("127.0.0.1", 9933)),
        ("0.0.0.0:9933", Address("0.0.0.0", 9933)),
        ("[::1]:1", Address("::1", 1)),
        ("none", None),
    ],
)
def test_where_metrics_are_served(text: str, expected: Address | None) -> None:
    assert admin_door(text) == expected


@pytest.mark.parametrize("text", ["", "off", "None", "no", "localhost:9933", "0", "::1:9933", "[::1]:0"])
def test_where_no_metrics_can_be_served(text: str) -> None:
    with pytest.raises(WrongValueError) as raised:
        admin_door(text)
    assert raised.value.remedy == ADMIN_REMEDY


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web01", "web01"),
        ("Web01.Relay.CORP.", "web01.relay.corp"),
        ("a_b", "a_b"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("x" * 63 + ".y", "x" * 63 + ".y"),
        ("1a.2b", "1a.2b"),
    ],
)
def test_names_at_the_shared_door(text: str, name: str) -> None:
    assert server_name(text) == name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a host name"),
        (".", "not a host name"),
        ("a..", "not a host name"),
        (".a", "not a host name"),
        ("a b", "not a host name"),
        ("-a", "not a host name"),
        ("a\n", "not a host name"),
        ("x" * 64, "not a host name"),
        (".".join(["x" * 63] * 4), "not a host name"),
        ("*.relay", "a wildcard: one name means one machine"),
        ("https://web01", "more than a host"),
        ("web01:10933", "a port behind the name"),
        ("10.0.0.1", "an IP address, for which callers send no name"),
        ("::1", "an IP address, for which callers send no name"),
        ("[::1]", "an IP address, for which callers send no name"),
        ("10.0.0", "not an IPv4 address, and not a host name either"),
        ("ü.corp", "the host name has letters beyond ASCII"),
        ("\u212aelvin", "the host name has letters beyond ASCII"),
    ],
)
def test_what_is_no_name_at_the_shared_door(text: str, problem: str) -> None:
    with pytest.raises(WrongValueError) as raised:
        server_name(text)
    assert raised.value.problem == problem


@given(st.ip_addresses(), st.integers(min_value=1, max_value=65535))
def test_a_door_that_is_shown_is_the_same_when_read(ip: object, port: int) -> None:
    address = Address(str(ip), port)
    if "::ffff:" in address.host:
        return
    assert door(str(address)) == address


@given(st.text(max_size=60) | st.from_regex(r"https://[\[\]a-z0-9.:@/]{0,40}"))
def test_any_text_is_read_or_wrong(text: str) -> None:
    for read in (tentacle, door):
        try:
            address = read(text)
        except WrongValueError:
            continue
        assert 1 <= address.port <= 65535


def test_addresses_as_text() -> None:
    assert str(Address("web01", 10933)) == "web01:10933"
    assert str(Address("::1", 10933)) == "[::1]:10933"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "10.0.0.1", True),
        ("", "::1", True),
        ("", "", True),
        ("::", "10.0.0.1", True),
        ("::", "0.0.0.0", True),
        ("0.0.0.0", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::1", False),
    ],
)
def test_doors_that_overlap(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected


def test_what_a_connection_to_a_host_reaches_here() -> None:
    assert set(own_hosts("127.0.0.1")) == {"127.0.0.1", "", "::", "0.0.0.0"}
    assert set(own_hosts("localhost")) == {"127.0.0.1", "::1", "", "::", "0.0.0.0"}
    assert set(own_hosts("::1")) == {"::1", "", "::"}
    assert own_hosts("10.0.0.5") == ("10.0.0.5",)
    assert own_hosts("web01") == ()
