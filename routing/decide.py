"""Who is let in, and to which machine: what the running relay asks, and what `explain` tells.

Default deny: whatever is not declared is Denied (design, rule 7).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from certs.thumbprint import Thumbprint
from routing import targets
from routing.addresses import Address
from routing.mistakes import WrongValueError
from routing.table import Machine, Octopus

# The words are those of relay.outcomes.Refusal.
Reason = Literal["no-name", "unknown-name", "unknown-target", "no-certificate", "untrusted", "not-allowed"]
_SHOWN: Final = 100  # characters of a target that the log shows


@dataclass(frozen=True, slots=True)
class Denied:
    """Nobody is let in. detail: what the caller did, in words for the log."""

    reason: Reason
    detail: str


class Caller(Protocol):
    """Somebody who has shown a certificate."""

    def has(self, pin: Thumbprint) -> bool:
        """Whether it is this one."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The caller as the relay knows it: by the certificate itself (DER)."""

    der: bytes

    def has(self, pin: Thumbprint) -> bool:
        return pin.matches(self.der)

    def __str__(self) -> str:
        return str(Thumbprint.of(self.der))


def judge(machine: Machine, caller: Caller | None, source: str | None = None) -> Octopus | Denied:
    """Which of the machine's octopus entries calls. None: somebody without a certificate.

    source: the caller's IP address; None where it is not known, and for nodes that the relay polls.
    """
    if caller is None:
        return Denied("no-certificate", "it showed no certificate")
    octopus = machine.octopus_with(caller.has)
    if octopus is None:
        return Denied("untrusted", f"it showed {caller}, which is of no Octopus of this machine")
    if not machine.rules.takes(octopus.name, source):
        caller_is = f"octopus {octopus.name}" + (f" from {source}" if source else "")
        return Denied("not-allowed", f"no item of allow is for {caller_is}{machine.rules.where}")
    return octopus


def machine_at(hosts: Mapping[str, Machine], server_name: str) -> Machine | Denied:
    """Which machine a caller at the shared door means. server_name: its SNI name, in lower case; empty: it gave none."""
    name = server_name.removesuffix(".")
    if not name:
        return Denied("no-name", "it did not say by SNI which machine it wants")
    return hosts.get(name) or Denied("unknown-name", f"no machine has the host {name}")


def machine_for(known: Mapping[Address, Machine], target: str) -> Machine | Denied:
    """Which machine a caller at the CONNECT door means. known: machines by their targets; target: as the caller wrote it."""
    try:
        wanted = targets.target(target)
    except WrongValueError as error:
        return Denied("unknown-target", f"it asked for {_shown(target)}: {error.problem}")
    return known.get(wanted) or Denied("unknown-target", f"no machine has the target {wanted}")


def _shown(text: str) -> str:
    """What a caller wrote, in a line of the log, however odd it is."""
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN]) or "nothing"
