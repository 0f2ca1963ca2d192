"""From what an `allow` says to the rules of a machine."""

from typing import Any

from routing.rules import Rule, Rules
from routing.schema import DefaultsSection, MachineSection
from routing.services import ALL
from routing.table import Place, Places


def items_of(section: DefaultsSection | MachineSection) -> tuple[Any, ...]:
    """The items that are written in it. A class that is made at run time is nothing to a type checker."""
    return section.allow


def allow_of(defaults: DefaultsSection, own: MachineSection) -> tuple[Any, ...]:
    """The items that hold for a machine: its own, or those of the defaults; none where neither is written."""
    return items_of(own) or items_of(defaults)


def rule(item: Any, place: Place | None = None) -> Rule:
    """One item."""
    return Rule(item.services or (ALL,), item.octopus, getattr(item, "from"), place)


def rules(section: DefaultsSection | MachineSection, places: Places, relay: str, contact: str | None) -> Rules:
    """The rules of an `allow`. relay, contact: who speaks to a caller that is denied, and whom to ask."""
    items = tuple(rule(item, places.of(f"allow[{index}]", "allow")) for index, item in enumerate(items_of(section)))
    return Rules(items, places.of("allow"), relay, contact or "") if items else Rules()
