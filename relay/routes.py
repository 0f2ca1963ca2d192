"""How a machine is served: by exchanges, or passed through."""

from typing import Protocol

from relay.passthrough import House as PassthroughHouse
from relay.passthrough import PassthroughRoute
from relay.route import House as ExchangeHouse
from relay.route import Route
from relay.transport.loop import Loop
from routing.table import Machine

AnyRoute = Route | PassthroughRoute


class House(ExchangeHouse, PassthroughHouse, Protocol):
    """What stands behind all routes."""


def route_for(loop: Loop, machine: Machine, house: House) -> AnyRoute:
    """A new one of the machine's kind."""
    return PassthroughRoute(loop, machine, house) if machine.passthrough else Route(loop, machine, house)


def can_serve(route: AnyRoute, machine: Machine) -> bool:
    """Whether this one can go on with other settings: those of its own kind."""
    return isinstance(route, PassthroughRoute) == machine.passthrough
