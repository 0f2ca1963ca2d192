from relay.page import PAGE


def test_it_is_halibut_s_default_page_to_the_byte() -> None:
    """wire.md 2.5: 122 bytes, of which two line ends stand outside Content-Length."""
    assert PAGE == (
        b"HTTP/1.0 200 OK\r\n"
        b"Content-Type: text/html; charset=utf-8\r\n"
        b"Content-Length: 39\r\n"
        b"\r\n"
        b"<html><body><p>Hello!</p></body></html>\r\n"
        b"\r\n"
    )
    assert len(PAGE) == 122
