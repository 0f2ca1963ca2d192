"""The words of the protocol: preamble, identity and control lines (wire.md 2.1, 2.4, 3).

Every line ends in CRLF. A line of this module is sent whole, in one TLS record of its own.
"""

from typing import Final

PREAMBLE: Final = b"MX\r\n\r\n"
CLIENT_IDENTITY: Final = b"MX-CLIENT 1.0\r\n\r\n"
SERVER_IDENTITY: Final = b"MX-SERVER 1.0\r\n\r\n"
NEXT: Final = b"NEXT\r\n"
PROCEED: Final = b"PROCEED\r\n"
END: Final = b"END\r\n"

REQUEST_TYPE: Final = "Halibut.Transport.Protocol.RequestMessage, Halibut"
RESPONSE_TYPE: Final = "Halibut.Transport.Protocol.ResponseMessage, Halibut"
DATA_STREAM_TYPE: Final = "Halibut.DataStream, Halibut"

# A null message: the keep-alive of the polling style (wire.md 4.3), as .NET with zlib deflates it.
NULL_ENVELOPE: Final = bytes.fromhex("e3636060e0f24d2d2e4e4c4f65600000")


def subscriber_identity(subscription: str) -> bytes:
    """The identity of a dialling service; subscription as it shall travel, such as ``poll://sq-tentapoll/``.

    Raises ValueError where it could not stand in a line: empty, not ASCII, or with white space or control characters.
    """
    if not subscription or not subscription.isascii() or not subscription.isprintable() or " " in subscription:
        raise ValueError(f"a subscription id is printable ASCII without spaces, not {subscription!r}")
    return b"MX-SUBSCRIBER 1.0 %s\r\n\r\n" % subscription.encode("ascii")
