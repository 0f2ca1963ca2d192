import io
import sys
from pathlib import Path

import pytest
from scripted import party

from certs.errors import CertificateError
from certs.identity import Identity
from certs.pfx import read_pfx
from relay.export import contents, format_of, put_on_standard_output


@pytest.mark.parametrize(
    ("name", "form"), [("a.pem", "pem"), ("A.PEM", "pem"), ("a.pfx", "pfx"), ("a.p12", "pfx"), ("a", "pfx"), ("-", "pfx")]
)
def test_the_format_is_in_the_name(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


@pytest.mark.parametrize("password", ["secret", None])
def test_both_formats_are_read_again(password: str | None) -> None:
    identity = party("ours")
    assert Identity.from_pem("ours", contents(identity, "pem", password, "3des"), password) == identity
    assert read_pfx("ours", contents(identity, "pfx", password, "aes256"), password) == identity


def test_a_reader_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.RawIOBase):
        def write(self, data: object) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    class Output:
        buffer = Gone()

    monkeypatch.setattr(sys, "stdout", Output())
    with pytest.raises(CertificateError, match="standard output cannot be written: Broken pipe"):
        put_on_standard_output(b"x")
