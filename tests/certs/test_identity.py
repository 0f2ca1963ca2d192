import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from certs.errors import CertificateError, PasswordError
from certs.identity import Identity

CAPTURES = Path(__file__).parents[1] / "captures" / "certs"


@pytest.fixture(scope="module")
def made() -> Identity:
    return Identity.new("web01", "Octopus Tentacle")


@pytest.fixture(scope="module")
def other() -> Identity:
    return Identity.new("web02", "Octopus Tentacle")


def key_pem(identity: Identity, encryption: serialization.KeySerializationEncryption | None = None) -> bytes:
    return identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        encryption or serialization.NoEncryption(),
    )


def certificate_pem(identity: Identity) -> bytes:
    return identity.certificate.public_bytes(serialization.Encoding.PEM)


def test_a_new_one_is_like_a_tentacles_own(made: Identity) -> None:
    certificate = made.certificate
    assert certificate.version is x509.Version.v3
    assert certificate.subject == certificate.issuer
    assert [(part.oid, part.value) for part in certificate.subject] == [(NameOID.COMMON_NAME, "Octopus Tentacle")]
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert list(certificate.extensions) == []
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert (key.key_size, key.public_numbers().e) == (2048, 65537)
    certificate.verify_directly_issued_by(certificate)


def test_a_new_one_is_valid_from_yesterday_for_a_hundred_years(made: Identity) -> None:
    now = dt.datetime.now(dt.UTC)
    start = made.certificate.not_valid_before_utc
    assert dt.timedelta(days=1) <= now - start < dt.timedelta(days=3)
    assert made.expires - start == dt.timedelta(days=36526)
    assert made.expires.tzinfo is dt.UTC


def test_serial_numbers_are_random_positive_and_20_bytes(made: Identity, other: Identity) -> None:
    for identity in (made, other):
        assert identity.certificate.serial_number.bit_length() == 159
    assert made.certificate.serial_number != other.certificate.serial_number


@pytest.mark.parametrize("common_name", ["", "x" * 65])
def test_a_common_name_has_its_length(common_name: str) -> None:
    with pytest.raises(ValueError, match=f"1 to 64 characters, not {len(common_name)}"):
        Identity.new("web01", common_name)


def test_the_key_is_in_no_repr(made: Identity) -> None:
    assert "key" not in repr(made).lower()
    assert "web01" in repr(made)


def test_pem_round_trip(made: Identity) -> None:
    again = Identity.from_pem("web01", made.pem())
    assert again == made
    assert again.key.private_numbers() == made.key.private_numbers()
    assert again.thumbprint == made.thumbprint
    assert made.pem().startswith(b"-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize("who", ["octopus", "tentacle", "intruder"])
def test_the_recorded_peers_are_read(who: str) -> None:
    identity = Identity.from_pem(who, (CAPTURES / f"{who}.pem").read_bytes())
    assert str(identity.thumbprint) == (CAPTURES / f"{who}.thumb").read_text().strip()


def test_either_order_any_line_ends_and_words_around(made: Identity) -> None:
    key, certificate = key_pem(made), certificate_pem(made)
    for data in (key + certificate, certificate + key, (b"Bag Attributes\n" + certificate + key).replace(b"\n", b"\r\n")):
        assert Identity.from_pem("web01", data) == made


def test_of_several_certificates_the_keys_own_is_taken(made: Identity, other: Identity) -> None:
    chain = certificate_pem(other) + certificate_pem(made)
    assert Identity.from_pem("web01", chain + key_pem(made)) == made
    assert Identity.from_pem("web02", chain + key_pem(other)).certificate == other.certificate


def test_elliptic_curve_keys_are_fine() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    identity = Identity.from_pem("web01", self_signed(key))
    assert identity.key.public_key() == key.public_key()
    assert Identity.from_pem("web01", identity.pem()) == identity


def test_what_cannot_be_an_identity(made: Identity, other: Identity) -> None:
    key, certificate = key_pem(made), certificate_pem(made)
    encrypted = key_pem(made, serialization.BestAvailableEncryption(b"secret"))
    cut = key.replace(key.splitlines()[5], b"")
    bad_certificate = certificate.replace(certificate.splitlines()[5], b"")
    cases = [
        (b"", "no private key in the PEM"),
        (b"\xff\xfe\0junk", "no private key in the PEM"),
        (certificate, "no private key in the PEM"),
        (key, "no certificate"),
        (key + key + certificate, "2 private keys in the PEM"),
        (key + certificate_pem(other), "the certificate does not belong to the private key"),
        (encrypted + certificate, "the private key is encrypted"),
        (cut + certificate, "the private key cannot be read"),
        (key + bad_certificate, "the certificate cannot be read"),
        (self_signed(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "the RSA key has 1024 bits"),
        (self_signed(ed25519.Ed25519PrivateKey.generate()), "the key is neither RSA nor elliptic curve"),
    ]
    for data, problem in cases:
        with pytest.raises(CertificateError) as raised:
            Identity.from_pem("web01", data)
        assert str(raised.value).startswith(f"identity web01: {problem}")
        assert str(raised.value).endswith(".")
        assert "BEGIN" not in str(raised.value)


def test_an_encrypted_key_is_read_with_its_password(made: Identity) -> None:
    data = key_pem(made, serialization.BestAvailableEncryption("pässwörd".encode())) + certificate_pem(made)
    assert Identity.from_pem("web01", data, "pässwörd").key.private_numbers() == made.key.private_numbers()
    for password, problem in [(None, "is encrypted"), ("", "is encrypted"), ("other", "cannot be decrypted: the password is")]:
        with pytest.raises(PasswordError, match=f"identity web01: the private key {problem}"):
            Identity.from_pem("web01", data, password)


def test_a_password_does_not_matter_to_a_key_without_one(made: Identity) -> None:
    assert Identity.from_pem("web01", made.pem(), "secret") == made


def self_signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today)
        .not_valid_after(today + dt.timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM) + pem
