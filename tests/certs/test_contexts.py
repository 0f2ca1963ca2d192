import contextlib
import datetime as dt
import hashlib
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto

from certs import contexts
from certs.contexts import client_context, server_context
from certs.errors import CertificateError
from certs.identity import Identity, IdentityKey
from certs.sharing import Context

VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
SHA1_WITH_RSA = bytes.fromhex("06092a864886f70d010105")
# RFC 2409 6.2, with the generator 2.
OAKLEY_GROUP_2 = """\
-----BEGIN DH PARAMETERS-----
MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJR
Sgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL
/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC
-----END DH PARAMETERS-----
"""


@pytest.fixture(scope="module")
def own() -> Identity:
    return Identity.new("own", "Octopus Tentacle")


@pytest.fixture(scope="module")
def peer() -> Identity:
    return Identity.new("peer", "Octopus Portal")


# Of SChannel before Windows 10, which has no AEAD suite with ECDHE for RSA certificates.
OLD_SUITES = (
    "ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-SHA",
    "AES256-GCM-SHA384", "AES256-SHA256", "AES128-SHA256", "AES256-SHA", "AES128-SHA",
)  # fmt: skip


def self_signed(
    key: IdentityKey,
    *,
    days: int = 1,
    since: int = 9,
    common_name: str = "peer",
    usage: x509.ObjectIdentifier | None = None,
    authority: bool = False,
) -> Identity:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=since))
        .not_valid_after(now + dt.timedelta(days=days))
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    if authority:
        no = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            False,
        )
        usages = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **no)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(usages, critical=True)
    return Identity("peer", builder.sign(key, hashes.SHA256()), key)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def signed_with_sha1(key: rsa.RSAPrivateKey) -> Identity:
    """cryptography no longer signs certificates with SHA-1, as the oldest Tentacles did: so by hand (RFC 8017, 9.2)."""
    modern = self_signed(key).certificate
    tbs = modern.tbs_certificate_bytes.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    digest = bytes.fromhex("3021300906052b0e03021a05000414") + hashlib.sha1(tbs).digest()
    size = key.key_size // 8
    padded = b"\x00\x01" + b"\xff" * (size - 3 - len(digest)) + b"\x00" + digest
    numbers = key.private_numbers()
    signature = pow(int.from_bytes(padded), numbers.d, numbers.public_numbers.n).to_bytes(size)
    der = modern.public_bytes(serialization.Encoding.DER).replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    return Identity("peer", x509.load_der_x509_certificate(der.replace(modern.signature, signature)), key)


PEERS = {
    "a usual one": lambda: self_signed(rsa_key()),
    "expired": lambda: self_signed(rsa_key(), days=-1),
    "not valid yet": lambda: self_signed(rsa_key(), since=-1, days=2),
    "an authority's, for no TLS": lambda: self_signed(rsa_key(), authority=True),
    "RSA-1024": lambda: self_signed(rsa_key(1024)),
    "signed with SHA-1": lambda: signed_with_sha1(rsa_key()),
    "RSA-1024 signed with SHA-1": lambda: signed_with_sha1(rsa_key(1024)),
    "elliptic curve": lambda: self_signed(ec.generate_private_key(ec.SECP256R1())),
    "only for servers": lambda: self_signed(rsa_key(), usage=ExtendedKeyUsageOID.SERVER_AUTH),
    "only for clients": lambda: self_signed(rsa_key(), usage=ExtendedKeyUsageOID.CLIENT_AUTH),
}


def peer_context(method: int, identity: Identity | None, version: int) -> SSL.Context:
    """A peer as tolerant as the oldest in the field, which speaks one version of TLS."""
    context = SSL.Context(method)
    context.set_cipher_list(b"DEFAULT@SECLEVEL=0")
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


def made(context: SSL.Context | Context, sock: socket.socket | None = None) -> SSL.Connection:
    return context.connection(sock) if isinstance(context, Context) else SSL.Connection(context, sock)


def dialling(context: SSL.Context | Context) -> SSL.Connection:
    connection = made(context)
    connection.set_connect_state()
    return connection


def listening(context: SSL.Context | Context) -> SSL.Connection:
    connection = made(context)
    connection.set_accept_state()
    return connection


def move(source: SSL.Connection, target: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        target.bio_write(source.bio_read(65536))


def step(connection: SSL.Connection) -> bool:
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    return True


def handshake(one: SSL.Connection, two: SSL.Connection) -> None:
    """Both sides to the end. Raises SSL.Error as soon as one of them refuses."""
    for _ in range(10):
        first = step(one)
        move(one, two)
        second = step(two)
        move(two, one)
        if first and second:
            return
    raise AssertionError("no end to the handshake")


def shown_by(peer: SSL.Connection, as_seen_by: SSL.Connection) -> bytes | None:
    certificate = as_seen_by.get_peer_certificate(as_cryptography=True)
    return certificate and certificate.public_bytes(serialization.Encoding.DER)


def exchange_a_word(one: SSL.Connection, two: SSL.Connection) -> None:
    one.send(b"MX")
    move(one, two)
    assert two.recv(10) == b"MX"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", PEERS)
def test_any_caller_gets_through_tls(own: Identity, kind: str, version: str) -> None:
    identity = PEERS[kind]()
    caller = dialling(peer_context(SSL.TLS_CLIENT_METHOD, identity, VERSIONS[version]))
    ours = listening(server_context(own))
    handshake(caller, ours)
    assert ours.get_protocol_version_name() == version
    assert shown_by(caller, as_seen_by=ours) == identity.der
    assert shown_by(ours, as_seen_by=caller) == own.der
    exchange_a_word(caller, ours)


@pytest.mark.parametrize("version", VERSIONS)
def test_to_take_a_certificate_it_is_not_taken_apart(
    own: Identity, peer: Identity, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(VERSIONS[version])
    context.use_certificate(peer.certificate)
    context.use_privatekey(peer.key)
    caller, ours = dialling(context), listening(server_context(own))
    seen: list[object] = []
    monkeypatch.setattr(crypto.X509, "_from_raw_x509_ptr", seen.append)
    handshake(caller, ours)
    assert seen == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", PEERS)
def test_where_pyopenssl_has_changed_any_caller_gets_through_as_well(
    own: Identity, kind: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = SimpleNamespace(**{name: value for name, value in vars(SSL).items() if not name.startswith("_")})
    monkeypatch.setattr("certs.contexts.SSL", left)
    monkeypatch.setattr("certs.contexts._server", contexts._server.__wrapped__)  # one of its own
    caller = dialling(peer_context(SSL.TLS_CLIENT_METHOD, PEERS[kind](), VERSIONS[version]))
    ours = listening(server_context(own))
    handshake(caller, ours)
    exchange_a_word(caller, ours)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", PEERS)
def test_any_listener_gets_through_tls(own: Identity, kind: str, version: str) -> None:
    identity = PEERS[kind]()
    listener = listening(peer_context(SSL.TLS_SERVER_METHOD, identity, VERSIONS[version]))
    ours = dialling(client_context(own))
    handshake(ours, listener)
    assert ours.get_protocol_version_name() == version
    assert shown_by(listener, as_seen_by=ours) == identity.der
    assert shown_by(ours, as_seen_by=listener) == own.der
    exchange_a_word(ours, listener)


@pytest.mark.parametrize("suite", OLD_SUITES)
def test_a_peer_with_an_old_cipher_suite_gets_through_tls_in_either_role(own: Identity, peer: Identity, suite: str) -> None:
    for ours, method in ((server_context(own), SSL.TLS_CLIENT_METHOD), (client_context(own), SSL.TLS_SERVER_METHOD)):
        context = peer_context(method, peer, SSL.TLS1_2_VERSION)
        context.set_cipher_list(f"{suite}@SECLEVEL=0".encode())
        dials = method == SSL.TLS_CLIENT_METHOD
        caller, listener = dialling(context if dials else ours), listening(ours if dials else context)
        handshake(caller, listener)
        exchange_a_word(caller, listener)
        assert caller.get_cipher_name() == suite
        assert shown_by(caller, listener) == (peer if dials else own).der


def test_a_listener_that_prefers_a_short_dh_group_gets_through_tls(own: Identity, peer: Identity, tmp_path: Path) -> None:
    """Its group of 1024 bits would be refused in the middle of the handshake: it is not offered the suite, and has another."""
    context = peer_context(SSL.TLS_SERVER_METHOD, peer, SSL.TLS1_2_VERSION)
    group = tmp_path / "group.pem"
    group.write_text(OAKLEY_GROUP_2)
    context.load_tmp_dh(str(group))
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_cipher_list(b"DHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-SHA384@SECLEVEL=0")
    ours, listener = dialling(client_context(own)), listening(context)
    handshake(ours, listener)
    assert ours.get_cipher_name() == "ECDHE-RSA-AES256-SHA384"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_caller_without_a_certificate_gets_through_tls(own: Identity, version: str) -> None:
    caller = dialling(peer_context(SSL.TLS_CLIENT_METHOD, None, VERSIONS[version]))
    ours = listening(server_context(own))
    handshake(caller, ours)
    assert ours.get_peer_certificate() is None
    exchange_a_word(caller, ours)


def test_a_caller_with_a_long_chain_gets_through_tls(own: Identity, peer: Identity) -> None:
    context = peer_context(SSL.TLS_CLIENT_METHOD, peer, SSL.TLS1_3_VERSION)
    key = rsa_key()
    for number in range(30):
        context.add_extra_chain_cert(self_signed(key, common_name=f"extra {number}").certificate)
    caller, ours = dialling(context), listening(server_context(own))
    handshake(caller, ours)
    assert shown_by(caller, as_seen_by=ours) == peer.der


@pytest.mark.parametrize("version", VERSIONS)
def test_our_certificate_is_shown_whatever_issuers_the_listener_names(own: Identity, peer: Identity, version: str) -> None:
    context = peer_context(SSL.TLS_SERVER_METHOD, peer, VERSIONS[version])
    context.add_client_ca(peer.certificate)
    listener, ours = listening(context), dialling(client_context(own))
    handshake(ours, listener)
    assert len(ours.get_client_ca_list(as_cryptography=False)) == 1
    assert shown_by(ours, as_seen_by=listener) == own.der


def test_callers_are_told_of_no_issuers(own: Identity, peer: Identity) -> None:
    caller = dialling(peer_context(SSL.TLS_CLIENT_METHOD, peer, SSL.TLS1_2_VERSION))
    handshake(caller, listening(server_context(own)))
    assert caller.get_client_ca_list(as_cryptography=False) == []


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_older_versions_are_refused(own: Identity, peer: Identity, version: int) -> None:
    with pytest.raises(SSL.Error):
        handshake(dialling(peer_context(SSL.TLS_CLIENT_METHOD, peer, version)), listening(server_context(own)))
    with pytest.raises(SSL.Error):
        handshake(dialling(client_context(own)), listening(peer_context(SSL.TLS_SERVER_METHOD, peer, version)))


def test_a_caller_cannot_renegotiate(own: Identity, peer: Identity) -> None:
    caller = dialling(peer_context(SSL.TLS_CLIENT_METHOD, peer, SSL.TLS1_2_VERSION))
    ours = listening(server_context(own))
    handshake(caller, ours)
    assert caller.renegotiate()
    assert not step(caller)
    move(caller, ours)
    with pytest.raises(SSL.WantReadError):
        ours.recv(10)
    move(ours, caller)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        caller.do_handshake()


def test_a_listener_cannot_make_us_renegotiate(own: Identity, peer: Identity) -> None:
    listener = listening(peer_context(SSL.TLS_SERVER_METHOD, peer, SSL.TLS1_2_VERSION))
    ours = dialling(client_context(own))
    handshake(ours, listener)
    assert listener.renegotiate()
    step(listener)
    move(listener, ours)
    with pytest.raises(SSL.WantReadError):
        ours.recv(10)
    move(ours, listener)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        listener.recv(10)


@pytest.mark.parametrize("dials", [True, False])
def test_a_write_may_be_partial_and_repeated_from_another_buffer(own: Identity, peer: Identity, dials: bool) -> None:
    near, far = socket.socketpair()
    with near, far:
        if dials:
            ours = client_context(own).connection(near)
            theirs = SSL.Connection(peer_context(SSL.TLS_SERVER_METHOD, peer, SSL.TLS1_3_VERSION), far)
            ours.set_connect_state()
            theirs.set_accept_state()
        else:
            ours = server_context(own).connection(near)
            theirs = SSL.Connection(peer_context(SSL.TLS_CLIENT_METHOD, peer, SSL.TLS1_3_VERSION), far)
            ours.set_accept_state()
            theirs.set_connect_state()
        far_side = threading.Thread(target=theirs.do_handshake)
        far_side.start()
        ours.do_handshake()
        far_side.join()
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        payload = b"x" * (4 * 1024 * 1024)
        sent = fill(ours, payload)
        assert 0 < sent < len(payload)
        received = 0
        while received < sent:
            received += len(theirs.recv(65536))
        # Without the mode for a moving buffer this is a "bad write retry".
        assert ours.send(bytes(bytearray(payload))) > 0


def fill(connection: SSL.Connection, payload: bytes) -> int:
    sent = 0
    while True:
        try:
            sent += connection.send(payload)
        except SSL.WantWriteError:
            return sent


def stdlib_caller(identity: Identity, folder: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    file = folder / "caller.pem"
    file.write_bytes(identity.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(file)
    return context


def call(context: ssl.SSLContext, server: SSL.Context | Context, session: ssl.SSLSession | None) -> ssl.SSLObject:
    """One handshake and one byte back, after which a TLS 1.3 caller holds the tickets that were sent, if any were."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = context.wrap_bio(incoming, outgoing, server_hostname="web01", session=session)
    ours = listening(server)
    caller_done = ours_done = False
    for _ in range(10):
        if not caller_done:
            try:
                caller.do_handshake()
                caller_done = True
            except ssl.SSLWantReadError:
                pass
        if data := outgoing.read():
            ours.bio_write(data)
        ours_done = ours_done or step(ours)
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(ours.bio_read(65536))
        if caller_done and ours_done:
            break
    ours.send(b"!")
    incoming.write(ours.bio_read(65536))
    assert caller.read(10) == b"!"
    return caller


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(own: Identity, peer: Identity, tmp_path: Path, version: ssl.TLSVersion) -> None:
    caller, server = stdlib_caller(peer, tmp_path, version), server_context(own)
    first = call(caller, server, None)
    again = call(caller, server, first.session)
    assert (first.session_reused, again.session_reused) == (False, False)
    assert again.getpeercert(binary_form=True) == own.der


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_of_another_listener_is_no_obstacle(
    own: Identity, peer: Identity, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    # A listener that does give out tickets, to show that this caller does resume where it can.
    generous = SSL.Context(SSL.TLS_SERVER_METHOD)
    generous.use_certificate(peer.certificate)
    generous.use_privatekey(peer.key)
    generous.set_session_id(b"generous")
    caller = stdlib_caller(peer, tmp_path, version)
    session = call(caller, generous, None).session
    assert session is not None
    assert session.has_ticket
    assert call(caller, generous, session).session_reused
    ours = call(caller, server_context(own), session)
    assert not ours.session_reused
    assert ours.getpeercert(binary_form=True) == own.der


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_kept_to_resume_as_the_dialler(own: Identity, peer: Identity, version: str) -> None:
    generous = peer_context(SSL.TLS_SERVER_METHOD, peer, VERSIONS[version])
    generous.set_session_id(b"generous")
    context = client_context(own)
    for _ in range(2):
        ours, listener = dialling(context), listening(generous)
        handshake(ours, listener)
        assert shown_by(listener, as_seen_by=ours) == peer.der
    for each in (ours, listening(server_context(own))):
        assert each.get_context().get_session_cache_mode() == SSL.SESS_CACHE_OFF


@pytest.mark.parametrize("make", [server_context, client_context])
def test_an_identity_that_openssl_refuses_is_named(make: object) -> None:
    weak = self_signed(rsa_key(1024))
    assert callable(make)
    with pytest.raises(CertificateError, match=r"identity peer: OpenSSL refuses .* Use an RSA key of 2048 bits"):
        make(weak)
