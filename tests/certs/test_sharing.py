"""Identities that share a TLS context, and what of that a peer could notice."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from scripted import TLS12, TLS13, party

from certs.contexts import client_context, server_context
from certs.errors import CertificateError
from certs.identity import Identity
from certs.sharing import Context

BOTH = [(client_context, SSL.TLS_SERVER_METHOD), (server_context, SSL.TLS_CLIENT_METHOD)]
Make = Callable[[Identity], Context]


def peer(method: int, version: int = TLS13) -> SSL.Context:
    """It shows a certificate, and takes any."""
    context = SSL.Context(method)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.use_certificate(party("peer").certificate)
    context.use_privatekey(party("peer").key)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_session_id(b"peer")
    return context


def shake_hands(ours: SSL.Connection, theirs: SSL.Connection) -> None:
    for _ in range(4):
        for each, other in ((ours, theirs), (theirs, ours)):
            with contextlib.suppress(SSL.WantReadError):
                each.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(each.bio_read(65536))
    ours.send(b"MX")
    theirs.bio_write(ours.bio_read(65536))
    assert theirs.recv(10) == b"MX"


def seen(ours: SSL.Connection, of: SSL.Context, session: SSL.Session | None = None) -> tuple[bytes, SSL.Connection]:
    """The certificate that a peer with this context sees at the other end of ours, and that end."""
    theirs = SSL.Connection(of, None)
    dials = ours.get_context().get_verify_mode() == SSL.VERIFY_NONE
    (ours.set_connect_state if dials else ours.set_accept_state)()
    (theirs.set_accept_state if dials else theirs.set_connect_state)()
    if session:
        theirs.set_session(session)
    shake_hands(ours, theirs)
    certificate = theirs.get_peer_certificate(as_cryptography=True)
    assert certificate
    return certificate.public_bytes(Encoding.DER), theirs


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize(("make", "other"), BOTH)
def test_each_connection_shows_the_identity_that_it_was_made_for(make: Make, other: int, version: int) -> None:
    elliptic, rsa = party("web01"), Identity.new("web02", "Octopus Tentacle")
    one, two = make(elliptic), make(rsa)
    opened = [one.connection(), two.connection(), one.connection()]
    assert len({id(each.get_context()) for each in opened}) == 1
    theirs = peer(other, version)
    assert [seen(each, theirs)[0] for each in opened] == [elliptic.der, rsa.der, elliptic.der]


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_session_with_one_is_not_resumed_with_another(version: int) -> None:
    theirs = peer(SSL.TLS_CLIENT_METHOD, version)
    one, two = party("web01"), party("web02")
    shown, caller = seen(server_context(one).connection(), theirs)
    assert shown == one.der
    shown, again = seen(server_context(two).connection(), theirs, caller.get_session())
    assert shown == two.der
    assert not vars(SSL)["_lib"].SSL_session_reused(vars(again)["_ssl"])


def test_a_certificate_and_its_key_are_parsed_once_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    certificate, key = crypto.X509.from_cryptography, crypto.PKey.from_cryptography_key
    monkeypatch.setattr(crypto.X509, "from_cryptography", lambda it: parsed.append(it) or certificate(it))
    monkeypatch.setattr(crypto.PKey, "from_cryptography_key", lambda it: parsed.append(it) or key(it))
    own = party("web01")
    context = client_context(own)
    assert [context.connection() for _ in range(3)]
    assert parsed == [own.certificate, own.key]


@pytest.mark.parametrize(("make", "other"), BOTH)
@pytest.mark.parametrize(
    ("module", "left"), [("SSL", SimpleNamespace(Connection=SSL.Connection)), ("crypto", SimpleNamespace())]
)
def test_where_pyopenssl_has_changed_its_own_methods_serve(
    monkeypatch: pytest.MonkeyPatch, module: str, left: object, make: Make, other: int
) -> None:
    monkeypatch.setattr(f"certs.sharing.{module}", left)
    own = party("web01")
    context = make(own)
    for _ in range(2):
        assert seen(context.connection(), peer(other))[0] == own.der


@pytest.mark.parametrize(("make", "other"), BOTH)
def test_a_key_of_another_certificate_is_refused_before_anyone_calls(make: Make, other: int) -> None:
    mixed = Identity("web01", party("web01").certificate, party("web02").key)
    with pytest.raises(CertificateError, match="identity web01: OpenSSL refuses its certificate or key"):
        make(mixed)
    assert vars(SSL)["_lib"].ERR_peek_error() == 0  # or the next error of any connection would be this one
    assert seen(make(party("web02")).connection(), peer(other))[0] == party("web02").der
