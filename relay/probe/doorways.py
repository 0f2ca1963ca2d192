"""Which machines to ask the CONNECT door for, where that is, and as whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from certs.store import IdentityStore
from certs.thumbprint import Thumbprint
from relay import identities
from relay.identities import Entry, NoSuchEntryError
from relay.peers.tunnel import WebProxy
from relay.probe.doorway import DoorResult, knock
from relay.probe.many import NotReadyError
from relay.transport.credentials import CredentialsError, read_user_lines
from routing.addresses import LOOPBACK, WILDCARDS, Address
from routing.table import Machine, Table

_LOOPBACK_IPV6: Final = "::1"


@dataclass(frozen=True, slots=True)
class Visit:
    """expected: the thumbprint of the machine's identity; None where it was not made yet, and where TLS is passed through."""

    machine: str
    target: Address
    proxy: WebProxy
    expected: Thumbprint | None


def visits(table: Table, store: IdentityStore, names: Sequence[str], address: str | None) -> list[Visit]:
    """One for each of these machines; without names, for all that have a target. address: the relay's, if not as configured.

    Raises NoSuchEntryError for a name that nothing has; NotReadyError where there is no such door, or no target.
    """
    proxy = _proxy(table, address)
    machines = [identities.machine(table, name) for name in dict.fromkeys(names)] or list(table.targets.values())
    found = []
    for machine in machines:
        if machine.target is None:
            raise NotReadyError(f"machine {machine.name}: it has no CONNECT target. Write one in `connect`.")
        found.append(Visit(machine.name, machine.target, proxy, _expected(machine, store)))
    if not found:
        raise NoSuchEntryError(f"{table.source}: no machine has a CONNECT target, so there is nothing to ask for.")
    return found


def _expected(machine: Machine, store: IdentityStore) -> Thumbprint | None:
    if machine.passthrough:
        return None  # one may be left from before it was
    identity = identities.look(store, Entry("machine", machine.name, machine.identity)).identity
    return identity.thumbprint if identity else None


def _proxy(table: Table, address: str | None) -> WebProxy:
    if table.front is None or table.connect is None:
        raise NotReadyError(f"{table.source}: there is no CONNECT door. Write front: {{listen: 10933, connect: true}}.")
    host = address or table.front.host
    if host in WILDCARDS:
        host = _LOOPBACK_IPV6 if host == "::" else LOOPBACK
    user = password = ""
    if table.connect.credentials:
        try:
            user, _, password = read_user_lines(table.connect.credentials)[0].partition(":")
        except CredentialsError as error:
            raise NotReadyError(f"front.credentials: {error}") from error
    return WebProxy(host, table.front.port, user, password)


async def knock_many(reactor: Any, work: Sequence[Visit], seconds: float, parallel: int) -> list[DoorResult]:
    """The results in the order of the visits. seconds: for each. parallel: how many at once."""
    turns = DeferredSemaphore(parallel)

    def begin(visit: Visit) -> "Deferred[DoorResult]":
        asking = knock(reactor, visit.machine, visit.target, visit.proxy, visit.expected, seconds)
        return Deferred.fromCoroutine(asking)

    return await gatherResults([turns.run(begin, visit) for visit in work], consumeErrors=True)
