import socket

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relay.halibut.lines import CLIENT_IDENTITY, END, PREAMBLE, SERVER_IDENTITY
from relay.peers.dialling import base_uri
from relay.peers.errors import ConnectingError, PeerError, UnexpectedCertificateError


@pytest.mark.parametrize(
    ("host", "uri"),
    [("Web01.Corp", "https://web01.corp:10933/"), ("10.0.0.1", "https://10.0.0.1:10933/"), ("::1", "https://[::1]:10933/")],
)
def test_base_uris(host, uri):
    assert base_uri(host, 10933) == uri


def free_port():
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def dial(octopus, listener, pin):
    return Deferred.fromCoroutine(octopus.connect("127.0.0.1", listener.port, pin))


@pytest_twisted.ensureDeferred
async def test_preamble_and_identity_come_at_once_in_two_records(raw_listen, new_octopus, thumbprint):
    listener = raw_listen()
    dialled = dial(new_octopus(), listener, thumbprint("tentacle").lower())
    peer = await listener.peer()
    assert await peer.records(2) == [PREAMBLE, CLIENT_IDENTITY]
    peer.say(SERVER_IDENTITY)
    connection = await dialled
    connection.end()
    assert await peer.ended() == [PREAMBLE, CLIENT_IDENTITY, END]


@pytest_twisted.ensureDeferred
async def test_a_wrong_certificate_gets_a_whole_handshake_and_not_one_byte(raw_listen, new_octopus, thumbprint):
    listener = raw_listen("intruder")
    with pytest.raises(UnexpectedCertificateError) as error:
        await dial(new_octopus(), listener, thumbprint("tentacle"))
    assert error.value.presented == thumbprint("intruder").upper()
    peer = await listener.peer()
    assert await peer.ended() == []


@pytest_twisted.ensureDeferred
async def test_refused_unknown_and_silent_listeners(raw_listen, new_octopus, thumbprint):
    listener = raw_listen()
    octopus = new_octopus()
    refused = free_port()
    with pytest.raises(ConnectingError, match="before the request could begin") as error:
        await octopus.connect("127.0.0.1", refused, thumbprint("tentacle"))
    assert error.value.retry
    with pytest.raises(ConnectingError) as error:
        await octopus.connect("no-such-host.invalid", listener.port, thumbprint("tentacle"))
    assert not error.value.retry
    dialled = dial(octopus, listener, thumbprint("tentacle"))
    (await listener.peer()).fin()
    with pytest.raises(ConnectingError) as error:
        await dialled
    assert error.value.retry
    assert not octopus.violations


@pytest_twisted.ensureDeferred
async def test_an_identity_that_does_not_come_is_waited_for_one_minute(raw_listen, new_octopus, thumbprint):
    listener, clock = raw_listen(), Clock()
    dialled = dial(new_octopus(clock=clock), listener, thumbprint("tentacle"))
    peer = await listener.peer()
    await peer.records(2)
    clock.advance(59)
    assert not dialled.called
    clock.advance(1)
    with pytest.raises(ConnectingError, match="nothing moved for 60 s"):
        await dialled


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answer", [[b"MX-SERVER 1.0\r\n", b"\r\n"], [b"HTTP/1.0 200 OK\r\n"], [SERVER_IDENTITY, b"x"]])
async def test_another_answer_is_a_breach(raw_listen, new_octopus, thumbprint, answer):
    listener, octopus = raw_listen(), new_octopus()
    dialled = dial(octopus, listener, thumbprint("tentacle"))
    peer = await listener.peer()
    await peer.records(2)
    peer.say(*answer)
    if answer[0] == SERVER_IDENTITY:
        await dialled
    else:
        with pytest.raises(PeerError):
            await dialled
    await peer.ended()
    assert len(octopus.violations) == 1


@pytest_twisted.ensureDeferred
async def test_discovery_says_hello_and_closes_without_a_certificate(raw_listen, new_octopus, thumbprint):
    listener, octopus = raw_listen(), new_octopus()
    assert await octopus.discover("localhost", listener.port) == thumbprint("tentacle").upper()
    peer = await listener.peer()
    assert await peer.ended() == [b"HELLO\r\n\r\n"]


@pytest_twisted.ensureDeferred
async def test_discovery_of_a_closed_port(raw_listen, new_octopus):
    with pytest.raises(ConnectingError):
        await new_octopus().discover("127.0.0.1", free_port())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_cancelled_dial_says_so(raw_listen, new_octopus, thumbprint, host):
    dialled = Deferred.fromCoroutine(new_octopus().connect(host, raw_listen().port, thumbprint("tentacle")))
    dialled.cancel()
    with pytest.raises(CancelledError):
        await dialled
