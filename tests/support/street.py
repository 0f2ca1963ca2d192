"""Callers on real sockets in front of real doors, on the real reactor with a clock that stands still."""

import errno
import socket
import ssl
from collections.abc import Callable

from changes import Changes, turns
from clocked_reactor import ClockedReactor
from tls_peer import TlsPeer, client_side


class Street:
    """Makes callers, and cleans up behind them."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.reactor = ClockedReactor()
        self.callers: list[TlsPeer] = []
        self._raw: list[socket.socket] = []

    def connect(self, address: tuple[str, int], source: str = "") -> socket.socket:
        """A caller that has said nothing. source: the address that it comes from, where that matters."""
        sock = socket.socket()
        if source:
            sock.bind((source, 0))
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw.append(sock)
        assert sock.connect_ex(address) in (0, errno.EINPROGRESS)
        return sock

    async def call(
        self, address: tuple[str, int], context: ssl.SSLContext | None = None, shakes: bool = True, name: str | None = None
    ) -> TlsPeer:
        """One that speaks TLS. shakes: it is expected to get through its handshake. name: whom it asks for by SNI."""
        peer = TlsPeer(self.changes, self.connect(address), context or client_side("TLSv1.3"), name=name)
        self.callers.append(peer)
        if shakes:
            await self.changes.until(lambda: peer.shaken)
        return peer

    async def ended(self, peer: TlsPeer) -> str:
        """How the relay ended it; then it closes too, as real ones do."""
        await self.changes.until(lambda: peer.end)
        peer.close()
        assert peer.end
        return peer.end

    async def spin(self, condition: Callable[[], object]) -> None:
        """For what nobody tells of: lets the reactor go round until it holds."""
        for _ in range(20_000):
            if condition():
                return
            await turns(1)
        raise AssertionError("still not true")

    async def clean(self) -> None:
        """Everybody leaves."""
        for caller in self.callers:
            caller.close()
        for sock in self._raw:
            sock.close()
        await turns()
