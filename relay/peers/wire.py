"""One connection between two peers: records in, units out, and nothing that is not due (wire.md 2.7, 3.5)."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast
from typing import Protocol as Shape

from cryptography import x509
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.peers.documents import deflate, encode, records
from relay.peers.errors import EndedError, PeerError, StreamLengthError
from relay.peers.messages import Request, Response
from relay.peers.streams import RECORD, DataStream
from relay.peers.times import Clock, Times
from relay.peers.tls import thumbprint_of

T = TypeVar("T")
_LENGTH_BYTES = 8


class _Transport(Shape):
    """RecordTls, as far as a wire uses it; Twisted's half of it has no types."""

    def write(self, data: bytes, /) -> None: ...

    def registerProducer(self, producer: object, streaming: bool, /) -> None: ...

    def unregisterProducer(self) -> None: ...

    def abortConnection(self) -> None: ...

    def finish(self) -> None: ...

    def tune(self) -> None: ...

    def certificate(self) -> x509.Certificate | None: ...


@implementer(IHandshakeListener, IPushProducer)
class Wire(Protocol):
    """One TLS connection, dialled or accepted.

    thumbprint, certificate: what the other side showed, None before the handshake and where it showed none. failure: what ended
    the connection; its cause is the transport's own error, where that ended it.

    At most one `receive` is under way; a record that comes while there is none, or that does not fit, is a PeerError: it goes
    to on_violation, to the receive that waits, to every later use, and the connection is reset.
    """

    def __init__(self, clock: Clock, times: Times, on_violation: Callable[[PeerError], None]) -> None:
        self.thumbprint: str | None = None
        self.certificate: x509.Certificate | None = None
        self.failure: Exception | None = None
        self._clock = clock
        self._times = times
        self._on_violation = on_violation
        self._reader: Generator[None, bytes, Any] | None = None
        self._waiting: Deferred[Any] | None = None
        self._timer: DelayedCall | None = None
        self._handshake: Deferred[None] | None = None
        self._handshaken = False
        self._resumed: Deferred[None] | None = None
        self._paused = False
        self._lost = False
        self._at_end: list[Deferred[None]] = []
        self._last_words: DelayedCall | None = None

    # What its owner calls

    def handshaken(self) -> Deferred[None]:
        """Fires when TLS is up and `thumbprint` is known (None: no certificate). Fails with EndedError."""
        if self.failure is not None:
            return fail(self.failure)
        self._handshake = Deferred(self._given_up)
        if self._handshaken:
            self._handshake.callback(None)
        else:
            self._arm(self._times.tcp)
        return self._handshake

    def receive(self, reader: Generator[None, bytes, T], limit: float | None = None) -> Deferred[T]:
        """What the reader makes of the records to come.

        limit: seconds until the first record, Times.tcp if not given; between later ones it is Times.tcp. Fails with PeerError;
        with EndedError where the other side ended or stayed silent; with what a sink raised.
        """
        assert self._reader is None, "one receive at a time"
        next(reader)
        if self.failure is not None:
            reader.close()
            return fail(self.failure)
        waiting: Deferred[T] = Deferred(self._given_up)
        self._reader, self._waiting = reader, waiting
        self._arm(self._times.tcp if limit is None else limit)
        return waiting

    def send(self, unit: bytes) -> None:
        """One unit of at most one record. Raises what ended the connection, if it has ended."""
        assert len(unit) <= RECORD, "one record at most"
        if self.failure is not None:
            raise self.failure
        self._tls().write(unit)

    async def send_message(self, message: Request | Response) -> None:
        """The envelope and its streams, no faster than the other side takes them.

        Raises what ended the connection, StreamLengthError, or what a stream's chunks raise. Where it raises, the connection is
        of no use any more.
        """
        streams: list[DataStream] = []
        envelope = deflate(encode(message.document(streams)))
        if self.failure is not None:
            raise self.failure
        self._tls().registerProducer(self, True)
        try:
            for record in records(envelope):
                await self._send_slowly(record)
            for stream in streams:
                await self._send_stream(stream)
        finally:
            if not self._lost:
                self._tls().unregisterProducer()

    def violate(self, error: PeerError) -> PeerError:
        """Take a rule's breach that only the owner could see, end the connection, and give the error to raise."""
        self._break(error)
        return error

    def finish(self) -> None:
        """Close with a bare FIN once everything written has gone out (wire.md 1.10), at the latest after Times.close."""
        if self.failure is None:
            self._end_with(EndedError("we closed the connection"))
        if not self._lost and self._last_words is None:
            self._tls().finish()
            self._last_words = self._clock.callLater(self._times.close, self._tls().abortConnection)

    def abort(self) -> None:
        """Close at once, whatever was still to be written."""
        if self.failure is None:
            self._end_with(EndedError("we gave the connection up"))
        if not self._lost:
            self._tls().abortConnection()

    def ended(self) -> Deferred[None]:
        """Fires when the socket is gone."""
        done: Deferred[None] = Deferred()
        if self._lost:
            done.callback(None)
        else:
            self._at_end.append(done)
        return done

    # What Twisted calls

    def connectionMade(self) -> None:
        """TCP is up; the handshake begins."""
        self._tls().tune()

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        certificate = self.certificate = self._tls().certificate()
        self.thumbprint = None if certificate is None else thumbprint_of(certificate)
        self._handshaken = True
        self._disarm()
        if self._handshake is not None and not self._handshake.called:
            self._handshake.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """One TLS record of the other side."""
        if self.failure is not None:
            return
        if self._reader is None:
            self._break(PeerError("bytes where none are due", "3.5", data))
            return
        self._arm(self._times.tcp)
        try:
            self._reader.send(data)
        except StopIteration as stop:
            self._settle(stop.value)
        except PeerError as error:
            self._break(error)
        except Exception as error:
            # A sink's trouble. It is told to the receive that waits.
            self._end_with(error)
            self._tls().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is gone, by whichever of the ends that wire.md 1.10 lists."""
        self._lost = True
        if self._last_words is not None and self._last_words.active():
            self._last_words.cancel()
        if self.failure is None:
            ended = EndedError(f"the other side ended the connection ({reason.value})")
            ended.__cause__ = reason.value
            self._ended_by_peer(ended)
        at_end, self._at_end = self._at_end, []
        for done in at_end:
            done.callback(None)

    def pauseProducing(self) -> None:
        """The other side is slower than we are."""
        self._paused = True

    def resumeProducing(self) -> None:
        """What was written has gone out."""
        self._paused = False
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            self._disarm()
            resumed.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost says so."""

    # Inside

    def _tls(self) -> _Transport:
        return cast("_Transport", self.transport)

    async def _send_stream(self, stream: DataStream) -> None:
        length = stream.length.to_bytes(_LENGTH_BYTES, "little", signed=True)
        await self._send_slowly(stream.id)
        await self._send_slowly(length)
        sent = 0
        chunks = stream.chunks()
        try:
            async for chunk in chunks:
                if sent + len(chunk) > stream.length:
                    raise StreamLengthError(f"a data stream of {stream.length} bytes gave more")
                for start in range(0, len(chunk), RECORD):
                    record = chunk[start : start + RECORD]
                    await self._send_slowly(record)
                    sent += len(record)
                    if stream.progress is not None:
                        stream.progress(sent, stream.length)
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        if sent != stream.length:
            raise StreamLengthError(f"a data stream of {stream.length} bytes gave {sent}")
        await self._send_slowly(length)

    async def _send_slowly(self, record: bytes) -> None:
        self.send(record)
        if self._paused:
            self._resumed = Deferred(self._given_up)
            self._arm(self._times.tcp)
            await self._resumed

    def _given_up(self, cancelled: Deferred[Any]) -> None:
        # Whoever cancels shall see the cancellation itself, so that nothing else is told to what waits.
        self._waiting = self._resumed = self._handshake = None
        self.abort()

    def _break(self, error: PeerError) -> None:
        if not isinstance(self.failure, PeerError):
            self._on_violation(error)
        self._end_with(error)
        if not self._lost:
            self._tls().abortConnection()

    def _settle(self, value: object) -> None:
        self._disarm()
        waiting, self._waiting, self._reader = self._waiting, None, None
        if waiting is not None and not waiting.called:
            waiting.callback(value)

    def _ended_by_peer(self, error: EndedError) -> None:
        # What it means is for the reader to say: an answer, an end between units, or one in the middle.
        self.failure = error
        reader, self._reader = self._reader, None
        try:
            if reader is not None:
                reader.throw(error)
        except StopIteration as stop:
            self._settle(stop.value)
        except PeerError as truncated:
            self._on_violation(truncated)
            self._end_with(truncated)
        except EndedError:
            self._end_with(error)
        else:
            self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        """From here on the connection is unusable, and whoever waits hears why."""
        if self.failure is None:
            self.failure = error
        self._disarm()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        for waiting in (self._waiting, self._handshake, self._resumed):
            if waiting is not None and not waiting.called:
                waiting.errback(error)
        self._waiting = self._resumed = None

    def _arm(self, limit: float) -> None:
        self._disarm()
        self._timer = self._clock.callLater(limit, self._too_late, limit)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _too_late(self, limit: float) -> None:
        waits_for_them = self._waiting is not None  # and nothing of ours is stuck on the way
        self._end_with(EndedError(f"nothing moved for {limit:g} s"))
        if waits_for_them:
            self.finish()  # real ones close silently (wire.md 3.2)
        else:
            self.abort()
