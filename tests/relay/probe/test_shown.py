import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from identities import identity
from strangers import issued

from certs.identity import Identity
from relay.probe.shown import Kind, look_at


@pytest.mark.parametrize(
    ("subject", "issuer", "kind"),
    [
        ("Octopus Tentacle", "Octopus Tentacle", Kind.TENTACLE),
        ("Octopus Portal", "Octopus Portal", Kind.OCTOPUS),
        ("web01", "web01", Kind.SELF_SIGNED),
        ("Octopus Tentacle", "Corp Root", Kind.INTERCEPTED),
        ("Octopus Portal", "Corp Root", Kind.INTERCEPTED),
        ("web01.corp", "Zscaler Intermediate Root CA", Kind.INTERCEPTED),
        ("web01.corp", "mitmproxy", Kind.INTERCEPTED),
        ("web01.corp", "R11", Kind.ISSUED),
    ],
)
def test_what_a_certificate_looks_like(subject, issuer, kind):
    made = Identity.new("any", subject) if subject == issuer else issued(subject, issuer)
    shown = look_at(made.certificate)
    assert shown.kind is kind
    assert (shown.subject, shown.issuer) == (f"CN={subject}", f"CN={issuer}")
    assert shown.thumbprint == made.thumbprint
    assert shown.expires == f"{made.expires:%Y-%m-%d}"


def test_in_words():
    own = identity("web01")
    assert str(look_at(own.certificate)) == f"{own.thumbprint}, subject 'CN=web01', signed by itself"
    other = issued("web01", "Corp Root")
    assert str(look_at(other.certificate)) == f"{other.thumbprint}, subject 'CN=web01', issued by 'CN=Corp Root'"


def test_names_cannot_drive_a_terminal_and_are_cut():
    key = ec.generate_private_key(ec.SECP256R1())
    long = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "y" * 60)] * 4
    name = x509.Name([*long, x509.NameAttribute(NameOID.COMMON_NAME, "\x1b[2J")])  # the last one is written first
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    shown = look_at(made)
    assert shown.subject.startswith("CN=?[2J,OU=yy")
    assert len(shown.subject) == 200
