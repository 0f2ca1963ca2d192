"""What to type into Octopus, and to run on the Tentacle, for one machine."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from certs.store import IdentityStore
from relay import identities
from relay.identities import Found
from routing.addresses import WILDCARDS, Address
from routing.table import Machine, Table

# CommunicationStyle of a listening and of a polling Tentacle, in Octopus's REST API.
STYLE: Final = "TentaclePassive"
POLLING_STYLE: Final = "TentacleActive"

Source = Literal["declared", "given", "guessed"]


@dataclass(frozen=True, slots=True)
class Way:
    """How Octopus reaches the machine at the relay. source: where the host of the address comes from."""

    address: Address
    source: Source

    @property
    def uri(self) -> str:
        """As Octopus writes it."""
        return f"https://{self.address}/"


@dataclass(frozen=True, slots=True)
class Polling:
    """How Octopus has the machine where the relay polls.

    uri: its subscription id; None: not made yet. connections: to each of the nodes.
    """

    uri: str | None
    nodes: tuple[Address, ...]
    connections: int


@dataclass(frozen=True, slots=True)
class Proxied:
    """How Octopus reaches the machine with the relay as its proxy.

    target: the host and port that Octopus has for it. proxy: the relay. credentials: the file of its users; None: it has none.
    """

    target: Address
    proxy: Way
    credentials: Path | None

    @property
    def uri(self) -> str:
        """As Octopus writes it."""
        return f"https://{self.target}/"


@dataclass(frozen=True, slots=True)
class Instructions:
    """identity: what Octopus will see; None: the Tentacle's own. trusts: what the Tentacle has to trust: for each octopus
    entry, or at back.listen; nothing of ours where it is passed through.

    back: where a polling Tentacle has to poll. connections: with how many it should, at least.
    """

    machine: Machine
    ways: tuple[Way, ...]
    identity: Found | None
    trusts: tuple[Found, ...]
    polling: Polling | None = None
    back: Way | None = None
    connections: int = 1
    proxied: Proxied | None = None


def own_name() -> str:
    """What this host is called, as far as it knows."""
    name = socket.getfqdn()
    return socket.gethostname() if name.partition(".")[0] == "localhost" else name


class Guide:
    """Gives the instructions for each machine of a table.

    address: the relay's name or IP address, as Octopus knows it; without it, doors that listen everywhere are given the name of
    this host, which is a guess. Makes no identity.
    """

    def __init__(self, table: Table, store: IdentityStore, address: str | None, guess: Callable[[], str] = own_name) -> None:
        self._table = table
        self._store = store
        self._address = address
        self._guess = cache(guess)
        self._octopus = cache(self._facing_tentacles)

    def of(self, machine: Machine) -> Instructions:
        """For this one."""
        return Instructions(
            machine,
            tuple(self._ways(machine)),
            None
            if machine.passthrough
            else identities.look(self._store, identities.Entry("machine", machine.name, machine.identity)),
            tuple(self._octopus(octopus) for octopus in self._trusted(machine)),
            self._polling(machine),
            self._port_door(self._table.back) if self._table.back and not machine.tentacle else None,
            max(1, *(len(octopus.nodes) for octopus in machine.octopus)) if machine.polled_for else 1,
            self._proxied(machine),
        )

    def _proxied(self, machine: Machine) -> Proxied | None:
        table = self._table
        if not (machine.target and table.connect and table.front):
            return None
        return Proxied(machine.target, self._port_door(table.front), table.connect.credentials)

    def _trusted(self, machine: Machine) -> list[str]:
        if machine.tentacle is None and self._table.back_octopus:
            return [self._table.back_octopus.name]
        return [octopus.name for octopus in machine.octopus]

    def _polling(self, machine: Machine) -> Polling | None:
        if not machine.polled_for:
            return None
        nodes = tuple(node for octopus in machine.octopus for node in octopus.nodes)
        connections = max(octopus.node_connections for octopus in machine.octopus if octopus.nodes)
        return Polling(machine.subscription or self._store.find_subscription(machine.name), nodes, connections)

    def _facing_tentacles(self, name: str) -> Found:
        return identities.look(self._store, identities.entry(self._table, name, "octopus"))

    def _ways(self, machine: Machine) -> list[Way]:
        ways = []
        if machine.host and self._table.front:
            ways.append(Way(Address(machine.host, self._table.front.port), "declared"))
        if machine.door:
            ways.append(self._port_door(machine.door))
        return ways

    def _port_door(self, door: Address) -> Way:
        if self._address:
            return Way(Address(self._address, door.port), "given")
        if door.host in WILDCARDS:
            return Way(Address(self._guess(), door.port), "guessed")
        return Way(door, "declared")
