"""What a configuration file may say: one model per section. What several values must be together is in checks.py.

The descriptions here are those of the JSON schema, and of the tables in docs/configuration.md.
"""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import ConfigDict

from routing import values
from routing.addresses import LOOPBACK, Address
from routing.bounds_schema import LimitsSection, OctopusLimitsSection, RelayLimitsSection, RelayTimeoutsSection, TimeoutsSection
from routing.rule_schema import Allow
from routing.sections import Section, about
from routing.table import NODE_CONNECTIONS

ADMIN: Final = Address(LOOPBACK, 9933)
_OCTOPUS_EXAMPLE = {"name": "production", "thumbprint": "7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1"}
_MACHINE_EXAMPLE = {
    "name": "web01",
    "tentacle": "https://web01.internal:10933",
    "thumbprint": "54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D",
    "port": 11001,
}
_PINNED: Final[dict[str, Any]] = {"oneOf": [{"required": ["thumbprint"]}, {"required": ["thumbprints"]}]}
# What a machine is that has no pin: what may stand beside it, passthrough_checks.py says.
_ON: Final[dict[str, Any]] = {"anyOf": [{"const": True}, {"type": "string", "pattern": "^[Tt][Rr][Uu][Ee]$"}]}
_PASSED_THROUGH: Final[dict[str, Any]] = {"required": ["passthrough"], "properties": {"passthrough": _ON}}
_PINNED_OR_NOT: Final[dict[str, Any]] = {"oneOf": [*_PINNED["oneOf"], _PASSED_THROUGH]}


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
    contact: Annotated[
        values.OptionalContact,
        about(
            "Whom to ask, for those whose call `allow` denies: it stands in Octopus's task log. Up to 200 characters.",
            "the DMZ team, dmz@example.com",
        ),
    ] = None
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
    limits: Annotated[OctopusLimitsSection, about("Of this Octopus.", absent=OctopusLimitsSection())]


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
    model_config = ConfigDict(
        json_schema_extra=_PINNED_OR_NOT
    )  # which way in it has may be said in the main file (front.connect)

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
            "machines at one address have none in common. Needed, but with `passthrough`.",
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
    passthrough: Annotated[
        values.Switch,
        about(
            "TLS is not opened here: Octopus and the Tentacle, which has to listen, meet with their own certificates. So "
            "there is no `thumbprint`, `octopus` or `identity`, and of limits and timeouts there are `limits.connections` and "
            "`timeouts.connect`. Metric `relay_passthrough_connections_total`.",
            "true",
            default="false",
        ),
    ] = False
    subscription: Annotated[
        values.OptionalSubscription,
        about(
            "With `front: polling`, and for a listening Tentacle: the subscription id that Octopus has for this machine. Left "
            "out, the relay makes one and keeps it: `STATE/subscriptions/NAME`. A polling Tentacle's is its own.",
            "poll://web01-at-dc-east/",
        ),
    ] = None
    allow: Annotated[
        Allow,
        about(
            "What may be called, and by whom, in place of all that `defaults` has; see rules.md. An item is a word for "
            "services, or a mapping.",
            "scripts",
            ["capabilities", {"octopus": "production", "from": "10.20.0.0/16", "services": ["scripts", "files"]}],
        ),
    ] = ()
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
    allow: Annotated[
        Allow,
        about(
            "What may be called, and by whom, of every machine without an `allow` of its own; see rules.md. Left out: every "
            "service, by each machine's octopus entries.",
            ["capabilities", "scripts", "files"],
        ),
    ] = ()
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
    ] = []  # noqa: RUF012 - pydantic gives each its own
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
