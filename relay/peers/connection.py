"""A call on one connection, as Octopus makes it (wire.md 3.1, 3.4)."""

from pathlib import Path

from twisted.internet.defer import Deferred

from relay.halibut.lines import END, NEXT
from relay.peers.dialling import before
from relay.peers.documents import Reference
from relay.peers.errors import ConnectingError, EndedError, PeerError, ServerError, TransferError, TruncatedError
from relay.peers.framing import OpenSink, message, proceed
from relay.peers.messages import Request, Response, endpoint
from relay.peers.streams import Sink, Spool
from relay.peers.times import Times
from relay.peers.wire import Wire


def spool_to(folder: Path) -> OpenSink:
    """Sinks that spool each stream to a file of its own in folder."""

    def open_sink(reference: Reference) -> Sink:
        return Spool(folder)

    return open_sink


async def exchange(wire: Wire, request: Request, uri: str, times: Times, open_sink: OpenSink, *, may_end: bool) -> object:
    """Send the request, wait for the reply; its result. may_end: the other side is a dialler, which may say END.

    Raises ServerError for an error reply, after which the connection is as good as before. After TransferError, PeerError or
    anything else it is not.
    """
    try:
        await wire.send_message(request)
        incoming = await wire.receive(message(open_sink, may_end=may_end), times.reply)
    except (EndedError, TruncatedError) as error:
        raise after(uri, error) from error
    if incoming.ended:
        raise after(uri, "the Tentacle ended the connection")
    reply = incoming.message
    if not isinstance(reply, Response) or reply.id != request.id:
        for stream in incoming.streams:
            stream.discard()
        what = f"a response to {reply.id!r}" if isinstance(reply, Response) else "no response"
        raise wire.violate(PeerError(f"expected the response to {request.id!r}, not {what}", "4.5"))
    if reply.error is not None:
        raise ServerError(reply.error.message, reply.error.details, reply.error.halibut_error_type)
    return reply.result


def after(uri: str, cause: object) -> TransferError:
    """The error of a call that failed after its request began, in Halibut's words (wire.md 7.3)."""
    return TransferError(f"An error occurred when sending a request to '{uri}', after the request began: {cause}")


class OctopusConnection:
    """A connection to a listening Tentacle: one call at a time, `prove` before each but the first."""

    def __init__(self, wire: Wire, uri: str, thumbprint: str, times: Times, spool: Path) -> None:
        self._wire = wire
        self._uri = uri
        self._thumbprint = thumbprint
        self._times = times
        self._spool = spool
        self._ready = True
        self._calls = 0

    @property
    def failure(self) -> Exception | None:
        """What ended the connection; None while it lives."""
        return self._wire.failure

    async def prove(self) -> None:
        """NEXT, and wait for PROCEED; does nothing where a request is due anyway. Raises ConnectingError, PeerError."""
        if self._ready:
            return
        try:
            self._wire.send(NEXT)
            await self._wire.receive(proceed(), self._times.heartbeat)
        except (EndedError, TruncatedError) as error:
            raise before(self._uri, error) from error
        self._ready = True

    async def call(self, service: str, method: str, *params: object, receive: OpenSink | None = None) -> object:
        """Make a call; the result as plain values, ReceivedStream in place of data streams.

        receive: opens the sink for each of the result's streams; without it they are spooled, and the caller discards them.
        Raises ServerError, ConnectingError, TransferError, PeerError, StreamLengthError. All but the first end the connection.
        """
        self._calls += 1
        request = Request.new(self._calls, endpoint(self._uri, self._thumbprint), service, method, list(params))
        return await self.send(request, receive)

    async def send(self, request: Request, receive: OpenSink | None = None) -> object:
        """As `call`, with a request that is made already."""
        try:
            await self.prove()
            self._ready = False
            sinks = receive or spool_to(self._spool)
            return await exchange(self._wire, request, self._uri, self._times, sinks, may_end=False)
        except ServerError:
            raise
        except BaseException as error:
            # Also a cancellation: closing is how Octopus cancels, without END (wire.md 1.10).
            self._close(say_end=isinstance(error, ConnectingError))
            raise

    def end(self) -> Deferred[None]:
        """Give up a healthy connection: END and a bare FIN (wire.md 1.10); fires when it is gone."""
        self._close(say_end=True)
        return self._wire.ended()

    def abort(self) -> Deferred[None]:
        """Close without a word, as a killed process does; fires when it is gone."""
        self._wire.abort()
        return self._wire.ended()

    def _close(self, *, say_end: bool) -> None:
        if say_end and self._wire.failure is None:
            self._wire.send(END)
        self._wire.finish()
