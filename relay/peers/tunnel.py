"""A way through an HTTP proxy, as Halibut takes it, and what it must not be answered (wire.md 8).

It is stricter than Halibut, which ignores what it does not like or hangs: each answer that an old or a new Halibut could not
take is a breach.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from relay.peers.errors import EndedError, PeerError, ProxyError, TruncatedError
from relay.peers.times import Clock
from relay.peers.tls import RecordTls, RecordTlsFactory

ANSWER_WITHIN: Final = 15.0  # seconds between two reads of an answer (8.2)
_MOST: Final = 16 * 1024
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(
    rb"HTTP/1\.[01] ([0-9]{3}) ([ -~]+)"
)  # head splits at both spaces: without the second one it throws


class SilentProxyError(EndedError):
    """The proxy did not answer in time."""


@dataclass(frozen=True, slots=True)
class WebProxy:
    """What Octopus has as a machine's proxy. user: empty for none."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host} on port {self.port}"

    def request(self, target: str) -> bytes:
        """What it is sent (8.1). target: ``host:port``, IPv6 in brackets."""
        lines = [f"CONNECT {target} HTTP/1.0", f"Host: {target}"]
        if self.user:
            credentials = f"{self.user}:{self.password}".encode("ascii", "replace")
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode()}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class Tunnel(Protocol):
    """Asks for a tunnel, and begins TLS in it."""

    transport: Any

    def __init__(
        self, uri: str, proxy: WebProxy, tls: RecordTlsFactory, clock: Clock, on_violation: Callable[[PeerError], None]
    ) -> None:
        """uri: where to, as `base_uri` gives it."""
        self._uri = uri
        self._proxy = proxy
        self._tls = tls
        self._clock = clock
        self._on_violation = on_violation
        self._answer = b""
        self._timer: DelayedCall | None = None
        self._done: Deferred[RecordTls] = Deferred(lambda _: self._end())

    def established(self) -> Deferred[RecordTls]:
        """TLS in the tunnel. Fails with ProxyError for an answer that is not 200; EndedError; PeerError. May be cancelled."""
        return self._done

    def connectionMade(self) -> None:
        """Twisted's hook: the proxy is there."""
        self.transport.setTcpNoDelay(True)
        self._arm()
        self.transport.write(self._proxy.request(self._uri.removeprefix("https://").removesuffix("/")))

    def dataReceived(self, data: bytes) -> None:
        """Twisted's hook: some of the answer."""
        self._arm()
        self._answer += data
        header, end, rest = self._answer.partition(_END)
        if not end:
            if len(self._answer) > _MOST:
                self._break(PeerError("an answer without an end", "8.2", self._answer))
            return
        status = _STATUS.fullmatch(header.split(b"\r\n")[0])
        if status is None:
            self._break(PeerError("no status line with a number and a reason phrase", "8.2", header))
        elif status[1] != b"200":
            self._fail(ProxyError(self._uri, str(self._proxy), int(status[1]), status[2].decode("ascii")))
        elif rest:
            self._break(PeerError("bytes behind the answer, before the ClientHello", "8.2", rest))
        else:
            self._begin_tls()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's hook: the proxy has closed, before it gave a tunnel."""
        self._break(TruncatedError("closed before a complete header, on which Halibut reads on for ever", "8.3", self._answer))

    def _begin_tls(self) -> None:
        self._disarm()
        tls = cast("RecordTls", cast("Any", self._tls).buildProtocol(self.transport.getPeer()))
        self.transport.protocol = tls
        cast("Any", tls).makeConnection(self.transport)
        self._done.callback(tls)

    def _arm(self) -> None:
        self._disarm()
        self._timer = self._clock.callLater(ANSWER_WITHIN, self._late)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _late(self) -> None:
        self._fail(SilentProxyError(f"the proxy said nothing for {ANSWER_WITHIN:g} s"))

    def _break(self, error: PeerError) -> None:
        if not self._done.called:
            self._on_violation(error)
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._done.called:
            self._end()
            self._done.errback(error)

    def _end(self) -> None:
        self._disarm()
        self.transport.abortConnection()
