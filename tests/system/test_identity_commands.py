"""The identity commands and backups as an operator uses them: real processes, on the files of a real relay."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from json_docs import parsed
from scripted import CLIENT, PATIENCE, PREAMBLE, SERVER, Peer, party
from system import RelayProcess, free_ports, octopus_entry, site

from certs.identity import Identity
from certs.pfx import write_pfx
from certs.thumbprint import Thumbprint

LOCAL = "127.0.0.1"


class Tentacle:
    """Takes every connection, and answers those who show one of its trusted certificates, as real ones do."""

    def __init__(self) -> None:
        self.listener = socket.create_server((LOCAL, 0))
        self.trusted: set[bytes] = {b""}
        self.seen: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def _serve(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                peer = Peer.accept(self.listener)
                peer.expect(PREAMBLE, CLIENT)
                assert peer.certificate
                self.seen.append(peer.certificate)
                if peer.certificate in self.trusted:
                    peer.send(SERVER)
                    peer.expect_fin(PATIENCE)
                peer.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(PATIENCE)


class Place:
    """A configuration of two machines, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "relay.yaml"
        self.tentacles = [Tentacle(), Tentacle()]
        doors = free_ports(2)
        self.configuration: dict[str, Any] = {
            "relay": {"name": "test", "state": "state"},
            "admin": {"listen": "none"},
            "octopus": [octopus_entry("production", "octopus", face="")],
            "machines": [
                {
                    "name": f"web0{number}",
                    "tentacle": f"https://{LOCAL}:{tentacle.port}",
                    "thumbprint": str(party("tentacle").thumbprint),
                    "port": f"{LOCAL}:{door}",
                }
                for number, (tentacle, door) in enumerate(zip(self.tentacles, doors, strict=True))
            ],
        }
        self.config.write_text(yaml.safe_dump(self.configuration))

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "relay", *map(str, arguments)]

    def call(self, *arguments: object, code: int = 0, config: bool = True) -> str:
        """What the command says on standard output, or on the other one where it fails."""
        command = self.command(*arguments, *(["--config", self.config] if config else []))
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr if code else done.stdout

    def thumbprint(self, name: str) -> str:
        return self.call("identity", "show", name, "--thumbprint-only").strip()

    def close(self) -> None:
        for tentacle in self.tentacles:
            tentacle.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def identity_in(file: Path) -> Identity:
    return Identity.from_pem("x", file.read_bytes())


def test_the_tentacle_side_is_rotated_when_every_tentacle_trusts_it(place: Place) -> None:
    place.call("identity", "new")
    files = place.folder / "state" / "octopus"
    current = identity_in(files / "production.pem")
    for tentacle in place.tentacles:
        tentacle.trusted = {current.der}
    rotate = ["identity", "rotate", "production", "--tentacle-side"]
    prepared = parsed(place.call(*rotate, "--json"), "identity-rotate")
    new = identity_in(files / "production.pem.next")
    assert prepared["next"]["thumbprint"] == str(new.thumbprint)
    assert [(each["machine"], each["trusts"], each["outcome"]) for each in prepared["trust"]] == [
        ("web00", False, "not-trusted"),
        ("web01", False, "not-trusted"),
    ]
    assert place.tentacles[0].seen == [new.der, current.der]
    place.tentacles[0].trusted.add(new.der)
    said = place.call("identity", "rotate", "--tentacle-side")
    assert "1 of 2 Tentacles trust it." in said
    assert f"  Tentacle configure --trust {new.thumbprint}" in said.splitlines()
    [first, second] = [line.split() for line in said.splitlines() if line.startswith("web0")]
    assert first == ["web00", f"{LOCAL}:{place.tentacles[0].port}", "yes"]
    assert second[2] == "no"
    place.call(*rotate, "--activate", code=1)
    assert place.thumbprint("production") == str(current.thumbprint)
    place.tentacles[1].trusted.add(new.der)
    activated = parsed(place.call(*rotate, "--activate", "--json"), "identity-rotate")
    assert (activated["result"], activated["all_trust"]) == ("activated", True)
    assert place.thumbprint("production") == str(new.thumbprint)
    place.call(*rotate, "--back")
    assert place.thumbprint("production") == str(current.thumbprint)


def test_it_is_forced_past_a_tentacle_that_is_down(place: Place) -> None:
    place.call("identity", "new")
    rotate = ["identity", "rotate", "production", "--tentacle-side"]
    current = identity_in(place.folder / "state" / "octopus" / "production.pem")
    place.tentacles[1].close()
    place.call(*rotate)
    new = identity_in(place.folder / "state" / "octopus" / "production.pem.next")
    place.tentacles[0].trusted = {current.der, new.der}
    refused = subprocess.run(
        place.command(*rotate, "--activate", "--config", place.config), capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1
    assert "refused: Connection refused" in refused.stdout
    assert "the same with --force" in refused.stdout
    place.call(*rotate, "--activate", "--force")
    assert place.thumbprint("production") == str(new.thumbprint)


def seen_by_octopus(host: str, port: int) -> bytes:
    """The certificate at the door, as Octopus looks for a thumbprint (wire.md 2.5)."""
    caller = Peer.dial((host, port))
    shown = caller.certificate
    caller.send(b"HELLO\r\n\r\n")
    assert caller.receive().startswith(b"HTTP/1.0 200")
    caller.close()
    assert shown
    return shown


def test_a_running_relay_shows_what_was_made_before_and_takes_up_what_is_activated(place: Place) -> None:
    made = parsed(place.call("identity", "new", "--json"), "identity-new")
    relay = RelayProcess(place.folder, place.configuration)
    try:
        host, port = place.configuration["machines"][0]["port"].split(":")
        shown = seen_by_octopus(host, int(port))
        assert Identity.from_pem("x", (place.folder / "state" / "machines" / "web00.pem").read_bytes()).der == shown
        assert [row["thumbprint"] for row in made if row["name"] == "web00"] == [place.thumbprint("web00")]
        assert not [line for line in relay.log.found if line["event"] == "made a new identity"]
        place.call("identity", "rotate", "web00")
        [before] = parsed(place.call("identity", "show", "web00", "--json"), "identity-show")
        assert before["warnings"] == []
        activated = parsed(place.call("identity", "rotate", "web00", "--activate", "--json"), "identity-rotate")
        assert activated["reload"] == "done"
        assert str(Thumbprint.of(seen_by_octopus(host, int(port)))) == place.thumbprint("web00")
        [after] = parsed(place.call("identity", "show", "web00", "--json"), "identity-show")
        assert after["warnings"] == []
        assert after["thumbprint"] != before["thumbprint"]
        another = place.folder / "another.pem"
        another.touch(0o600)
        another.write_bytes(Identity.new("web00", "Octopus Tentacle").pem())
        place.call("identity", "import", another, "--machine", "web00", "--replace")
        [behind] = parsed(place.call("identity", "show", "web00", "--json"), "identity-show")
        assert behind["warnings"] == [
            f"{host}:{port} still shows {after['thumbprint']}. The running relay shows this one after: relay-tentacle reload"
        ]
        assert not [line for line in relay.log.found if line["event"] == "caller refused"]
        relay.stop()
    finally:
        relay.kill()


@pytest.mark.parametrize("form", ["pfx", "pem"])
@pytest.mark.parametrize("source", ["file", "credential"])
def test_a_relay_opens_a_provisioned_identity_by_its_password(
    tmp_path: Path, form: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = party("relay as a locked one")
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text("swordfish\n")
    locked = tmp_path / f"locked.{form}"
    locked.touch(0o600)
    locked.write_bytes(write_pfx(shown, "swordfish") if form == "pfx" else shown.pem("swordfish"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    password = "secret" if source == "file" else "credential:secret"
    entry = {**octopus_entry("production", "octopus", face=""), "identity": locked.name, "identity_password": password}
    with site(tmp_path, octopus=[entry]) as made:
        machine = made.unused()
        caller = machine.call()
        caller.send(PREAMBLE, CLIENT)
        tentacle = machine.accept(face="")
        assert tentacle.certificate == shown.der
        caller.close()
        tentacle.close()
        made.relay.stop()
        assert not [line for line in made.relay.log.found if "swordfish" in json.dumps(line)]


def test_a_lost_state_folder_comes_back_and_octopus_notices_nothing(place: Place) -> None:
    place.call("identity", "new")
    names = ["web00", "web01", "production"]
    before = [place.thumbprint(name) for name in names]
    password = place.folder / "password"
    password.touch(0o600)
    password.write_text("secret\n")
    backup = place.folder / "b.backup"
    made = parsed(place.call("backup", backup, "--password-file", password, "--json"), "backup")
    assert [each["thumbprint"] for each in made["identities"]] == before
    (place.folder / "state").rename(place.folder / "lost")
    place.call("restore", backup, "--password-file", password, "--state", place.folder / "state", config=False)
    assert [place.thumbprint(name) for name in names] == before


def test_two_at_once_do_no_harm(place: Place) -> None:
    place.call("identity", "new")
    command = [*place.command("identity", "rotate", "web00", "--json"), "--config", str(place.config)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ends = [(*child.communicate(timeout=60), child.returncode) for child in children]
    done = [parsed(out, "identity-rotate") for out, _, code in ends if code == 0]
    assert done
    assert len({each["next"]["thumbprint"] for each in done}) == 1
    assert sum(each["result"] == "prepared" for each in done) == 1
    for _, err, code in ends:
        assert code == 0 or "another command is changing it" in err
    files = sorted(path.name for path in (place.folder / "state" / "machines").iterdir())
    assert files == ["web00.pem", "web00.pem.next", "web01.pem"]


def test_the_aliases(place: Place) -> None:
    place.call("new-certificate", "web00")
    thumbprint = place.call("show-thumbprint", "web00").strip()
    assert thumbprint == place.thumbprint("web00")
    assert "give --password-file" in place.call("import-certificate", "-f", "x", "--pfx-password", "y", code=2)
