"""One TCP connection with TLS on it, whose first bytes are kept: they say what else than a Tentacle answers there."""

from typing import Any, Final, cast

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory

from relay.peers.times import Times
from relay.peers.tls import Dialler, RecordTls, RecordTlsFactory
from relay.peers.wire import Wire

_KEPT: Final = 64  # bytes
LONG: Final = 3600.0  # seconds: whoever probes has a deadline of its own, and no other wait may end before it
TIMES: Final = Times(connect=LONG, tcp=LONG, heartbeat=LONG, reply=LONG, close=2.0)


class ProbingTls(RecordTls):
    """first: the first bytes that came, before TLS took them for its own. wire: what runs on it."""

    first = b""
    wire: Wire

    def dataReceived(self, data: bytes) -> None:
        """Twisted's hook: bytes of TCP."""
        self.first += data[: _KEPT - len(self.first)]
        cast("Any", super()).dataReceived(data)

    @property
    def version(self) -> str:
        """Of TLS, when its handshake is done: ``TLSv1.3``."""
        return str(cast("Any", self).getHandle().get_protocol_version_name())


class _ProbingFactory(RecordTlsFactory):
    protocol = ProbingTls


async def connect(reactor: Any, address: str, port: int, dialler: Dialler) -> ProbingTls:
    """A TCP connection; TLS begins. address: an IP address. Raises twisted.internet.error.ConnectError; may be cancelled."""
    factory = Factory.forProtocol(lambda: Wire(reactor, TIMES, lambda _: None))
    factory.noisy = False
    kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
    endpoint = kind(reactor, address, port, timeout=LONG)
    try:
        tls = cast("ProbingTls", await endpoint.connect(cast("Any", _ProbingFactory(dialler, factory, reactor))))
    except ConnectingCancelledError as error:
        raise CancelledError from error
    tls.wire = cast("Wire", tls.wrappedProtocol)
    return tls
