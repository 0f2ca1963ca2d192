import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.identity import Identity
from certs.thumbprint import Thumbprint, ThumbprintError

CAPTURES = Path(__file__).parents[1] / "captures" / "certs"
SHA1 = "9A2B1F043A8B4673121F21A2B742141B6C94A6FE"
SHA256 = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"


@pytest.mark.parametrize(
    "text",
    [
        SHA1,
        SHA1.lower(),
        " " + SHA1 + "\n",
        ":".join(SHA1[i : i + 2] for i in range(0, 40, 2)),
        " ".join(SHA1[i : i + 2].lower() for i in range(0, 40, 2)),
        "-".join(SHA1[i : i + 8] for i in range(0, 40, 8)),
        "\u200e" + SHA1,  # Windows' certificate dialogue
        "\ufeff" + SHA1 + "\u200f",
        "\u00a0".join(SHA1[i : i + 2] for i in range(0, 40, 2)),
    ],
)
def test_every_spelling_is_read_and_printed_as_octopus_shows_it(text: str) -> None:
    thumbprint = Thumbprint.parse(text)
    assert str(thumbprint) == SHA1
    assert thumbprint.algorithm == "sha1"


def test_sha256_is_known_by_its_length() -> None:
    assert Thumbprint.parse(SHA256).algorithm == "sha256"
    assert str(Thumbprint.parse(SHA256.lower())) == SHA256


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("x", "1 character"),
        ("xyz", "3 characters"),
        (SHA1[:-1], "39 characters"),
        (SHA1 + "0", "41 characters"),
        (SHA256[:-1], "63 characters"),
        (SHA1[:-1] + "G", "'G' is not a hexadecimal digit"),
        (SHA1[:-1] + "٣", "'\\u0663' is not a hexadecimal digit"),  # a digit, but not one of ours
        (SHA1[:-1] + "\n", "39 characters"),
        ("A" * 257, "257 characters"),
        (":" * 100_000, "100000 characters"),
    ],
)
def test_what_is_not_a_thumbprint(text: str, problem: str) -> None:
    with pytest.raises(ThumbprintError) as raised:
        Thumbprint.parse(text)
    assert raised.value.problem == f"not a thumbprint: {problem}"
    assert str(raised.value) == (
        f"not a thumbprint: {problem}. Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."
    )


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"20 .* or 32 .* bytes, not 16"):
        Thumbprint(bytes(16))


@pytest.mark.parametrize("who", ["octopus", "tentacle", "intruder"])
def test_the_thumbprints_of_the_recorded_peers(who: str) -> None:
    identity = Identity.from_pem(who, (CAPTURES / f"{who}.pem").read_bytes())
    shown = (CAPTURES / f"{who}.thumb").read_text().strip()
    assert str(Thumbprint.of(identity.der)) == shown
    assert Thumbprint.parse(shown).matches(identity.der)
    assert not Thumbprint.parse(shown).matches(identity.der + b"\0")


def test_sha256_is_over_the_same_bytes() -> None:
    thumbprint = Thumbprint.of(b"der", "sha256")
    assert thumbprint.digest == hashlib.sha256(b"der").digest()
    assert thumbprint.matches(b"der")
    assert not thumbprint.matches(b"red")


def test_equal_ones_are_one_key() -> None:
    assert {Thumbprint.parse(SHA1): 1}[Thumbprint.parse(SHA1.lower())] == 1
    assert Thumbprint.parse(SHA1) != Thumbprint.of(b"")
    assert repr(Thumbprint.parse(SHA1)) == f"Thumbprint({SHA1})"


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Thumbprint.parse(SHA1).digest = bytes(20)


@given(
    digest=st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32),
    lower=st.booleans(),
    separator=st.sampled_from(["", ":", " ", "-", "\u200e"]),
    group=st.integers(min_value=2, max_value=8),
)
def test_what_is_printed_can_be_read(digest: bytes, lower: bool, separator: str, group: int) -> None:
    thumbprint = Thumbprint(digest)
    text = str(thumbprint).lower() if lower else str(thumbprint)
    spelled = separator.join(text[i : i + group] for i in range(0, len(text), group))
    assert Thumbprint.parse(spelled) == thumbprint


@given(st.text(max_size=300))
def test_any_text_is_a_thumbprint_or_a_thumbprint_error(text: str) -> None:
    try:
        thumbprint = Thumbprint.parse(text)
    except ThumbprintError:
        return
    assert Thumbprint.parse(str(thumbprint)) == thumbprint
