"""What can be said of a polling Tentacle: nobody can dial it, but the running relay knows whether it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.halibut.words import Word
from routing.table import Machine

NOTE = "it polls the relay, so nobody can dial it; whether a call goes all the way, Octopus says in a health check"


class PollerCause(Word):
    """Why a polling Tentacle is not known to be there."""

    NO_RELAY = "no-relay"  # none runs with this state folder, or it cannot be asked
    UNKNOWN = "unknown-machine"  # the running relay does not know the machine
    DRAINED = "machine-drained"
    AWAY = "no-poller"  # no connection of it


@dataclass(frozen=True, slots=True)
class PollerResult:
    """pollers: its connections. cause: None where it is there; otherwise detail says what is so, and remedy what to do."""

    machine: Machine
    pollers: int = 0
    cause: PollerCause | None = None
    detail: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return self.cause is None


def look_at_pollers(machines: Sequence[Machine], told: Mapping[str, dict[str, Any]] | None) -> list[PollerResult]:
    """Of those that have a polling Tentacle. told: what the running relay says of its machines (relay.running.machines)."""
    return [_look_at(machine, told) for machine in machines if machine.tentacle is None]


def _look_at(machine: Machine, told: Mapping[str, dict[str, Any]] | None) -> PollerResult:
    if told is None:
        detail = "no relay runs with this state folder, or it does not answer this user, and nobody else could tell"
        remedy = "Start the relay (`relay-tentacle run`), or run this as root or the relay's user."
        return PollerResult(machine, 0, PollerCause.NO_RELAY, detail, remedy)
    found = told.get(machine.name)
    if found is None:
        remedy = "Run `relay-tentacle reload`, so that the relay takes the configuration as it is now."
        return PollerResult(machine, 0, PollerCause.UNKNOWN, "the running relay does not know this machine", remedy)
    if found["drained"]:
        detail = "an operator has drained it, so that no call is taken for it"
        return PollerResult(machine, found["pollers"], PollerCause.DRAINED, detail, "Run `relay-tentacle resume` when it may.")
    if found["live"]:
        return PollerResult(machine, found["pollers"])
    detail, remedy = "no connection of it polls the relay", _REMEDY
    failure = found["last_failure"]
    if failure and failure["kind"] == "refusal":
        detail += f"; the last thing that is known: {failure['cause']} ({failure['detail']}), {failure['time']}"
        remedy = failure["remedy"] or remedy
    return PollerResult(machine, 0, PollerCause.AWAY, detail, remedy)


_REMEDY = (
    "See that the Tentacle's service runs, that it may connect to back.listen, and that it polls the relay as "
    "`relay-tentacle machines NAME` says; a stranger's subscription id is in the relay's log (`unknown-subscription`)."
)
