"""The header of a CONNECT: what Octopus sends, whatever else comes, and however it is cut."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.fronts.tunnel_answers import NO_HTTP, NO_SUCH_PAGE, NO_TUNNEL, PAGE, TOO_LARGE, VERSION, Answer
from relay.fronts.tunnel_request import LARGEST, MOST_LINES, HeaderReader, NoTunnelError, TunnelRequest

CAPTURES = Path(__file__).parents[2] / "captures"
PLAIN = b"CONNECT web01:10933 HTTP/1.0\r\nHost: web01:10933\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"

Told = tuple[object, ...]


def told(*pieces: bytes) -> Told:
    """What comes of these: the request, and how many bytes it took; or the refusal."""
    reader = HeaderReader()
    taken = 0
    try:
        for piece in pieces:
            here = reader.take(piece)
            taken += here
            if here < len(piece):
                break
    except NoTunnelError as error:
        return error.answer, error.detail
    return (reader.request, taken) if reader.request else ("more", taken)


def asks(data: bytes, target: str, authorization: bytes = b"") -> None:
    request = TunnelRequest(target, authorization)
    assert told(data) == (request, len(data))
    assert told(data + HELLO) == (request, len(data))  # of what follows, nothing is taken
    assert told(*(bytes((byte,)) for byte in data + HELLO)) == (request, len(data))


@pytest.mark.parametrize("recording", sorted(each.parent.name for each in CAPTURES.glob("listening-*/proxy*.jsonl")))
def test_what_octopus_sends(recording: str) -> None:
    [*files] = (CAPTURES / recording).glob("proxy*.jsonl")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    sent = [base64.b64decode(line["b64"]) for line in lines if line["from"] in ("caller", "dialler") and "b64" in line]
    for header in sent:
        fields = header.split(b"\r\n")
        target = fields[0].split(b" ")[1].decode()
        authorization = fields[2].partition(b": ")[2] if len(fields) == 5 else b""
        asks(header, target, authorization)


@pytest.mark.parametrize(
    ("data", "target", "authorization"),
    [
        (PLAIN, "web01:10933", b""),
        (PLAIN.replace(b"\r\n", b"\n"), "web01:10933", b""),
        (b"CONNECT [2001:db8::7]:10933 HTTP/1.1\r\n\r\n", "[2001:db8::7]:10933", b""),
        (b"CONNECT m\xc3\xbcnchen:1 HTTP/1.1\r\nHost: x\r\n\r\n", "m\u00fcnchen:1", b""),
        (b"CONNECT \xff HTTP/1.9\r\n\r\n", "\ufffd", b""),
        (b"CONNECT http://x/ HTTP/1.1\r\n\r\n", "http://x/", b""),
        (b"CONNECT w:1 HTTP/1.1\r\nproxy-AUTHORIZATION:\tBasic eDp5 \r\nUser-Agent: a:b\xe4\r\n\r\n", "w:1", b"Basic eDp5"),
    ],
)
def test_other_ways_to_ask(data: bytes, target: str, authorization: bytes) -> None:
    asks(data, target, authorization)


def refused(answer: Answer, data: bytes, detail: str) -> None:
    assert told(data) == (answer.data, detail)
    assert told(*(bytes((byte,)) for byte in data)) == (answer.data, detail)


@pytest.mark.parametrize(
    ("data", "answer", "asked"),
    [
        (b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", PAGE, "GET /"),
        (b"GET /status?token=s3cret HTTP/1.0\r\n\r\n", NO_SUCH_PAGE, "GET /status"),
        (b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n", NO_TUNNEL, "GET http://example.org/"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", NO_TUNNEL, "POST /"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", NO_TUNNEL, "OPTIONS *"),
        (b"connect web01:10933 HTTP/1.1\r\n\r\n", NO_TUNNEL, "connect web01:10933"),
        (b"GET /\x85 HTTP/1.1\r\n\r\n", NO_SUCH_PAGE, "GET /???"),
    ],
)
def test_another_request_is_refused_when_it_is_whole(data: bytes, answer: Answer, asked: str) -> None:
    refused(answer, data, f"it asked for {asked}")
    assert told(data[:-1]) == ("more", len(data) - 1)


@pytest.mark.parametrize(
    ("data", "answer", "detail"),
    [
        (b"PRI * HTTP/2.0\r\n", VERSION, "another version of HTTP: PRI * HTTP/2.0"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NO_HTTP, "not HTTP: SSH-2.0-OpenSSH_9.2"),
        (b"GET /\r\n", NO_HTTP, "not HTTP: GET /"),
        (b"GET  / HTTP/1.1\r\n", NO_HTTP, "not HTTP: GET  / HTTP/1.1"),
        (b"\r\n", NO_HTTP, "not HTTP: an empty line"),
        (b"\x80\n", NO_HTTP, "not HTTP: ?"),
        (b"\x03", NO_HTTP, "a byte that no HTTP has: b'\\x03'"),
        (b"CONNECT w:1 HTTP/1.1 \r\n", NO_HTTP, "not HTTP: CONNECT w:1 HTTP/1.1 "),
        (b"GET / HTTP/1.1\r\nHost\r\n", NO_HTTP, "a header line without a name and a colon"),
        (b"GET / HTTP/1.1\r\n folded: x\r\n", NO_HTTP, "a header line without a name and a colon"),
        (b"GET / HTTP/1.1\r\nHost: a\x00", NO_HTTP, "a byte that no HTTP has: b'\\x00'"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * MOST_LINES, TOO_LARGE, f"a header of more than {MOST_LINES} lines"),
        (b"G" * LARGEST, TOO_LARGE, f"a header of more than {LARGEST} bytes"),
    ],
)
def test_what_is_no_request_is_refused_at_once(data: bytes, answer: Answer, detail: str) -> None:
    refused(answer, data, detail)
    refused(answer, data + b"\r\n" * 3 + b"x" * LARGEST, detail)


def test_a_header_as_large_as_it_may_be() -> None:
    start = b"CONNECT w:1 HTTP/1.1\r\nA: "
    fits = start + b"a" * (LARGEST - len(start) - 4) + b"\r\n\r\n"
    assert len(fits) == LARGEST
    asks(fits, "w:1")
    asks(b"CONNECT w:1 HTTP/1.1\r\n" + b"a: b\r\n" * (MOST_LINES - 2) + b"\r\n", "w:1")
    assert told(start + b"a" + fits[len(start) :])[1] == f"a header of more than {LARGEST} bytes"


@pytest.mark.parametrize(
    "data", [b"CONNECT w:1 HTTP/1.1\r\nA\r\n", b"CONNECT w:1 HTTP/1.1\r\n" + b"Proxy-Authorization: x\r\n" * 2]
)
def test_a_connect_is_answered_without_a_page(data: bytes) -> None:
    answer, _ = told(data)
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")


def test_head_has_the_header_of_the_page_alone() -> None:
    answer, _ = told(b"HEAD / HTTP/1.1\r\n\r\n")
    assert answer == PAGE.head
    assert PAGE.data.startswith(PAGE.head)
    body = PAGE.data[len(PAGE.head) :]
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in PAGE.head
    assert b"HTTP proxy" in body


def test_credentials_are_not_in_a_repr() -> None:
    assert "eDp5" not in repr(TunnelRequest("w:1", b"Basic eDp5"))


# ---- however it is cut -----------------------------------------------------------------------------------------------------

WORDS = [
    b"CONNECT ", b"GET ", b"HEAD ", b"web01:10933", b"[::1]:1", b"/", b" HTTP/1.0", b" HTTP/1.1", b" HTTP/2.0", b"\r\n", b"\n",
    b"\r", b"\r\n\r\n", b"Host: web01:10933\r\n", b"Proxy-Authorization: Basic eDp5\r\n", b" ", b":", b"\x00", b"\x16\x03\x01",
    b"a" * 1000, b"a: b\r\n" * 60, b"\xff",
]  # fmt: skip
SENT = st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=20).map(b"".join) | st.binary()


@given(st.sampled_from([b"", b"CONNECT web01:10933 HTTP/1.0\r\n", b"GET / HTTP/1.1\r\n"]), SENT, st.data())
def test_it_says_the_same_however_it_is_cut(start: bytes, more: bytes, draw: st.DataObject) -> None:
    data = start + more
    whole = told(data)
    assert told(*(data[index : index + 1] for index in range(len(data)))) == whole
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    pieces = [data[left:right] for left, right in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert told(*pieces) == whole
    if isinstance(whole[0], TunnelRequest):
        taken = whole[1]
        assert isinstance(taken, int)
        assert data[:taken].endswith(b"\n")
        assert taken <= LARGEST
    elif isinstance(whole[0], bytes):
        assert whole[0].startswith(b"HTTP/1.1 ")
        assert b"\r\n\r\n" in whole[0]
