"""Single values and keys that are wrong, each with what is said about it."""

from pathlib import Path

import pytest

from routing.load import load
from routing.mistakes import ConfigurationError

A, B = "A" * 40, "B" * 40
HINT = "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."
NAME = "Write up to 64 letters, digits, dots, dashes and underscores, and no dot or dash in front."
URI = "Write https://HOST:PORT, such as https://web01.internal:10933; or poll://ID/, where it polls the relay."
DOOR = "Write a port (11001), or an IP address and a port: 127.0.0.1:11001 or '[::1]:11001'."
DURATION = "Write a number and a unit: 500ms, 30s, 5m, 1m30s or 1h."
SIZE = "Write a whole number of bytes, or one with a unit: 64MiB, 10MB."
PATH = "Write a path; a relative one starts at the folder of this file."
SOURCE = "Write the path of a file whose first line is the password, or credential:NAME, which systemd hands over."
MACHINE_KEYS = (
    "name, tentacle, thumbprint, thumbprints, octopus, port, host, connect, front, passthrough, subscription, allow, identity, "
    "identity_password, limits, timeouts"
)

GOOD = {
    "version": "1",
    "relay.name": "r",
    "relay.state": "/s",
    "octopus.name": "one",
    "octopus.thumbprint": A,
    "machine.name": "web01",
    "machine.tentacle": "https://web01",
    "machine.thumbprint": B,
    "machine.port": "11001",
}


def configuration(changes: dict[str, str | None]) -> str:
    """GOOD with some keys changed, added, or (None) left out; the changed key of each section stands on a line of its own."""
    values = {key: value for key, value in (GOOD | changes).items() if value is not None}

    def section(name: str) -> list[str]:
        return [f"{key.removeprefix(name)}: {value}" for key, value in values.items() if key.startswith(name)]

    lines = [f"{key}: {value}" for key, value in values.items() if "." not in key]
    lines += ["relay:", *("  " + line for line in section("relay."))]
    lines += ["octopus:", "  -", *("    " + line for line in section("octopus."))]
    lines += ["machines:", "  -", *("    " + line for line in section("machine."))]
    return "\n".join(lines) + "\n"


def read(changes: dict[str, str | None], folder: Path) -> list[str]:
    path = folder / "relay.yaml"
    path.write_text(configuration(changes))
    try:
        load(path)
    except ConfigurationError as error:
        return [str(mistake).removeprefix(f"{path}:") for mistake in error.mistakes]
    return []


def test_the_good_one_is_good(tmp_path: Path) -> None:
    assert read({}, tmp_path) == []


BAD: list[tuple[str, str | None, str]] = [
    ("version", "2", "1: version: '2': not a version of this file's format that this relay knows. Write version: 1."),
    (
        "version",
        "one",
        ("1: version: 'one': not a version of this file's format that this relay knows. Write version: 1."),
    ),
    ("version", "", "1: version: empty. Write version: 1."),
    (
        "links",
        "{listen: 10943}",
        "2: links: unknown key. Known here: version, relay, octopus, front, back, machines, include, defaults, admin.",
    ),
    ("machine", "[]", "2: machine: unknown key. Did you mean machines?"),
    ("relay.name", None, "2: relay.name: missing. Add name: dc-east"),
    ("relay.name", "", f"3: relay.name: empty. {NAME}"),
    ("relay.name", "[a]", f"3: relay.name: a list where one value belongs. {NAME}"),
    ("relay.state", None, "2: relay.state: missing. Add state: /var/lib/relay-tentacle"),
    ("relay.state", "~/state", "4: relay.state: '~/state': '~' is not expanded. Write the whole path."),
    ("relay.state", '"a\\0b"', f"4: relay.state: 'a\\x00b': not a path. {PATH}"),
    ("relay.state", '""', f"4: relay.state: '': not a path. {PATH}"),
    (
        "relay.log_level",
        "verbose",
        ("5: relay.log_level: 'verbose': not a log level. Write one of debug, info, warning, error."),
    ),
    ("relay.loglevel", "info", "5: relay.loglevel: unknown key. Did you mean log_level?"),
    (
        "relay.limits",
        "5",
        (
            "5: relay.limits: '5': not a mapping. "
            "Write keys and values below it, each on a line of its own: connections, exchanges, strangers, "
            "source_strangers, handshakes, source_handshakes, buffered."
        ),
    ),
    (
        "relay.limits",
        "{connections: 0}",
        ("5: relay.limits.connections: '0': out of range. Write a number from 1 to 1000000."),
    ),
    (
        "relay.limits",
        "{handshakes: many}",
        ("5: relay.limits.handshakes: 'many': not a whole number. Write a whole number, such as 10."),
    ),
    (
        "relay.timeouts",
        "{drain: 30}",
        ("5: relay.timeouts.drain: '30': a duration without a unit. Write 30s for seconds, or another unit: 500ms, 5m, 1h."),
    ),
    (
        "relay.timeouts",
        "{drain: 2h}",
        ("5: relay.timeouts.drain: '2h': out of range. Write a duration from 0ms to 1h."),
    ),
    (
        "relay.timeouts",
        "{identify: 61s}",
        ("5: relay.timeouts.identify: '61s': out of range. Write a duration from 1ms to 1m."),
    ),
    ("octopus.name", "-x", f"7: octopus[0].name: '-x': not a name. {NAME}"),
    ("octopus.name", "a/b", f"7: octopus[0].name: 'a/b': not a name. {NAME}"),
    ("octopus.thumbprint", "xyz", f"8: octopus[0].thumbprint: 'xyz': not a thumbprint: 3 characters. {HINT}"),
    ("octopus.thumbprint", "", f"8: octopus[0].thumbprint: empty. {HINT} Several go into a list."),
    ("octopus.thumbprint", "[]", f"8: octopus[0].thumbprint: empty. {HINT} Several go into a list."),
    (
        "octopus.thumbprint",
        "{a: b}",
        (f"8: octopus[0].thumbprint: a mapping where a value or a list belongs. {HINT} Several go into a list."),
    ),
    (
        "octopus.thumbprint",
        f"[{A}, {A.lower()}]",
        (f"8: octopus[0].thumbprint: {A} stands in the list twice. Keep one of them."),
    ),
    (
        "octopus.rooms",
        "[https://o:10943]",
        (
            "9: octopus[0].rooms: unknown key. Known here: name, thumbprints, thumbprint, identity, identity_password, nodes, "
            "node_connections, proxy, proxy_credentials, limits."
        ),
    ),
    (
        "octopus.identity_password",
        "credential:a/b",
        f"9: octopus[0].identity_password: 'credential:a/b': not the name of a credential. {SOURCE}",
    ),
    (
        "octopus.identity_password",
        "~/password",
        "9: octopus[0].identity_password: '~/password': '~' is not expanded. Write the whole path.",
    ),
    ("machine.name", None, "11: machines[0].name: missing. Add name: web01"),
    ("machine.name", "x" * 65, f"11: machines[0].name: '{'x' * 59}…': not a name. {NAME}"),
    ("machine.name", "..", f"11: machines[0].name: '..': not a name. {NAME}"),
    ("machine.tentacle", None, "11: machines[0].tentacle: missing. Add tentacle: https://web01.internal:10933"),
    ("machine.tentacle", "web01:10933", f"12: machines[0].tentacle: 'web01:10933': not a URI. {URI}"),
    (
        "machine.tentacle",
        "http://web01",
        (f"12: machines[0].tentacle: 'http://web01': a Tentacle listens for https. {URI}"),
    ),
    (
        "machine.tentacle",
        "poll://sq/",
        (
            "12: machines[0].tentacle: 'poll://sq/': there is no back.listen, the door where polling Tentacles come in. "
            "Add back: {listen: 10943}."
        ),
    ),
    ("machine.thumbprint", f"{A}0", f"13: machines[0].thumbprint: '{A}0': not a thumbprint: 41 characters. {HINT}"),
    ("machine.thumbprint", f"[{A}, G]", f"13: machines[0].thumbprint[1]: 'G': not a thumbprint: 1 character. {HINT}"),
    (
        "machine.port",
        None,
        (
            "11: machines[0].port: missing, and so are host and front. "
            "Add port: 11001, or host: with a name at front.listen, or front: polling."
        ),
    ),
    ("machine.port", "0", f"14: machines[0].port: '0': not a port from 1 to 65535. {DOOR}"),
    ("machine.port", "65536", f"14: machines[0].port: '65536': not a port from 1 to 65535. {DOOR}"),
    (
        "machine.port",
        "localhost:11001",
        (f"14: machines[0].port: 'localhost:11001': the part before the port is not an IP address. {DOOR}"),
    ),
    ("machine.octopus", "[]", "15: machines[0].octopus: empty. Write a list of names from the section octopus."),
    ("machine.octopus", "[one, one]", "15: machines[0].octopus: one stands in the list twice. Keep one of them."),
    (
        "machine.host",
        "web01.relay",
        (
            "15: machines[0].host: 'web01.relay': there is no front.listen, the door where callers name it. "
            "Add front: {listen: 10933}, or give the machine a port."
        ),
    ),
    ("machine.limits", "{envelope: 1TB}", f"15: machines[0].limits.envelope: '1TB': not a size. {SIZE}"),
    (
        "machine.limits",
        "{envelope: 2GiB}",
        ("15: machines[0].limits.envelope: '2GiB': out of range. Write a size from 1 to 2147483647 bytes."),
    ),
    (
        "machine.limits",
        "{envelope: 0}",
        ("15: machines[0].limits.envelope: '0': out of range. Write a size from 1 to 2147483647 bytes."),
    ),
    (
        "machine.limits",
        "{connections: -1}",
        ("15: machines[0].limits.connections: '-1': not a whole number. Write a whole number, such as 10."),
    ),
    (
        "machine.limits",
        "{connection: 1}",
        ("15: machines[0].limits.connection: unknown key. Did you mean connections?"),
    ),
    (
        "machine.timeouts",
        "{ready: 60s}",
        (
            "15: machines[0].timeouts.ready: '60s': too long: Octopus gives up after 60s. "
            "Write less than 60s; 45s is the default."
        ),
    ),
    (
        "machine.timeouts",
        "{ready: 1m}",
        (
            "15: machines[0].timeouts.ready: '1m': too long: Octopus gives up after 60s. "
            "Write less than 60s; 45s is the default."
        ),
    ),
    (
        "machine.timeouts",
        "{ready: 0s}",
        ("15: machines[0].timeouts.ready: '0s': out of range. Write more than 0s and less than 60s; 45s is the default."),
    ),
    (
        "machine.timeouts",
        "{connect: 0s}",
        ("15: machines[0].timeouts.connect: '0s': out of range. Write a duration from 1ms to 1m."),
    ),
    ("machine.timeouts", "{connect: 1.5}", f"15: machines[0].timeouts.connect: '1.5': not a duration. {DURATION}"),
    (
        "machine.timeouts",
        "{back_idle: 56s}",
        (
            "15: machines[0].timeouts.back_idle: '56s': out of range: a Tentacle drops a connection that is idle for 1 minute, "
            "and a call may be lost to it. Write a duration from 1ms to 55s."
        ),
    ),
    (
        "machine.timeouts",
        "{front_idle: 0s}",
        ("15: machines[0].timeouts.front_idle: '0s': out of range. Write a duration from 1s to 1h."),
    ),
    (
        "machine.timeouts",
        "{front_idle: 2h}",
        (
            "15: machines[0].timeouts.front_idle: '2h': out of range: Octopus drops a connection that is idle for 9 minutes. "
            "Write a duration from 1s to 1h."
        ),
    ),
    (
        "defaults",
        "",
        ("2: defaults: empty. Write keys and values below it, each on a line of its own: allow, limits, timeouts."),
    ),
]


@pytest.mark.parametrize(("key", "value", "said"), BAD)
def test_one_wrong_value_or_key(key: str, value: str | None, said: str, tmp_path: Path) -> None:
    assert read({key: value}, tmp_path) == [said]


def test_the_longest_good_values(tmp_path: Path) -> None:
    changes: dict[str, str | None] = {
        "machine.timeouts": "{ready: 59999ms, connect: 59s, prove: 59s, back_idle: 55s, front_idle: 1h}",
        "machine.limits": "{connections: 10000, envelope: 2147483647}",
        "relay.limits": "{connections: 1000000, handshakes: 1000000}",
        "relay.timeouts": "{client_hello: 60s, identify: 1m, drain: 1h}",
    }
    assert read(changes, tmp_path) == []


def test_no_drain_at_all_is_allowed(tmp_path: Path) -> None:
    assert read({"relay.timeouts": "{drain: 0s}"}, tmp_path) == []
