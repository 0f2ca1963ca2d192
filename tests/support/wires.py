"""Real connections over loopback for one test, and the proof that the test left nothing behind."""

import os
import socket
import ssl
from dataclasses import dataclass, field

from changes import Changes, turns
from clocked_reactor import ClockedReactor
from identities import identity
from recorder import Recorder
from tls_peer import TlsPeer, client_side, server_side, socket_pair
from twisted.internet import reactor

from certs.contexts import client_context, server_context
from relay.transport.connection import TLSConnection
from relay.transport.loop import Loop
from relay.transport.tcp import prepare_socket


@dataclass
class End:
    """Our end of a connection, whoever receives for it, and what was counted."""

    link: TLSConnection
    receiver: Recorder
    closed: list[None] = field(default_factory=list)
    """One entry for each call of ``closed``."""


class Wires:
    """Makes connections, and cleans up behind them. clocked: the reactor of all of ours, whose clock stands still."""

    def __init__(self, handshakes: int = 1000) -> None:
        self.changes = Changes()
        self.clocked = ClockedReactor()
        self.loop = Loop(self.clocked, handshakes)
        self.ends: list[End] = []
        self.peers: list[TlsPeer] = []
        self.ours = identity("ours")
        self.theirs = identity("theirs")

    def recorder(self) -> Recorder:
        return Recorder(self.changes)

    def end(self, sock: socket.socket, accepts: bool) -> End:
        """Our end on this socket, not yet shaking hands."""
        prepare_socket(sock)
        context = server_context(self.ours) if accepts else client_context(self.ours)
        receiver = self.recorder()
        made = End(TLSConnection(self.loop, sock, context, receiver), receiver)

        def closed() -> None:
            made.closed.append(None)
            self.changes.changed()

        made.link.closed = closed
        self.ends.append(made)
        return made

    async def accepted(self, context: ssl.SSLContext | None = None, *, buffers: int = 0) -> tuple[End, TlsPeer]:
        """A caller that we have accepted, the handshake done on both sides."""
        ours, theirs = socket_pair(buffers)
        end = self.end(ours, accepts=True)
        peer = TlsPeer(self.changes, theirs, context or client_side("TLSv1.3"))
        self.peers.append(peer)
        end.link.accept()
        await self.changes.until(lambda: end.receiver.made and peer.shaken)
        return end, peer

    async def dialled(self, version: str = "TLSv1.3", *, buffers: int = 0) -> tuple[End, TlsPeer]:
        """A listener that we have dialled, the handshake done on both sides."""
        ours, theirs = socket_pair(buffers)
        end = self.end(ours, accepts=False)
        peer = TlsPeer(self.changes, theirs, server_side(version, self.theirs), listens=True)
        self.peers.append(peer)
        end.link.connect("")
        await self.changes.until(lambda: end.receiver.made and peer.shaken)
        return end, peer

    async def clean(self) -> None:
        """Closes everything that a test left open, and checks that each end was told what it had to be told."""
        for end in self.ends:
            end.link.abortConnection()
        for peer in self.peers:
            peer.close()
        self.loop.stop()
        await turns()
        assert [len(end.closed) for end in self.ends] == [1] * len(self.ends), "closed was not called exactly once"
        for end in self.ends:
            assert len(end.receiver.lost) <= 1
            assert not end.receiver.lost or end.receiver.calls[-1] == "lost", "called behind the end"
        assert not self.clocked.timers, "a timer is left"


@dataclass(frozen=True)
class Held:
    """What the process holds: descriptors, and what the reactor has to do."""

    descriptors: int
    readers: frozenset[object]
    writers: frozenset[object]
    timers: frozenset[object]

    @classmethod
    def now(cls) -> "Held":
        return cls(
            len(os.listdir("/proc/self/fd")),
            frozenset(reactor.getReaders()),
            frozenset(reactor.getWriters()),
            frozenset(reactor.getDelayedCalls()),
        )

    def more_than(self, before: "Held") -> str:
        """What is held now and was not then; empty where nothing is."""
        more = [
            f"{self.descriptors - before.descriptors} descriptors" if self.descriptors > before.descriptors else "",
            *map(str, self.readers - before.readers | self.writers - before.writers | self.timers - before.timers),
        ]
        return ", ".join(filter(None, more))
