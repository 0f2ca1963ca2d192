import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from certs.errors import CertificateError, PasswordError
from certs.identity import Identity
from certs.pfx import Encryption, read_pfx, write_pfx

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


def test_what_to_do_about_a_password_that_nobody_gave(made: Identity) -> None:
    with pytest.raises(PasswordError) as raised:
        read_pfx("web01", write_pfx(made, "secret"), None)
    assert str(raised.value).endswith(
        ". Name a file with it (identity_password in the configuration, or --password-file), or save it without one."
    )


OPENSSL = shutil.which("openssl")
INSIDE = {
    "aes256": ["MAC: sha256,", "PBES2, PBKDF2, AES-256-CBC, Iteration 100000, PRF hmacWithSHA256"],
    "3des": ["MAC: sha1,", "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 100000"],
}


@pytest.mark.parametrize("encryption", ["aes256", "3des"])
def test_both_encryptions_are_read_again_and_hide_the_key(made: Identity, encryption: Encryption) -> None:
    data = write_pfx(made, "pässwörd", encryption)
    assert read_pfx("web01", data, "pässwörd") == made
    with pytest.raises(PasswordError):
        read_pfx("web01", data, "passwort")
    secret = made.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert secret not in data


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("encryption", ["aes256", "3des"])
def test_openssl_reads_what_is_written_and_finds_this_encryption(
    made: Identity, tmp_path: Path, encryption: Encryption
) -> None:
    (tmp_path / "key.pfx").write_bytes(write_pfx(made, "secret", encryption))
    command = [str(OPENSSL), "pkcs12", "-in", tmp_path / "key.pfx", "-passin", "pass:secret", "-nodes", "-info"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in INSIDE[encryption]:
        assert line in done.stderr
    assert Identity.from_pem("web01", done.stdout.encode()) == made


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_what_openssl_writes_is_read(made: Identity, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(made.pem())
    command = [str(OPENSSL), "pkcs12", "-export", "-in", tmp_path / "key.pem", "-passout", "pass:secret"]
    for options in ([], ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"]):
        done = subprocess.run([*command, *options], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert read_pfx("web01", done.stdout, "secret") == made
