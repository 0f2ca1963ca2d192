"""PFX (PKCS#12) files: how Windows, Octopus and Tentacle hand identities around."""

from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from certs.errors import CertificateError, PasswordError
from certs.identity import Identity, pair

Encryption = Literal["aes256", "3des"]

# Of the encryption; the file's own checksum has 2048, so a short password is found out by trying, whatever is written here.
# .NET refuses more than 300 000 for any one part of a file, and 1 000 000 for all of them.
_ROUNDS = 100_000
_ENCRYPTIONS: Final[dict[Encryption, tuple[pkcs12.PBES, hashes.HashAlgorithm]]] = {
    "aes256": (pkcs12.PBES.PBESv2SHA256AndAES256CBC, hashes.SHA256()),
    "3des": (pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, hashes.SHA1()),  # noqa: S303 -- what old Windows reads
}


def read_pfx(name: str, data: bytes, password: str | None) -> Identity:
    """The identity in a PFX; certificates that do not belong to its key are left out. Raises CertificateError,
    and PasswordError where the password may be to blame.

    No password and an empty one are the same to people, and two spellings in the file: both are tried.
    """
    # A SEQUENCE of the DER: anything else was never a PFX, and a password cannot help.
    if data[:1] != b"\x30":
        raise CertificateError(f"identity {name}: not a PFX file. Export it as PFX (PKCS#12), or use PEM.")
    passwords = [password.encode()] if password else [None, b""]
    for attempt in passwords:
        try:
            key, certificate, others = pkcs12.load_key_and_certificates(data, attempt)
        except UnsupportedAlgorithm as error:
            raise CertificateError(
                f"identity {name}: the PFX is encrypted in an unsupported way: {error}. Export it with AES-256."
            ) from error
        except ValueError:
            continue
        if key is None:
            raise CertificateError(f"identity {name}: no private key in the PFX. Export it with the private key.")
        return pair(name, key, [certificate, *others] if certificate else others)
    if password:
        raise PasswordError(f"identity {name}: the PFX cannot be opened: the password is wrong, or the file is damaged.")
    raise PasswordError(
        f"identity {name}: the PFX cannot be opened: it needs a password, and none was given, or the file is damaged. "
        "Name a file with it (identity_password in the configuration, or --password-file), or save it without one."
    )


def write_pfx(identity: Identity, password: str | None, encryption: Encryption = "aes256") -> bytes:
    """A PFX with key and certificate.

    encryption: ``aes256`` with SHA-256, which Windows reads from 10 (1709) and Server 2019 on; ``3des`` with SHA-1, which
    every Windows and every .NET reads. Without a password the key in it is not encrypted: the file must be kept like a PEM
    with a key.
    """
    chosen: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        algorithm, hash_ = _ENCRYPTIONS[encryption]
        chosen = (
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(_ROUNDS)
            .key_cert_algorithm(algorithm)
            .hmac_hash(hash_)
            .build(password.encode())
        )
    name = identity.name.encode()
    return pkcs12.serialize_key_and_certificates(name, identity.key, identity.certificate, None, chosen)
