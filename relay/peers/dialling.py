"""The dialling side of a connection, up to the listener's identity (wire.md 1.5, 2.1, 2.4, 2.6)."""

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from relay.halibut.lines import PREAMBLE
from relay.peers.errors import ConnectingError, EndedError, PeerError, TruncatedError, UnexpectedCertificateError
from relay.peers.framing import server_identity
from relay.peers.times import Clock, Times
from relay.peers.tls import Dialler, Identity, RecordTls, RecordTlsFactory, anonymous, is_ip
from relay.peers.tunnel import Tunnel, WebProxy
from relay.peers.wire import Wire

HELLO = b"HELLO\r\n\r\n"


def base_uri(host: str, port: int) -> str:
    """``https://host:port/`` in lower case, an IPv6 literal in brackets."""
    literal = f"[{host}]" if is_ip(host) and ":" in host else host
    return f"https://{literal.lower()}:{port}/"


class Dial:
    """How one peer dials. clock measures every wait but that for TCP, which is the reactor's."""

    def __init__(self, reactor: object, clock: Clock, times: Times, on_violation: Callable[[PeerError], None]) -> None:
        self._reactor = reactor
        self._clock = clock
        self._times = times
        self._on_violation = on_violation

    async def connect(
        self, identity: Identity, host: str, port: int, thumbprint: str, introduction: bytes, proxy: WebProxy | None = None
    ) -> Wire:
        """A connection whose listener is the pinned one and has answered MX-SERVER. introduction: our identity line.

        proxy: through which it goes; then that one is dialled, and asked for the host and port.

        Raises ConnectingError, UnexpectedCertificateError, and PeerError where the listener breaks a rule.
        """
        wire = await self.open(identity.dialler(host), host, port, proxy)
        uri = base_uri(host, port)
        if wire.thumbprint != thumbprint:
            # The listener sees a complete handshake and a bare FIN, without a byte (wire.md 1.5).
            wire.finish()
            raise UnexpectedCertificateError(uri, thumbprint, wire.thumbprint or "none")
        try:
            wire.send(PREAMBLE)
            wire.send(introduction)
            await wire.receive(server_identity())
        except (EndedError, TruncatedError) as error:
            wire.finish()
            raise before(uri, error) from error
        return wire

    async def discover(self, host: str, port: int, proxy: WebProxy | None = None) -> str:
        """The listener's thumbprint, by HELLO, without a certificate of ours. Raises ConnectingError."""
        wire = await self.open(anonymous(host), host, port, proxy)
        try:
            wire.send(HELLO)
        finally:
            wire.finish()
        if wire.thumbprint is None:
            raise before(base_uri(host, port), "the listener showed no certificate")
        return wire.thumbprint

    async def open(self, dialler: Dialler, host: str, port: int, proxy: WebProxy | None = None) -> Wire:
        """A connection with TLS on it, and nothing said yet. Raises ConnectingError; PeerError where a proxy breaks a rule."""
        uri = base_uri(host, port)
        factory = Factory.forProtocol(lambda: Wire(self._clock, self._times, self._on_violation))
        factory.noisy = False
        tls = RecordTlsFactory(dialler, factory, self._clock)
        try:
            protocol = await (self._tunnel(uri, tls, proxy) if proxy else self._connect(tls, host, port))
        except DNSLookupError as error:
            raise before(uri, error, retry=False) from error
        except ConnectError as error:
            raise before(uri, error) from error
        except EndedError as error:
            raise before(uri, error) from error
        wire = cast("RecordTls", protocol).wrappedProtocol
        assert isinstance(wire, Wire)
        try:
            await wire.handshaken()
        except EndedError as error:
            raise before(uri, error) from error
        return wire

    async def _tunnel(self, uri: str, tls: RecordTlsFactory, proxy: WebProxy) -> RecordTls:
        factory = Factory.forProtocol(lambda: Tunnel(uri, proxy, tls, self._clock, self._on_violation))
        factory.noisy = False
        tunnel = cast("Tunnel", await self._connect(factory, proxy.host, proxy.port))
        return await tunnel.established()

    def _connect(self, factory: object, host: str, port: int) -> Deferred[IProtocol]:
        endpoint = HostnameEndpoint(cast("Any", self._reactor), host, port, timeout=self._times.connect)
        return _cancellable(endpoint.connect(cast("Any", factory)))


def _cancellable(attempt: Deferred[IProtocol]) -> Deferred[IProtocol]:
    # A cancelled HostnameEndpoint fails as if the host were unknown or unreachable, which would be tried again.
    given_up: list[bool] = []

    def give_up(_: Deferred[IProtocol]) -> None:
        given_up.append(True)
        attempt.cancel()

    def tell(result: IProtocol | Failure) -> None:
        if not given_up:
            done.callback(cast("Any", result))

    done: Deferred[IProtocol] = Deferred(give_up)
    attempt.addBoth(tell)
    return done


def before(uri: str, cause: object, *, retry: bool = True) -> ConnectingError:
    """The error of a call that failed before its request began, in Halibut's words (wire.md 7.3)."""
    text = f"An error occurred when sending a request to '{uri}', before the request could begin: {cause}"
    return ConnectingError(text, retry=retry)
