import pytest

from relay.transport.errors import DialError, HandshakeError, PeerClosedError, TransportError, WrongCertificateError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DialError("refused", "Connection refused"), "Connection refused"),
        (HandshakeError("no TLS handshake in time"), "no TLS handshake in time"),
        (PeerClosedError("closed"), "closed"),
        (WrongCertificateError("AB" * 20), f"it presented the certificate {'AB' * 20}"),
        (WrongCertificateError(""), "it presented no certificate"),
    ],
)
def test_each_is_one_of_ours_and_says_what_happened(error: TransportError, text: str) -> None:
    assert isinstance(error, TransportError)
    assert str(error) == text


def test_what_each_knows() -> None:
    assert DialError("refused", "Connection refused").reason == "refused"
    assert WrongCertificateError("AB" * 20).shown == "AB" * 20
