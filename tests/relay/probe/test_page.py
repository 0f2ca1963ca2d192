import pytest
from strangers import PAGE

from relay.page import PAGE as PAGE_OF_A_RELAY
from relay.peers.framing import PAGE as PAGE_OF_A_PEER
from relay.probe.page import Page, judge

REAL = b"HTTP/1.0 200 OK\r\nX-Frame-Options: DENY\r\n\r\n<html><h1>Octopus Tentacle configured successfully</h1></html>"


@pytest.mark.parametrize(
    "answer", [PAGE, PAGE_OF_A_RELAY, b"".join(PAGE_OF_A_PEER), REAL], ids=["4.4.8", "relay", "head", "real"]
)
def test_a_tentacle(answer):
    assert judge(answer) == (Page.TENTACLE, "")


@pytest.mark.parametrize(
    ("answer", "judged"),
    [
        (b"", (Page.NOTHING, "")),
        (b"HTTP/1.1 200 OK\r\n\r\n<p>Hello!</p>", (Page.WEB, "")),
        (b"HTTP/1.1 302 Found\r\nserver:  nginx/1.25 \r\n\r\n", (Page.WEB, "nginx/1.25")),
        (b"HTTP/1.1 302 Found\r\nServer: \x1b[2J\r\n\r\n", (Page.WEB, "")),
        (b"SSH-2.0-OpenSSH_9.6\r\n", (Page.OTHER, "")),
    ],
)
def test_something_else(answer, judged):
    assert judge(answer) == judged
