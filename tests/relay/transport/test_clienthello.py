from collections.abc import Iterable

import pytest
from hellos import spoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_peer import VERSIONS

from relay.transport.clienthello import LARGEST, ClientHello, NotClientHelloError, read_client_hello


def block(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(type_: int, body: bytes) -> bytes:
    return type_.to_bytes(2, "big") + block(2, body)


def server_name(*names: tuple[int, bytes]) -> bytes:
    return extension(0, block(2, b"".join(bytes([type_]) + block(2, name) for type_, name in names)))


def message(extensions: bytes | None = b"", session: bytes = bytes(32)) -> bytes:
    """A ClientHello, made by hand. extensions: None leaves out their block, as before TLS 1.2."""
    body = b"\x03\x03" + bytes(32) + block(1, session) + block(2, b"\x13\x01") + block(1, b"\0")
    if extensions is not None:
        body += block(2, extensions)
    return b"\x01" + block(3, body)


def records(data: bytes, size: int = LARGEST) -> bytes:
    """The same message in records of so many bytes."""
    return b"".join(b"\x16\x03\x01" + block(2, data[start : start + size]) for start in range(0, len(data), size))


HELLOS = {
    f"{version}-{name or 'no name'}": (spoken(version, name), name or "")
    for version in VERSIONS
    for name in ("web01.relay.corp", None)
}
every_hello = pytest.mark.parametrize(("hello", "name"), HELLOS.values(), ids=HELLOS)


@every_hello
def test_a_real_one(hello: bytes, name: str) -> None:
    assert read_client_hello(hello) == ClientHello(name)


@every_hello
def test_a_real_one_with_more_behind_it(hello: bytes, name: str) -> None:
    for tail in (b"\0", b"GET / HTTP/1.1\r\n", b"\x17\x03\x03\x00\x01x", hello, bytes(LARGEST)):
        assert read_client_hello(hello + tail) == ClientHello(name)


@every_hello
def test_no_beginning_of_a_real_one_says_anything_yet(hello: bytes, name: str) -> None:
    for end in range(len(hello)):
        assert read_client_hello(hello[:end]) is None


@every_hello
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
def test_a_real_one_over_several_records(hello: bytes, name: str, size: int) -> None:
    pieces = records(hello[5:], size)
    assert read_client_hello(pieces) == ClientHello(name)
    for end in range(len(pieces)):
        assert read_client_hello(pieces[:end]) is None


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        (None, ""),
        (b"", ""),
        (server_name((0, b"WEB01.Relay.Corp")), "web01.relay.corp"),
        (extension(0x0A0A, b"") + server_name((0, b"a")) + extension(0xFAFA, b"\0"), "a"),  # GREASE (RFC 8701)
        (extension(65535, bytes(1000)) + server_name((0, b"a")), "a"),
        (server_name((7, b"of a kind that nobody knows"), (0, b"a")), "a"),
        (server_name((7, b"of a kind that nobody knows")), ""),
        (server_name(), ""),
        (server_name((0, b"a" * 255)), "a" * 255),
        (server_name((0, b"kiosk_7.local.")), "kiosk_7.local."),
    ],
)  # fmt: skip
def test_the_name_among_extensions(extensions: bytes | None, name: str) -> None:
    assert read_client_hello(records(message(extensions))) == ClientHello(name)


def test_a_session_id_does_not_matter() -> None:
    for size in (0, 1, 32):
        assert read_client_hello(records(message(server_name((0, b"a")), bytes(size)))) == ClientHello("a")


@pytest.mark.parametrize(
    "name", [b"", b"a" * 256, b"a\0b", b"a\nb", b"caf\xc3\xa9", b"\x7f"], ids=lambda name: repr(name[:5])
)  # fmt: skip
def test_a_name_that_is_none(name: bytes) -> None:
    with pytest.raises(NotClientHelloError, match="a server name that is none"):
        read_client_hello(records(message(server_name((0, name)))))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: web01\r\n\r\n",
        b"CONNECT web01:10933 HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"MX-CLIENT 1.0\r\n\r\n",
        bytes.fromhex("802e010002001500000010"),  # SSLv2
        b"\0",
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
        b"\x17\x03\x03\x00\x01x",
    ],
)
def test_something_else_is_known_by_its_first_byte(data: bytes) -> None:
    for end in range(1, len(data) + 1):
        with pytest.raises(NotClientHelloError, match="not TLS"):
            read_client_hello(data[:end])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x16\x02", "version"),
        (b"\x16\x04\x01\x00\x05", "version"),
        (b"\x16\x03\x01\x00\x00", "impossible length"),
        (b"\x16\x03\x01\x40\x01", "impossible length"),
        (b"\x16\x03\x01\xff\xff", "impossible length"),
        (b"\x16\x03\x01\x00\x05\x02", "does not begin with a ClientHello"),
        (records(b"\x01\0\0\x05")[:-1] + b"\x05" + b"\x17\x03\x03", "not TLS"),  # another record before it is whole
        (records(b"\x01\0\0\0"), "lengths do not fit"),
        (records(b"\x01\0\0\x01\0"), "lengths do not fit"),
        (records(b"\x01" + block(3, message()[4:-2] + b"\0\x05abcd")), "lengths do not fit"),
        (records(message(extension(5, b"")[:-1])), "lengths do not fit"),
        (records(message(b"\0\0\0\x05\0\x09\0\0\x03abc")), "lengths do not fit"),
    ],
)
def test_what_cannot_be_one(data: bytes, why: str) -> None:
    with pytest.raises(NotClientHelloError, match=why):
        read_client_hello(data)


def test_nothing_yet() -> None:
    assert read_client_hello(b"") is None


def test_one_that_is_too_large_is_given_up_when_so_much_has_come() -> None:
    endless = records(b"\x01\xff\xff\xff" + bytes(2 * LARGEST), 1000)
    assert read_client_hello(endless[: LARGEST - 1]) is None
    with pytest.raises(NotClientHelloError, match=f"more than {LARGEST} bytes"):
        read_client_hello(endless[:LARGEST])


def test_the_largest_one() -> None:
    room = LARGEST - len(records(message(extension(5, b""))))
    hello = records(message(extension(5, bytes(room))))
    assert len(hello) == LARGEST
    assert read_client_hello(hello) == ClientHello("")


def judged(data: bytes) -> ClientHello | None:
    """Fails on anything but the three answers."""
    try:
        answer = read_client_hello(data)
    except NotClientHelloError:
        return None
    assert answer is None or isinstance(answer, ClientHello)
    assert answer is not None or len(data) < LARGEST, "an answer was put off beyond the limit"
    return answer


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    judged(data)
    judged(b"\x16\x03\x01" + data)
    judged(records(b"\x01" + block(3, data)))
    judged(records(message(data)))


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([hello for hello, _ in HELLOS.values()]),
    st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_real_ones_with_bytes_changed_put_in_and_left_out(hello: bytes, edits: Iterable[tuple[int, bytes, int]]) -> None:
    for offset, put_in, left_out in edits:
        hello = hello[:offset] + put_in + hello[offset + left_out :]
    judged(hello)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(LARGEST - 5, LARGEST + 5))
def test_it_never_waits_for_more_than_the_limit(start: bytes, size: int) -> None:
    judged((records(b"\x01\xff\xff\xff" + start) + records(bytes(3 * LARGEST), 4000))[:size])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 65535), st.binary(max_size=40)), max_size=8), st.integers(1, 300), st.booleans())
def test_every_one_that_is_well_made_is_read(others: list[tuple[int, bytes]], size: int, named: bool) -> None:
    extensions = b"".join(extension(type_, body) for type_, body in others)
    whole = records(message(extensions + (server_name((0, b"a.b")) if named else b"")), size)
    assert read_client_hello(whole) == ClientHello("a.b" if named else "")
    assert read_client_hello(whole[:-1]) is None
