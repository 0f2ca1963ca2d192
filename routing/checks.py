"""What the values of a configuration must be together; doors are in door_checks.py. Each check yields its mistakes.

Two rules that could both match are a mistake, never a silent choice (design rule 7). A section with mistakes of its own
has only its good keys here, so each check first asks whether a key is there.
"""

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from certs.thumbprint import Thumbprint, ThumbprintError
from routing.bounds_schema import TimeoutsSection
from routing.entries import Declaration, Entry
from routing.merging import PARTS, WITHIN_READY, pins, relay_limits, relay_timeouts, timeouts
from routing.mistakes import Mistake
from routing.schema import MachineSection, OctopusSection
from routing.table import Timeouts
from routing.units import show_duration

_PINS = ("thumbprint", "thumbprints")


def check(declared: Declaration) -> Iterator[Mistake]:
    """All mistakes that take more than one value to see."""
    yield from _no_entries(declared)
    for entries in (declared.octopus, declared.machines):
        yield from _names(entries)
        yield from _thumbprint_keys(entries)
    yield from _octopus_thumbprints(declared.octopus)
    yield from _roles(declared)
    yield from _octopus_names(declared)
    yield from _same_tentacle(declared.machines)
    yield from _identities(declared)
    yield from _relay_limits(declared)
    yield from _timeouts(declared)


def _no_entries(declared: Declaration) -> Iterator[Mistake]:
    """A relay without machines is fine where they are to come from included files: a new site has none yet."""
    document = declared.document
    sections = document.data if isinstance(document.data, dict) else {"machines": None}
    if sections.get("octopus") == []:
        yield document.mistake(("octopus",), "empty", "Write at least one entry.")
    if "include" in sections:
        return
    if "machines" not in sections:
        remedy = "Add machines: and a list of them, or include: machines.d/*.yaml for files that have them."
        yield document.mistake(("machines",), "missing", remedy)
    elif sections["machines"] == []:
        yield document.mistake(("machines",), "empty, and nothing is included", "Write at least one entry.")


def _names(entries: Sequence[Entry[OctopusSection] | Entry[MachineSection]]) -> Iterator[Mistake]:
    """Names become file names, and some file systems do not tell upper from lower case."""
    owners: dict[str, Entry[Any]] = {}
    for entry in entries:
        if not entry.has("name"):
            continue
        first = owners.setdefault(entry.section.name.lower(), entry)
        if first is not entry:
            problem = f"the name of {first.seen_from(entry, 'name')}; upper and lower case do not differ"
            yield entry.mistake("name", problem, "Give each entry its own name.", entry.section.name)


def _thumbprint_keys(entries: Sequence[Entry[OctopusSection] | Entry[MachineSection]]) -> Iterator[Mistake]:
    for entry in entries:
        keys = [key for key in _PINS if key in entry.written]
        if len(keys) == 2:
            line = entry.document.line((*entry.key, "thumbprint"))
            problem = f"given beside thumbprint, on line {line}"
            yield entry.mistake("thumbprints", problem, "Put all of them into one list, under thumbprints.")
        elif not keys and entry.is_mapping and not may_pass_through(entry):
            yield entry.mistake("thumbprint", "missing", f"Add it. {ThumbprintError.remedy}")


def _octopus_thumbprints(entries: list[Entry[OctopusSection]]) -> Iterator[Mistake]:
    owners: dict[Thumbprint, Entry[OctopusSection]] = {}
    for entry in entries:
        for thumbprint in pins(entry.section):
            first = owners.setdefault(thumbprint, entry)
            if first is not entry:
                yield entry.mistake(
                    _pins_key(entry),
                    f"{first.seen_from(entry, *_PINS)} has it too: a caller with it could be either",
                    "Give each Octopus its own thumbprint, or make one entry of the two.",
                    str(thumbprint),
                )


def _roles(declared: Declaration) -> Iterator[Mistake]:
    """Who is trusted as an Octopus is no Tentacle: one certificate in both places is a wrong paste, or a stolen key."""
    owners = {thumbprint: entry for entry in declared.octopus for thumbprint in pins(entry.section)}
    for machine in declared.machines:
        for thumbprint in pins(machine.section):
            octopus = owners.get(thumbprint)
            if octopus:
                yield machine.mistake(
                    _pins_key(machine),
                    f"{octopus.seen_from(machine, *_PINS)} has it: it is of an Octopus, not of a Tentacle",
                    "Write what the Tentacle says: Tentacle.exe show-thumbprint.",
                    str(thumbprint),
                )


def _octopus_names(declared: Declaration) -> Iterator[Mistake]:
    entries = declared.octopus
    known = [entry.section.name for entry in entries if entry.has("name")]
    # Where an entry's own name is a mistake, it may be the one that is meant here: one message is enough.
    complete = len(known) == len(entries)
    for machine in declared.machines:
        for position, name in enumerate(machine.section.octopus):
            if name not in known and complete:
                key = machine.document.known((*machine.key, "octopus", position))
                problem = "no entry of the section octopus has this name"
                yield machine.document.mistake(key, problem, nearest(name, known), name)
        if len(entries) > 1 and machine.is_mapping and "octopus" not in machine.written and not may_pass_through(machine):
            yield machine.mistake(
                "octopus",
                "missing, and there are several entries to choose from",
                f"Add octopus: with one or more of {_some(known)}.",
            )


def _same_tentacle(machines: list[Entry[MachineSection]]) -> Iterator[Mistake]:
    """Two machines at one address with a pin in common are one Tentacle, which would do everything twice."""
    owners: dict[tuple[str, int, Thumbprint], Entry[MachineSection]] = {}
    for machine in machines:
        if not machine.has("tentacle"):
            continue
        address = machine.section.tentacle
        if isinstance(address, str):  # a polling one: see polling_checks
            continue
        for thumbprint in pins(machine.section):
            # A dot at the end of a name changes how it is looked up, not whose it is.
            first = owners.setdefault((address.host.rstrip("."), address.port, thumbprint), machine)
            if first is not machine:
                yield machine.mistake(
                    "tentacle",
                    f"{first.seen_from(machine, 'tentacle')} is this Tentacle: it has this address and thumbprint",
                    "Make one entry of the two: it may have several octopus entries, and both a port and a host.",
                    f"https://{address}",
                )
                break


def _identities(declared: Declaration) -> Iterator[Mistake]:
    folder = declared.document.file.absolute().parent
    relay = declared.main.relay
    state = _plain(folder / relay.state) if "state" in relay.model_fields_set else None
    users: dict[Path, Entry[Any]] = {}
    entries: list[Entry[Any]] = [*declared.octopus, *declared.machines]
    for entry in entries:
        identity = entry.section.identity
        if identity is None:
            if entry.has("identity_password") and "identity" not in entry.written:
                yield entry.mistake(
                    "identity_password",
                    "given without identity",
                    "Add identity: with the file that this password opens. The relay's own identities have none.",
                    str(entry.section.identity_password),
                )
            continue
        path = _plain(folder / identity)
        first = users.setdefault(path, entry)
        if state is not None and (state / "machines" in path.parents or state / "octopus" in path.parents):
            yield entry.mistake(
                "identity",
                "inside the state folder, where the relay keeps the identities that it makes",
                "Keep provisioned identities elsewhere, or leave the key out to let the relay use its own file.",
                str(identity),
            )
        elif first is not entry and entry.key[0] == "machines":
            # Two octopus entries may share one: their Tentacles then see the same Octopus.
            both = first.key[0] == "machines"
            why = "Octopus could not tell the two apart" if both else "who trusts a Tentacle with it would trust an Octopus"
            problem = f"{first.seen_from(entry, 'identity')} has this file: {why}"
            yield entry.mistake("identity", problem, "Give each machine its own identity.", str(identity))


def _timeouts(declared: Declaration) -> Iterator[Mistake]:
    yield from _relay_timeouts(declared)
    defaults = declared.main.defaults.timeouts
    whole = declared.entry("defaults", declared.main.defaults)
    yield from _ready_is_longest(whole, defaults, timeouts(defaults, TimeoutsSection()))
    for machine in declared.machines:
        own = machine.section.timeouts
        if own.model_fields_set and not machine.section.passthrough:
            yield from _ready_is_longest(machine, own, timeouts(defaults, own))


def _ready_is_longest(entry: Entry[Any], section: TimeoutsSection, merged: Timeouts) -> Iterator[Mistake]:
    """Design rule 10: `ready` covers connecting and proving. Reported where one of the two values is given."""
    for name in WITHIN_READY:
        value: float = getattr(merged, name)
        if value < merged.ready:
            continue
        problem = f"{name} is {show_duration(value)} and ready is {show_duration(merged.ready)}, which must cover it"
        for culprit in (name, "ready"):
            if culprit in section.model_fields_set:
                yield entry.mistake(("timeouts", culprit), problem, f"Make {name} less than ready.")
                break


def _relay_limits(declared: Declaration) -> Iterator[Mistake]:
    section = declared.main.relay.limits
    merged = relay_limits(section)
    for part, whole in PARTS.items():
        if getattr(merged, part) > getattr(merged, whole):
            yield declared.document.mistake(
                ("relay", "limits", part),
                f"{part} is {getattr(merged, part)} and {whole} is {getattr(merged, whole)}, which must cover it",
                f"Make {part} at most {whole}.",
            )


def _relay_timeouts(declared: Declaration) -> Iterator[Mistake]:
    merged = relay_timeouts(declared.main.relay.timeouts)
    if merged.client_hello > merged.identify:
        hello, identify = show_duration(merged.client_hello), show_duration(merged.identify)
        yield declared.document.mistake(
            ("relay", "timeouts", "client_hello"),
            f"client_hello is {hello} and identify is {identify}, which must cover it",
            "Make client_hello at most identify.",
        )


def may_pass_through(entry: Entry[Any]) -> bool:
    """Whether it is a machine that is passed through, and so has no pins; or may be, where the value of the key is wrong."""
    section = entry.section
    if not isinstance(section, MachineSection) or "passthrough" not in entry.written:
        return False
    return section.passthrough or not entry.has("passthrough")


def _pins_key(entry: Entry[OctopusSection] | Entry[MachineSection]) -> str:
    return "thumbprints" if entry.section.thumbprints else "thumbprint"


def nearest(name: str, known: list[str]) -> str:
    """What to write instead of a name that is not known."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Write one of {_some(known)}."


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")


def _plain(path: Path) -> Path:
    """Without '..' and doubled slashes; symbolic links are not followed: checking a file touches no other."""
    return Path(os.path.normpath(path))
