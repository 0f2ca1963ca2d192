"""TLS contexts for both legs: what Halibut peers expect of each other in TLS, and nothing more.

The rules (wire.md 1.2 to 1.8):
- TLS 1.2 and 1.3. Older versions are not offered.
- As the listener: ask for a certificate, do not insist, refuse nothing. Who is calling is judged after the preamble.
- As the dialler: always show the certificate, and let TLS refuse nothing. The pin is the only check there is, and the
  caller of `client_context` must make it with `Thumbprint.matches` when the handshake is done, before the first byte.
- Never resume: a resumed session carries the certificate of an earlier one. No cache, and no tickets; with TLS 1.3
  OpenSSL sends some all the same, and takes none.
"""

import contextlib
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from certs.errors import CertificateError
from certs.groups import share_hybrids_only_if_asked
from certs.identity import Identity
from certs.sharing import Context

# OpenSSL's ssl.h: numbers that pyOpenSSL does not name.
_MODE_ENABLE_PARTIAL_WRITE = 0x1
_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x2
_MODE_RELEASE_BUFFERS = 0x10
# Without finite-field DHE, as browsers and Go: a Windows that prefers it has groups of 1024 bits, which OpenSSL refuses in the
# middle of the handshake, and it has ECDHE as well.
_SUITES_TO_DIAL_WITH = b"DEFAULT:!kDHE"
# Longer than any chain that fits into a Certificate message (OpenSSL's limit is 100 KB): length is no reason to refuse.
_VERIFY_DEPTH = 100
# OpenSSL wants sessions that bear a name from whoever asks for certificates. Nobody resumes ours.
_SESSIONS = b"relay-tentacle"

# A bare FIN is how every Halibut peer ends (wire.md 1.10): without the last one, OpenSSL answers it with an alert.
_OPTIONS = SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_IGNORE_UNEXPECTED_EOF


def server_context(identity: Identity) -> Context:
    """For connections that the relay accepts as `identity`. Raises CertificateError if OpenSSL refuses the identity."""
    return _context(_server(), identity)


def client_context(identity: Identity) -> Context:
    """For connections that the relay dials as `identity`. Raises CertificateError if OpenSSL refuses the identity.

    The handshake succeeds whatever the listener shows: check its pin before anything is sent or believed.
    """
    return _context(_client(), identity)


def likeness(identity: Identity) -> tuple[object, ...]:
    """What OpenSSL's verdict on an identity depends on, whose key and certificate belong together: of alike ones it takes all
    or none. To try each of 10 000 would take a start some seconds.
    """
    certificate = identity.certificate
    key = certificate.public_key()
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else ""
    size = getattr(key, "key_size", 0)
    return type(key), size, curve, certificate.version, certificate.signature_algorithm_oid


def _context(shared: SSL.Context, identity: Identity) -> Context:
    try:
        return Context(shared, identity)
    except SSL.Error as error:
        raise CertificateError(
            f"identity {identity.name}: OpenSSL refuses its certificate or key ({error}). "
            "Use an RSA key of 2048 bits and a certificate signed with SHA-256."
        ) from error


@cache
def _server() -> SSL.Context:
    context = _shared(SSL.TLS_SERVER_METHOD)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_id(_SESSIONS)
    _take_any_certificate(context)
    context.set_verify_depth(_VERIFY_DEPTH)
    return context


@cache
def _client() -> SSL.Context:
    context = _shared(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_cipher_list(_SUITES_TO_DIAL_WITH)
    share_hybrids_only_if_asked(context)
    return context


def _shared(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_mode(_MODE_ENABLE_PARTIAL_WRITE | _MODE_ACCEPT_MOVING_WRITE_BUFFER | _MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def _take_any_certificate(context: SSL.Context) -> None:
    """Asks for one. OpenSSL asks back some times for each; pyOpenSSL takes a certificate apart before it asks us, which is a
    percent of a new connection's CPU. To be asked without that takes names that it does not promise: where they are gone, it
    asks us.
    """
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    with contextlib.suppress(AttributeError, KeyError):
        vars(SSL)["_lib"].SSL_CTX_set_verify(vars(context)["_context"], SSL.VERIFY_PEER, _yes())


@cache
def _yes() -> Any:
    """The answer, as OpenSSL calls it. It is kept for good: OpenSSL has nothing but its address."""
    return vars(SSL)["_ffi"].callback("int(int, X509_STORE_CTX *)", lambda ok, store: 1)
