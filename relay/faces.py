"""The identities that the running relay shows, and the TLS contexts for them, which are made when they are first used.

A machine's faces Octopus, an octopus entry's faces the Tentacles.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from OpenSSL import SSL

from certs.contexts import client_context, server_context
from certs.identity import Identity
from certs.store import IdentityStore
from routing.table import Machine, Octopus, Table


class Faces:
    """Of one routing table: complete, and replaced only as a whole."""

    def __init__(self, machines: "_Side", octopus: "_Side") -> None:
        self._machines = machines
        self._octopus = octopus

    @classmethod
    def read(cls, table: Table, store: IdentityStore, before: "Faces | None" = None) -> "Faces":
        """Reads all of them, and makes those that are missing. Touches no reactor, so it may run in a thread.

        before: what is shown now; its contexts go on in use where the certificate is the same. Raises CertificateError for a
        file that cannot be used, and for an identity that OpenSSL would refuse to the first caller.
        """
        return cls(
            _Side(server_context, _read(store.machine, table.machines), before._machines if before else None),
            _Side(client_context, _read(store.octopus, table.octopus), before._octopus if before else None),
        )

    def of_machine(self, name: str) -> Identity:
        """What Octopus sees for this machine."""
        return self._machines.identities[name]

    def of_octopus(self, name: str) -> Identity:
        """What Tentacles see for this octopus entry."""
        return self._octopus.identities[name]

    def server(self, machine: str) -> SSL.Context:
        """For callers of this machine."""
        return self._machines.context(machine)

    def client(self, octopus: str) -> SSL.Context:
        """For dialling Tentacles on behalf of this octopus entry."""
        return self._octopus.context(octopus)

    def same(self, before: "Faces", machine: Machine) -> bool:
        """Whether nobody can tell from certificates that the machine is served by these and not by those."""
        return self.same_to_callers(before, machine.name) and all(
            self.same_to_tentacles(before, octopus.name) for octopus in machine.octopus
        )

    def same_to_callers(self, before: "Faces", machine: str) -> bool:
        return self._machines.identities.get(machine) == before._machines.identities.get(machine)

    def same_to_tentacles(self, before: "Faces", octopus: str) -> bool:
        return self._octopus.identities.get(octopus) == before._octopus.identities.get(octopus)


class _Side:
    """The identities that face one side."""

    def __init__(
        self, make: Callable[[Identity], SSL.Context], identities: Mapping[str, Identity], before: "_Side | None"
    ) -> None:
        self._make: Final = make
        self._contexts: dict[str, SSL.Context] = {}
        self.identities: Final = dict(identities)
        for name, identity in identities.items():
            known = before.identities.get(name) if before else None
            if before is None or known != identity:
                make(identity)  # only to know now whether OpenSSL takes it
                continue
            self.identities[name] = known  # the same object: 10,000 of them are compared in no time, and kept once
            if name in before._contexts:
                self._contexts[name] = before._contexts[name]

    def context(self, name: str) -> SSL.Context:
        found = self._contexts.get(name)
        if found is None:
            found = self._contexts[name] = self._make(self.identities[name])
        return found


def _read(get: Callable[..., Identity], entries: Iterable[Machine | Octopus]) -> dict[str, Identity]:
    return {entry.name: get(entry.name, entry.identity) for entry in entries}
