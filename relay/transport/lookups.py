"""Addresses of names. A name is looked up once at a time, however many want it.

A lookup takes a thread until the system gives it up, which nobody can make it do earlier; the reactor has some dozens. So those
who come for a machine with a dead name, and leave, must not take one each: no other name would be found any more.
"""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from relay.clock import Reactor

_log = Logger()
Found = list[tuple[socket.AddressFamily, tuple[Any, ...]]]


class Lookups:
    """See above."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._wanted: dict[tuple[str, int], dict[object, Callable[[Found], None]]] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._wanted)

    def want(self, who: object, host: str, port: int, found: Callable[[Found], None]) -> None:
        """Calls back with the name's addresses, maybe at once; with none where it does not resolve."""
        wanted = self._wanted.get((host, port))
        if wanted is not None:
            wanted[who] = found
            return
        self._wanted[host, port] = {who: found}
        try:
            self._reactor.nameResolver.resolveHostName(_Resolution(lambda all_: self._end(host, port, all_)), host, port)
        except BaseException:
            del self._wanted[host, port]
            raise

    def forget(self, who: object, host: str, port: int) -> None:
        """It is not called back. The lookup goes on, for whoever wants the name next."""
        self._wanted.get((host, port), {}).pop(who, None)

    def _end(self, host: str, port: int, addresses: Found) -> None:
        wanted = self._wanted[host, port]
        while wanted:  # one of them may make others forget it
            found = wanted.pop(next(iter(wanted)))
            try:
                found(list(addresses))
            except Exception:  # a bug of ours, or no descriptor: the others go on
                _log.failure("what wanted a name failed")
        del self._wanted[host, port]


@implementer(IResolutionReceiver)
class _Resolution:
    """Collects a name's addresses."""

    def __init__(self, done: Callable[[Found], None]) -> None:
        self._addresses: Found = []
        self._done = done

    def resolutionBegan(self, resolution: Any) -> None:
        """Required of a receiver; there is nothing to do before the first address."""

    def addressResolved(self, address: Any) -> None:
        family = socket.AF_INET6 if address.type == "TCP" and ":" in address.host else socket.AF_INET
        self._addresses.append((family, (address.host, address.port)))

    def resolutionComplete(self) -> None:
        self._done(self._addresses)
