"""What the values of a configuration must be together. Each check yields its mistakes.

Two rules that could both match are a mistake, never a silent choice (design rule 7). A section with mistakes of its own
has only its good keys here, so each check first asks whether a key is there.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from certs.thumbprint import Thumbprint, ThumbprintError
from routing.addresses import WILDCARDS, overlap, own_hosts
from routing.mistakes import Mistake
from routing.schema import (
    Configuration,
    LimitsSection,
    MachineSection,
    OctopusSection,
    RelayTimeoutsSection,
    Section,
    TimeoutsSection,
)
from routing.table import Limits, RelayTimeouts, Timeouts
from routing.units import show_duration
from routing.yaml_lines import Document, Key

# Design rule 10: `ready` covers these. Where they are not given, they take at most this part of it.
_WITHIN_READY = ("connect", "prove")
_OF_READY = 0.9


def check(configuration: Configuration, document: Document) -> Iterator[Mistake]:
    """All mistakes that take more than one value to see."""
    for name in ("octopus", "machines"):
        yield from _sections(document, name, getattr(configuration, name))
    yield from _octopus_thumbprints(configuration.octopus, document)
    yield from _octopus_names(configuration, document)
    yield from _doors(configuration.machines, document)
    yield from _loops(configuration.machines, document)
    yield from _identities(configuration, document)
    yield from _timeouts(configuration, document)


def pins(section: OctopusSection | MachineSection) -> tuple[Thumbprint, ...]:
    """The thumbprints of an entry, under whichever of the two keys."""
    return section.thumbprints or section.thumbprint


def limits(defaults: LimitsSection, own: LimitsSection) -> Limits:
    """The built-in limits, overridden key by key by the defaults of the file, and then by a machine's own."""
    return replace(replace(Limits(), **given(defaults)), **given(own))


def timeouts(defaults: TimeoutsSection, own: TimeoutsSection) -> Timeouts:
    """The built-in timeouts, overridden like limits. What must be less than `ready` and is not given becomes so."""
    written = {**given(defaults), **given(own)}
    merged = replace(Timeouts(), **written)
    most = merged.ready * _OF_READY
    return replace(merged, **{name: min(getattr(merged, name), most) for name in _WITHIN_READY if name not in written})


def relay_timeouts(section: RelayTimeoutsSection) -> RelayTimeouts:
    """The built-in timeouts of the relay, overridden. A `client_hello` that is not given takes no more than `identify`."""
    merged = replace(RelayTimeouts(), **given(section))
    if "client_hello" in section.model_fields_set:
        return merged
    return replace(merged, client_hello=min(merged.client_hello, merged.identify))


def given(section: Section) -> dict[str, Any]:
    """The keys that the file gives, with their values."""
    return {key: getattr(section, key) for key in section.model_fields_set}


def _sections(document: Document, kind: str, items: Iterable[OctopusSection | MachineSection]) -> Iterator[Mistake]:
    """Of each list: it is not empty, names are there once, and every entry has thumbprints under one key."""
    names: dict[str, int] = {}
    written = document.data.get(kind) if isinstance(document.data, dict) else None
    if written == []:
        yield document.mistake((kind,), "empty", "Write at least one entry.")
    for index, item in enumerate(items):
        if not isinstance(written, list) or not isinstance(written[index], dict):
            continue
        if "name" in item.model_fields_set:
            # Names become file names, and some file systems do not tell upper from lower case.
            first = names.setdefault(item.name.lower(), index)
            if first != index:
                line = document.line((kind, first, "name"))
                yield document.mistake(
                    (kind, index, "name"),
                    f"the name of {kind}[{first}] on line {line}; upper and lower case do not differ",
                    "Give each entry its own name.",
                    item.name,
                )
        keys = [key for key in ("thumbprint", "thumbprints") if key in written[index]]
        if len(keys) == 2:
            line = document.line((kind, index, keys[0]))
            problem = f"given beside thumbprint, on line {line}"
            yield document.mistake((kind, index, keys[1]), problem, "Put all of them into one list, under thumbprints.")
        elif not keys:
            yield document.mistake((kind, index, "thumbprint"), "missing", f"Add it. {ThumbprintError.remedy}")


def _octopus_thumbprints(items: list[OctopusSection], document: Document) -> Iterator[Mistake]:
    owners: dict[Thumbprint, int] = {}
    for index, item in enumerate(items):
        for thumbprint in pins(item):
            first = owners.setdefault(thumbprint, index)
            if first != index:
                line = document.line(("octopus", first, "thumbprints" if items[first].thumbprints else "thumbprint"))
                yield document.mistake(
                    ("octopus", index, "thumbprints" if item.thumbprints else "thumbprint"),
                    f"octopus[{first}] on line {line} has it too: a caller with it could be either",
                    "Give each Octopus its own thumbprint, or make one entry of the two.",
                    str(thumbprint),
                )


def _octopus_names(configuration: Configuration, document: Document) -> Iterator[Mistake]:
    entries = configuration.octopus
    known = [entry.name for entry in entries if "name" in entry.model_fields_set]
    # Where an entry's own name is a mistake, it may be the one that is meant here: one message is enough.
    complete = len(known) == len(entries)
    for index, machine in enumerate(configuration.machines):
        for position, name in enumerate(machine.octopus):
            if name not in known and complete:
                yield document.mistake(
                    document.known(("machines", index, "octopus", position)),
                    "no entry of the section octopus has this name",
                    _nearest(name, known),
                    name,
                )
        if len(entries) > 1 and not _written(document, index, "octopus"):
            yield document.mistake(
                ("machines", index, "octopus"),
                "missing, and there are several entries to choose from",
                f"Add octopus: with one or more of {_some(known)}.",
            )


def _doors(machines: list[MachineSection], document: Document) -> Iterator[Mistake]:
    ports: dict[int, dict[str, int]] = {}
    for index, machine in _having(machines, "port"):
        taken = ports.setdefault(machine.port.port, {})
        own = machine.port.host
        # Thousands of machines may share a port, each on an address of its own: only a wildcard is compared with all.
        hosts = [*taken] if own in WILDCARDS else [own, *WILDCARDS]
        first = min((taken[host] for host in hosts if host in taken and overlap(host, own)), default=None)
        if first is not None:
            line = document.line(("machines", first, "port"))
            yield document.mistake(
                ("machines", index, "port"),
                f"machines[{first}] on line {line} has this door: a caller there could mean either",
                "Give each machine its own port, or its own IP address.",
                str(machine.port).removeprefix(":"),
            )
        taken.setdefault(own, index)


def _loops(machines: list[MachineSection], document: Document) -> Iterator[Mistake]:
    doors = {(machine.port.host, machine.port.port): index for index, machine in _having(machines, "port")}
    for index, machine in _having(machines, "tentacle"):
        port = machine.tentacle.port
        first = next((doors[host, port] for host in own_hosts(machine.tentacle.host) if (host, port) in doors), None)
        if first is not None:
            line = document.line(("machines", first, "port"))
            yield document.mistake(
                ("machines", index, "tentacle"),
                f"the relay's own door of machines[{first}], on line {line}: it would call itself",
                "Write the address of the Tentacle.",
                f"https://{machine.tentacle}",
            )


def _identities(configuration: Configuration, document: Document) -> Iterator[Mistake]:
    folder = document.file.absolute().parent
    state = None
    if "state" in configuration.relay.model_fields_set:
        state = _plain(folder / configuration.relay.state)
    users: dict[Path, int] = {}
    kinds: dict[str, Sequence[OctopusSection | MachineSection]] = {
        "octopus": configuration.octopus,
        "machines": configuration.machines,
    }
    for kind, items in kinds.items():
        for index, item in enumerate(items):
            if item.identity is None:
                continue
            path = _plain(folder / item.identity)
            key: Key = (kind, index, "identity")
            if state is not None and (state / "machines" in path.parents or state / "octopus" in path.parents):
                yield document.mistake(
                    key,
                    "inside the state folder, where the relay keeps the identities that it makes",
                    "Keep provisioned identities elsewhere, or leave the key out to let the relay use its own file.",
                    str(item.identity),
                )
            elif kind == "machines" and (first := users.setdefault(path, index)) != index:
                line = document.line(("machines", first, "identity"))
                yield document.mistake(
                    key,
                    f"machines[{first}] on line {line} has this file: Octopus could not tell the two apart",
                    "Give each machine its own identity.",
                    str(item.identity),
                )


def _timeouts(configuration: Configuration, document: Document) -> Iterator[Mistake]:
    yield from _relay_timeouts(configuration.relay.timeouts, document)
    defaults = configuration.defaults.timeouts
    yield from _ready_is_longest(document, ("defaults", "timeouts"), defaults, timeouts(defaults, TimeoutsSection()))
    for index, machine in enumerate(configuration.machines):
        if machine.timeouts.model_fields_set:
            key = ("machines", index, "timeouts")
            yield from _ready_is_longest(document, key, machine.timeouts, timeouts(defaults, machine.timeouts))


def _ready_is_longest(document: Document, key: Key, section: TimeoutsSection, merged: Timeouts) -> Iterator[Mistake]:
    """Design rule 10: `ready` covers connecting and proving. Reported where one of the two values is given."""
    for name in _WITHIN_READY:
        value: float = getattr(merged, name)
        if value < merged.ready:
            continue
        problem = f"{name} is {show_duration(value)} and ready is {show_duration(merged.ready)}, which must cover it"
        for culprit in (name, "ready"):
            if culprit in section.model_fields_set:
                yield document.mistake((*key, culprit), problem, f"Make {name} less than ready.")
                break


def _relay_timeouts(section: RelayTimeoutsSection, document: Document) -> Iterator[Mistake]:
    merged = relay_timeouts(section)
    if merged.client_hello > merged.identify:
        hello, identify = show_duration(merged.client_hello), show_duration(merged.identify)
        yield document.mistake(
            ("relay", "timeouts", "client_hello"),
            f"client_hello is {hello} and identify is {identify}, which must cover it",
            "Make client_hello at most identify.",
        )


def _having(machines: list[MachineSection], key: str) -> Iterator[tuple[int, MachineSection]]:
    return ((index, machine) for index, machine in enumerate(machines) if key in machine.model_fields_set)


def _written(document: Document, index: int, key: str) -> bool:
    """Whether the machine has this key in the file, right or wrong; yes for one that is no mapping at all."""
    machines = document.data.get("machines") if isinstance(document.data, dict) else None
    return not isinstance(machines, list) or not isinstance(machines[index], dict) or key in machines[index]


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Write one of {_some(known)}."


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")


def _plain(path: Path) -> Path:
    """Without '..' and doubled slashes; symbolic links are not followed: checking a file touches no other."""
    return Path(os.path.normpath(path))
