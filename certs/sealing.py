"""Data sealed with a password: scrypt (RFC 7914) makes the key, AES-256-GCM encrypts and proves that nothing was changed.

    "relay-tentacle sealed 1\\n"  salt (16 bytes)  nonce (12 bytes)  ciphertext and tag

The first line stands for all parameters: N=2^17, r=8, p=1, 32 bytes of key. Line and salt are authenticated, too.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from certs.errors import CertificateError, PasswordError

MAGIC: Final = b"relay-tentacle sealed 1\n"
_SALT: Final = 16
_NONCE: Final = 12
_TAG: Final = 16


def seal(data: bytes, password: str) -> bytes:
    """Encrypted; takes some 0.5 s and 128 MiB of memory, and so does each guess at the password."""
    header = MAGIC + secrets.token_bytes(_SALT)
    nonce = secrets.token_bytes(_NONCE)
    return header + nonce + AESGCM(_key(header, password)).encrypt(nonce, data, header)


def is_sealed(data: bytes) -> bool:
    """Whether it is what seal() makes, by its first line."""
    return data.startswith(MAGIC)


def unseal(data: bytes, password: str) -> bytes:
    """Raises PasswordError where the password is wrong or anything was changed, CertificateError where it was cut off."""
    start = len(MAGIC) + _SALT
    if not is_sealed(data) or len(data) < start + _NONCE + _TAG:
        raise CertificateError("not sealed data, or cut off. Use another copy.")
    header, nonce, sealed = data[:start], data[start : start + _NONCE], data[start + _NONCE :]
    try:
        return AESGCM(_key(header, password)).decrypt(nonce, sealed, header)
    except InvalidTag:
        raise PasswordError("cannot be decrypted: the password is wrong, or the file is damaged") from None


def _key(header: bytes, password: str) -> bytes:
    return Scrypt(salt=header[len(MAGIC) :], length=32, n=2**17, r=8, p=1).derive(password.encode())
