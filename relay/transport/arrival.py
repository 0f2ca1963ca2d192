"""A caller that has connected and not said yet what it wants: its ClientHello is read, and left where it is."""

import select
import socket
from collections.abc import Callable
from typing import Final

from relay.clock import Timer
from relay.transport.clienthello import LARGEST, ClientHello, NotClientHelloError, at_least, read_client_hello
from relay.transport.loop import Loop
from relay.transport.poller import READ

HELLO_LATE: Final = "no ClientHello in time"
HELLO_CLOSED: Final = "closed before its ClientHello"


class Arrival:
    """Calls back once behind begin(): arrived(hello), the socket being free for TLS, or failed(why), the socket being closed.

    sock: nonblocking; seconds: for the ClientHello. The bytes stay in the socket, for OpenSSL to read.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        seconds: float,
        arrived: Callable[[ClientHello], None],
        failed: Callable[[str], None],
        source: str = "",
    ) -> None:
        """source: callers of the same one share their turns."""
        self._loop = loop
        self._socket = sock
        self._fileno = sock.fileno()
        self._seconds = seconds
        self._arrived = arrived
        self._failed = failed
        self._source = source
        self._timer: Timer | None = None
        self._done = False
        self._seen = 0

    def begin(self) -> None:
        """To be called once. Raises OSError where the system polls no more sockets; then the socket is as it was."""
        self._look()  # it has come with its caller, mostly: that saves a timer, a turn, and two calls to the kernel
        if not self._done:
            self._loop.strangers.ask(self._fileno, self, READ, self._source)
            self._timer = self._loop.reactor.callLater(self._seconds, self._fail, HELLO_LATE)

    def readable(self) -> None:
        self._look()

    def _look(self) -> None:
        try:
            data = self._socket.recv(LARGEST, socket.MSG_PEEK)
            if not data:
                self._fail(HELLO_CLOSED)
                return
            hello = read_client_hello(data)
        except BlockingIOError:
            return
        except OSError:  # reset
            self._fail(HELLO_CLOSED)
            return
        except NotClientHelloError as error:
            self._fail(str(error))
            return
        if hello is None:
            if len(data) == self._seen and self._peer_closed():
                self._fail(HELLO_CLOSED)
                return
            # What was peeked at stays readable; without this the reactor would call again and again until more comes. And
            # whoever sends it byte by byte costs us one look at each record, not one at each byte.
            self._seen = len(data)
            self._set_low_water(at_least(data))
            return
        if self._seen:
            self._set_low_water(1)
        self._end()
        self._arrived(hello)

    def stop(self) -> bool:
        """Closes it, without a word; False where it had been called back already."""
        if self._done:
            return False
        self._end()
        self._socket.close()
        return True

    def writable(self) -> None:
        """Never asked for."""

    def peer_closed(self) -> None:
        """Never asked for: what is readable says it."""

    def failed(self, error: Exception) -> None:
        """A bug of ours."""
        self._fail(str(error))

    def _peer_closed(self) -> bool:
        """Behind a close, what was peeked at is readable whatever the low water mark, and no more comes."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def _set_low_water(self, count: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _end(self) -> None:
        self._done = True
        self._loop.strangers.ask(self._fileno, self, 0)
        if self._timer and self._timer.active():
            self._timer.cancel()

    def _fail(self, why: str) -> None:
        if not self._done:
            self._end()
            self._socket.close()
            self._failed(why)
