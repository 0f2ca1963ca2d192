"""The other end of a stream that the relay has accepted: dialled, written and read on the real reactor."""

import contextlib
import socket
from typing import Any

from changes import Changes, turns
from twisted.internet import reactor


class StreamClient:
    """data: all that came. ended: the relay has closed. It reads only while `reading` is true."""

    def __init__(self, changes: Changes, sock: socket.socket) -> None:
        self._changes = changes
        self._socket = sock
        self._reading = False
        sock.setblocking(False)
        self.data = b""
        self.ended = False
        self.read()

    @classmethod
    def unix(cls, changes: Changes, path: str) -> "StreamClient":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return cls(changes, sock)

    @classmethod
    def tcp(cls, changes: Changes, address: tuple[str, int], window: int = 0) -> "StreamClient":
        """window: bytes that its kernel takes unread, at least about so many; 0: as it will."""
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.connect(address)
        return cls(changes, sock)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "client"

    def read(self) -> None:
        self._reading = True
        reactor.addReader(self)

    def pause(self) -> None:
        if self._reading:
            reactor.removeReader(self)
        self._reading = False

    def doRead(self) -> None:
        try:
            data = self._socket.recv(256 * 1024)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self.data += data
        if not data:
            self.ended = True
            self.pause()
        self._changes.changed()

    def connectionLost(self, reason: Any) -> None:
        raise AssertionError("the test's own reactor has lost it")

    async def write(self, data: bytes) -> None:
        """All of it, unless the relay closes before."""
        while data:
            with contextlib.suppress(BlockingIOError):
                try:
                    data = data[self._socket.send(data) :]
                except (BrokenPipeError, ConnectionResetError):
                    return
            await turns()

    async def end(self) -> bytes:
        """All that came, when the relay has closed."""
        await self._changes.until(lambda: self.ended)
        return self.data

    def close(self) -> None:
        self.pause()
        self._socket.close()
