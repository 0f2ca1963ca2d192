"""The relay's own CONNECT door, asked for a machine as Octopus asks its proxy, up to the page behind TLS (wire.md 8, 2.5).

Nobody but Octopus has its key, so no call is made, and the Tentacle hears nothing of it: whether the relay reaches that is what
`calling` finds out.
"""

from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred

from certs.thumbprint import Thumbprint
from relay.halibut.words import Word
from relay.peers.dialling import Dial
from relay.peers.errors import ConnectingError, EndedError, PeerError, ProxyError
from relay.peers.tls import anonymous
from relay.peers.tunnel import SilentProxyError, WebProxy
from relay.peers.wire import Wire
from relay.probe.connecting import TIMES
from relay.probe.page import QUESTION, Page, judge, whole_answer
from routing.addresses import Address

_UNKNOWN_TARGET: Final = 403
_CREDENTIALS: Final = 407


class Knock(Word):
    """What came of it. Each value is the word that operators see."""

    FINE = "fine"
    UNREACHABLE = "unreachable"  # no connection to the door
    NO_PROXY = "no-proxy"  # what listens there does not answer as the CONNECT door does
    UNKNOWN_TARGET = "unknown-target"
    PROXY_CREDENTIALS = "proxy-credentials"
    REFUSED = "refused"  # another answer than 200
    CLOSED = "closed"  # behind its 200
    WRONG_CERTIFICATE = "wrong-certificate"  # not the identity of the machine
    NO_PAGE = "no-page"  # TLS, and nothing behind it
    SILENT = "silent"  # not in time


_REMEDIES: Final = {
    Knock.FINE: "",
    Knock.UNREACHABLE: "See that the relay runs (`relay-tentacle status`), its host and port, and the firewalls on the way.",
    Knock.NO_PROXY: "See what listens there. If it is the relay, let it load front.connect: true: `relay-tentacle reload`.",
    Knock.UNKNOWN_TARGET: "Reload the relay, if this target is new in the configuration: `relay-tentacle reload`.",
    Knock.PROXY_CREDENTIALS: "Reload the relay, if front.credentials has changed: `relay-tentacle reload`.",
    Knock.REFUSED: "See the relay's log: `caller refused` has the reason.",
    Knock.CLOSED: "The machine is drained, or passed through to a Tentacle that is not there, or the relay is full or "
    "draining: see `relay-tentacle status` and the relay's log.",
    Knock.WRONG_CERTIFICATE: "Another relay answers, or this one has yet to load an identity: `relay-tentacle reload`.",
    Knock.NO_PAGE: "See the relay's log: `caller refused` has the reason.",
    Knock.SILENT: "See that nothing on the way drops what is sent, and whether the relay's host is overloaded.",
}


@dataclass(frozen=True, slots=True)
class DoorResult:
    """target: what was asked for. door: where. expected, shown: the identity of the machine, and what came, where it did."""

    machine: str
    target: Address
    door: Address
    knock: Knock
    detail: str
    seconds: float
    expected: Thumbprint | None
    shown: str | None

    @property
    def ok(self) -> bool:
        return self.knock is Knock.FINE

    @property
    def remedy(self) -> str:
        """What to do; empty where all is well."""
        return _REMEDIES[self.knock]


async def knock(
    reactor: Any, machine: str, target: Address, proxy: WebProxy, expected: Thumbprint | None, seconds: float
) -> DoorResult:
    """Asks once. expected: None where the identity is not known. When it is over, nothing of it is left open."""
    begun = reactor.seconds()
    asking = Deferred.fromCoroutine(_ask(reactor, target, proxy, expected))
    timer = reactor.callLater(seconds, asking.cancel)
    try:
        found, detail, shown = await asking
    except CancelledError:
        if timer.active():
            raise
        found, detail, shown = Knock.SILENT, f"not done within {seconds:g} s", None
    finally:
        if timer.active():
            timer.cancel()
    door = Address(proxy.host, proxy.port)
    return DoorResult(machine, target, door, found, detail, reactor.seconds() - begun, expected, shown)


async def _ask(reactor: Any, target: Address, proxy: WebProxy, expected: Thumbprint | None) -> tuple[Knock, str, str | None]:
    try:
        wire = await Dial(reactor, reactor, TIMES, lambda _: None).open(anonymous(target.host), target.host, target.port, proxy)
    except ProxyError as error:
        known = {_UNKNOWN_TARGET: Knock.UNKNOWN_TARGET, _CREDENTIALS: Knock.PROXY_CREDENTIALS}
        return known.get(error.status, Knock.REFUSED), f"it answered {error.status} {error.reason}", None
    except PeerError as error:
        return Knock.NO_PROXY, str(error), None
    except ConnectingError as error:
        cause = error.__cause__
        ended = Knock.CLOSED if isinstance(cause, EndedError) else Knock.UNREACHABLE
        return (Knock.SILENT if isinstance(cause, SilentProxyError) else ended), str(cause or error), None
    try:
        return await _look(wire, expected)
    finally:
        wire.finish()
        await wire.ended()


async def _look(wire: Wire, expected: Thumbprint | None) -> tuple[Knock, str, str | None]:
    shown = wire.thumbprint
    if expected is not None and shown != str(expected):
        return Knock.WRONG_CERTIFICATE, f"it showed {shown}, and the machine has {expected}", shown
    try:
        wire.send(QUESTION)
        page, _ = judge(await wire.receive(whole_answer()))
    except (EndedError, PeerError) as error:
        return Knock.NO_PAGE, str(error), shown
    if page is not Page.TENTACLE:
        return Knock.NO_PAGE, f"behind TLS there is {page.value}", shown
    return Knock.FINE, "", shown
