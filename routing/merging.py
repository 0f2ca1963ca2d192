"""What an entry says in the end: its own keys, the defaults of the file, and the built-in ones."""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from certs.thumbprint import Thumbprint
from routing.bounds_schema import (
    LimitsSection,
    OctopusLimitsSection,
    RelayLimitsSection,
    RelayTimeoutsSection,
    TimeoutsSection,
)
from routing.schema import MachineSection, OctopusSection
from routing.sections import Section
from routing.table import Limits, OctopusLimits, RelayLimits, RelayTimeouts, Timeouts

# Design rule 10: `ready` covers these. Where they are not given, they take at most this part of it.
WITHIN_READY: Final = ("connect", "prove")
_OF_READY = 0.9
_LEFT_TO_OTHERS: Final = 10
PARTS: Final = {  # limits of the relay that another one covers
    "exchanges": "connections",
    "strangers": "connections",
    "source_strangers": "strangers",
    "source_handshakes": "handshakes",
}
_KEPT: Final = 64  # ways in which machines differ from each other: most of 10 000 do not, and share one object
_Items = tuple[tuple[str, Any], ...]


def pins(section: OctopusSection | MachineSection) -> tuple[Thumbprint, ...]:
    """The thumbprints of an entry, under whichever of the two keys."""
    return section.thumbprints or section.thumbprint


def limits(defaults: LimitsSection, own: LimitsSection) -> Limits:
    """The built-in limits, overridden key by key by the defaults of the file, and then by a machine's own."""
    return _limits(_items({**given(defaults), **given(own)}))


@lru_cache(_KEPT)
def _limits(written: _Items) -> Limits:
    return replace(Limits(), **dict(written))


def relay_limits(section: RelayLimitsSection) -> RelayLimits:
    """The built-in limits of the relay, overridden. One that is not given takes no more than what must cover it."""
    written = given(section)
    merged = replace(RelayLimits(), **written)
    for part, whole in PARTS.items():
        if part not in written:
            most = getattr(merged, whole) // (2 if part == "strangers" else 1)  # the other half is for identified callers
            merged = replace(merged, **{part: max(1, min(getattr(merged, part), most))})
    return merged


def octopus_limits(relay: RelayLimits, own: OctopusLimitsSection, entries: int) -> OctopusLimits:
    """Those of the relay where they are not given; of several entries, each leaves the others a tenth."""

    def most(limit: int) -> int:
        return limit if entries == 1 else max(1, limit - limit // _LEFT_TO_OTHERS)

    return replace(OctopusLimits(most(relay.connections), most(relay.exchanges)), **given(own))


def timeouts(defaults: TimeoutsSection, own: TimeoutsSection) -> Timeouts:
    """The built-in timeouts, overridden like limits. What must be less than `ready` and is not given becomes so."""
    return _timeouts(_items({**given(defaults), **given(own)}))


@lru_cache(_KEPT)
def _timeouts(items: _Items) -> Timeouts:
    written = dict(items)
    merged = replace(Timeouts(), **written)
    most = merged.ready * _OF_READY
    return replace(merged, **{name: min(getattr(merged, name), most) for name in WITHIN_READY if name not in written})


def relay_timeouts(section: RelayTimeoutsSection) -> RelayTimeouts:
    """The built-in timeouts of the relay, overridden. A `client_hello` that is not given takes no more than `identify`."""
    merged = replace(RelayTimeouts(), **given(section))
    if "client_hello" in section.model_fields_set:
        return merged
    return replace(merged, client_hello=min(merged.client_hello, merged.identify))


def _items(written: dict[str, Any]) -> _Items:
    return tuple(sorted(written.items()))


def given(section: Section) -> dict[str, Any]:
    """The keys that the file gives, with their values."""
    return {key: getattr(section, key) for key in section.model_fields_set}
