from relay.peers.errors import PeerError, ServerError, TruncatedError, UnexpectedCertificateError


def test_a_breach_says_what_which_rule_and_which_bytes():
    assert str(PeerError("expected PROCEED", "3", b"NEXT\r\n")) == r"expected PROCEED: b'NEXT\r\n' (wire.md 3)"
    assert str(PeerError("no bytes", "3")) == "no bytes (wire.md 3)"


def test_long_bytes_are_cut_in_the_text_and_kept_in_the_error():
    error = PeerError("too much", "2.7 a", b"x" * 100)
    assert str(error) == f"too much: {b'x' * 64!r} and 36 more bytes (wire.md 2.7 a)"
    assert error.data == b"x" * 100


def test_a_truncation_is_a_breach():
    assert isinstance(TruncatedError("the end", "5.7"), PeerError)


def test_an_unexpected_certificate_is_not_tried_again_and_names_both():
    error = UnexpectedCertificateError("https://h:1/", "AA", "BB")
    assert not error.retry
    assert "'AA'" in str(error)
    assert "'BB'" in str(error)


def test_a_server_error_keeps_its_parts():
    error = ServerError("m", "d", "T")
    assert (str(error), error.message, error.details, error.halibut_error_type) == ("m", "m", "d", "T")
