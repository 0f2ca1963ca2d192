"""What all connections of a process share: the reactor, the poller, the gate of handshakes, pipes."""

from relay.clock import Reactor
from relay.transport.gate import HandshakeGate
from relay.transport.pipes import Pipes
from relay.transport.poller import Poller


class Loop:
    """reactor: Twisted's, with its clock; handshakes: how many may begin per second, those of callers."""

    def __init__(self, reactor: Reactor, handshakes: int) -> None:
        self.reactor = reactor
        self.poller = Poller(reactor)
        self.gate = HandshakeGate(reactor, handshakes)
        self.pipes = Pipes()

    def stop(self) -> None:
        self.gate.stop()
        self.poller.stop()
