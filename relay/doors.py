"""Every door of the relay: one for each machine that has a port, the shared one, where the SNI name says which is meant, and
the one of polling Tentacles.

A door whose address stays is never closed, whoever it leads to by a new table: no caller is refused on the way.
"""

import errno
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from relay.errors import StartError
from relay.faces import Faces
from relay.fronts.door import ConnectGuide, Door, Guide, House, Route
from relay.fronts.porch import Declined
from relay.fronts.tunnel_answers import CREDENTIALS, FORBIDDEN
from relay.fronts.tunnel_request import TunnelRequest
from relay.outcomes import DOOR_CLOSES, RELAY_DRAINS, Refusal, SentAway
from relay.transport.clienthello import ClientHello
from relay.transport.lanes import listening_sockets
from relay.transport.listener import descriptor_limit
from relay.transport.loop import Loop
from routing.addresses import Address
from routing.decide import Denied, machine_at, machine_for
from routing.table import Machine, Table

SHARED: Final = ""  # in the place of a machine's name
BACK: Final = "back:"  # so is this, which is no name either
LANES: Final = 64  # of a door that many machines share; each is a descriptor, and 4 KB
OWN_LANES: Final = 16  # of a machine's own door, and
OWN_LANES_OF_ALL: Final = 1024  # of all these doors together, unless there are more doors, or were fewer before a reload
_REMEDIES: Final = {
    errno.EADDRINUSE: "Free the port, or write another one in `{key}`.",
    errno.EADDRNOTAVAIL: "This host does not have that address: write one that it has in `{key}`, or the port alone.",
    errno.EACCES: "Ports below 1024 need the right CAP_NET_BIND_SERVICE: grant it, or write another one in `{key}`.",
}
_OTHER_REMEDY: Final = "Write another address or port in `{key}`."


class Directory(House, Protocol):
    """What doors lead to."""

    @property
    def routes(self) -> Mapping[str, Route]:
        """By machine."""

    @property
    def hosts(self) -> Mapping[str, Machine]:
        """By SNI name."""

    @property
    def targets(self) -> Mapping[Address, Machine] | None:
        """By CONNECT target; None where there is no CONNECT door."""

    @property
    def faces(self) -> Faces:
        """Those in force, for the users of the CONNECT door."""

    @property
    def entrance(self) -> Route:
        """Where polling Tentacles come in."""


@dataclass
class Plan:
    """Which doors a table wants, by owner: those that stay, and listening sockets for new ones. Nothing else has happened."""

    _commit: Callable[["Plan"], None]
    kept: dict[str, Door] = field(default_factory=dict)
    opened: dict[str, tuple[Address, tuple[socket.socket, ...]]] = field(default_factory=dict)

    def commit(self) -> None:
        """Opens the doors, and closes all others. The routes of their machines are those in force."""
        self._commit(self)

    def abandon(self) -> None:
        """Closes what was opened."""
        for _, sockets in self.opened.values():
            for sock in sockets:
                sock.close()


class Doors:
    """See above."""

    def __init__(self, loop: Loop, directory: Directory) -> None:
        self._loop = loop
        self._directory = directory
        self._doors: dict[str, Door] = {}
        self._closing: list[Door] = []  # by reloads, with callers who have yet to be answered

    def of(self, owner: str) -> Door | None:
        """The machine's, the SHARED one, or the one at the BACK."""
        return self._doors.get(owner)

    @property
    def machines(self) -> dict[str, tuple[str, int]]:
        """Where each machine's own door listens."""
        return {owner: door.address for owner, door in self._doors.items() if _machine(owner)}

    # ---- another table ----------------------------------------------------------------------------------------------

    def prepare(self, table: Table) -> Plan:
        """Opens what is not open yet, or nothing. Raises StartError."""
        wanted = {machine.name: machine.door for machine in table.machines if machine.door}
        if table.front:
            wanted[SHARED] = table.front
        if table.back:
            wanted[BACK] = table.back
        open_at = {door.asked: door for door in self._doors.values() if door.asked.port}
        plan = Plan(self._commit)
        for owner, address in wanted.items():
            own = self._doors.get(owner)
            door = own if own and own.asked == address else open_at.get(address)
            if door:
                plan.kept[owner] = door
        staying = set(map(id, plan.kept.values()))
        closing = [door for door in self._doors.values() if id(door) not in staying]
        new = {owner: address for owner, address in wanted.items() if owner not in plan.kept}
        of_shared, of_own = _lanes(table)
        for owner, address in new.items():
            beside = [sock for door in closing if door.asked.port == address.port for sock in door.sockets]
            lanes = of_own if _machine(owner) else of_shared
            try:
                plan.opened[owner] = address, listening_sockets(address.host, address.port, beside, lanes)
            except OSError as error:
                plan.abandon()
                raise _cannot_open(owner, address, error) from error
        return plan

    def _commit(self, plan: Plan) -> None:
        before = self._doors
        self._doors = {}
        for owner, door in plan.kept.items():
            door.lead(_machine(owner), self._guide(owner), self._connect(owner))
            self._doors[owner] = door
        for owner, (address, sockets) in plan.opened.items():
            machine, guide, connect = _machine(owner), self._guide(owner), self._connect(owner)
            self._doors[owner] = Door(self._loop, sockets, address, machine, guide, self._directory, connect)
        staying = set(map(id, plan.kept.values()))
        self._closing = [door for door in self._closing if door.arrivals]
        for door in before.values():
            if id(door) not in staying:
                door.stop(DOOR_CLOSES)
                self._closing.append(door)

    # ---- who goes where ---------------------------------------------------------------------------------------------

    def _guide(self, owner: str) -> Guide:
        if owner == SHARED:
            return self._by_name
        if owner == BACK:
            return lambda hello: self._directory.entrance
        return lambda hello: self._directory.routes[owner]

    def _by_name(self, hello: ClientHello) -> Route | SentAway:
        machine = machine_at(self._directory.hosts, hello.server_name)
        if isinstance(machine, Denied):
            return SentAway(Refusal(machine.reason), machine.detail)
        return self._directory.routes[machine.name]

    def _connect(self, owner: str) -> ConnectGuide | None:
        return _ConnectGuide(self._directory) if owner == SHARED and self._directory.targets is not None else None

    # ---- the end ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Closes all of them. Whoever has to be answered before is, as long as nobody closes."""
        for door in self._doors.values():
            door.stop(RELAY_DRAINS)

    def close(self) -> None:
        """The same, and nobody is waited for."""
        for door in (*self._doors.values(), *self._closing):
            door.close()


class _ConnectGuide:
    """What is declared when it is asked."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def judge(self, request: TunnelRequest) -> Declined | None:
        users = self._directory.faces.users
        found = machine_for(self._directory.targets or {}, request.target)
        if users and not users.have(request.authorization):
            how = "wrong credentials" if request.authorization else "no credentials"
            target = found.detail if isinstance(found, Denied) else f"it asked for {found.target}"
            return Declined(CREDENTIALS, Refusal.PROXY_CREDENTIALS, f"{how}; {target}")
        if isinstance(found, Denied):
            return Declined(FORBIDDEN, Refusal(found.reason), found.detail)
        return None

    def find(self, target: str) -> Route | SentAway:
        machine = machine_for(self._directory.targets or {}, target)
        if isinstance(machine, Denied):  # a reload has come between
            return SentAway(Refusal(machine.reason), machine.detail)
        return self._directory.routes[machine.name]


def sockets_needed(table: Table) -> int:
    """How many sockets listen for callers where the relay starts with this table."""
    shared, own = _lanes(table)
    return shared * sum(address is not None for address in (table.front, table.back)) + own * _own_doors(table)


def _lanes(table: Table) -> tuple[int, int]:
    """Those of a shared door, and of a machine's own: the more doors, and the fewer descriptors, the fewer."""
    there = descriptor_limit()
    of_own = min(OWN_LANES_OF_ALL, there // 16) // max(1, _own_doors(table))
    return max(1, min(LANES, there // 64)), max(1, min(OWN_LANES, of_own))


def _own_doors(table: Table) -> int:
    return sum(machine.door is not None for machine in table.machines)


def _machine(owner: str) -> str:
    """Whose door it is; empty where it is no machine's."""
    return "" if owner in (SHARED, BACK) else owner


def _cannot_open(owner: str, address: Address, error: OSError) -> StartError:
    others = {SHARED: ("the shared door", "front.listen"), BACK: ("the door of polling Tentacles", "back.listen")}
    what, key = others.get(owner, (f"machine {owner}", "port"))
    remedy = _REMEDIES.get(error.errno or 0, _OTHER_REMEDY).format(key=key)
    return StartError(f"{what}: cannot listen on {address}: {error.strerror or error}. {remedy}")
