from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from certs.errors import CertificateError, PasswordError
from certs.identity import Identity
from certs.pfx import read_pfx, write_pfx

CAPTURES = Path(__file__).parents[1] / "captures" / "certs"


@pytest.fixture(scope="module")
def made() -> Identity:
    return Identity.new("web01", "Octopus Tentacle")


@pytest.mark.parametrize("password", ["secret", "pässwörd", None, ""])
def test_round_trip(made: Identity, password: str | None) -> None:
    again = read_pfx("web01", write_pfx(made, password), password)
    assert again == made
    assert again.key.private_numbers() == made.key.private_numbers()


def test_no_password_and_an_empty_one_are_the_same(made: Identity) -> None:
    assert read_pfx("web01", write_pfx(made, None), "") == made
    assert read_pfx("web01", write_pfx(made, ""), None) == made


@pytest.mark.parametrize("who", ["octopus", "tentacle", "intruder"])
@pytest.mark.parametrize("password", [None, ""])
def test_the_recorded_peers_files_are_read(who: str, password: str | None) -> None:
    identity = read_pfx(who, (CAPTURES / f"{who}.pfx").read_bytes(), password)
    assert str(identity.thumbprint) == (CAPTURES / f"{who}.thumb").read_text().strip()


def test_the_old_encryption_of_windows_is_read(made: Identity) -> None:
    old = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2000)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(b"secret")
    )
    data = pkcs12.serialize_key_and_certificates(b"web01", made.key, made.certificate, None, old)
    assert read_pfx("web01", data, "secret") == made


def test_certificates_of_others_in_it_are_left_out(made: Identity) -> None:
    other = Identity.new("web02", "Octopus Tentacle").certificate
    data = pkcs12.serialize_key_and_certificates(b"web01", made.key, made.certificate, [other], serialization.NoEncryption())
    assert read_pfx("web01", data, None) == made


def test_the_key_in_it_is_encrypted(made: Identity) -> None:
    secret = made.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert secret not in write_pfx(made, "secret")
    assert secret in write_pfx(made, None)


def test_what_cannot_be_read(made: Identity) -> None:
    locked = write_pfx(made, "secret")
    certificate = made.certificate
    keyless = pkcs12.serialize_key_and_certificates(b"x", None, certificate, None, serialization.NoEncryption())
    naked = pkcs12.serialize_key_and_certificates(b"x", made.key, None, None, serialization.NoEncryption())
    cases = [
        (locked, "wrong", "the PFX cannot be opened: the password is wrong"),
        (locked, None, "the PFX cannot be opened: it needs a password, and none was given"),
        (locked[:-40], "secret", "the PFX cannot be opened: the password is wrong, or the file is damaged"),
        (b"", None, "not a PFX file"),
        (made.pem(), None, "not a PFX file"),
        (b"\x30\x03\x02\x01\x03", None, "the PFX cannot be opened"),
        (keyless, None, "no private key in the PFX"),
        (naked, None, "no certificate"),
    ]
    for data, password, problem in cases:
        with pytest.raises(CertificateError) as raised:
            read_pfx("web01", data, password)
        assert str(raised.value).startswith(f"identity web01: {problem}")
        assert "secret" not in str(raised.value)


def test_what_to_do_about_a_password_that_nobody_gives(made: Identity) -> None:
    """Of a provisioned one nobody can: a running relay has nobody to ask."""
    with pytest.raises(PasswordError) as raised:
        read_pfx("web01", write_pfx(made, "secret"), None)
    assert str(raised.value).endswith(". Save it without one, or import it with 'relay-tentacle identity import'.")
