"""The routing table: what the operator declared, complete and checked. Immutable, and replaced only as a whole.

Durations are seconds (float), sizes are bytes (int).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from certs.store import Provisioned
from certs.thumbprint import Thumbprint
from routing.addresses import Address
from routing.rules import Rules

NODE_CONNECTIONS: Final = 1
NO_RULES: Final = Rules()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of one machine.

    ready: from the caller's identity or NEXT to the relay's answer; covers all of queueing, proving, dialling and
    identifying (design rule 10). connect: dialling the Tentacle. prove: NEXT to PROCEED on a pooled connection. Both are
    less than `ready`: where they are not in the file, nine tenths of it or the default, whichever is less.
    back_idle: how long a connection to the Tentacle is kept between exchanges. front_idle: how long a caller may be
    silent between exchanges.
    """

    ready: float = 45.0
    connect: float = 20.0
    prove: float = 5.0
    back_idle: float = 50.0
    front_idle: float = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one machine.

    connections: to its Tentacle at once, for each octopus entry; from a polling one, for all of them. envelope: bytes of one
    envelope when inflated. waiting: calls of each octopus entry that wait at once for one of those connections. callers: those
    who are identified, at once.
    """

    connections: int = 10
    envelope: int = 256 * 1024 * 1024
    waiting: int = 256
    callers: int = 1000


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Of the whole relay.

    connections: callers at once. exchanges: of callers, at once, those that wait among them. strangers: callers at once who
    have not been identified; source_strangers: of one source address. handshakes: TLS handshakes with callers started per
    second; source_handshakes: of one source address that nobody was identified from. buffered: bytes that wait for their peer.
    """

    connections: int = 10_000
    exchanges: int = 5000
    strangers: int = 5000
    source_strangers: int = 2000
    handshakes: int = 1000
    source_handshakes: int = 50
    buffered: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OctopusLimits:
    """Of one Octopus. callers: identified ones, at once. exchanges: of those, at once, those that wait among them."""

    callers: int = 10_000
    exchanges: int = 5000


@dataclass(frozen=True, slots=True)
class RelayTimeouts:
    """Of the whole relay.

    client_hello: from a caller's connect to its whole ClientHello. identify: from connect to identified, all of TLS,
    preamble and identity. drain: how long a stopping relay waits for the exchanges under way.
    """

    client_hello: float = 10.0
    identify: float = 60.0
    drain: float = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is declared. line: from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Places:
    """Where an entry is declared, and each of its keys: `keys` has the line of each one that the file gives.

    Keys of sections within it are there with the section's name in front: "limits.connections".
    """

    file: Path
    line: int
    keys: Mapping[str, int] = field(default_factory=dict)

    def of(self, *keys: str) -> Place:
        """The place of the first of these keys that the file gives; else that of the entry."""
        return Place(self.file, next((self.keys[key] for key in keys if key in self.keys), self.line))


NOWHERE: Final = Places(Path(), 0)


@dataclass(frozen=True, slots=True)
class Relay:
    """The relay itself. `state` holds the identities; an `access_log` of None is standard output."""

    name: str
    state: Path
    access_log: Path | None
    log_level: str
    limits: RelayLimits
    timeouts: RelayTimeouts


@dataclass(frozen=True, slots=True)
class HttpProxy:
    """An HTTP proxy on the way to an Octopus's nodes. credentials: the file of them, if it wants any."""

    address: Address
    credentials: Path | None = None


@dataclass(frozen=True, slots=True)
class ConnectDoor:
    """At the shared door, callers may come as to an HTTP proxy. credentials: the file of its users, if it wants any."""

    credentials: Path | None = None


@dataclass(frozen=True, slots=True)
class Octopus:
    """One Octopus server: the thumbprints it may show, and the provisioned identity that its Tentacles see, if any.

    nodes: where the relay polls it, for machines whose front polls, with `node_connections` connections to each node and
    machine, through `proxy` if there is one.
    """

    name: str
    thumbprints: tuple[Thumbprint, ...]
    identity: Provisioned | None
    nodes: tuple[Address, ...] = ()
    node_connections: int = NODE_CONNECTIONS
    proxy: HttpProxy | None = None
    limits: OctopusLimits = field(default=OctopusLimits(), compare=False)  # no reason to make anything anew in a reload
    places: Places = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """One route: callers at its doors, if they are one of `octopus`, reach the Tentacle at `tentacle`.

    Where `tentacle` is None, the Tentacle polls the relay, with `subscription` (in the spelling of routing.subscriptions).
    It has a `door` of its own, or a `host` (lower case), which is the SNI name that means it on the shared door; or it is
    `polled_for`: the relay polls the nodes of its octopus entries, with `subscription` too. That is None for a listening
    Tentacle whose id the relay makes and keeps. Or it has a `target`, the host and port (in the spelling of routing.targets)
    that means it at the CONNECT door. All of these ways in may stand together.
    `thumbprints` are the pins of its Tentacle. `identity` is the provisioned identity that Octopus sees, if any.
    With `passthrough` TLS goes through to the Tentacle, and there are no `octopus`, thumbprints or identity.
    `rules` say which calls may be made, and by whom.
    """

    name: str
    tentacle: Address | None
    thumbprints: tuple[Thumbprint, ...]
    octopus: tuple[Octopus, ...]
    door: Address | None
    identity: Provisioned | None
    limits: Limits
    timeouts: Timeouts
    host: str | None = None
    subscription: str | None = None
    polled_for: bool = False
    passthrough: bool = False
    rules: Rules = NO_RULES
    target: Address | None = None
    places: Places = field(default=NOWHERE, compare=False, repr=False)

    @property
    def uri(self) -> str:
        """Its Tentacle, as the configuration has it: https://host:port, or poll://id/."""
        return f"https://{self.tentacle}" if self.tentacle else str(self.subscription)

    @property
    def polls(self) -> int:
        """How many connections to Octopus nodes the relay keeps for it."""
        return sum(len(entry.nodes) * entry.node_connections for entry in self.octopus) if self.polled_for else 0

    def octopus_of(self, der: bytes) -> Octopus | None:
        """Which of the machine's octopus entries has this certificate (DER). None: deny (design rule 7)."""
        return self.octopus_with(lambda thumbprint: thumbprint.matches(der))

    def octopus_with(self, has: Callable[[Thumbprint], bool]) -> Octopus | None:
        """The same, of whoever has a certificate with the thumbprints that `has` says."""
        return next((octopus for octopus in self.octopus if any(map(has, octopus.thumbprints))), None)


@dataclass(frozen=True, slots=True)
class Table:
    """Everything in one configuration. Names of machines and of octopus entries are unique, and so are doors.

    source: the main file. front: the shared door, where the SNI name says which machine is meant. connect: given, a CONNECT
    target says so, too. back: the door where polling
    Tentacles come in, which shows what the Tentacles of `back_octopus` see. admin: where metrics and health are served.
    subscriptions: the machines of polling Tentacles.
    files: all files that were read, `source` first. sections: where the main file has "relay", "front" and "defaults".
    """

    relay: Relay
    octopus: tuple[Octopus, ...]
    machines: tuple[Machine, ...]
    source: Path
    front: Address | None = None
    admin: Address | None = None
    back: Address | None = None
    back_octopus: Octopus | None = None
    connect: ConnectDoor | None = None
    files: tuple[Path, ...] = ()
    sections: Mapping[str, Places] = field(default_factory=dict, repr=False, compare=False)
    hosts: Mapping[str, Machine] = field(init=False, repr=False, compare=False)
    subscriptions: Mapping[str, Machine] = field(init=False, repr=False, compare=False)
    targets: Mapping[Address, Machine] = field(init=False, repr=False, compare=False)
    _by_name: Mapping[str, Machine] = field(init=False, repr=False, compare=False)
    _by_pin: Mapping[bytes, Machine] = field(init=False, repr=False, compare=False)  # of polling Tentacles

    def __post_init__(self) -> None:
        hosts = {machine.host: machine for machine in self.machines if machine.host}
        object.__setattr__(self, "hosts", MappingProxyType(hosts))
        polling = {machine.subscription: machine for machine in self.machines if machine.subscription and not machine.tentacle}
        object.__setattr__(self, "subscriptions", MappingProxyType(polling))
        targets = {machine.target: machine for machine in self.machines if machine.target} if self.connect else {}
        object.__setattr__(self, "targets", MappingProxyType(targets))
        object.__setattr__(self, "_by_name", {machine.name: machine for machine in self.machines})
        pins = {pin.digest: machine for machine in reversed(list(polling.values())) for pin in machine.thumbprints}
        object.__setattr__(self, "_by_pin", pins)

    def polling_machine(self, der: bytes) -> Machine | None:
        """The machine whose polling Tentacle has this certificate (DER); the first, where several have it."""
        return self._by_pin.get(Thumbprint.of(der).digest) or self._by_pin.get(Thumbprint.of(der, "sha256").digest)

    def machine(self, name: str) -> Machine | None:
        return self._by_name.get(name)
