"""The CONNECT door: callers at the shared door who may come as to an HTTP proxy, until they are let through or answered.

Octopus, told to use the relay as the machine's proxy, sends CONNECT with the machine's target; the header is taken to its last
byte, answered, and what follows is a caller like any other, whose ClientHello is awaited. A caller that begins with TLS is
one at once.

Nobody who may have sent a CONNECT is closed without a complete header: Halibut would then read on for ever (wire.md 8.3). That
holds for whoever comes while the relay is full or drains, too. A refusal that will not last is a 200 and then a close, which
Octopus tries again; one that will is a 4xx.
"""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from relay.clock import Timer
from relay.fronts.tunnel_answers import ESTABLISHED, HALF, LATE, UNAVAILABLE, Answer
from relay.fronts.tunnel_request import LARGEST, HeaderReader, NoTunnelError, TunnelRequest
from relay.outcomes import Refusal, SentAway
from relay.transport.arrival import HELLO_CLOSED
from relay.transport.loop import Loop
from relay.transport.poller import CLOSED, READ

TURNED_AWAY: Final = 64  # callers that may be heard out at once, though the relay has no place for them
AWAY_WITHIN: Final = 2.0  # seconds for the header of one who cannot be let in
AGAIN: Final = 0.05  # seconds until another look at a header that is not whole: one sent byte by byte costs no look at each,
LONGEST_AGAIN: Final = 0.4  # and fewer and fewer, for the pause doubles up to this
LINGER: Final = 2.0  # seconds for a caller to take its answer, and to close
_LINGER_BYTES: Final = 256 * 1024  # bytes that it may go on sending meanwhile
_CHUNK: Final = 16 * 1024
_AWAY: Final = "away"  # those who cannot be let in share their turns, whatever their source
_TLS: Final = 0x16  # the first byte of a ClientHello (RFC 8446 5.1)


@dataclass(frozen=True, slots=True)
class Declined:
    """A CONNECT that is not let through, and will not be."""

    answer: Answer
    refusal: Refusal
    detail: str


class Desk(Protocol):
    """What is declared, and who asks."""

    def judge(self, request: TunnelRequest) -> Declined | None:
        """Why it is not let through; None where it is."""


class Guest(Protocol):
    """What becomes of a caller is told to it; each at most once."""

    def tls(self) -> None:
        """It begins with TLS, and the socket is free."""

    def tunnel(self, target: str) -> None:
        """It was told that it has its tunnel to this target, and the socket is free."""

    def refused(self, refusal: Refusal, detail: str) -> None:
        """It was turned away, or has left."""

    def closed(self) -> None:
        """The socket is closed."""


class Greeting:
    """One caller. seconds: for its header. why: given, it cannot be let in, for this reason. sock: nonblocking.

    source: callers of the same one share their turns. Raises OSError where the system polls no more sockets.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        seconds: float,
        desk: Desk,
        guest: Guest,
        source: str,
        why: SentAway | None = None,
    ) -> None:
        self._reactor = reactor = loop.reactor
        self._poller = loop.strangers
        self._socket = sock
        self._fileno = sock.fileno()
        self._desk = desk
        self._guest = guest
        self._why = why
        self._header = HeaderReader()
        self._began = False  # some of a header has come
        self._answered = False
        self._done = False
        self._discarded = 0
        self._source = source
        self._due = reactor.seconds() + seconds
        self._again: Timer | None = None  # until then nothing is read
        self._pause = AGAIN
        self._poller.ask(self._fileno, self, READ, source)
        self._timer = reactor.callLater(seconds, self._late)

    def turn_away(self, why: SentAway) -> None:
        """It cannot be let in any more, and is heard out: what it will be told depends on how it begins, and on its target."""
        if not (self._done or self._answered or self._why):
            self._why = why
            if self._due - self._reactor.seconds() > AWAY_WITHIN:
                self._timer.reset(AWAY_WITHIN)

    def stop(self, why: SentAway) -> None:
        """It goes now, with an answer if it has none."""
        if not self._done:
            self._take_what_came()
            if not self._answered:
                self._answer(UNAVAILABLE.data, why.refusal, why.detail)
        self._close()

    # ---- the poller's side ------------------------------------------------------------------------------------------

    def readable(self) -> None:
        try:
            if self._answered:
                self._discard()
            else:
                self._read()
        except BlockingIOError:
            return
        except OSError as error:  # reset
            self._lost(error.strerror or str(error))

    def writable(self) -> None:
        """Never asked for."""

    def peer_closed(self) -> None:
        self._look_again()

    def failed(self, error: Exception) -> None:
        """A bug of ours."""
        self._lost(str(error))

    def _late(self) -> None:
        if self._answered:
            self._close()
        elif self._why:
            self._answer(UNAVAILABLE.data, self._why.refusal, self._why.detail)
        else:
            self._answer(LATE.data, Refusal.HELLO_TIMEOUT, "no whole header in time" if self._began else "not a byte in time")

    # ---- the header -------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        seen = self._socket.recv(LARGEST, socket.MSG_PEEK)
        if not seen:
            self._end_of_input()
        elif not self._began and seen[0] == _TLS:
            self._begins_with_tls()
        else:
            self._began = True
            self._take(seen)

    def _end_of_input(self) -> None:
        if self._began:
            self._answer(HALF.data, Refusal.LEFT_EARLY, "closed within its header")
        else:
            self._lost(HELLO_CLOSED)  # nobody who has not written a byte waits for an answer

    def _begins_with_tls(self) -> None:
        if self._why is None:
            self._let_go()
            self._guest.tls()
            return
        self._take_what_came()
        self._guest.refused(self._why.refusal, self._why.detail)
        self._answered = True
        self._close()

    def _take(self, seen: bytes) -> None:
        try:
            taken = self._header.take(seen)
        except NoTunnelError as error:
            self._answer(error.answer, Refusal.NOT_CONNECT, error.detail)
            return
        self._socket.recv(taken)
        if self._header.request:
            self._judge(self._header.request)
        else:
            self._poller.ask(self._fileno, self, CLOSED, self._source)
            self._again = self._reactor.callLater(self._pause, self._look_again)
            self._pause = min(2 * self._pause, LONGEST_AGAIN)

    def _look_again(self) -> None:
        if self._again and self._again.active():
            self._again.cancel()
        self._again = None
        self._poller.ask(self._fileno, self, READ, self._source)

    def _judge(self, request: TunnelRequest) -> None:
        declined = self._desk.judge(request)
        if declined:
            self._answer(declined.answer.data, declined.refusal, declined.detail)
        elif self._why:
            self._answer(ESTABLISHED, self._why.refusal, self._why.detail)
        else:
            self._socket.send(ESTABLISHED)  # the first bytes of a connection: its buffer is empty, and larger than these
            self._let_go()
            self._guest.tunnel(request.target)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _answer(self, data: bytes, refusal: Refusal, detail: str) -> None:
        """Its last words; then it may go on sending for a while, for a close with unread bytes would take them back."""
        self._answered = True
        self._guest.refused(refusal, detail)
        try:
            self._socket.send(data)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it has gone
            self._close()
            return
        self._look_again()
        if self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(LINGER, self._close)

    def _take_what_came(self) -> None:
        """A close with unread bytes would be a reset, which takes an answer back that is still on its way."""
        with contextlib.suppress(OSError):
            self._socket.recv(_CHUNK)

    def _discard(self) -> None:
        data = self._socket.recv(_CHUNK)
        self._discarded += len(data)
        if not data or self._discarded > _LINGER_BYTES:
            self._close()

    def _lost(self, why: str) -> None:
        if not self._done and not self._answered:
            self._answered = True
            self._guest.refused(Refusal.LEFT_EARLY, why)
        self._close()

    def _let_go(self) -> None:
        """The socket is somebody else's from now on."""
        self._done = True
        self._poller.ask(self._fileno, self, 0)
        if self._again:
            self._again.cancel()
        if self._timer.active():
            self._timer.cancel()

    def _close(self) -> None:
        if not self._done:
            self._let_go()
            self._socket.close()
            self._guest.closed()


class Porch:
    """All who are greeted at a door."""

    def __init__(self, loop: Loop, desk: Desk) -> None:
        self._loop = loop
        self._desk = desk
        self._greetings: set[Greeting] = set()
        self._away: set[Greeting] = set()  # those of them who came when there was no place

    def __len__(self) -> int:
        return len(self._greetings)

    def greet(self, sock: socket.socket, seconds: float, guest: Guest, source: str) -> Greeting:
        """A caller who has a place. seconds: for its header."""
        return self._add(sock, seconds, guest, source)

    def turn_away(self, sock: socket.socket, guest: Guest, why: SentAway) -> None:
        """A caller who has none. Of too many of them at once, each gets an answer that will do."""
        greeting = self._add(sock, AWAY_WITHIN, guest, _AWAY, why)
        self._away.add(greeting)
        if len(self._away) > TURNED_AWAY:
            greeting.readable()  # it may have said how it begins
            greeting.stop(why)

    def _add(self, sock: socket.socket, seconds: float, guest: Guest, source: str, why: SentAway | None = None) -> Greeting:
        def leave() -> None:
            self._greetings.discard(greeting)
            self._away.discard(greeting)

        greeting = Greeting(self._loop, sock, seconds, self._desk, _Leaving(guest, leave), source, why)
        self._greetings.add(greeting)
        return greeting

    def stop(self, why: SentAway) -> None:
        """Whoever is here is heard out, and not let in."""
        for greeting in list(self._greetings):
            greeting.turn_away(why)

    def close(self, why: SentAway) -> None:
        """Everybody goes now."""
        for greeting in list(self._greetings):
            greeting.stop(why)


class _Leaving:
    """A guest, who is no more one of the porch with whatever ends the greeting."""

    def __init__(self, guest: Guest, leave: Callable[[], object]) -> None:
        self._guest = guest
        self._leave = leave
        self.refused = guest.refused

    def tls(self) -> None:
        self._leave()
        self._guest.tls()

    def tunnel(self, target: str) -> None:
        self._leave()
        self._guest.tunnel(target)

    def closed(self) -> None:
        self._leave()
        self._guest.closed()
