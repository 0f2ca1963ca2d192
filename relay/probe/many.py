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


def jobs(table: Table, store: IdentityStore, names: Sequence[str], octopus: str | None) -> list[Job]:
    """A probe for each of these machines, or for all where no name is given, and for each of its octopus entries or this one.

    A machine that is passed through has no entries, and one probe. Polling Tentacles cannot be dialled: all means all others.
    Raises NoSuchEntryError for a name that nothing has, or an entry that a machine does not; NotReadyError.
    """
    if octopus is not None:
        identities.entry(table, octopus, "octopus")
    found: list[Job] = []
    shown: dict[str, Identity] = {}
    listening = tuple(machine for machine in table.machines if machine.tentacle)
    for machine in [_machine(table, name) for name in dict.fromkeys(names)] or listening:
        if machine.tentacle is None:
            raise NotReadyError(
                f"machine {machine.name}: its Tentacle polls the relay ({machine.uri}), so nobody can dial it. "
                "`relay-tentacle status` says whether it is there."
            )
        if machine.passthrough and octopus is None:
            found.append(Job(machine, None))
            continue
        entries = [entry for entry in machine.octopus if octopus in (None, entry.name)]
        if not entries and names:
            known = ", ".join(entry.name for entry in machine.octopus) or "none, for it is passed through"
            raise NoSuchEntryError(f"machine {machine.name}: {octopus} may not call it. It has: {known}.")
        for entry in entries:
            if entry.name not in shown:
                shown[entry.name] = _identity(table, store, entry.name)
            found.append(Job(machine, shown[entry.name]))
    if not found:
        if not listening:
            raise NoSuchEntryError(f"{table.source}: no machine has a listening Tentacle, so there is nothing to probe.")
        raise NoSuchEntryError(f"{table.source}: no machine has the octopus entry {octopus}, so there is nothing to probe.")
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
