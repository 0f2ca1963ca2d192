"""What operators see and do: the part of the running relay behind `status` and the other commands (admin/controls.py)."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from relay.admin.log import Log
from relay.admission import Admission
from relay.errors import NoSuchNameError
from relay.faces import Faces
from relay.load import InUse, Load, NodePolls
from relay.outcomes import MACHINE_DRAINS
from relay.route import Failure
from relay.routes import AnyRoute
from routing.table import Machine, Table

_CUT_BY_OPERATOR: Final = "an operator has closed it"
_NEAREST: Final = 5  # names that are told of octopus entries


class Operated:
    """See above. table, faces: those in force."""

    table: Table
    faces: Faces
    admission: Admission
    _log: Log
    _routes: dict[str, AnyRoute]
    _leaving: list[AnyRoute]  # removed by a reload, with calls in flight

    def _all_routes(self) -> list[AnyRoute]:
        return [*self._routes.values(), *self._leaving]

    def _in_flight(self) -> int:
        return sum(route.in_flight for route in self._all_routes())

    def _passed_through(self) -> int:
        """Those of them that are connections of machines that are passed through."""
        return sum(route.in_flight for route in self._all_routes() if route.machine.passthrough)

    def _back_connections(self) -> int:
        return sum(route.back_connections for route in self._all_routes())

    def _pollers(self) -> int:
        return sum(route.pollers for route in self._all_routes())

    def _polls(self) -> int:
        return sum(route.polls for route in self._all_routes())

    # ---- what operators do ------------------------------------------------------------------------------------------

    def _route(self, name: str) -> AnyRoute:
        route = self._routes.get(name)
        if route is None:
            raise _no_such_machine(name, self._routes)
        return route

    @property
    def drained(self) -> frozenset[str]:
        """The machines that an operator has drained and not resumed."""
        return frozenset(name for name, route in self._routes.items() if route.drained)

    def is_drained(self, name: str) -> bool:
        """Whether this one is among them. Raises NoSuchNameError."""
        return self._route(name).drained

    def drain_machine(self, name: str) -> None:
        """Sends away whoever comes for this machine, until it is resumed; calls in flight end. Raises NoSuchNameError."""
        route = self._route(name)
        route.drain(MACHINE_DRAINS)
        self._log.info("machine drained", machine=name, exchanges=route.in_flight)

    def resume_machine(self, name: str) -> None:
        """Takes callers again. Raises NoSuchNameError."""
        route = self._route(name)
        if route.drained:
            route.resume()
            self._log.info("machine resumed", machine=name)

    def close_machine(self, name: str) -> int:
        """Cuts all connections of this machine now, calls among them, and those to its Tentacle; how many callers' there were.

        The door stays open. Raises NoSuchNameError.
        """
        closed = self._route(name).cut(_CUT_BY_OPERATOR)
        self._log.info("connections closed", machine=name, closed=closed)
        return closed

    def close_octopus(self, name: str) -> int:
        """The same of an octopus entry, at all machines."""
        if all(octopus.name != name for octopus in self.table.octopus):
            raise _no_such_octopus(name, [octopus.name for octopus in self.table.octopus])
        closed = sum(route.cut(_CUT_BY_OPERATOR, name) for route in self._all_routes())
        self._log.info("connections closed", octopus=name, closed=closed)
        return closed

    # ---- how all of it is -------------------------------------------------------------------------------------------

    def totals(self) -> Load:
        """Of the whole relay: callers who have not said yet which machine they want, and what leaving() has, are in it."""
        waiting = sum(route.waiting for route in self._all_routes())
        back = self._back_connections()
        return Load(self.admission.connections, self._in_flight(), waiting, back, self._pollers(), self._polls())

    def limits(self) -> list[InUse]:
        """How much of each is in use."""
        return list(self.admission.in_use())

    def leaving(self) -> Iterator[tuple[Machine, Load]]:
        """Machines that reloads have removed, where somebody is still there."""
        for route in list(self._leaving):
            if not route.empty:
                yield route.machine, route.load

    # ---- how a machine is: each raises NoSuchNameError --------------------------------------------------------------

    def connections(self, name: str) -> int:
        """Callers' connections."""
        return self._route(name).callers

    def in_flight(self, name: str) -> int:
        """Exchanges that have begun and not ended."""
        return self._route(name).in_flight

    def back_connections(self, name: str) -> int:
        """Connections to its Tentacle."""
        return self._route(name).back_connections

    def idle_back_connections(self, name: str) -> int:
        """Those of them that no exchange uses."""
        return self._route(name).idle_back_connections

    def waiting(self, name: str) -> int:
        """Callers that wait for one of those."""
        return self._route(name).waiting

    def pollers(self, name: str) -> int:
        """Connections of its Tentacle, where that polls the relay."""
        return self._route(name).pollers

    def polls(self, name: str) -> int:
        """Connections with which the relay polls Octopus for it."""
        return self._route(name).polls

    def nodes(self, name: str) -> list[NodePolls]:
        """How each Octopus node is polled for it."""
        return self._route(name).nodes

    def live(self, name: str) -> bool | None:
        """Its Tentacle is there; None where only a call would tell."""
        return self._route(name).live

    def last_failure(self, name: str) -> Failure | None:
        return self._route(name).last_failure

    def last_success(self, name: str) -> float | None:
        """When a reply was last delivered whole, unix, seconds."""
        return self._route(name).last_success

    def expiries(self) -> Iterator[tuple[str, str, float]]:
        """When each identity expires: "machine" or "octopus", whose, and the time (unix, seconds)."""
        for kind, name, identity in self.faces.identities():
            yield kind, name, identity.expires.timestamp()


def _no_such_machine(name: str, known: Iterable[str]) -> NoSuchNameError:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`relay-tentacle status` lists them."
    return NoSuchNameError(f"no machine is named {name}. {hint}")


def _no_such_octopus(name: str, known: list[str]) -> NoSuchNameError:
    near = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.0)
    more = f", and {len(known) - len(near)} more" if len(known) > len(near) else ""
    return NoSuchNameError(f"no octopus entry is named {name}. There are: {', '.join(near) or 'none'}{more}.")
