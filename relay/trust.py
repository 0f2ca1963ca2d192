"""Which Tentacles trust an identity: each is dialled with it, as the relay dials them, up to the word that says yes.

A Tentacle that trusts nobody of that certificate closes without a byte, and so does one that is stopping or full (wire.md 1.7).
So where it closes, it is asked again with the identity in use: only if it takes that one, the answer is no for certain.

Nobody can ask a polling Tentacle. The running relay knows whether it accepts the identity in use, and whether it has refused
it, as one does that was told of the next already.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults

from certs.contexts import client_context
from certs.identity import Identity
from certs.sharing import Context
from relay.backs.connection import BackConnection, State
from relay.clock import Reactor, Timer
from relay.halibut.events import Part
from relay.lease import Close
from relay.outcomes import Outcome, Refusal
from relay.transport.loop import Loop
from routing.table import Machine, Table

AT_ONCE: Final = 20  # Tentacles that are asked at the same time
_HANDSHAKES: Final = 1000  # per second; of callers, and there are none here


@dataclass(frozen=True, slots=True)
class Trust:
    """What one machine's Tentacle said. trusts: None where it cannot be known; detail: why it is not yes, in words."""

    machine: Machine
    trusts: bool | None
    outcome: Outcome | None = None
    detail: str = ""


def machines_of(table: Table, octopus: str) -> list[Machine]:
    """The machines whose Tentacles see the identity of this octopus entry."""
    at_back = table.back_octopus.name if table.back_octopus else None
    return [
        machine
        for machine in table.machines
        if (octopus in (entry.name for entry in machine.octopus) if machine.tentacle else octopus == at_back)
    ]


def told_by_relay(trusts: Iterable[Trust], machines: Mapping[str, dict[str, Any]] | None) -> list[Trust]:
    """The same, and of polling Tentacles what the running relay knows. machines: by name, as in docs/json/status.json."""
    return [each if each.machine.tentacle else replace(each, detail=_polls(each.machine.name, machines)) for each in trusts]


def _polls(name: str, machines: Mapping[str, dict[str, Any]] | None) -> str:
    if machines is None:
        return "it polls the relay, and cannot be asked; no relay runs here that could say whether it is there"
    told = machines.get(name)
    if told is None:
        return "it polls the relay, and cannot be asked; the running relay does not know this machine yet"
    if told["live"]:
        return f"it polls the relay with {told['pollers']} connections, so it trusts the identity in use; no other can be tried"
    failure = told["last_failure"]
    if failure and failure["kind"] == "refusal" and failure["word"] == Refusal.CERTIFICATE_REFUSED.value:
        return "it is away, for it has refused the identity in use: it may have been told of this one already"
    return "it polls the relay, and is away"


async def who_trusts(
    reactor: Reactor,
    machines: Iterable[Machine],
    asked: Identity,
    in_use: Identity,
    progress: Callable[[Trust], None] = lambda trust: None,
) -> list[Trust]:
    """One for each machine, in their order; progress is called with each as it becomes known.

    Nothing is left open when it is over. Raises certs.errors.CertificateError where OpenSSL refuses an identity.
    """
    contexts = client_context(asked), client_context(in_use)
    loop = Loop(reactor, _HANDSHAKES)
    waiting = list(enumerate(machines))
    found: dict[int, Trust] = {}

    async def work() -> None:
        while waiting:
            index, machine = waiting.pop(0)
            found[index] = await _ask(loop, machine, contexts)
            progress(found[index])

    try:
        await gatherResults([Deferred.fromCoroutine(work()) for _ in range(min(AT_ONCE, len(waiting)))], consumeErrors=True)
    finally:
        loop.stop()
    return [found[index] for index in sorted(found)]


async def _ask(loop: Loop, machine: Machine, contexts: tuple[Context, Context]) -> Trust:
    if machine.tentacle is None:
        return Trust(machine, None, None, "its Tentacle polls the relay, and cannot be asked")
    outcome, detail = await _Visit(loop, machine, contexts[0]).end
    if outcome is None:
        return Trust(machine, True)
    if outcome is not Outcome.NOT_TRUSTED:
        return Trust(machine, None, outcome, detail)
    other, _ = await _Visit(loop, machine, contexts[1]).end
    if other is None:
        return Trust(machine, False, outcome, "it trusts the identity in use, and not this one yet")
    if other is Outcome.NOT_TRUSTED:
        return Trust(machine, False, outcome, "it closes on the identity in use, too: it trusts neither, or is stopping")
    return Trust(machine, None, outcome, "it closed, and could not be asked a second time")


class _Visit:
    """One connection to a Tentacle, up to its identity. end: the outcome of a failure and its detail, or (None, "")."""

    def __init__(self, loop: Loop, machine: Machine, context: Context) -> None:
        self.end: Deferred[tuple[Outcome | None, str]] = Deferred()
        self._timer: Timer = loop.reactor.callLater(machine.timeouts.ready, self._late)
        self._connection = BackConnection(loop, machine, context, self, machine.timeouts.connect)

    def connection_ready(self, connection: BackConnection) -> None:
        """It trusts us. Nothing is asked of it: a connection that gets no request is closed."""
        self._over(None, "")

    def connection_lost(self, connection: BackConnection, before: State, outcome: Outcome, detail: str) -> None:
        self._over(outcome, detail)

    def connection_part(self, connection: BackConnection, part: Part) -> None:
        """After its identity a Tentacle waits for a request; whatever comes is not looked at any more."""

    def connection_body(self, connection: BackConnection, count: int, done: Callable[[], None]) -> None:
        """As above."""

    def connection_closing(self, connection: BackConnection) -> None:
        """Only of a paused connection, and this one never is."""

    def _late(self) -> None:
        self._over(Outcome.READY_TIMEOUT, "it did not say within `ready` who it is")

    def _over(self, outcome: Outcome | None, detail: str) -> None:
        """Closes it, and tells when it is closed: the FIN of a Tentacle that trusts us may take its time."""
        if self._timer.active():
            self._timer.cancel()
        self._connection.close(Close.FIN)
        link = self._connection.link
        if link is None or link.gone:
            self.end.callback((outcome, detail))
        else:
            link.closed = lambda: self.end.callback((outcome, detail))
