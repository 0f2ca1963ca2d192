"""Two sockets joined: what comes from one goes to the other, both ways, unread and without a copy (splice).

Rules:
1. A leg is read only when all that it has sent is written: a slow reader slows its writer, and no more than PIPE bytes of
   each direction wait here.
2. FIN passes as FIN, behind every byte, and the other direction goes on. RST passes as RST, at once.
3. A close is noticed on a leg that is not read, too. From then on what that leg has left must move: where nothing does for
   STALL seconds, both are reset (design, rule 5).
4. A direction has a pipe only while bytes are in it, so a connection that is idle has two descriptors.
5. Until near has answered what came from far, both are polled among strangers (loop.py).
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from relay.clock import Timer
from relay.transport.connection import STALL
from relay.transport.loop import Loop
from relay.transport.pipes import PIPE, Pipe
from relay.transport.poller import CLOSED, FAILED, READ, WRITE
from relay.transport.tcp import reset_on_close, unacknowledged

ROUNDS: Final = 4  # pipes full that are moved from one leg before the others get their turn
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class How(Enum):
    """How it ended."""

    CLOSED = "closed"  # both have closed, and all is written
    BROKEN = "broken"  # one leg was reset, or has failed
    STALLED = "stalled"  # the other had closed, and this one took nothing for STALL seconds
    DESCRIPTORS = "descriptors"  # there was none for a pipe


@dataclass(frozen=True, slots=True)
class End:
    """leg: which one was it; None where it was none of them. detail: what happened, in words."""

    how: How
    leg: "Leg | None" = None
    detail: str = ""


class Splice:
    """near, far: connected and prepared sockets; they belong to it from now on.

    over: called once, when both are closed, but not by reset(). met: called once, when near has answered: when it has sent
    something behind far's first bytes, beside what waited in it at the start.
    """

    def __init__(
        self,
        loop: Loop,
        near: socket.socket,
        far: socket.socket,
        over: Callable[[End], None],
        met: Callable[[], None] = lambda: None,
        source: str = "",
    ) -> None:
        """source: until near has answered, they share their turns with other strangers of this one.

        Raises OSError where the system polls no more sockets; then both are reset.
        """
        self.loop = loop
        self._over = over
        self._met = met
        self._timer: Timer | None = None
        self._ended = False
        self._opening = _readable(near)
        self.near = Leg(self, near, source)
        self.far = Leg(self, far, source)
        self.near.other, self.far.other = self.far, self.near
        self.far.taken = self._spoken
        loop.pipes.enter()
        try:
            for leg in self._legs:
                leg.ask()
        except OSError:
            self.reset()
            raise

    @property
    def _legs(self) -> tuple["Leg", "Leg"]:
        return self.near, self.far

    def _spoken(self) -> None:
        """Near has far's first bytes. What it sends from now on is an answer, and what it has sent is none."""
        if not self.far.passed:
            return
        self.far.taken = None
        self._opening = max(self._opening, self.near.passed)
        self.near.taken = self._answered

    def _answered(self) -> None:
        if self.near.passed > self._opening:
            self.near.taken = None
            for leg in self._legs:
                leg.settle()
            self._met()

    def reset(self) -> None:
        """Resets both, without calling back."""
        if not self._ended:
            self._close(reset=True)

    def end(self, how: How, leg: "Leg | None" = None, detail: str = "") -> None:
        """From a leg: it is over. Only where both have closed, they do not see a reset."""
        if not self._ended:
            self._close(reset=how is not How.CLOSED)
            self._over(End(how, leg, detail))

    def _close(self, reset: bool) -> None:
        self._ended = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        try:
            self.near.close(reset)
        finally:
            self.far.close(reset)
            self.loop.pipes.leave()

    def watch(self) -> None:
        """From a leg that has closed: what it has left must move from now on."""
        if self._timer is None and not self._ended:
            self._look(())

    def _look(self, before: tuple[int, ...]) -> None:
        self._timer = None
        left = tuple(leg.undelivered if leg.closing else 0 for leg in self._legs)
        for leg, now, then in zip(self._legs, left, before or (0, 0), strict=True):
            if now and now == then:
                self.end(
                    How.STALLED, leg.other, f"took nothing for {STALL:.0f} s, and {now} bytes were left (a FIN counts as one)"
                )
                return
        if any(left):
            self._timer = self.loop.reactor.callLater(STALL, self._look, left)


class Leg:
    """One socket, and what has come from it.

    closing: it has sent FIN, whether that was passed on already or not. passed: bytes that the other leg has taken.
    heard: when its first byte came (the reactor's clock); 0 where none did. taken: called when the other
    may have taken some.
    """

    other: "Leg"

    def __init__(self, splice: Splice, sock: socket.socket, source: str) -> None:
        self._splice = splice
        self._loop = splice.loop
        self._poller = splice.loop.strangers
        self._source = source
        self._socket = sock
        self._fileno = sock.fileno()
        self._pipe: Pipe | None = None
        self._waiting = 0  # bytes in the pipe
        self._finished = False  # its FIN is passed on
        self._asked = 0
        self._hung = False  # both of its directions are shut, which every poll says, whatever is asked for
        self.closing = False
        self.passed = 0
        self.heard = 0.0
        self.taken: Callable[[], None] | None = None

    # ---- the poller's side ------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Asks the poller for what matters now."""
        unread = 0 if self._hung else FAILED if self.closing else CLOSED
        events = unread if self._waiting or self._finished else READ
        if self.other._waiting:
            events |= WRITE
        if events != self._asked:
            self._asked = events
            self._poller.ask(self._fileno, self, events, self._source)

    def settle(self) -> None:
        """From now on it has its turns among those who are no strangers."""
        self._poller.ask(self._fileno, self, 0)
        self._poller, self._source, self._asked = self._loop.poller, "", 0
        self.ask()

    def readable(self) -> None:
        if self._waiting or self._finished:
            self._ended_unread()
            return
        try:
            pipe = self._pipe = self._loop.pipes.take()
        except OSError as error:
            self._splice.end(How.DESCRIPTORS, None, error.strerror or str(error))
            return
        for _ in range(ROUNDS):
            try:
                count = self._fill(pipe)
            except BlockingIOError:
                break
            except OSError as error:
                self._lost(error)
                return
            if not count:
                self._finish()
                return
            if not self._push(pipe):
                return
        self._give_back()

    def writable(self) -> None:
        pipe = self.other._pipe
        if pipe and self.other._waiting and self.other._push(pipe):
            self.other._give_back()
            self.other.ask()
            self.ask()

    def peer_closed(self) -> None:
        """It is not read now. A reset is no close: whatever the other leg does next is an answer to one of the two."""
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._splice.end(How.BROKEN, self, "reset")
            return
        self._close_comes()

    def _ended_unread(self) -> None:
        """It was not to be read. It has failed, or its close has met the other's FIN; then its bytes go on to the other."""
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error or self._finished:
            self._lost(OSError(error, ""))
            return
        self._hung = True
        self._close_comes()

    def _close_comes(self) -> None:
        """It has closed, behind bytes that still wait."""
        self.closing = True
        self.ask()
        self._splice.watch()

    def failed(self, error: Exception) -> None:
        self._splice.end(How.BROKEN, self, f"a fault of the relay: {type(error).__name__}: {error}")

    # ---- moving -----------------------------------------------------------------------------------------------------

    def _fill(self, pipe: Pipe) -> int:
        """Reads into a pipe that is empty: how many bytes; 0 where its FIN has come. Raises OSError."""
        count = self._waiting = os.splice(self._fileno, pipe.writer, PIPE, flags=_FLAGS)
        if count and not self.heard:
            self.heard = self._loop.reactor.seconds()
        return count

    def _push(self, pipe: Pipe) -> bool:
        """Writes what is in the pipe; whether all of it could be. Otherwise the rest goes when the other leg is writable."""
        while self._waiting:
            try:
                sent = os.splice(pipe.reader, self.other._fileno, self._waiting, flags=_FLAGS)
            except BlockingIOError:
                if self.taken:
                    self.taken()
                self.ask()
                self.other.ask()
                return False
            except OSError as error:
                self.other._pass_rest()
                self.other._lost(error)
                return False
            self._waiting -= sent
            self.passed += sent
        if self.taken:
            self.taken()
        return True

    def _pass_rest(self) -> None:
        """It was reset, and what came before is for the other: that may be the alert which says why."""
        if self._waiting or self._finished:
            return
        with contextlib.suppress(OSError):  # there is no more, the reset comes, or the other takes no more
            pipe = self._pipe = self._loop.pipes.take()
            for _ in range(ROUNDS):
                left = self._fill(pipe)
                if not left:
                    return
                while left:
                    sent = os.splice(pipe.reader, self.other._fileno, left, flags=_FLAGS)
                    left = self._waiting = left - sent
                    self.passed += sent

    def _give_back(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe:
            self._loop.pipes.give_back(pipe, empty=not self._waiting)

    def _finish(self) -> None:
        """It has closed, and all that it has sent is written: so it goes with its FIN."""
        self._give_back()
        self.closing = self._finished = True
        try:
            self.other._socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # the other has reset it already
            self.other._lost(error)
            return
        if self.other._finished:
            self._splice.end(How.CLOSED)
            return
        self.ask()
        self._splice.watch()

    @property
    def undelivered(self) -> int:
        """How much of what it has sent, its FIN included, the other's host has not acknowledged yet."""
        unread = 0 if self._finished else _readable(self._socket)
        return unread + self._waiting + unacknowledged(self.other._socket.fileno())

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _lost(self, error: OSError) -> None:
        gone = isinstance(error, ConnectionError) or error.errno in (None, 0, errno.ENOTCONN)  # that is of a close behind it
        text = "reset" if gone else os.strerror(error.errno or 0)
        self._splice.end(How.BROKEN, self, text)

    def close(self, reset: bool) -> None:
        """Closes it; FIN was passed on already where it is not a reset. What was written, the kernel goes on to deliver."""
        try:
            self._poller.ask(self._fileno, self, 0)
            self._give_back()
            if reset:
                reset_on_close(self._socket)
            else:  # for as long as the rule says, and not the minutes of the kernel's own choice
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL * 1000))
        finally:
            self._socket.close()


def _readable(sock: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
