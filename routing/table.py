"""The routing table: what the operator declared, complete and checked. Immutable, and replaced only as a whole.

Durations are seconds (float), sizes are bytes (int).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from certs.store import Provisioned
from certs.thumbprint import Thumbprint
from routing.addresses import Address


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

    connections: to its Tentacle at once, for each octopus entry. envelope: bytes of one envelope when inflated.
    """

    connections: int = 10
    envelope: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Of the whole relay. connections: callers at once. handshakes: TLS handshakes with callers started per second."""

    connections: int = 10_000
    handshakes: int = 1000


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
    """Where an entry is declared, and each of its keys: `keys` has the line of each one that the file gives."""

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
class Octopus:
    """One Octopus server: the thumbprints it may show, and the provisioned identity that its Tentacles see, if any."""

    name: str
    thumbprints: tuple[Thumbprint, ...]
    identity: Provisioned | None
    places: Places = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """One route: callers at its doors, if they are one of `octopus`, reach the Tentacle at `tentacle`.

    It has a `door` of its own, or a `host` (lower case), which is the SNI name that means it on the shared door, or both.
    `thumbprints` are the pins of its Tentacle. `identity` is the provisioned identity that Octopus sees, if any.
    """

    name: str
    tentacle: Address
    thumbprints: tuple[Thumbprint, ...]
    octopus: tuple[Octopus, ...]
    door: Address | None
    identity: Provisioned | None
    limits: Limits
    timeouts: Timeouts
    host: str | None = None
    places: Places = field(default=NOWHERE, compare=False, repr=False)

    def octopus_of(self, der: bytes) -> Octopus | None:
        """Which of the machine's octopus entries has this certificate (DER). None: deny (design rule 7)."""
        for octopus in self.octopus:
            if any(thumbprint.matches(der) for thumbprint in octopus.thumbprints):
                return octopus
        return None


@dataclass(frozen=True, slots=True)
class Table:
    """Everything in one configuration. Names of machines and of octopus entries are unique, and so are doors.

    source: the main file. front: the shared door, where the SNI name says which machine is meant. admin: where metrics and
    health are served.
    files: all files that were read, `source` first.
    """

    relay: Relay
    octopus: tuple[Octopus, ...]
    machines: tuple[Machine, ...]
    source: Path
    front: Address | None = None
    admin: Address | None = None
    files: tuple[Path, ...] = ()
    hosts: Mapping[str, Machine] = field(init=False, repr=False, compare=False)
    _by_name: Mapping[str, Machine] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        hosts = {machine.host: machine for machine in self.machines if machine.host}
        object.__setattr__(self, "hosts", MappingProxyType(hosts))
        object.__setattr__(self, "_by_name", {machine.name: machine for machine in self.machines})

    def machine(self, name: str) -> Machine | None:
        return self._by_name.get(name)
