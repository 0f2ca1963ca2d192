from contextlib import suppress

import pytest
import pytest_twisted
from OpenSSL import SSL

from relay.peers import tls
from relay.peers.tls import Identity, parse_thumbprint


@pytest.mark.parametrize("name", ["octopus", "tentacle", "intruder"])
def test_thumbprints_are_the_recorded_ones(pem, thumbprint, name):
    assert Identity(pem(name)).thumbprint == thumbprint(name).upper()


def test_a_key_never_shows(pem):
    identity = Identity(pem("octopus"))
    assert repr(identity) == f"<Identity {identity.thumbprint}>"


def test_key_and_certificate_must_belong_together(pem):
    certificate = pem("octopus").split(b"-----BEGIN CERTIFICATE-----")[1].split(b"-----END CERTIFICATE-----")[0]
    key = pem("tentacle").split(b"-----BEGIN PRIVATE KEY-----")[1].split(b"-----END PRIVATE KEY-----")[0]
    mixed = b"-----BEGIN CERTIFICATE-----%b-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----%b-----END PRIVATE KEY-----\n"
    with pytest.raises(ValueError, match="do not belong together"):
        Identity(mixed % (certificate, key))
    with pytest.raises(ValueError, match=r".+"):
        Identity(b"nothing")


def test_thumbprints_are_upper_case_hex(thumbprint):
    assert parse_thumbprint(thumbprint("octopus").lower()) == thumbprint("octopus").upper()
    for text in ("", "A" * 39, "A" * 41, "G" * 40):
        with pytest.raises(ValueError, match="40 hex digits"):
            parse_thumbprint(text)


@pytest_twisted.ensureDeferred
async def test_the_listener_asks_for_a_certificate_and_accepts_any_and_none(raw_listen, raw_dial, thumbprint):
    listener = raw_listen()
    shown = []
    for number, name in enumerate(["octopus", "intruder", None]):
        dialler = await raw_dial(listener.port, name)
        dialler.say(b"x")
        peer = await listener.peer(number)
        certificate = peer.transport.certificate()
        shown.append(None if certificate is None else tls.thumbprint_of(certificate))
    assert shown == [thumbprint("octopus").upper(), thumbprint("intruder").upper(), None]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("host", "sni"), [("localhost", b"localhost"), ("LOCALHOST", b"localhost"), ("127.0.0.1", None)])
async def test_sni_is_the_host_in_lower_case_and_no_literal(raw_listen, raw_dial, host, sni):
    listener = raw_listen()
    (await raw_dial(listener.port, "octopus", host)).say(b"x")
    assert (await listener.peer()).transport.getHandle().get_servername() == sni


def handshake(client, server):
    """Both handshakes in memory; how many bytes the server sent."""
    sent = 0
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(6):
        for side, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                side.do_handshake()
            with suppress(SSL.WantReadError):
                while data := side.bio_read(1 << 16):
                    sent += len(data) if side is server else 0
                    other.bio_write(data)
    with suppress(SSL.WantReadError):
        client.recv(1)  # takes in the tickets, if any came
    return sent


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_nothing_is_resumed(pem, version):
    listener = Identity(pem("tentacle")).listener()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    sent = []
    session = None
    for _ in range(2):
        client = SSL.Connection(context, None)
        if session is not None:
            client.set_session(session)
        sent.append(handshake(client, listener.serverConnectionForTLS(None)))
        session = client.get_session()
    # A resumed handshake would be without the certificate of about 800 bytes.
    assert session is not None
    assert abs(sent[0] - sent[1]) < 100
