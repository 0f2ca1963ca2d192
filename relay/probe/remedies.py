"""What to do about each cause: one or two sentences, with the command or the line of the configuration that it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from certs.thumbprint import Thumbprint
from relay.probe.result import Cause
from relay.probe.shown import Kind, Shown
from routing.table import Machine

_FIREWALL: Final = "A firewall that rejects looks the same."


@dataclass(frozen=True, slots=True)
class Situation:
    """ours: the thumbprint of the identity that the Tentacle was shown, if one was. shown: its certificate, if one came.

    known: whose that is.
    """

    machine: Machine
    ours: Thumbprint | None
    shown: Shown | None = None
    known: str = ""

    def place(self, *keys: str) -> str:
        """Where the machine declares this, in brackets behind a space; empty for a machine that no file declares."""
        place = self.machine.places.of(*keys)
        return f" ({place})" if place.line else ""

    @property
    def address(self) -> str:
        """What is called, and where that is declared."""
        return f"{self.machine.tentacle}{self.place('tentacle')}"


def remedy(cause: Cause, situation: Situation) -> str:
    """What to do."""
    return _REMEDIES[cause](situation)


def _resolve(it: Situation) -> str:
    return f"Correct the name in `tentacle`{it.place('tentacle')}, or add it to DNS or /etc/hosts of this host."


def _resolver(it: Situation) -> str:
    return "Look at the name servers of this host (/etc/resolv.conf), or write the IP address in `tentacle`."


def _refused(it: Situation) -> str:
    return f"Start the Tentacle's service there, or correct the address {it.address}. {_FIREWALL}"


def _unreachable(it: Situation) -> str:
    return f"There is no way from this host to {it.address}: look at its routes and firewalls, or correct the address."


def _dropped(it: Situation) -> str:
    return (
        f"Allow TCP from this host to {it.machine.tentacle} in the firewalls between the two and on the machine. "
        f"Is the machine up, and is the address right{it.place('tentacle')}?"
    )


def _closed(it: Situation) -> str:
    return (
        f"Restart the Tentacle's service on the machine, and look at its log. If the address {it.address} is one of a load "
        "balancer or a proxy, write the Tentacle's own."
    )


def _silent(it: Situation) -> str:
    return (
        f"If a Tentacle listens at {it.address}, it hangs: restart its service. If something else does, correct the address. "
        "A firewall that looks into TLS can hold it up, too."
    )


def _not_a_tentacle(it: Situation) -> str:
    text = f"Write the address of the Tentacle in `tentacle`{it.place('tentacle')}; its port is 10933 if it was not changed."
    if it.shown and it.shown.kind is Kind.ISSUED:
        text += " If the address is right, a box on the way intercepts TLS: exempt this connection from its inspection."
    return text


def _old_tls(it: Situation) -> str:
    return "The relay needs TLS 1.2 or later: enable it on the machine (Windows: Schannel), or update the Tentacle and .NET."


def _tls(it: Situation) -> str:
    return f"Is it a Tentacle that listens at {it.address}? Its log says how the handshake failed on its side."


def _wrong_certificate(it: Situation) -> str:
    if it.known:
        return f"Write the address of this machine's own Tentacle in `tentacle`{it.place('tentacle')}."
    if it.shown is None or it.shown.kind is Kind.OCTOPUS:
        return f"Write the address of the Tentacle in `tentacle`{it.place('tentacle')}."
    return (
        f"Run `Tentacle show-thumbprint` on the machine. If it prints {it.shown.thumbprint}, its certificate was renewed: "
        f"write that as its thumbprint{it.place('thumbprint', 'thumbprints')}. "
        f"If not, another one answers at {it.address}: correct the address."
    )


def _intercepted(it: Situation) -> str:
    return (
        f"Exempt connections from this host to {it.machine.tentacle} from TLS inspection: pinned certificates cannot pass it. "
        f"Only if `Tentacle show-thumbprint` on the machine prints {it.shown.thumbprint if it.shown else 'this one'} is it the "
        "Tentacle's own."
    )


def _not_trusted(it: Situation) -> str:
    return (
        f"Run on the machine: Tentacle configure --trust {it.ours}; then restart its service (Tentacle service --restart). "
        "Its log names the thumbprints that it turns away."
    )


def _mute(it: Situation) -> str:
    return "The Tentacle hangs or is overloaded: look at the machine's load, and restart the Tentacle's service."


def _slow(it: Situation) -> str:
    return "The Tentacle is busy or hangs: look at the machine's load and the Tentacle's log; try a longer --timeout."


def _gone(it: Situation) -> str:
    return "The Tentacle stopped or failed in the call: look at its log on the machine."


def _error_reply(it: Situation) -> str:
    return "The Tentacle was reached, trusts the relay, and refuses the call: look at its log on the machine."


def _broke_protocol(it: Situation) -> str:
    return (
        f"Is it a Tentacle that listens at {it.address}, with nothing in between? If so, the text above is a defect: of the "
        "Tentacle, or of this relay. Please report it."
    )


def _descriptors(it: Situation) -> str:
    return "Allow more open files in this shell (ulimit -n), or probe fewer machines at once (--parallel)."


_REMEDIES: Final[dict[Cause, Callable[[Situation], str]]] = {
    Cause.RESOLVE: _resolve,
    Cause.RESOLVER: _resolver,
    Cause.REFUSED: _refused,
    Cause.UNREACHABLE: _unreachable,
    Cause.CONNECT_TIMEOUT: _dropped,
    Cause.CLOSED: _closed,
    Cause.SILENT: _silent,
    Cause.NOT_A_TENTACLE: _not_a_tentacle,
    Cause.OLD_TLS: _old_tls,
    Cause.TLS: _tls,
    Cause.WRONG_CERTIFICATE: _wrong_certificate,
    Cause.INTERCEPTED: _intercepted,
    Cause.NOT_TRUSTED: _not_trusted,
    Cause.MUTE: _mute,
    Cause.SLOW: _slow,
    Cause.GONE: _gone,
    Cause.ERROR_REPLY: _error_reply,
    Cause.BROKE_PROTOCOL: _broke_protocol,
    Cause.DESCRIPTORS: _descriptors,
}
