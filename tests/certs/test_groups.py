"""What a ClientHello of the relay brings, and whom it reaches with it."""

import contextlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from scripted import TLS12, TLS13, party

from certs.contexts import _client, client_context
from certs.groups import share_hybrids_only_if_asked

PACKET = 1200  # bytes that come through in one piece, whatever tunnels stand in the way
HYBRID = "X25519MLKEM768"

knows_hybrids = pytest.mark.skipif(SSL.OPENSSL_VERSION_NUMBER < 0x30500000, reason="this OpenSSL knows no ML-KEM")


def ours() -> SSL.Connection:
    dialler = client_context(party("relay")).connection()
    dialler.set_tlsext_host_name(b"web01.production.internal")
    dialler.set_connect_state()
    return dialler


def listener(version: int, curve: ec.EllipticCurve | None = None) -> SSL.Connection:
    """curve: the only one that it can do; None: all that this OpenSSL can."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.use_certificate(party("tentacle").certificate)
    context.use_privatekey(party("tentacle").key)
    if curve:
        context.set_tmp_ecdh(curve)
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection


def hello_of(dialler: SSL.Connection) -> bytes:
    with contextlib.suppress(SSL.WantReadError):
        dialler.do_handshake()
    return dialler.bio_read(65536)


def shake_hands(one: SSL.Connection, other: SSL.Connection) -> None:
    for _ in range(4):
        for each, peer in ((one, other), (other, one)):
            with contextlib.suppress(SSL.WantReadError):
                each.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                peer.bio_write(each.bio_read(65536))
    one.send(b"MX")
    other.bio_write(one.bio_read(65536))
    assert other.recv(10) == b"MX"


def test_a_hello_is_one_packet() -> None:
    assert len(hello_of(ours())) < PACKET


@knows_hybrids
def test_a_listener_that_wants_the_hybrid_gets_it() -> None:
    dialler = ours()
    shake_hands(dialler, listener(TLS13))
    assert dialler.get_group_name() == HYBRID


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_listener_of_one_curve_is_reached(curve: ec.EllipticCurve, version: int) -> None:
    shake_hands(ours(), listener(version, curve))


@knows_hybrids
@pytest.mark.parametrize("gone", ["SSL_CTX_set1_curves_list", "ERR_clear_error"])
def test_where_pyopenssl_has_changed_openssl_has_its_way(monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    class Library:
        def __getattr__(self, name: str) -> Any:
            if name == gone:
                raise AttributeError(name)
            return getattr(library, name)

    library = vars(SSL)["_lib"]
    monkeypatch.setattr(SSL, "_lib", Library())
    monkeypatch.setattr("certs.contexts._client", _client.__wrapped__)  # made anew, and not kept for others
    assert not share_hybrids_only_if_asked(SSL.Context(SSL.TLS_CLIENT_METHOD))
    shake_hands(ours(), listener(TLS13))


@knows_hybrids
def test_a_list_that_openssl_refuses_leaves_no_error_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.groups._GROUPS", b"nonsense")
    assert not share_hybrids_only_if_asked(SSL.Context(SSL.TLS_CLIENT_METHOD))
    assert vars(SSL)["_lib"].ERR_peek_error() == 0


def test_an_openssl_that_shares_no_hybrids_is_left_alone() -> None:
    def hello(context: SSL.Context) -> bytes:
        dialler = SSL.Connection(context, None)
        dialler.set_connect_state()
        return hello_of(dialler)

    plain, left = SSL.Context(SSL.TLS_CLIENT_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    assert share_hybrids_only_if_asked(left, 0x30400000)
    assert len(hello(left)) == len(hello(plain))
