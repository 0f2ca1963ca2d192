"""What a configuration file may say: one model per section. What several values must be together is in checks.py.

The descriptions here are those of the JSON schema, and of the tables in docs/configuration.md.
"""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from routing import values
from routing.addresses import LOOPBACK, Address
from routing.table import NODE_CONNECTIONS, Limits, RelayLimits, RelayTimeouts, Timeouts
from routing.units import show_duration, show_size
from routing.values import HOUR, MILLISECOND, MINUTE, duration

ADMIN: Final = Address(LOOPBACK, 9933)
_LATE_BACK = ": a Tentacle drops a connection that is idle for 1 minute, and a call may be lost to it"
_LATE_FRONT = ": Octopus drops a connection that is idle for 9 minutes"
_MAX_ENVELOPE = 2**31 - 1
_OCTOPUS_EXAMPLE = {"name": "production", "thumbprint": "7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1"}
_MACHINE_EXAMPLE = {
    "name": "web01",
    "tentacle": "https://web01.internal:10933",
    "thumbprint": "54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D",
    "port": 11001,
}
_PINNED: Final[dict[str, Any]] = {"oneOf": [{"required": ["thumbprint"]}, {"required": ["thumbprints"]}]}


def about(
    description: str,
    *examples: object,
    default: str | int | None = None,
    absent: "Section | None" = None,
    **more: Any,
) -> Any:
    """What a field means. examples: the first is what a message about a missing one shows. default: as it is written.

    absent: what a section is that is left out, one for all: nobody changes it. more: what the JSON schema says besides, and
    checks.py checks.
    """
    if default is not None:
        more["default"] = default
    shared: dict[str, Any] = {} if absent is None else {"default_factory": lambda: absent}
    return Field(description=description, examples=list(examples) or None, json_schema_extra=more, **shared)


class Section(BaseModel):
    """A mapping in the file. A key that is not declared is a mistake; `model_fields_set` has the keys that were given."""

    # Assignments are validated for the sake of reading.py, which fills a section key by key when some are wrong.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_assignment=True)


class LimitsSection(Section):
    connections: Annotated[
        int | None,
        values.count(10_000),
        about(
            "Connections to its Tentacle at once, for each octopus entry; of a polling Tentacle, those that it may have at the "
            "relay: refusal `pollers`. Where all are busy a caller waits for one to become "
            "free, in order; after `timeouts.ready` its connection is closed before the call: outcome `queue-timeout`, "
            "metric `relay_back_connections`.",
            default=Limits().connections,
        ),
    ] = None
    envelope: Annotated[
        int | None,
        values.size(_MAX_ENVELOPE),
        about(
            "The size of one message when inflated, counted while inflating. Beyond it the connection ends: outcome "
            "`caller-broke` or `tentacle-broke`, with the size in `detail`.",
            default=show_size(Limits().envelope),
        ),
    ] = None
    waiting: Annotated[
        int | None,
        values.count(10_000),
        about(
            "Calls that wait at once for a connection of a polling Tentacle. The next one is closed before the call: outcome "
            "`queue-full`, metric `relay_machine_waiting`.",
            default=Limits().waiting,
        ),
    ] = None


def _default(section: Timeouts | RelayTimeouts, name: str) -> str:
    return show_duration(getattr(section, name))


class TimeoutsSection(Section):
    ready: Annotated[
        values.Ready,
        about(
            "From Octopus's wish to call until the Tentacle is ready: waiting for a connection, proving or dialling it, TLS, "
            "identity. Octopus itself gives up after 60s. Outcomes `ready-timeout`, `queue-timeout`.",
            default=_default(Timeouts(), "ready"),
        ),
    ] = None
    connect: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "Dialling a Tentacle: its name, TCP and TLS. Less than `ready`. Outcome `connect-timeout`.",
            default=_default(Timeouts(), "connect"),
        ),
    ] = None
    prove: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "The answer of a connection that has been idle, before it is used again. Less than `ready`. Where no answer "
            "comes, the same call gets another connection, or a new one.",
            default=_default(Timeouts(), "prove"),
        ),
    ] = None
    back_idle: Annotated[
        float | None,
        duration(MILLISECOND, 55.0, _LATE_BACK),
        about(
            "How long a connection to a Tentacle is kept between calls. Tentacles drop theirs after a minute.",
            default=_default(Timeouts(), "back_idle"),
        ),
    ] = None
    front_idle: Annotated[
        float | None,
        duration(1.0, HOUR, _LATE_FRONT),
        about(
            "How long Octopus may be silent between calls, or after the Tentacle is ready. Octopus drops its own after 9 "
            "minutes. Where a Tentacle was ready: outcome `caller-silent`.",
            default=_default(Timeouts(), "front_idle"),
        ),
    ] = None


class RelayLimitsSection(Section):
    connections: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "Callers at once, polling Tentacles among them. The next one is closed before TLS, and at the CONNECT door "
            "answered before that: refusal `connections`, metric `relay_connections`.",
            default=RelayLimits().connections,
        ),
    ] = None
    handshakes: Annotated[
        int | None,
        values.count(1_000_000),
        about(
            "TLS handshakes with callers that are started per second, no more than a tenth of a second's worth at once. The "
            "next caller waits; where 256 wait, no more are accepted: metrics `relay_handshakes_delayed_total`, "
            "`relay_handshakes_waiting`.",
            default=RelayLimits().handshakes,
        ),
    ] = None


class RelayTimeoutsSection(Section):
    client_hello: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "From a caller's connect to its whole ClientHello, with a CONNECT before it. At most `identify`. Refusal "
            "`hello-timeout`.",
            default=_default(RelayTimeouts(), "client_hello"),
        ),
    ] = None
    identify: Annotated[
        float | None,
        duration(MILLISECOND, MINUTE),
        about(
            "From connect until the caller has said who it is: TLS, preamble, identity. Refusal `identify-timeout`.",
            default=_default(RelayTimeouts(), "identify"),
        ),
    ] = None
    drain: Annotated[
        float | None,
        duration(0.0, HOUR),
        about(
            "How long a stopping relay waits for the calls in flight: outcome `stopped`. Callers meanwhile: refusal "
            "`draining`.",
            default=_default(RelayTimeouts(), "drain"),
        ),
    ] = None


class RelaySection(Section):
    name: Annotated[values.Name, about("The name of this relay, in every line of both logs.", "dc-east")]
    state: Annotated[
        values.FilePath,
        about(
            "The folder of the identities that the relay makes, made with mode 0700; its parent must be there.",
            "/var/lib/relay-tentacle",
        ),
    ]
    access_log: Annotated[values.FilePath, about('A file, or "-" for standard output.', "access.jsonl", default="-")] = Path(
        "-"
    )
    log_level: Annotated[
        values.LogLevel, about("Of the operational log, which goes to standard error.", "info", default="info")
    ] = "info"
    limits: Annotated[RelayLimitsSection, about("Of the whole relay.", absent=RelayLimitsSection())]
    timeouts: Annotated[RelayTimeoutsSection, about("Of the whole relay.", absent=RelayTimeoutsSection())]


_IdentityPassword = Annotated[
    values.OptionalPassword,
    about(
        "Where the password of an encrypted `identity` is: the first line of a file that its owner alone may use, or a "
        "credential of systemd (`LoadCredential=NAME:FILE` of the unit).",
        "credential:web01",
    ),
]


class OctopusSection(Section):
    model_config = ConfigDict(json_schema_extra=_PINNED)

    name: Annotated[values.Name, about("The name of this entry. Upper and lower case do not make two names.", "production")]
    thumbprints: Annotated[
        values.Pins,
        about(
            "The thumbprint of this Octopus. Several while a certificate is being replaced: each of them is good. One "
            "thumbprint belongs to one entry, and to no machine.",
            _OCTOPUS_EXAMPLE["thumbprint"],
        ),
    ] = ()
    thumbprint: Annotated[values.Pins, about("Another word for thumbprints.", _OCTOPUS_EXAMPLE["thumbprint"])] = ()
    identity: Annotated[
        values.OptionalPath,
        about(
            "What the Tentacles of this entry see, if it is not to be the relay's own: a PEM (key and certificate) or a PFX, "
            "outside the state folder.",
            "production.pem",
        ),
    ] = None
    identity_password: _IdentityPassword = None
    nodes: Annotated[
        values.Nodes,
        about(
            "The polling ports of this Octopus's nodes, all of them: a call that is queued at one is seen by no other. The "
            "relay polls each for every machine with `front: polling`. Without a port: 10943.",
            "https://octopus-1:10943",
            ["https://octopus-1:10943", "https://octopus-2:10943"],
        ),
    ] = ()
    node_connections: Annotated[
        int | None,
        values.count(512),
        about(
            "Connections to each node for each machine: so many calls of a node run at once. Metric `relay_polls`.",
            default=NODE_CONNECTIONS,
        ),
    ] = None
    proxy: Annotated[
        values.OptionalProxy,
        about(
            "An HTTP proxy on the way to the nodes, which has to allow CONNECT. Without a port: 80.", "http://proxy.corp:3128"
        ),
    ] = None
    proxy_credentials: Annotated[
        values.OptionalPath,
        about(
            "A file with one line, `user:password`, for the proxy. Others may not use it (`chmod 600`).", "proxy.credentials"
        ),
    ] = None


class BackSection(Section):
    listen: Annotated[
        values.Door,
        about(
            "The door where polling Tentacles come in: the port of `poll-server` and `server-comms`. Each is served for the "
            "subscription of its own machine only. A port alone is of every interface, IPv4 and IPv6.",
            10943,
            "10.0.0.1:10943",
            "[::1]:10943",
        ),
    ]
    octopus: Annotated[
        values.OptionalName,
        about(
            "The octopus entry whose identity all polling Tentacles see at this door, and have to trust. Where there is one "
            "entry only, it may be left out.",
            "production",
        ),
    ] = None


class FrontSection(Section):
    listen: Annotated[
        values.Door,
        about(
            "The shared door. The name that a caller sends (SNI) says which machine is meant: see `machines[].host`. A caller "
            "without one, or with one that no machine has, is closed before a ServerHello. A port alone is of every "
            "interface, IPv4 and IPv6.",
            10933,
            "10.0.0.1:10933",
            "[::1]:10933",
        ),
    ]
    connect: Annotated[
        values.Switch,
        about(
            "Whether callers may also come to `listen` as to an HTTP proxy: Octopus with the relay as the machine's Proxy "
            "sends `CONNECT HOST:PORT`, which says which machine is meant: see `machines[].connect`. Nothing else is let "
            "through.",
            "true",
            default="false",
        ),
    ] = False
    credentials: Annotated[
        values.OptionalPath,
        about(
            "With `connect`: a file with a line `user:password` for each who may use it as a proxy; several while a password "
            "is being replaced. Others may not use the file (`chmod 600`). A reload reads it again. Refusal "
            "`proxy-credentials`.",
            "proxy-users",
        ),
    ] = None


_OF_THIS_MACHINE = "Of this machine. What is not given here is that of `defaults`."


class MachineSection(Section):
    model_config = ConfigDict(json_schema_extra=_PINNED)  # which way in it has may be said in the main file (front.connect)

    name: Annotated[values.Name, about("The name of this machine. Upper and lower case do not make two names.", "web01")]
    tentacle: Annotated[
        values.TentacleAddress,
        about(
            "The address of a listening Tentacle: a name or an IP address (IPv6 in brackets), without a port: 10933. Or the "
            "subscription id of one that polls the relay at `back.listen`, in any case; no two machines have the same one.",
            _MACHINE_EXAMPLE["tentacle"],
            "https://[2001:db8::7]:10933",
            "poll://SQ-7Q2M4Z/",
        ),
    ]
    thumbprint: Annotated[
        values.Pins,
        about(
            "The thumbprint of the Tentacle. Several while its certificate is being replaced: each of them is good. Two "
            "machines at one address have none in common.",
            _MACHINE_EXAMPLE["thumbprint"],
        ),
    ] = ()
    thumbprints: Annotated[values.Pins, about("Another word for thumbprint.", _MACHINE_EXAMPLE["thumbprint"])] = ()
    octopus: Annotated[
        values.Names,
        about(
            "Which octopus entries may call it. Where there is one entry only, it may be left out.",
            "production",
            ["production"],
        ),
    ] = ()
    port: Annotated[
        values.OptionalDoor,
        about(
            "A door of its own. A port alone is of every interface, IPv4 and IPv6. A machine needs `port`, `host`, `front` or, "
            "with `front.connect`, a target, and may have all of them.",
            11001,
            "10.0.0.1:11001",
            "[::1]:11001",
        ),
    ] = None
    host: Annotated[
        values.ServerName,
        about(
            "The name that means this machine at `front.listen`: the host of the URI that Octopus has for it. No wildcards; no "
            "two machines have the same one.",
            "web01.relay.corp",
        ),
    ] = None
    connect: Annotated[
        values.OptionalTarget,
        about(
            "With `front.connect`: the host and port of the URI that Octopus has for this machine, which it asks the relay "
            "for. Without a port: 10933. Left out, it is the address in `tentacle`, where the Tentacle listens. No two "
            "machines have the same one; `none`: nobody comes this way.",
            "web01.internal:10933",
            "none",
        ),
    ] = None
    front: Annotated[
        values.FrontStyle,
        about(
            "The relay polls the `nodes` of the machine's octopus entries for it, as a polling Tentacle would, while its own "
            "Tentacle is there.",
            "polling",
        ),
    ] = None
    subscription: Annotated[
        values.OptionalSubscription,
        about(
            "With `front: polling`, and for a listening Tentacle: the subscription id that Octopus has for this machine. Left "
            "out, the relay makes one and keeps it: `STATE/subscriptions/NAME`. A polling Tentacle's is its own.",
            "poll://web01-at-dc-east/",
        ),
    ] = None
    identity: Annotated[
        values.OptionalPath,
        about(
            "What Octopus sees, if it is not to be the relay's own: a PEM (key and certificate) or a PFX, outside the state "
            "folder. It is of this machine alone.",
            "web01.pfx",
        ),
    ] = None
    identity_password: _IdentityPassword = None
    limits: Annotated[
        LimitsSection, about("Of this machine. What is not given here is that of `defaults`.", absent=LimitsSection())
    ]
    timeouts: Annotated[
        TimeoutsSection, about("Of this machine. What is not given here is that of `defaults`.", absent=TimeoutsSection())
    ]


class DefaultsSection(Section):
    limits: Annotated[LimitsSection, about("Of each machine.", absent=LimitsSection())]
    timeouts: Annotated[TimeoutsSection, about("Of each machine.", absent=TimeoutsSection())]


class AdminSection(Section):
    listen: Annotated[
        values.AdminDoor,
        about(
            "Where metrics and health are served, without TLS and to whoever asks. A port alone is of 127.0.0.1. `none` "
            "switches it off.",
            "127.0.0.1:9933",
            "none",
            default=str(ADMIN),
        ),
    ] = ADMIN


_MACHINES_ABOUT = "The machines: one entry for each Tentacle."


class Configuration(Section):
    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["machines"]}, {"required": ["include"]}]})

    version: Annotated[values.Version, about("The version of this file's format.", 1, default=1)] = 1
    relay: Annotated[RelaySection, about("The relay itself.", {"name": "dc-east", "state": "/var/lib/relay-tentacle"})]
    octopus: Annotated[
        list[OctopusSection],
        about("The Octopus servers that may call, at least one.", [_OCTOPUS_EXAMPLE], minItems=1),
    ]
    # Left out, it is a section without keys. One that is there and empty is a mistake.
    front: Annotated[FrontSection, about("The door that machines share.")] = FrontSection.model_construct()
    back: Annotated[BackSection, about("The door of polling Tentacles.")] = BackSection.model_construct()
    machines: Annotated[
        list[MachineSection],
        about(f"{_MACHINES_ABOUT} It may be left out, or be empty, where there is an `include`.", [_MACHINE_EXAMPLE]),
    ] = []
    include: Annotated[
        values.Patterns,
        about(
            "Files with more machines, relative to the folder of this file. `*`, `?` and `[...]` may stand in the file's "
            "name: such a pattern may match nothing, a plain name must be there.",
            "machines.d/*.yaml",
            ["machines.d/*.yaml", "kiosks.yaml"],
        ),
    ] = ()
    defaults: Annotated[
        DefaultsSection, about("For every machine that does not say otherwise.", absent=DefaultsSection.model_validate({}))
    ]
    admin: Annotated[AdminSection, about("Metrics and health.", absent=AdminSection())]


class MachinesFile(Section):
    """An included file."""

    machines: Annotated[list[MachineSection], about(f"{_MACHINES_ABOUT} It may be empty.", [_MACHINE_EXAMPLE])]
