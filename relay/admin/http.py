"""The admin pages: /metrics, /healthz, /readyz, and a page that links them. Numbers for reading, and nothing to change.

Rules:
1. GET and HEAD, one request a connection. A request's body is thrown away as it comes.
2. A request has REQUEST seconds to come, and the whole connection LIFETIME. A scraper that reads slowly is written to as slowly
   (sender.py), and costs nobody else anything.
3. MOST connections at once. The next one takes the place of the oldest that has not sent its whole request; where all have, it
   is closed. Either is counted, and logged once in a while.
4. Nobody is asked who they are: the pages hold names and numbers. That is why they are on loopback, unless configured.
"""

import socket
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from relay.admin.controls import Controls
from relay.admin.exposition import OPENMETRICS, TEXT, Exposition, Page
from relay.admin.log import Log, Repeats
from relay.admin.metrics import Metrics
from relay.admin.sender import Sender
from relay.clock import Clock, Timer
from relay.errors import StartError
from relay.transport.lanes import listening_socket
from relay.transport.listener import Listener
from routing.addresses import Address
from routing.table import Table

MOST: Final = 64  # connections at once
REQUEST: Final = 10.0  # seconds from connect to the end of the request
LIFETIME: Final = 60.0  # seconds from connect to the end of the answer; Prometheus gives up after 10 by itself
HEADERS: Final = 8 * 1024  # bytes of a request line and its headers, and
HEADER_LINES: Final = 64
PLAIN: Final = "text/plain; charset=utf-8"
INDEX: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>relay-tentacle</title></head><body><h1>relay-tentacle</h1><ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/healthz">/healthz</a>: whether the process serves</li>
<li><a href="/readyz">/readyz</a>: whether it takes callers</li>
</ul></body></html>
"""
_REMEDY: Final = "Free the port, or write another address, or none, in admin.listen."
_log = Logger()


class AdminPages:
    """Serves them at an address, which may change."""

    def __init__(self, reactor: Any, controls: Controls, exposition: Exposition, log: Log, metrics: Metrics) -> None:
        self._reactor = reactor
        self._log = log
        self._factory = factory = _Factory(reactor, _Pages(controls, exposition), log)
        text = "Connections to the admin pages that were closed without an answer, for there were too many."
        metrics.counter("relay_admin_refused", text, lambda: factory.refused)
        self._listener: Listener | None = None
        self._listens: Address | None = None
        self._socket: socket.socket | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens."""
        return self._listener.address if self._listener else None

    def prepare(self, table: Table) -> "_Step":
        """Gets ready to serve where the table says (see reload.Follower). Raises StartError."""
        address = table.admin
        if address is None or address == self._listens:
            return _Step(self, address, None)
        beside = [self._socket] if self._socket else []
        try:
            return _Step(self, address, listening_socket(address.host, address.port, beside))
        except OSError as error:
            raise StartError(f"admin.listen: cannot listen on {address}: {error.strerror or error}. {_REMEDY}") from error

    def serve(self, address: Address | None, sock: socket.socket | None) -> None:
        """Serves there from now on, and no longer where it did. sock: listening there, where it does not already."""
        if address == self._listens:
            return
        self._socket = sock
        if self._listener:
            self._listener.stop()
            self._listener = None
        self._listens = address
        if address is None or sock is None:
            return
        family = sock.family

        def accepted(caller: socket.socket, peer: str) -> None:
            with caller:  # the reactor takes a descriptor of its own
                caller.setblocking(False)
                self._reactor.adoptStreamConnection(caller.fileno(), family, self._factory)

        self._listener = Listener(self._reactor, [sock], accepted, self._starved)
        if not _loopback(address):
            self._log.warning("admin.listen is open to other hosts: whoever reaches it reads the metrics", address=str(address))
        self._log.info("admin pages open", address=str(address))

    def _starved(self, error: OSError) -> None:
        self._log.warning("the admin pages pause: no file descriptor is free", error=error.strerror)

    def stop(self) -> None:
        """Everybody goes now."""
        self.serve(None, None)
        self._factory.stop()


@dataclass(frozen=True)
class _Step:
    """A change of the address that is ready (see reload.Step)."""

    pages: AdminPages
    address: Address | None
    sock: socket.socket | None

    def commit(self) -> None:
        self.pages.serve(self.address, self.sock)

    def abandon(self) -> None:
        if self.sock:
            self.sock.close()


def _loopback(address: Address) -> bool:
    return address.host in ("127.0.0.1", "::1") or address.host.startswith("127.")


class _Pages:
    """What there is to read. request: Twisted's; its methods have no types."""

    def __init__(self, controls: Controls, exposition: Exposition) -> None:
        self._controls = controls
        self._exposition = exposition

    def answer(self, request: Any) -> None:
        path = request.path.partition(b"?")[0]
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            _say(request, 405, PLAIN, "These pages are for reading: GET or HEAD.\n")
        elif path == b"/metrics":
            self._metrics(request)
        elif path == b"/healthz":
            _say(request, 200, PLAIN, "serving\n")
        elif path == b"/readyz":
            why = self._not_ready()
            _say(request, 503 if why else 200, PLAIN, f"{why or 'ready'}\n")
        elif path == b"/":
            _say(request, 200, "text/html; charset=utf-8", INDEX)
        else:
            _say(request, 404, PLAIN, "No such page. There are: / /metrics /healthz /readyz\n")

    def _not_ready(self) -> str:
        """Why, in a line; empty where it is."""
        if self._controls.draining:
            return "draining: the relay lets its calls end, and stops"
        return "" if self._controls.started else "starting: not all doors are open"

    def _metrics(self, request: Any) -> None:
        openmetrics = b"application/openmetrics-text" in (request.getHeader(b"accept") or b"")
        page = self._exposition.page(openmetrics)
        kind = OPENMETRICS if openmetrics else TEXT
        page.addCallback(lambda made: _send(request, made, kind)).addErrback(lambda failure: _failed(request, failure))


def _say(request: Any, code: int, kind: str, text: str) -> None:
    body = text.encode()
    request.setResponseCode(code)
    _head(request, kind)
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)
    request.finish()


def _head(request: Any, kind: str) -> None:
    request.setHeader(b"Content-Type", kind.encode())
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")


def _send(request: Any, page: Page, kind: str) -> None:
    if request.channel is None:  # the scraper has left
        return
    _head(request, kind)
    request.setHeader(b"Vary", b"Accept, Accept-Encoding")
    pieces = page.plain()
    if b"gzip" in (request.getHeader(b"accept-encoding") or b""):
        request.setHeader(b"Content-Encoding", b"gzip")
        pieces = page.compressed()
    if request.method == b"HEAD":
        request.write(b"")
        request.finish()
    else:
        Sender(request, pieces, request.finish).start()


def _failed(request: Any, failure: Failure) -> None:
    _log.failure("the metrics could not be made", failure)
    if request.channel is None:
        return
    if request.startedWriting:
        request.channel.transport.abortConnection()  # or it would look whole
    else:
        _say(request, 500, PLAIN, "The metrics could not be made; the relay's log says why.\n")


class _Request(Request):
    """One request."""

    channel: Any

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Nobody has a use for a body."""

    def process(self) -> None:
        self.channel.asked = True
        self.channel.factory.pages.answer(self)


class _Channel(HTTPChannel):
    """A connection, for one request."""

    requestFactory = _Request
    totalHeadersSize = HEADERS
    maxHeaders = HEADER_LINES
    abortTimeout = 1
    transport: Any
    factory: "_Factory"
    asked = False  # its whole request has come
    _end: Timer

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]  # Twisted's
        self.factory.channels[self] = None
        self._end = self.factory.clock.callLater(LIFETIME, self.transport.abortConnection)

    def resetTimeout(self) -> None:
        """Bytes that come do not lengthen the time that a request has."""

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.channels.pop(self, None)
        if self._end.active():
            self._end.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted's


class _Factory(HTTPFactory):
    """Who is connected. refused: how many there was no room for."""

    def __init__(self, reactor: Any, pages: _Pages, log: Log) -> None:
        super().__init__(timeout=REQUEST, reactor=reactor)
        self.protocol = _Channel  # type: ignore[assignment]  # for HTTP/1 only, without Twisted's choice of versions
        self.clock: Clock = reactor
        self.pages = pages
        self.channels: dict[_Channel, None] = {}  # the oldest first
        self.refused = 0
        self._repeats = Repeats(reactor, log)

    def buildProtocol(self, addr: Any) -> Any:
        self._repeats.tick()
        return super().buildProtocol(addr) if len(self.channels) < MOST or self._make_room(addr) else None

    def _make_room(self, addr: Any) -> bool:
        """Whether one could be closed that only takes a place."""
        idle = next((channel for channel in self.channels if not channel.asked), None)
        self.refused += 1
        self._repeats.say(
            ("admin pages",), "the admin pages have too many connections", most=MOST,
            closed="the newest" if idle is None else "the oldest without a request", peer=f"{addr.host}:{addr.port}",
        )  # fmt: skip
        if idle is None:
            return False
        del self.channels[idle]  # it hears of its end in the reactor's next turn
        idle.transport.abortConnection()
        return True

    def log(self, request: Request) -> None:
        """Scrapes are no news."""

    def stop(self) -> None:
        self._repeats.summarise()
        for channel in list(self.channels):
            channel.transport.abortConnection()
