"""Where polling Tentacles come in, those of all machines: each is served for its own subscription only.

Halibut itself ties neither a role nor a subscription to a certificate (wire.md 2.3). Here ``MX-SUBSCRIBER`` is answered only
where the certificate has a pin of the machine that owns the subscription (10.13); everybody else is closed before MX-SERVER.
Whoever shows a certificate of no machine could be closed behind its preamble (11.3). It gets a moment to say which subscription
it came for, as every Tentacle does at once: the log then says so.
"""

import socket
from collections.abc import Callable
from typing import Final, Protocol

from certs.sharing import Context
from certs.thumbprint import Thumbprint
from relay.admission import Visit
from relay.backs.poller import PollerConnection, State
from relay.backs.polling import PollingBack
from relay.clock import Timer
from relay.outcomes import RELAY_DRAINS, Refusal, SentAway
from relay.transport.connection import TLSConnection
from relay.transport.loop import Loop
from routing.subscriptions import same_for_all
from routing.table import Machine

UNNAMED: Final = 2.0  # seconds behind its preamble, in which a stranger has to name a subscription
_NOBODY: Final = ""  # the machine of whoever has not said yet what it is


class House(Protocol):
    """What stands behind the entrance: it counts, and it knows the subscriptions."""

    def poller_refused(self, refusal: Refusal, machine: str, peer: str, detail: str) -> None:
        """A caller was turned away, or left. machine: empty where it is not known."""

    def polling_machine(self, certificate: bytes) -> Machine | None:
        """Whose Tentacle polls the relay and has this certificate (DER)."""

    def polling_back(self, subscription: str) -> PollingBack | None:
        """Whose subscription this is, in the spelling of routing.subscriptions; None where no machine has it."""


class PollingEntrance:
    """See above. context gives the TLS context that shows the identity which Tentacles trust; asked for each connection."""

    def __init__(self, loop: Loop, context: Callable[[], Context], house: House) -> None:
        self._loop = loop
        self._context = context
        self._house = house
        self._callers: dict[PollerConnection, Visit] = {}  # until they are identified
        self._strangers: dict[PollerConnection, Timer] = {}  # those of them whose certificate no machine has
        self.barred: SentAway | None = None
        """Why whoever comes is sent away, while that is so."""

    def __len__(self) -> int:
        """How many have not been identified yet."""
        return len(self._callers)

    def enter(self, sock: socket.socket, visit: Visit) -> None:
        """A caller whose ClientHello waits in the socket. Both belong to the entrance from now on."""
        connection = PollerConnection(self._loop.reactor, self, visit.peer, visit.opened)
        connection.link = link = TLSConnection(self._loop, sock, self._context(), connection)
        link.closed = visit.departed
        visit.leave, visit.stays = lambda why: self._send_away(connection, why), link.trusted
        self._callers[connection] = visit
        link.accept(visit.source.name)

    # ---- what connections ask and say -------------------------------------------------------------------------------

    def greeted(self, connection: PollerConnection, certificate: bytes) -> None:
        """It has begun as Halibut does."""
        if self._house.polling_machine(certificate) is None:
            why = "its certificate is of no machine whose Tentacle polls, and it named no subscription"
            self._strangers[connection] = self._loop.reactor.callLater(UNNAMED, connection.refuse, Refusal.UNTRUSTED, why)

    def identified(self, connection: PollerConnection, subscription: str, certificate: bytes) -> PollingBack | None:
        """Whose it is, if it may be served."""
        back = self._house.polling_back(same_for_all(subscription))
        shown = Thumbprint.of(certificate)
        if back is None:
            detail = f"{subscription}: no machine has it; {shown} was shown"
            known = self._house.polling_machine(certificate)
            if known:
                detail += f", the one of machine {known.name}, which has {known.subscription}"
            self._turn_away(connection, Refusal.UNKNOWN_SUBSCRIPTION, known.name if known else _NOBODY, detail)
            return None
        machine = back.machine
        if not connection.shows(machine.thumbprints):
            pins = ", ".join(map(str, machine.thumbprints))
            detail = f"{subscription}: {shown} was shown, and its machine has {pins}"
            self._turn_away(connection, Refusal.NOT_OWNER, machine.name, detail)
            return None
        if refusal := back.refusal():
            self._turn_away(connection, refusal[0], machine.name, f"{subscription}: {refusal[1]}")
            return None
        connection.link.shares(machine.name)
        self._callers[connection].trusted()
        return back

    def _turn_away(self, connection: PollerConnection, refusal: Refusal, machine: str, detail: str) -> None:
        self._house.poller_refused(refusal, machine, connection.peer, detail)
        connection.leave()

    def refused(self, refusal: Refusal, peer: str, detail: str, certificate: bytes | None = None) -> None:
        """Somebody was turned away, or left, before that. Whoever has shown a machine's certificate is its Tentacle."""
        machine = self._house.polling_machine(certificate) if certificate else None
        self._house.poller_refused(refusal, machine.name if machine else _NOBODY, peer, detail)

    def left(self, connection: PollerConnection) -> None:
        self._callers.pop(connection, None)
        timer = self._strangers.pop(connection, None)
        if timer and timer.active():
            timer.cancel()

    @staticmethod
    def _send_away(connection: PollerConnection, why: SentAway) -> None:
        """It is a stranger, and makes room, at once. Where it was refused already, it only lingers."""
        if connection.state is not State.CLOSED:
            connection.refuse(why.refusal, why.detail)
        connection.link.abortConnection()

    # ---- time, and the end ------------------------------------------------------------------------------------------

    def check(self, now: float, identify: float) -> None:
        """Looks for whoever has waited too long; to be called now and then. identify: seconds for all up to the identity."""
        for connection in list(self._callers):
            if now - connection.since > identify:
                connection.refuse(Refusal.IDENTIFY_TIMEOUT, f"not identified within {identify:.0f} s")

    def drain(self, why: SentAway = RELAY_DRAINS) -> None:
        """Whoever is not identified goes. Those that are belong to their backs."""
        for connection in list(self._callers):
            connection.refuse(why.refusal, why.detail)
