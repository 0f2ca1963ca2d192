"""A poll of an Octopus node as the relay makes it for a machine, up to the word that says yes: MX-SERVER (wire.md 3.3).

It asks for a subscription that no machine has, so that no call can be handed to it and be lost: a node trusts a certificate,
whichever subscription that polls for (wire.md 2.3). The id is always the same one, because Octopus remembers each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from certs.contexts import client_context
from certs.identity import Identity
from certs.sharing import Context
from certs.store import IdentityStore
from relay import identities
from relay.admin.causes import CAUSES
from relay.call import Call
from relay.clock import Reactor, Timer
from relay.errors import StartError
from relay.faces import proxy_of
from relay.fronts.poll import Poll
from relay.lease import Back
from relay.outcomes import NodeTrouble
from relay.probe.many import NotReadyError
from relay.program import command
from relay.transport.loop import Loop
from relay.transport.proxy import Proxy
from routing.addresses import Address
from routing.table import Machine, Octopus, Table

SUBSCRIPTION: Final = "poll://relay-tentacle-probe/"
_HANDSHAKES: Final = 1000  # per second; of callers, and there are none here


@dataclass(frozen=True, slots=True)
class NodeJob:
    """One poll. identity: the machine's, which Octopus has to trust. proxy: through which the node is dialled, if any."""

    machine: Machine
    octopus: Octopus
    node: Address
    identity: Identity
    proxy: Proxy | None


@dataclass(frozen=True, slots=True)
class NodeResult:
    """trouble: None where the node would be polled; otherwise detail says what happened. seconds: all of it took."""

    job: NodeJob
    seconds: float
    trouble: NodeTrouble | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.trouble is None

    @property
    def remedy(self) -> str:
        """What to do."""
        return CAUSES[self.trouble].remedy if self.trouble else ""


def node_jobs(store: IdentityStore, table: Table, machines: Sequence[Machine], octopus: str | None) -> list[NodeJob]:
    """A poll for each of these machines that the relay polls Octopus for, and each node, of this octopus entry or of all.

    Raises NotReadyError.
    """
    proxies = {entry.name: _proxy(entry) for entry in table.octopus if octopus in (None, entry.name)}
    found = []
    for machine in machines:
        for entry in machine.octopus if machine.polled_for else ():
            if entry.nodes and entry.name in proxies:
                identity = _identity(store, table, machine)
                found += [NodeJob(machine, entry, node, identity, proxies[entry.name]) for node in entry.nodes]
    return found


def _proxy(octopus: Octopus) -> Proxy | None:
    try:
        return proxy_of(octopus.proxy) if octopus.proxy else None
    except StartError as error:
        raise NotReadyError(f"octopus entry {octopus.name}: {error}") from error


def _identity(store: IdentityStore, table: Table, machine: Machine) -> Identity:
    entry = identities.entry(table, machine.name, "machine")
    found = identities.look(store, entry)
    if found.identity is None:
        new = command("identity new", table.source)
        raise NotReadyError(found.problem or f"{entry}: its identity was not made yet: `{new}` makes it.")
    return found.identity


async def probe_nodes(
    reactor: Reactor,
    work: Sequence[NodeJob],
    seconds: float,
    parallel: int,
    done: Callable[[NodeResult], None] = lambda _: None,
) -> list[NodeResult]:
    """The results in the order of the jobs. seconds: for each. parallel: how many at once. done: called with each, as it ends.

    Raises certs.errors.CertificateError where OpenSSL refuses an identity. When it is over, nothing of it is left open.
    """
    loop = Loop(reactor, _HANDSHAKES)
    turns = DeferredSemaphore(parallel)

    async def take(job: NodeJob) -> NodeResult:
        visit = _Visit(loop, job, seconds)
        try:
            result = await visit.end
        finally:
            visit.stop()
        done(result)
        return result

    def begin(job: NodeJob) -> "Deferred[NodeResult]":
        return Deferred.fromCoroutine(take(job))

    try:
        return await gatherResults([turns.run(begin, job) for job in work], consumeErrors=True)
    finally:
        loop.stop()


@dataclass
class _Visit:
    """One connection (fronts.poll.Owner). end: called back when it is closed."""

    loop: Loop
    job: NodeJob
    seconds: float
    end: "Deferred[NodeResult]" = field(default_factory=Deferred)

    def __post_init__(self) -> None:
        self.machine = self.job.machine
        self.octopus = self.job.octopus
        self.subscription = SUBSCRIPTION
        self.proxy = self.job.proxy
        self.context: Context = client_context(self.job.identity)
        self.polling = False  # whatever it has, it wants no more
        self._begun = self.loop.reactor.seconds()
        self._open = self._late = False
        self._result: NodeResult | None = None
        self._timer: Timer = self.loop.reactor.callLater(self.seconds, self._too_late)
        self._poll = Poll(self, self.job.node)

    @property
    def back(self) -> Back:
        raise AssertionError("nobody has a request for this subscription")

    def poll_opened(self) -> None:
        self._open = True

    def poll_closed(self) -> None:
        self._open = False
        self._tell()

    def poll_identified(self, poll: Poll) -> None:
        self._end(None, "")
        poll.withdraw()

    def poll_ended(self, poll: Poll, trouble: NodeTrouble | None, detail: str) -> None:
        if self._late:
            trouble = NodeTrouble.SILENT if self._open else NodeTrouble.CONNECT_TIMEOUT
            detail = f"it did not say within {self.seconds:g} s who it is"
        self._end(trouble, detail)
        if not self._open:
            self._tell()

    def ended(self, call: Call) -> None:
        """There is none."""

    def stop(self) -> None:
        """Somebody gives it up."""
        if self._timer.active():
            self._timer.cancel()
        self._poll.stop()

    def _too_late(self) -> None:
        self._late = True
        self._poll.stop()

    def _end(self, trouble: NodeTrouble | None, detail: str) -> None:
        if self._result is None:
            self._result = NodeResult(self.job, self.loop.reactor.seconds() - self._begun, trouble, detail)

    def _tell(self) -> None:
        if self._result is not None and not self.end.called:
            self.end.callback(self._result)
