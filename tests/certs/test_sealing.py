import pytest

from certs.errors import CertificateError, PasswordError
from certs.sealing import MAGIC, is_sealed, seal, unseal

DATA = b"what nobody else may read" * 100


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return seal(DATA, "pässwörd")


def test_round_trip(sealed: bytes) -> None:
    assert unseal(sealed, "pässwörd") == DATA
    assert is_sealed(sealed)
    assert not is_sealed(DATA)
    assert DATA[:25] not in sealed


def test_no_two_are_alike(sealed: bytes) -> None:
    again = seal(DATA, "pässwörd")
    shared = len(MAGIC)
    assert again[:shared] == sealed[:shared]
    assert again[shared : shared + 28] != sealed[shared : shared + 28]


def test_a_wrong_password(sealed: bytes) -> None:
    with pytest.raises(PasswordError, match="the password is wrong, or the file is damaged") as raised:
        unseal(sealed, "swordfish")
    assert "swordfish" not in str(raised.value)


@pytest.mark.parametrize("place", [len(MAGIC), len(MAGIC) + 16, len(MAGIC) + 28, -17, -1])
def test_a_changed_byte_is_noticed(sealed: bytes, place: int) -> None:
    """Of salt, nonce, ciphertext and tag."""
    changed = bytearray(sealed)
    changed[place] ^= 1
    with pytest.raises(PasswordError):
        unseal(bytes(changed), "pässwörd")


@pytest.mark.parametrize("length", [0, 5, len(MAGIC), len(MAGIC) + 43])
def test_what_is_not_sealed_or_cut_off(sealed: bytes, length: int) -> None:
    with pytest.raises(CertificateError, match="not sealed data, or cut off"):
        unseal(sealed[:length], "pässwörd")
