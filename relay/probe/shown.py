"""A certificate that is not the pinned one: whose it is, as far as it can be told.

Tentacle and Octopus sign their own certificates and give them fixed names. A box that intercepts TLS copies the name and signs
with its own, so a certificate of that name and another issuer has but one explanation.
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.thumbprint import Thumbprint
from relay.halibut.words import Word

TENTACLE_NAME: Final = "Octopus Tentacle"
OCTOPUS_NAME: Final = "Octopus Portal"
_MAX_NAME: Final = 200  # characters that are shown of a name
# What boxes and programs that intercept TLS call their issuers, in lower case.
_INTERCEPTORS: Final = (
    "avast", "barracuda", "blue coat", "bluecoat", "burp", "cato networks", "charles proxy", "check point", "cisco umbrella",
    "decrypt", "do_not_trust", "eset ssl filter", "fiddler", "forcepoint", "fortigate", "fortinet", "iboss", "inspection",
    "intercept", "kaspersky", "mcafee web gateway", "mitmproxy", "netskope", "palo alto", "portswigger", "proxysg", "skyhigh",
    "sonicwall", "sophos", "squid", "ssl proxy", "trend micro", "untangle", "watchguard", "websense", "zscaler",
)  # fmt: skip


class Kind(Word):
    """What a certificate looks like."""

    TENTACLE = "tentacle"  # made by a Tentacle, or by a relay in its place
    OCTOPUS = "octopus"  # made by an Octopus server, or by a relay in its place
    INTERCEPTED = "intercepted"  # made by a box that intercepts TLS
    SELF_SIGNED = "self-signed"
    ISSUED = "issued"  # by somebody else: a web server's, or a box's


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate that came. subject, issuer: as RFC 4514 writes them, cut at 200 characters. expires: a date."""

    thumbprint: Thumbprint
    subject: str
    issuer: str
    expires: str
    kind: Kind

    def __str__(self) -> str:
        by = "signed by itself" if self.kind not in (Kind.INTERCEPTED, Kind.ISSUED) else f"issued by {self.issuer!r}"
        return f"{self.thumbprint}, subject {self.subject!r}, {by}"


def look_at(certificate: x509.Certificate) -> Shown:
    """What it says of itself. Whatever cannot be read in it is left out."""
    subject, issuer = _names(certificate)
    return Shown(
        thumbprint=Thumbprint.of(der_of(certificate)),
        subject=_text(subject),
        issuer=_text(issuer),
        expires=_expires(certificate),
        kind=_kind(subject, issuer),
    )


def der_of(certificate: x509.Certificate) -> bytes:
    """Its bytes, of which thumbprints are made."""
    return certificate.public_bytes(Encoding.DER)


def _names(certificate: x509.Certificate) -> tuple[x509.Name | None, x509.Name | None]:
    try:
        return certificate.subject, certificate.issuer
    except ValueError:  # a stranger's: it may say anything
        return None, None


def _expires(certificate: x509.Certificate) -> str:
    try:
        return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    except ValueError:
        return ""


def _kind(subject: x509.Name | None, issuer: x509.Name | None) -> Kind:
    name = _common_name(subject)
    if subject == issuer:
        return {TENTACLE_NAME: Kind.TENTACLE, OCTOPUS_NAME: Kind.OCTOPUS}.get(name, Kind.SELF_SIGNED)
    if name in (TENTACLE_NAME, OCTOPUS_NAME) or any(word in _text(issuer).lower() for word in _INTERCEPTORS):
        return Kind.INTERCEPTED
    return Kind.ISSUED


def _common_name(name: x509.Name | None) -> str:
    attributes = name.get_attributes_for_oid(NameOID.COMMON_NAME) if name else []
    return str(attributes[0].value) if len(attributes) == 1 else ""


def _text(name: x509.Name | None) -> str:
    """Without what could drive a terminal."""
    text = name.rfc4514_string() if name else ""
    return "".join(character if character.isprintable() else "?" for character in text[:_MAX_NAME])
