from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from commands import checked_json

from certs.store import IdentityStore
from relay.cli.main import main

TEXT = """\
relay: {name: dc-east, state: state}
octopus:
  - {name: production, thumbprint: 7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1}
  - {name: staging, thumbprint: 2B91D3C4B1968F7E5A02D3C4B1968F7E5A02D30C}
machines:
  - name: web01
    tentacle: https://web01.internal
    thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: [production, staging]
    port: 11001
  - name: web02
    tentacle: https://web02.internal:10955
    thumbprint: 64C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: staging
    port: 10.0.0.7:11002
"""


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    (tmp_path / "relay.yaml").write_text(TEXT)
    return IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["machines", *arguments, "--config", str(folder / "relay.yaml")])


def test_all_in_a_table(tmp_path, store):
    web01, production, staging = store.machine("web01"), store.octopus("production"), store.octopus("staging")
    done = run(tmp_path, "--address", "Relay.Corp")
    assert (done.exit_code, done.stderr) == (0, "")
    heading, *rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in done.stdout.splitlines()]
    assert heading == ["MACHINE", "URL IN OCTOPUS", "THUMBPRINT IN OCTOPUS", "TENTACLE", "WHICH HAS TO TRUST"]
    assert rows == [
        [
            "web01",
            "https://relay.corp:11001/",
            str(web01.thumbprint),
            "https://web01.internal:10933/",
            f"{production.thumbprint}, {staging.thumbprint}",
        ],
        [
            "web02",
            "https://relay.corp:11002/",
            f"not made yet: `relay-tentacle identity new --config {tmp_path / 'relay.yaml'}` makes it",
            "https://web02.internal:10955/",
            str(staging.thumbprint),
        ],
    ]


def test_one_of_them_in_the_words_of_octopus(tmp_path, store):
    web01, production, staging = store.machine("web01"), store.octopus("production"), store.octopus("staging")
    done = run(tmp_path, "web01", "--address", "relay.corp")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "In Octopus: Infrastructure > Deployment Targets > Add Deployment Target > Listening Tentacle" in lines
    assert "Hostname      relay.corp" in lines
    assert "Port          11001" in lines
    assert f"Thumbprint    {web01.thumbprint}" in lines
    assert "Tentacle URL  https://relay.corp:11001/" in lines
    for program in (r'"C:\Program Files\Octopus Deploy\Tentacle\Tentacle.exe"', "sudo /opt/octopus/tentacle/Tentacle"):
        start = lines.index(f"{program} configure --trust {production.thumbprint}")
        assert lines[start + 1 : start + 4] == [
            f"{program} configure --trust {staging.thumbprint}",
            f"{program} service --restart",
            f"{program} show-thumbprint",
        ]
    assert "The last command has to print 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D:" in lines
    assert lines[-1] == f"that is what the relay accepts ({tmp_path}/relay.yaml:8)."


def test_a_guess_is_said_to_be_one(tmp_path, store):
    assert "a guess, the name of this host" in run(tmp_path, "web01").stdout
    assert "a guess" not in run(tmp_path, "web02").stdout
    assert "is a guess, the name of this host" in run(tmp_path).stdout
    assert "a guess" not in run(tmp_path, "--address", "relay.corp").stdout


def test_what_is_not_there_yet_is_said_and_not_made(tmp_path, store):
    done = run(tmp_path, "web02")
    assert (done.exit_code, done.stderr) == (1, "")
    new = f"relay-tentacle identity new --config {tmp_path / 'relay.yaml'}"
    assert f"Thumbprint    not made yet: `{new}` makes it" in done.stdout
    assert "The identity of the octopus entry staging, which it has to trust: not made yet" in done.stdout
    assert "--trust" not in done.stdout
    assert run(tmp_path).exit_code == 0
    assert not (tmp_path / "state").exists()


def test_what_cannot_be_used_is_told_once(tmp_path, store):
    store.octopus("staging")
    store.octopus_file("staging").write_bytes(b"nothing")
    done = run(tmp_path)
    assert (done.exit_code, done.stderr.count("staging.pem")) == (1, 1)
    assert "cannot be used" in done.stdout


def test_json(tmp_path, store):
    web02, staging = store.machine("web02"), store.octopus("staging")
    first, second = checked_json("machines", run(tmp_path, "--json", "--address", "relay.corp").stdout)
    assert first["in_octopus"][0]["endpoint"]["Thumbprint"] is None
    assert [trust["octopus"] for trust in first["tentacle"]["trusts"]] == ["production", "staging"]
    assert second == {
        "machine": "web02",
        "in_octopus": [
            {
                "hostname": "relay.corp",
                "port": 11002,
                "hostname_is": "given",
                "endpoint": {
                    "CommunicationStyle": "TentaclePassive",
                    "Uri": "https://relay.corp:11002/",
                    "Thumbprint": str(web02.thumbprint),
                },
            }
        ],
        "proxied": None,
        "polled": None,
        "identity": {"file": str(tmp_path / "state" / "machines" / "web02.pem"), "problem": None},
        "passthrough": False,
        "tentacle": {
            "uri": "https://web02.internal:10955/",
            "polls": None,
            "least_connections": None,
            "pins": ["64C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D"],
            "trusts": [{"octopus": "staging", "thumbprint": str(staging.thumbprint), "problem": None}],
        },
    }
    [only] = checked_json("machines", run(tmp_path, "web02", "--json").stdout)
    assert only["in_octopus"][0]["hostname"] == "10.0.0.7"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["web09"], 1, "no machine is named web09. There are: web01, web02."),
        (["--address", "relay.corp:11001"], 2, "without a port"),
        (["--address", ""], 2, "'--address': ''"),
        (["--address", "0.0.0.0"], 2, "not an address of one machine"),
    ],
)
def test_what_is_not_known(tmp_path, store, arguments, code, said):
    done = run(tmp_path, *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr


@pytest.mark.parametrize(("written", "shown"), [("2001:db8::1", "[2001:db8::1]"), ("[2001:DB8::1]", "[2001:db8::1]")])
def test_addresses_of_ipv6(tmp_path, store, written, shown):
    assert f"https://{shown}:11001/" in run(tmp_path, "--address", written).stdout


POLLING = """\
relay: {name: dc-east, state: state}
octopus:
  - {name: production, thumbprint: 7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1, nodes: [https://octopus-1, https://octopus-2]}
  - {name: staging, thumbprint: 2B91D3C4B1968F7E5A02D3C4B1968F7E5A02D30C}
back: {listen: 10943, octopus: staging}
machines:
  - name: kiosk7
    tentacle: poll://SQ-7Q2M4Z/
    thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: production
    front: polling
  - name: web02
    tentacle: https://web02.internal
    thumbprint: 64C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D
    octopus: production
    port: 11002
    front: polling
"""


def test_polling_on_both_sides(tmp_path, store):
    (tmp_path / "relay.yaml").write_text(POLLING)
    kiosk, staging = store.machine("kiosk7"), store.octopus("staging")
    done = run(tmp_path, "kiosk7", "--address", "relay.corp")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "Endpoint.CommunicationStyle  TentacleActive" in lines
    assert "Endpoint.Uri                 poll://sq-7q2m4z/" in lines
    assert f"Endpoint.Thumbprint          {kiosk.thumbprint}" in lines
    assert "The relay polls https://octopus-1:10943/, https://octopus-2:10943/, each with 1 connection(s)." in lines
    comms = f"server-comms --thumbprint {staging.thumbprint} --style TentacleActive --host relay.corp --port 10943"
    assert sum(line.endswith(comms) for line in lines) == 2
    for program in (r'"C:\Program Files\Octopus Deploy\Tentacle\Tentacle.exe"', "sudo /opt/octopus/tentacle/Tentacle"):
        start = lines.index(f"{program} configure --trust {staging.thumbprint}")
        assert lines[start + 1 : start + 6] == [
            f"{program} {comms}",
            f"{program} set-polling-connection-count --pollingConnectionCount 2",
            f"{program} service --restart",
            f"{program} show-configuration",
            f"{program} show-thumbprint",
        ]
    assert "The one before shows a SubscriptionId beside the relay's thumbprint, and it has to be poll://sq-7q2m4z/" in lines
    assert "poll-server --reuse-server-thumbprint --server-comms-address https://HOST --server-comms-port 10943" in lines
    assert "Let it poll with 2 connections or more, one for each Octopus node: a call of one node then" in lines
    assert "Listening Tentacle" not in done.stdout


def test_the_host_that_a_tentacle_polls_is_part_of_a_uri(tmp_path, store):
    (tmp_path / "relay.yaml").write_text(POLLING)
    store.machine("kiosk7"), store.octopus("staging")
    assert " --host [2001:db8::1] --port 10943\n" in run(tmp_path, "kiosk7", "--address", "2001:db8::1").stdout


def test_a_tentacle_that_listens_is_told_nothing_of_polling(tmp_path, store):
    (tmp_path / "relay.yaml").write_text(POLLING)
    store.machine("web02"), store.octopus("production")
    said = run(tmp_path, "web02", "--address", "relay.corp").stdout
    assert "Endpoint.CommunicationStyle  TentacleActive" in said
    for words in ("server-comms", "poll-server", "set-polling-connection-count", "show-configuration", "SubscriptionId"):
        assert words not in said


def test_polling_in_json_and_in_the_table(tmp_path, store):
    (tmp_path / "relay.yaml").write_text(POLLING)
    kiosk, web = checked_json("machines", run(tmp_path, "--json", "--address", "relay.corp").stdout)
    assert (kiosk["in_octopus"], kiosk["polled"]["endpoint"]["Uri"]) == ([], "poll://sq-7q2m4z/")
    assert [kiosk["tentacle"][key] for key in ("uri", "polls", "least_connections")] == [
        "poll://sq-7q2m4z/",
        "https://relay.corp:10943",
        2,
    ]
    assert [trust["octopus"] for trust in kiosk["tentacle"]["trusts"]] == ["staging"]
    assert (len(web["in_octopus"]), web["polled"]["endpoint"]["Uri"], web["tentacle"]["polls"]) == (1, None, None)
    made = store.subscription("web02")
    table = run(tmp_path, "--address", "relay.corp").stdout
    assert made in table
    assert "https://relay.corp:11002/" in table


VAULT = "  - {name: vault01, tentacle: 'https://vault01.internal', port: 11009, passthrough: true}\n"


def test_one_that_is_passed_through(tmp_path, store):
    """Both sides have to know each other, and nothing of the relay; no identity is missing for that."""
    (tmp_path / "relay.yaml").write_text(TEXT + VAULT)
    done = run(tmp_path, "vault01", "--address", "relay.corp")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "  Hostname      relay.corp\n  Port          11009\n  Thumbprint    the Tentacle's own\n" in done.stdout
    assert "configure --trust THUMBPRINT\n" in done.stdout
    assert "THUMBPRINT is what Octopus shows under\nConfiguration > Thumbprint" in done.stdout
    rows = run(tmp_path, "--address", "relay.corp").stdout.splitlines()
    assert [cell.strip() for cell in rows[-1].split("  ") if cell.strip()] == [
        "vault01", "https://relay.corp:11009/", "the Tentacle's own", "https://vault01.internal:10933/", "Octopus's own",
    ]  # fmt: skip
    [found] = checked_json("machines", run(tmp_path, "vault01", "--json").stdout)
    assert (found["passthrough"], found["identity"], found["tentacle"]["trusts"]) == (True, None, [])
    assert found["in_octopus"][0]["endpoint"]["Thumbprint"] is None


CONNECT = "front: {listen: 10933, connect: true, credentials: users}\n"


def test_one_that_is_passed_through_by_the_proxy(tmp_path, store):
    """Octopus meets the Tentacle's own certificate at every door."""
    (tmp_path / "relay.yaml").write_text(TEXT + VAULT + CONNECT)
    by_proxy = run(tmp_path, "vault01").stdout.partition("with the relay as the machine's proxy")[2]
    assert "  Thumbprint    the Tentacle's own\n" in by_proxy
    assert "The thumbprint is the one that show-thumbprint prints." in by_proxy
    assert "the relay shows" not in by_proxy


def test_the_relay_as_the_machine_s_proxy(tmp_path, store):
    (tmp_path / "relay.yaml").write_text(TEXT.replace("    port: 11001\n", "") + CONNECT)
    web01, _, _ = store.machine("web01"), store.octopus("production"), store.octopus("staging")
    done = run(tmp_path, "web01", "--address", "relay.corp")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert (
        lines[2]
        == "In Octopus, with the relay as the machine's proxy: Infrastructure > Proxies > Add Proxy, once for all machines"
    )
    start = lines.index("Host          relay.corp")
    assert lines[start + 1 : start + 3] == [
        "Port          10933",
        f"Username      one of those in {tmp_path / 'users'}, with its password",
    ]
    start = lines.index("Hostname      web01.internal")
    assert lines[start + 1 : start + 4] == [
        "Port          10933",
        f"Thumbprint    {web01.thumbprint}",
        "Tentacle URL  https://web01.internal:10933/",
    ]
    assert "https://web01.internal:10933/ by the proxy relay.corp:10933" in run(tmp_path, "--address", "relay.corp").stdout
    guessed = run(tmp_path).stdout
    assert "The host in the URLs is a guess" in guessed
    first, second = checked_json("machines", run(tmp_path, "--json", "--address", "relay.corp").stdout)
    assert first["in_octopus"] == []
    assert first["proxied"] == {
        "proxy": {
            "hostname": "relay.corp",
            "port": 10933,
            "hostname_is": "given",
            "credentials": str(tmp_path / "users"),
        },
        "endpoint": {
            "CommunicationStyle": "TentaclePassive",
            "Uri": "https://web01.internal:10933/",
            "Thumbprint": str(web01.thumbprint),
        },
    }
    assert second["proxied"]["endpoint"]["Uri"] == "https://web02.internal:10955/"


def test_a_proxy_without_credentials(tmp_path, store):
    (tmp_path / "relay.yaml").write_text(TEXT + CONNECT.replace(", credentials: users", ""))
    assert "  Username      none\n" in run(tmp_path, "web01").stdout
    assert checked_json("machines", run(tmp_path, "--json").stdout)[0]["proxied"]["proxy"]["credentials"] is None
