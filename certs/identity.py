"""Identities: a private key and the self-signed certificate that goes with it, as the relay shows them."""

import datetime as dt
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from certs.errors import CertificateError, PasswordError
from certs.thumbprint import Thumbprint

IdentityKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_KEY_BITS = 2048
# 100 years.
_VALID = dt.timedelta(days=36525)
# RFC 5280, appendix A.1: ub-common-name.
_MAX_COMMON_NAME = 64
# Headers of an encrypted key may have single dashes in them.
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[^-]+(?:-[^-]+)*-----END \1-----")


@dataclass(frozen=True)
class Identity:
    """A private key and its certificate. `name` is the relay's own word for it, not the certificate's.

    held: the key, or what gives it when it is first used.
    """

    name: str
    certificate: x509.Certificate
    held: IdentityKey | Callable[[], IdentityKey] = field(repr=False, compare=False)

    @cached_property
    def key(self) -> IdentityKey:
        """The private key. Raises CertificateError where it could not be had before, and cannot be used."""
        return self.held() if callable(self.held) else self.held

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def thumbprint(self) -> Thumbprint:
        """SHA-1 of the certificate, as Octopus shows it."""
        return Thumbprint.of(self.der)

    @property
    def sha256(self) -> Thumbprint:
        """SHA-256 of the certificate, for whoever prefers it as a pin."""
        return Thumbprint.of(self.der, "sha256")

    @property
    def expires(self) -> dt.datetime:
        """When the certificate expires, in UTC. Octopus and Tentacles do not look at it (wire.md 1.5)."""
        return self.certificate.not_valid_after_utc

    def pem(self, password: str | None = None) -> bytes:
        """The key (PKCS#8) and the certificate. Without a password the key is secret: only for a file with mode 0600."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        key = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return key + self.certificate_pem()

    def certificate_pem(self) -> bytes:
        """The certificate alone: public."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def new(cls, name: str, common_name: str) -> "Identity":
        """Makes a key and certificate like a Tentacle's own.

        RSA-2048, self-signed with SHA-256, only a common name, valid for 100 years, no extensions. Raises
        ValueError if `common_name` is empty or longer than 64 characters.
        """
        if not 1 <= len(common_name) <= _MAX_COMMON_NAME:
            raise ValueError(f"a common name has 1 to {_MAX_COMMON_NAME} characters, not {len(common_name)}")
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        # From yesterday, as Tentacle does: a peer's clock may be behind.
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(_serial())
            .not_valid_before(today - dt.timedelta(days=1))
            .not_valid_after(today + _VALID)
            .sign(key, hashes.SHA256())
        )
        return cls(name, certificate, key)

    @classmethod
    def from_pem(cls, name: str, data: bytes, password: str | None = None, known_good: bool = False) -> "Identity":
        """Reads a key and its certificate, in either order; other certificates are left out.

        password: of the key, where it is encrypted. known_good: an RSA key's numbers were checked when we wrote the file;
        checking them at each start would take some 60 ms a machine. Raises CertificateError, and PasswordError where the
        password is missing or wrong.
        """
        keys, certificates = [], []
        for block in _PEM_BLOCK.finditer(data):
            label = block.group(1)
            if label.endswith(b"PRIVATE KEY"):
                keys.append(_read_key(name, block.group(0), password, known_good))
            elif label in (b"CERTIFICATE", b"X509 CERTIFICATE"):
                certificates.append(_read_certificate(name, block.group(0)))
        if len(keys) != 1:
            raise CertificateError(
                f"identity {name}: {len(keys) or 'no'} private key{'s' * (len(keys) > 1)} in the PEM. "
                "Put one key and its certificate into the file."
            )
        return pair(name, keys[0], certificates)


@dataclass(frozen=True, slots=True)
class KeyToBe:
    """A key that nobody has parsed, and the certificate that should belong to it."""

    name: str
    certificate: x509.Certificate
    block: bytes = field(repr=False)

    def parse(self) -> IdentityKey:
        """Raises CertificateError."""
        return pair(self.name, _read_key(self.name, self.block, None, known_good=True), [self.certificate]).key


def key_to_be(name: str, data: bytes) -> KeyToBe | None:
    """Of a PEM with one plain key and one certificate, which is of a kind of key that is used here. None of any other PEM.

    Raises CertificateError for a certificate that cannot be read.
    """
    blocks = {block.group(1): block.group(0) for block in _PEM_BLOCK.finditer(data)}
    if data.count(b"-----BEGIN ") != len(blocks) or blocks.keys() != {b"PRIVATE KEY", b"CERTIFICATE"}:
        return None
    certificate = _read_certificate(name, blocks[b"CERTIFICATE"])
    return KeyToBe(name, certificate, blocks[b"PRIVATE KEY"]) if _certificate_key(certificate) else None


def pair(name: str, key: object, certificates: list[x509.Certificate]) -> Identity:
    """The identity of `key` and the one of `certificates` that belongs to it. Raises CertificateError."""
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError(
            f"identity {name}: the key is neither RSA nor elliptic curve (ECDSA), and Octopus cannot use it. "
            "Make an RSA key of 2048 bits."
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _KEY_BITS:
        raise CertificateError(
            f"identity {name}: the RSA key has {key.key_size} bits, which TLS libraries of today refuse. "
            f"Use a key of {_KEY_BITS} bits or more."
        )
    if not certificates:
        raise CertificateError(f"identity {name}: no certificate. Put the key and its certificate into one file.")
    mine = _public_bytes(key.public_key())
    for certificate in certificates:
        if _certificate_key(certificate) == mine:
            return Identity(name, certificate, key)
    raise CertificateError(
        f"identity {name}: the certificate does not belong to the private key. Use the certificate that was made with this key."
    )


def _serial() -> int:
    # 20 bytes, positive (RFC 5280, 4.1.2.2): the top bit is clear, the next one set so that the length never varies.
    return (1 << 158) | secrets.randbits(158)


def _read_key(name: str, block: bytes, password: str | None, known_good: bool) -> object:
    encrypted = b"ENCRYPTED" in block
    if encrypted and not password:
        raise PasswordError(
            f"identity {name}: the private key is encrypted, and its password was not given. Name a file with it "
            "(identity_password in the configuration, or --password-file), or remove it with 'openssl pkey -in FILE -out NEW'."
        )
    try:
        secret = password.encode() if encrypted and password else None
        return serialization.load_pem_private_key(block, secret, unsafe_skip_rsa_key_validation=known_good)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library's text may quote what it read, and this is a key: its text stays out.
        if encrypted:
            raise PasswordError(
                f"identity {name}: the private key cannot be decrypted: the password is wrong, or the file is damaged."
            ) from None
        raise CertificateError(
            f"identity {name}: the private key cannot be read ({type(error).__name__}). Write it anew as PKCS#8 PEM."
        ) from None


def _read_certificate(name: str, block: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except ValueError as error:
        raise CertificateError(f"identity {name}: the certificate cannot be read: {error}. Write it anew as PEM.") from error


def _certificate_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return _public_bytes(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        # Not a kind of key that an identity may have, so not the certificate that is looked for.
        return None


def _public_bytes(key: object) -> bytes | None:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return None
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
