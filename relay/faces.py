"""The identities that the running relay shows, and the TLS contexts for them, which are made when they are first used.

A machine's faces Octopus, an octopus entry's faces the Tentacles. So do the subscription ids that the relay makes, and the
credentials of proxies, and of the relay's users where it is one itself: what is in files, and is part of how it is known.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from certs.contexts import client_context, likeness, server_context
from certs.identity import Identity
from certs.sharing import Context
from certs.store import IdentityStore
from relay.errors import StartError
from relay.transport.credentials import CredentialsError, Users, read_credentials, read_users
from relay.transport.proxy import Proxy
from routing.table import HttpProxy, Machine, Table

Make = Callable[[Identity], Context]


class Faces:
    """Of one routing table: complete, and replaced only as a whole."""

    def __init__(
        self,
        machines: "_Side",
        octopus: "_Side",
        back: str | None = None,
        subscriptions: Mapping[str, str] | None = None,
        proxies: Mapping[str, Proxy] | None = None,
        users: Users | None = None,
    ) -> None:
        """back: the octopus entry whose identity polling Tentacles see."""
        self._machines = machines
        self._octopus = octopus
        self._back = back
        self._subscriptions = dict(subscriptions or {})
        self._proxies = dict(proxies or {})
        self.users: Final = users
        """Who may use the relay as a proxy; None: whoever comes."""

    @classmethod
    def read(cls, table: Table, store: IdentityStore, before: "Faces | None" = None) -> "Faces":
        """Reads all of them, and makes those that are missing. Touches no reactor, so it may run in a thread.

        before: what is shown now; its contexts go on in use where the certificate is the same. Raises CertificateError for a
        file that cannot be used, and for an identity that OpenSSL would refuse to the first caller; StartError for a file of
        credentials.
        """
        shown = [each for each in table.machines if not each.passthrough]  # the Tentacles of the others show their own
        # A key is parsed when a caller needs it; where the relay polls, it needs it at once.
        machines = {each.name: store.machine(each.name, each.identity, key_later=not each.polled_for) for each in shown}
        octopus = {each.name: store.octopus(each.name, each.identity) for each in table.octopus}
        return cls(
            _Side(server_context, machines, before._machines if before else None),
            _Side(client_context, octopus, before._octopus if before else None),
            table.back_octopus.name if table.back_octopus else None,
            {each.name: store.subscription(each.name) for each in table.machines if each.polled_for and not each.subscription},
            {each.name: proxy_of(each.proxy) for each in table.octopus if each.proxy},
            _users(table.connect.credentials) if table.connect and table.connect.credentials else None,
        )

    def of_machine(self, name: str) -> Identity:
        """What Octopus sees for this machine."""
        return self._machines.identities[name]

    def of_octopus(self, name: str) -> Identity:
        """What Tentacles see for this octopus entry."""
        return self._octopus.identities[name]

    def subscription(self, machine: str) -> str:
        """The id with which the relay polls for this machine, where it is one that the relay has made."""
        return self._subscriptions[machine]

    def proxy(self, octopus: str) -> Proxy | None:
        """Through which this octopus entry's nodes are dialled."""
        return self._proxies.get(octopus)

    def identities(self) -> Iterator[tuple[str, str, Identity]]:
        """All of them: "machine" or "octopus", whose, and the identity."""
        for kind, side in (("machine", self._machines), ("octopus", self._octopus)):
            for name, identity in side.identities.items():
                yield kind, name, identity

    def server(self, machine: str) -> Context:
        """For callers of this machine."""
        return self._machines.context(machine, server_context)

    def client(self, octopus: str) -> Context:
        """For dialling Tentacles on behalf of this octopus entry."""
        return self._octopus.context(octopus, client_context)

    def polling(self, machine: str) -> Context:
        """For polling Octopus on behalf of this machine."""
        return self._machines.context(machine, client_context)

    def entrance(self) -> Context:
        """For Tentacles that poll the relay."""
        assert self._back, "there is no door where they could come in"
        return self._octopus.context(self._back, server_context)

    def same(self, before: "Faces", machine: Machine) -> bool:
        """Whether nobody can tell from certificates that the machine is served by these and not by those."""
        return (
            self.same_to_callers(before, machine.name)
            and all(self.same_to_tentacles(before, octopus.name) for octopus in machine.octopus)
            and (machine.tentacle is not None or self.same_to_pollers(before))
            and (not machine.polled_for or self._same_to_nodes(before, machine))
        )

    def same_to_callers(self, before: "Faces", machine: str) -> bool:
        return self._machines.identities.get(machine) == before._machines.identities.get(machine)

    def same_to_tentacles(self, before: "Faces", octopus: str) -> bool:
        return self._octopus.identities.get(octopus) == before._octopus.identities.get(octopus)

    def same_to_pollers(self, before: "Faces") -> bool:
        """Whether polling Tentacles see the same identity."""
        return self._of_back == before._of_back

    @property
    def _of_back(self) -> Identity | None:
        return self._octopus.identities.get(self._back) if self._back else None

    def _same_to_nodes(self, before: "Faces", machine: Machine) -> bool:
        return self._subscriptions.get(machine.name) == before._subscriptions.get(machine.name) and all(
            self.proxy(octopus.name) == before.proxy(octopus.name) for octopus in machine.octopus
        )


class _Side:
    """The identities that face one side."""

    def __init__(self, make: Make, identities: Mapping[str, Identity], before: "_Side | None") -> None:
        self._contexts: dict[tuple[str, Make], Context] = {}
        self.identities: Final = dict(identities)
        tried: set[tuple[object, ...]] = set()
        for name, identity in identities.items():
            known = before.identities.get(name) if before else None
            if before is None or known != identity:
                like = likeness(identity)
                if like not in tried:
                    make(identity)  # only to know now whether OpenSSL takes it
                    tried.add(like)
                continue
            keys = ((name, server_context), (name, client_context))
            used = {key: before._contexts[key] for key in keys if key in before._contexts}
            if used or known.held == identity.held:  # else a key that nobody has used yet may have been mended
                self.identities[name] = known  # the same object: 10,000 of them are compared in no time, and let go by nobody
                self._contexts |= used

    def context(self, name: str, make: Make) -> Context:
        found = self._contexts.get((name, make))
        if found is None:
            found = self._contexts[name, make] = make(self.identities[name])
        return found


def proxy_of(declared: HttpProxy) -> Proxy:
    """The proxy with its credentials, as their file has them now. Raises StartError."""
    try:
        credentials = read_credentials(declared.credentials) if declared.credentials else ""
    except CredentialsError as error:
        raise StartError(f"proxy_credentials: {error}") from error
    return Proxy(declared.address.host, declared.address.port, credentials)


def _users(file: Path) -> Users:
    """Raises StartError."""
    try:
        return read_users(file)
    except CredentialsError as error:
        raise StartError(f"front.credentials: {error}") from error
