"""What all connections of a process share: the reactor, the poller, alarms, the gate of handshakes, lookups of names,
pipes."""

from relay.alarms import Alarms
from relay.clock import Reactor
from relay.transport.gate import HandshakeGate
from relay.transport.lookups import Lookups
from relay.transport.pipes import Pipes
from relay.transport.poller import Poller


class Loop:
    """reactor: Twisted's, with its clock. handshakes: those with callers that may begin per second; source_handshakes: of one
    source.

    strangers: polls doors, and callers until they are identified. poller: everybody else, who goes before them. buffered:
    bytes that wait, in all connections together, for a peer to take them.
    """

    def __init__(self, reactor: Reactor, handshakes: int, source_handshakes: int | None = None) -> None:
        self.reactor = reactor
        self.alarms = Alarms(reactor)
        self.poller = Poller(reactor)
        self.strangers = Poller(reactor, self.poller)
        self.gate = HandshakeGate(reactor, handshakes, source_handshakes or handshakes)
        self.buffered = 0
        self.pipes = Pipes()
        self.lookups = Lookups(reactor)

    def stop(self) -> None:
        self.gate.stop()
        self.strangers.stop()
        self.poller.stop()
