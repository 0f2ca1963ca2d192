"""Probes of many machines, several at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults

from certs.identity import Identity
from certs.store import IdentityStore
from relay import identities
from relay.identities import NoSuchEntryError
from relay.probe.calling import Whose, nobody, probe
from relay.probe.result import ProbeResult
from relay.program import command
from routing.table import Machine, Table


class NotReadyError(Exception):
    """There is nothing to probe with: an identity was not made yet or cannot be used. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Job:
    """One probe: of a machine, with the identity that its Tentacle sees for one octopus entry; None: it is passed through."""

    machine: Machine
    identity: Identity | None


def asked(table: Table, names: Sequence[str], octopus: str | None) -> list[Machine]:
    """The machines of these names, or all where none is given, that have this octopus entry, if one is given.

    Raises NoSuchEntryError for a name that nothing has, an entry that a machine does not, or where there are none.
    """
    if octopus is not None:
        identities.entry(table, octopus, "octopus")
    machines = [_machine(table, name) for name in dict.fromkeys(names)] or list(table.machines)
    found = [machine for machine in machines if octopus is None or any(entry.name == octopus for entry in machine.octopus)]
    for machine in machines if names else ():
        if machine not in found:
            known = ", ".join(entry.name for entry in machine.octopus) or "none, for it is passed through"
            raise NoSuchEntryError(f"machine {machine.name}: {octopus} may not call it. It has: {known}.")
    if not found:
        missing = f"machine has the octopus entry {octopus}" if octopus else "machine is there"
        raise NoSuchEntryError(f"{table.source}: no {missing}, so there is nothing to probe.")
    return found


def jobs(table: Table, store: IdentityStore, machines: Sequence[Machine], octopus: str | None) -> list[Job]:
    """A probe for each of these machines whose Tentacle listens, and each of its octopus entries or this one.

    A machine that is passed through has no entries, and one probe. Raises NotReadyError.
    """
    found: list[Job] = []
    shown: dict[str, Identity] = {}
    for machine in machines:
        if machine.passthrough:
            found.append(Job(machine, None))
        for entry in machine.octopus if machine.tentacle else ():
            if octopus not in (None, entry.name):
                continue
            if entry.name not in shown:
                shown[entry.name] = _identity(table, store, entry.name)
            found.append(Job(machine, shown[entry.name]))
    return found


def _machine(table: Table, name: str) -> Machine:
    return identities.machine(table, name)


def _identity(table: Table, store: IdentityStore, name: str) -> Identity:
    entry = identities.entry(table, name, "octopus")
    found = identities.look(store, entry)
    if found.identity is None:
        new = command("identity new", table.source)
        raise NotReadyError(found.problem or f"{entry}: its identity was not made yet: `{new}` makes it.")
    return found.identity


async def probe_many(
    reactor: Any,
    work: Sequence[Job],
    seconds: float,
    parallel: int,
    whose: Whose = nobody,
    done: Callable[[ProbeResult], None] = lambda _: None,
) -> list[ProbeResult]:
    """The results in the order of the jobs. seconds: for each. parallel: how many at once. done: called with each, as it ends.

    Raises what `probe` does.
    """
    turns = DeferredSemaphore(parallel)

    async def take(job: Job) -> ProbeResult:
        result = await probe(reactor, job.machine, job.identity, seconds, whose)
        done(result)
        return result

    def begin(job: Job) -> "Deferred[ProbeResult]":
        return Deferred.fromCoroutine(take(job))

    try:
        return await gatherResults([turns.run(begin, job) for job in work], consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
