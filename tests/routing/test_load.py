import os
from collections.abc import Callable
from pathlib import Path

import pytest

from certs.passwords import Credential, PasswordFile
from certs.store import Provisioned
from certs.thumbprint import Thumbprint
from routing.addresses import Address
from routing.load import load
from routing.mistakes import ConfigurationError
from routing.table import Limits, Machine, Octopus, OctopusLimits, Relay, RelayLimits, RelayTimeouts, Table, Timeouts

A, B, C, D, E = ("A" * 40, "B" * 40, "C" * 40, "D" * 64, "E" * 40)

FULL = f"""\
version: 1
relay:
  name: dc-east
  state: state
  access_log: log/access.jsonl
  log_level: debug
  limits: {{connections: 500, handshakes: 50, source_strangers: 100, buffered: 1KiB}}
  timeouts: {{client_hello: 5s, identify: 30s, drain: 1m}}
octopus:
  - name: production
    thumbprints: [{A}, "{B}"]
    identity: /etc/keys/production.pem
    identity_password: credential:production
  - name: staging
    thumbprint: {C}
    limits: {{exchanges: 20}}
machines:
  - name: web01
    tentacle: https://Web01.internal
    thumbprint: {D}
    octopus: [production, staging]
    port: 11001
    identity: keys/web01.pfx
    identity_password: keys/password
    limits: {{connections: 3}}
    timeouts: {{connect: 500ms}}
  - name: web02
    tentacle: https://[2001:db8::2]:10934/
    thumbprints:
      - {E}
      - {D}
    octopus: staging
    port: "[::1]:11002"
  - name: web03
    tentacle: https://10.0.0.3:10933
    thumbprint: 1234567890123456789012345678901234567890
    octopus: [production]
    port: 127.0.0.1:11002
defaults:
  limits: {{envelope: 64MiB, connections: 5}}
  timeouts: {{ready: 40s, connect: 10s, back_idle: 30s, front_idle: 5m}}
"""

SMALL = f"""\
relay: {{name: r, state: /s}}
octopus:
  - {{name: production, thumbprint: {A}}}
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {B}, port: 11001}}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.chdir(tmp_path)

    def put(text: str) -> Path:
        Path("relay.yaml").write_text(text, encoding="utf-8")
        return Path("relay.yaml")

    return put


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(path)
    return str(raised.value).splitlines()


def test_everything_that_can_be_written(write: Callable[[str], Path], tmp_path: Path) -> None:
    provisioned = Provisioned(Path("/etc/keys/production.pem"), Credential("production"))
    production = Octopus("production", (Thumbprint.parse(A), Thumbprint.parse(B)), provisioned)
    staging = Octopus("staging", (Thumbprint.parse(C),), None)
    defaults = Timeouts(ready=40.0, connect=10.0, prove=5.0, back_idle=30.0, front_idle=300.0)
    limits = Limits(connections=5, envelope=64 * 1024 * 1024)
    assert load(write(FULL)) == Table(
        relay=Relay(
            name="dc-east",
            state=tmp_path / "state",
            access_log=tmp_path / "log" / "access.jsonl",
            log_level="debug",
            limits=RelayLimits(500, exchanges=500, strangers=250, source_strangers=100, handshakes=50, buffered=1024),
            timeouts=RelayTimeouts(client_hello=5.0, identify=30.0, drain=60.0),
        ),
        octopus=(production, staging),
        machines=(
            Machine(
                name="web01",
                tentacle=Address("web01.internal", 10933),
                thumbprints=(Thumbprint.parse(D),),
                octopus=(production, staging),
                door=Address("", 11001),
                identity=Provisioned(tmp_path / "keys" / "web01.pfx", PasswordFile(tmp_path / "keys" / "password")),
                limits=Limits(connections=3, envelope=64 * 1024 * 1024),
                timeouts=Timeouts(ready=40.0, connect=0.5, prove=5.0, back_idle=30.0, front_idle=300.0),
            ),
            Machine(
                name="web02",
                tentacle=Address("2001:db8::2", 10934),
                thumbprints=(Thumbprint.parse(E), Thumbprint.parse(D)),
                octopus=(staging,),
                door=Address("::1", 11002),
                identity=None,
                limits=limits,
                timeouts=defaults,
            ),
            Machine(
                name="web03",
                tentacle=Address("10.0.0.3", 10933),
                thumbprints=(Thumbprint.parse("1234567890123456789012345678901234567890"),),
                octopus=(production,),
                door=Address("127.0.0.1", 11002),
                identity=None,
                limits=limits,
                timeouts=defaults,
            ),
        ),
        source=Path("relay.yaml"),
        admin=Address("127.0.0.1", 9933),
        files=(Path("relay.yaml"),),
    )


def test_an_octopus_has_what_the_relay_has_and_leaves_others_some_of_it(write: Callable[[str], Path]) -> None:
    production, staging = load(write(FULL)).octopus
    assert (production.limits, staging.limits) == (OctopusLimits(450, 450), OctopusLimits(450, 20))
    [alone] = load(write(SMALL)).octopus
    assert alone.limits == OctopusLimits(10_000, 5000)


def test_what_is_left_out_has_its_default(write: Callable[[str], Path]) -> None:
    table = load(write(SMALL))
    relay, machine = table.relay, table.machines[0]
    assert (relay.access_log, relay.log_level) == (None, "info")
    assert relay.limits == RelayLimits(connections=10_000, handshakes=1000)
    assert relay.timeouts == RelayTimeouts(client_hello=10.0, identify=60.0, drain=30.0)
    assert machine.limits == Limits(connections=10, envelope=256 * 1024 * 1024)
    assert machine.timeouts == Timeouts(ready=45.0, connect=20.0, prove=5.0, back_idle=50.0, front_idle=600.0)
    assert machine.octopus == table.octopus


def test_a_short_time_to_identify_bounds_the_client_hello(write: Callable[[str], Path]) -> None:
    text = SMALL.replace("state: /s", "state: /s, timeouts: {identify: 5s}")
    assert load(write(text)).relay.timeouts == RelayTimeouts(client_hello=5.0, identify=5.0, drain=30.0)


@pytest.mark.parametrize(
    ("defaults", "own", "connect", "prove"),
    [
        ("ready: 20s", "", 18.0, 5.0),
        ("", "ready: 5s", 4.5, 4.5),
        ("ready: 2s", "ready: 30s", 20.0, 5.0),
        ("ready: 20s, connect: 19s", "", 19.0, 5.0),
        ("connect: 4s", "ready: 5s", 4.0, 4.5),
        ("", "ready: 5s, prove: 1s", 4.5, 1.0),
        ("", "ready: 22s", 19.8, 5.0),
        ("", "ready: 23s", 20.0, 5.0),
    ],
)
def test_what_ready_must_cover_fits_into_it_unless_written(
    write: Callable[[str], Path], defaults: str, own: str, connect: float, prove: float
) -> None:
    text = SMALL.replace("port: 11001", f"port: 11001, timeouts: {{{own}}}") + f"defaults: {{timeouts: {{{defaults}}}}}\n"
    timeouts = load(write(text)).machines[0].timeouts
    assert (timeouts.connect, timeouts.prove) == (pytest.approx(connect), pytest.approx(prove))
    assert max(timeouts.connect, timeouts.prove) < timeouts.ready


def test_a_dash_is_standard_output(write: Callable[[str], Path]) -> None:
    table = load(write(SMALL.replace("state: /s", "state: /s, access_log: '-'")))
    assert table.relay.access_log is None


def test_the_files_it_names_are_not_touched(write: Callable[[str], Path], tmp_path: Path) -> None:
    load(write(FULL))
    assert os.listdir(tmp_path) == ["relay.yaml"]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(write: Callable[[str], Path]) -> None:
    plain = load(write(SMALL))
    Path("relay.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(Path("relay.yaml")) == plain


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "relay.yaml:1: the file is empty. Write the sections relay, octopus and machines."),
        (b"# only a comment\n", "relay.yaml:1: the file is empty. Write the sections relay, octopus and machines."),
        (b"- relay\n", "relay.yaml:1: the file is a list where keys belong. Write the sections relay, octopus and machines."),
        (
            b"relay",
            "relay.yaml:1: the file is a single value where keys belong. Write the sections relay, octopus and machines.",
        ),
        (b"relay:\n  name: \xff\n", "relay.yaml:2: not UTF-8. Save the file as UTF-8."),
        (b"#" * (16 * 1024 * 1024 + 1), "relay.yaml: more than 16777216 bytes. Split this over several relays."),
    ],
)
def test_files_that_are_no_configuration(write: Callable[[str], Path], content: bytes, said: str) -> None:
    path = write("")
    path.write_bytes(content)
    assert mistakes(path) == [said]


def test_files_that_cannot_be_read(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write("")
    assert mistakes(Path("other.yaml")) == ["other.yaml: no such file. Check the path."]
    assert mistakes(tmp_path) == [f"{tmp_path}: a folder. Name the configuration file in it."]
    assert mistakes(path / "below") == [
        "relay.yaml/below: cannot be read: Not a directory. Check the path and who may read it."
    ]


def test_all_mistakes_come_in_one_go_and_by_line(write: Callable[[str], Path]) -> None:
    text = f"""\
relay: {{name: a b, stat: /s}}
octopus:
  - name: production
    thumbprint: xyz
  - name: staging
    thumbprint: {A}
machines:
  - name: web01
    tentacle: poll://SQ-7Q2M4Z/
    thumbprint: {B}
    octopus: [staging]
    port: 11001
    timeouts: {{ready: 70s}}
  - name: WEB01
    tentacle: https://web02
    thumbprint: [{B}, 12]
    octopus: [stagign]
    port: 127.0.0.1:11001
"""
    hint = "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."
    assert mistakes(write(text)) == [
        (
            "relay.yaml:1: relay.name: 'a b': not a name. "
            "Write up to 64 letters, digits, dots, dashes and underscores, and no dot or dash in front."
        ),
        "relay.yaml:1: relay.state: missing. Add state: /var/lib/relay-tentacle",
        "relay.yaml:1: relay.stat: unknown key. Did you mean state?",
        f"relay.yaml:4: octopus[0].thumbprint: 'xyz': not a thumbprint: 3 characters. {hint}",
        (
            "relay.yaml:9: machines[0].tentacle: 'poll://SQ-7Q2M4Z/': there is no back.listen, the door where polling "
            "Tentacles come in. Add back: {listen: 10943}."
        ),
        (
            "relay.yaml:13: machines[0].timeouts.ready: '70s': too long: Octopus gives up after 60s. "
            "Write less than 60s; 45s is the default."
        ),
        (
            "relay.yaml:14: machines[1].name: 'WEB01': the name of machines[0] on line 8; "
            "upper and lower case do not differ. Give each entry its own name."
        ),
        f"relay.yaml:16: machines[1].thumbprint[1]: '12': not a thumbprint: 2 characters. {hint}",
        (
            "relay.yaml:17: machines[1].octopus[0]: 'stagign': no entry of the section octopus has this name. "
            "Did you mean staging?"
        ),
        (
            "relay.yaml:18: machines[1].port: '127.0.0.1:11001': machines[0] on line 12 has this door: "
            "a caller there could mean either. Give each machine its own port, or its own IP address."
        ),
    ]


def test_after_broken_yaml_nothing_else_is_guessed(write: Callable[[str], Path]) -> None:
    (said,) = mistakes(write("relay: {name: r, state: /s}\noctopus: [\nmachines: []\n"))
    assert said.startswith("relay.yaml:3: not YAML: ")


def test_ten_thousand_machines_at_one_table(write: Callable[[str], Path]) -> None:
    head, _, _ = SMALL.partition("  - {name: web01")
    lines = [
        f"  - {{name: web{n}, tentacle: 'https://web{n}', thumbprint: '{n:040X}', port: {10_001 + n}}}" for n in range(10_000)
    ]
    table = load(write(head + "\n".join(lines)))
    assert len(table.machines) == 10_000
    machine = table.machine("web9999")
    assert machine is not None
    assert machine.door == Address("", 20_000)
    assert str(machine.places.of("port")) == f"relay.yaml:{len(head.splitlines()) + 10_000}"
