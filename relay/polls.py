"""One machine as the relay polls Octopus for it: a front for each of its octopus entries that has nodes.

A front lasts while everything that it was made from is the same. What has changed is drained, and made anew beside it.
"""

from collections.abc import Container
from dataclasses import dataclass
from random import Random
from typing import Protocol

from certs.identity import Identity
from relay.backs.parked import ParkedBack
from relay.call import Call
from relay.faces import Faces
from relay.fronts.dials import DialGate
from relay.fronts.polling import LiveBack, PollingFront
from relay.lease import Back, LeaseHolder
from relay.load import NodePolls
from relay.outcomes import NodeTrouble, Outcome
from relay.transport.loop import Loop
from relay.transport.proxy import Proxy
from routing.table import Machine, Octopus


class House(Protocol):
    """What stands behind all machines."""

    @property
    def faces(self) -> Faces:
        """The identities in force."""

    @property
    def dials(self) -> DialGate:
        """One for all: so many dials to a node at once."""

    @property
    def random(self) -> Random:
        """Of all pauses."""

    def poll_opened(self) -> None:
        """A connection to a node stands."""

    def poll_closed(self) -> None:
        """It is closed, and its descriptor is free."""

    def node_polled(self, machine: str, octopus: str, node: str) -> None:
        """A node has accepted a connection."""


class Owner(Protocol):
    """The route of the machine."""

    machine: Machine

    @property
    def own_back(self) -> LiveBack | None:
        """The polling Tentacle's; None where it listens."""

    def back(self, octopus: Octopus) -> Back:
        """Where the machine's Tentacle is had from."""

    def poll_ended(self, call: Call) -> None:
        """An exchange is over."""

    def node_troubled(self, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        """A connection to a node could not be had, or has ended. It is dialled again."""

    def back_down(self, octopus: str, outcome: Outcome, detail: str) -> None:
        """The Tentacle cannot be had, so no node is polled until it can."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a front is made from."""

    octopus: Octopus
    subscription: str
    identity: Identity
    proxy: Proxy | None
    envelope: int
    ready: float
    restricts_methods: bool


@dataclass(frozen=True, slots=True)
class _Stand:
    terms: _Terms
    back: Back
    front: PollingFront


class Polls:
    """See above. Nothing is polled before renew()."""

    def __init__(self, loop: Loop, owner: Owner, house: House) -> None:
        self._loop = loop
        self._owner = owner
        self._house = house
        self._stands: dict[str, _Stand] = {}  # by octopus entry
        self._leaving: list[PollingFront] = []

    # ---- what fronts say --------------------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        self._owner.poll_ended(call)

    def poll_opened(self) -> None:
        self._house.poll_opened()

    def poll_closed(self) -> None:
        self._house.poll_closed()

    def node_polled(self, machine: str, octopus: str, node: str) -> None:
        self._house.node_polled(machine, octopus, node)

    def node_troubled(self, machine: str, octopus: str, node: str, trouble: NodeTrouble, detail: str) -> None:
        self._owner.node_troubled(octopus, node, trouble, detail)

    # ---- how it is --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many connections there are, those that are being dialled among them."""
        return sum(map(len, self._all()))

    @property
    def standing(self) -> int:
        """How many of them nodes have accepted."""
        return sum(front.connections for front in self._all())

    @property
    def busy(self) -> int:
        """How many have a call."""
        return sum(front.busy for front in self._all())

    def nodes(self) -> list[NodePolls]:
        """How each node is polled; not those that are polled no more."""
        return [node for stand in self._stands.values() for node in stand.front.polls()]

    @property
    def live(self) -> bool:
        """The Tentacle is there, for each octopus entry that is polled."""
        return all(stand.front.back.live for stand in self._stands.values())

    @property
    def parked(self) -> int:
        """How many connections to a listening Tentacle are ready, and in no call."""
        return sum(back.parked for back in self._parked_backs())

    @property
    def waiting(self) -> int:
        """How many calls that were picked up wait for a connection to a listening Tentacle."""
        return sum(back.waiting for back in self._parked_backs())

    def _parked_backs(self) -> list[ParkedBack]:
        return [front.back for front in self._all() if isinstance(front.back, ParkedBack)]

    def _all(self) -> list[PollingFront]:
        return [*(stand.front for stand in self._stands.values()), *self._leaving]

    # ---- what becomes of them ---------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Polls by the settings and identities in force from now on."""
        machine = self._owner.machine
        entries = machine.octopus if machine.polled_for else ()
        wanted = {entry.name: entry for entry in entries if entry.nodes and machine.rules.takes(entry.name, None)}
        for name, stand in list(self._stands.items()):
            entry = wanted.get(name)
            if entry is None or self._terms(entry) != stand.terms or self._owner.back(entry) is not stand.back:
                self._dismiss(name)
        for name, entry in wanted.items():
            if name in self._stands:
                self._stands[name].front.machine = machine
            else:
                self._stands[name] = self._make(entry)

    def _terms(self, octopus: Octopus) -> _Terms:
        machine, faces = self._owner.machine, self._house.faces
        return _Terms(
            octopus,
            machine.subscription or faces.subscription(machine.name),
            faces.of_machine(machine.name),
            faces.proxy(octopus.name),
            machine.limits.envelope,
            machine.timeouts.ready,
            machine.rules.restricts_methods,
        )

    def _make(self, octopus: Octopus) -> _Stand:
        owner, machine, name = self._owner, self._owner.machine, octopus.name
        terms, pool = self._terms(octopus), owner.back(octopus)

        def down(outcome: Outcome, detail: str) -> None:
            owner.back_down(name, outcome, detail)

        back = owner.own_back
        if back is None:
            clock, ready = self._loop.reactor, machine.timeouts.ready
            back = ParkedBack(clock, pool, machine.name, name, ready, self._house.random, down)
        front = PollingFront(
            self._loop,
            machine,
            octopus,
            octopus.nodes,
            terms.subscription,
            octopus.node_connections,
            lambda: self._house.faces.polling(machine.name),
            back,
            self._house.dials,
            self._house.random,
            self,
            terms.proxy,
        )
        front.start()
        return _Stand(terms, pool, front)

    def _dismiss(self, octopus: str) -> None:
        front = self._stands.pop(octopus).front
        front.drain()
        self._leaving.append(front)

    def drain(self) -> None:
        """Picks up no call any more, until renew(); those that it has go on, and their connections close behind the reply."""
        for name in list(self._stands):
            self._dismiss(name)

    def cut(self, why: str, octopus: str | None = None) -> int:
        """Closes all connections now, or those of one octopus entry, until renew(); how many there were."""
        for name in list(self._stands):
            if octopus in (None, name):
                self._dismiss(name)
        return sum(front.cut(why) for front in self._leaving if octopus in (None, front.octopus.name))

    def cut_untrusted(self, why: str, pinless: Container[LeaseHolder | None]) -> int:
        """Closes at once what the settings in force do not trust, and whose call is of one of these; how many that were."""
        machine = self._owner.machine
        return sum(front.cut(why, lambda poll: poll.holds(pinless) or not poll.trusted_by(machine)) for front in self._all())

    def check(self, now: float) -> None:
        """Looks for whoever has waited too long; to be called now and then."""
        if not self._stands and not self._leaving:
            return
        for front in self._all():
            front.check(now)
        self._leaving = [front for front in self._leaving if len(front)]

    def stop(self) -> None:
        """Everything ends now."""
        self.drain()
        for front in self._leaving:
            front.stop()
