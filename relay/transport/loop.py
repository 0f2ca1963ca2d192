"""What all connections of a process share: the reactor, the watcher of paused links, the gate of handshakes."""

from relay.clock import Reactor
from relay.transport.gate import HandshakeGate
from relay.transport.watcher import CloseWatcher


class Loop:
    """reactor: Twisted's, with its clock; handshakes: how many may begin per second, those of callers."""

    def __init__(self, reactor: Reactor, handshakes: int) -> None:
        self.reactor = reactor
        self.watcher = CloseWatcher(reactor)
        self.gate = HandshakeGate(reactor, handshakes)

    def stop(self) -> None:
        self.gate.stop()
        self.watcher.stop()
