"""Steps of relay/transport: a turn of the reactor, and one record read and written on a real socket."""

import contextlib
import os
import socket
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.epollreactor import EPollReactor

from benchmarks.steps.memory import OCTOPUS, TENTACLE
from benchmarks.steps.step import Step, times
from certs.contexts import client_context, server_context
from relay.clock import keep_monotonic
from relay.transport.connection import TLSConnection
from relay.transport.loop import Loop
from relay.transport.poller import READ
from relay.transport.tcp import prepare_socket

_BATCH: Final = 16


class _Ready:
    """A descriptor that always has something to read, which nobody does."""

    def __init__(self, loop: Loop) -> None:
        self.descriptor = os.eventfd(1)
        loop.poller.ask(self.descriptor, self, READ)

    def readable(self) -> None:
        pass

    def writable(self) -> None:
        raise AssertionError("it is not asked for")

    def peer_closed(self) -> None:
        raise AssertionError("it is not asked for")

    def failed(self, error: Exception) -> None:
        raise error


class _Receiver:
    """Of records that are only counted."""

    def __init__(self) -> None:
        self.made = False
        self.count = 0

    def connectionMade(self) -> None:
        self.made = True

    def dataReceived(self, data: bytes) -> None:
        self.count += 1

    def peerClosed(self) -> None:
        raise AssertionError("it is never paused")

    def connectionLost(self, reason: Exception) -> None:
        raise reason


def new_loop() -> tuple[Any, Loop]:
    """A reactor of its own, as the relay runs it."""
    reactor: Any = EPollReactor()  # type: ignore[no-untyped-call]  # Twisted's own says no types
    keep_monotonic(reactor)
    return reactor, Loop(reactor, 1000)


def _turns(name: str, ready: int) -> Step:
    reactor, loop = new_loop()
    waiting = [_Ready(loop) for _ in range(ready)]

    def turn() -> None:
        assert waiting
        reactor.runUntilCurrent()
        reactor.timeout()
        reactor.doIteration(0)

    return Step(name, times(turn))


class _Wire:
    """A connection of the relay's, over loopback, and its peer."""

    def __init__(self) -> None:
        _, loop = new_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        for sock in (ours, theirs):
            prepare_socket(sock)
        self.receiver = _Receiver()
        self.link = TLSConnection(loop, ours, server_context(TENTACLE), self.receiver)
        self.peer = client_context(OCTOPUS).connection(theirs)
        self.peer.set_connect_state()
        self.link.accept()
        while not self.receiver.made:
            self._handshake()
            self.link.readable()
        self._handshake()

    def _handshake(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self.peer.do_handshake()

    def say(self, data: bytes, count: int) -> None:
        """The peer writes so many records."""
        for _ in range(count):
            self.peer.send(data)
        self.receiver.count = 0

    def expect_read(self, count: int) -> None:
        assert self.receiver.count == count, f"{self.receiver.count} records of {count} came"

    def take(self, size: int) -> None:
        """The peer reads so many bytes."""
        while size > 0:
            size -= len(self.peer.recv(16384))


def _read(wire: _Wire, name: str, data: bytes) -> Step:
    return Step(name, times(wire.link.readable), lambda count: wire.say(data, count), wire.expect_read)


def _write(wire: _Wire, name: str, data: bytes) -> Step:
    return Step(name, times(lambda: wire.link.write(data)), tidy=lambda count: wire.take(count * len(data)))


def steps(line: bytes, envelope: bytes, record: bytes) -> list[Step]:
    """line, envelope, record: of a stream, what is read and written."""
    wire = _Wire()
    return [
        _turns("turn", 1),
        _turns("turn of 16", _BATCH),
        _read(wire, "read line", line),
        _read(wire, "read envelope", envelope),
        _read(wire, "read record", record),
        _write(wire, "write line", line),
        _write(wire, "write envelope", envelope),
        _write(wire, "write record", record),
    ]
