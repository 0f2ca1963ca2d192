"""The shared door of a real relay: the SNI name says which machine is meant. Whoever names none sees a close, and no byte."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from exchanges import call
from scripted import CLIENT, PATIENCE, PREAMBLE, SERVER, Peer, client_hello, party
from system import HOST, RelayProcess, free_ports, identify

NAMES: Final = ("web01", "web02")


class Corner:
    """A relay whose machines share a door, each under its own host; the second has a port as well. Nobody else has any."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.front, self.port = ((HOST, port) for port in free_ports(2))
        self.listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in NAMES}
        self._peers: list[Peer] = []
        for name in (*NAMES, "octopus entry"):
            (folder / f"{name}.pem").touch(0o600)
            (folder / f"{name}.pem").write_bytes(party(f"{name} face").pem())
        self.relay = RelayProcess(folder, self.configuration("web01", "web02"))

    def configuration(self, *hosts: str) -> dict[str, Any]:
        machines: list[dict[str, Any]] = [
            {
                "name": name,
                "tentacle": f"https://127.0.0.1:{self.listeners[name].getsockname()[1]}",
                "thumbprint": str(party("tentacle").thumbprint),
                "identity": f"{name}.pem",
                "host": f"{host}.Relay.Corp",
            }
            for name, host in zip(NAMES, hosts, strict=True)
        ]
        machines[1]["port"] = f"{HOST}:{self.port[1]}"
        octopus = {"name": "production", "thumbprints": [str(party("octopus").thumbprint)], "identity": "octopus entry.pem"}
        return {
            "version": 1,
            "relay": {"name": "test", "state": "state"},
            "admin": {"listen": "none"},
            "octopus": [octopus],
            "front": {"listen": f"{HOST}:{self.front[1]}"},
            "machines": machines,
        }

    def reload(self, *hosts: str) -> None:
        (self._folder / "relay.yaml").write_text(json.dumps(self.configuration(*hosts)))
        self.relay.signal(signal.SIGHUP)
        self.relay.log.wait(event="reloaded")

    def calls(self, name: str, machine: str, address: tuple[str, int] | None = None) -> None:
        """Somebody asks for this name, and calls the Tentacle of that machine through."""
        caller = self._keep(Peer.dial(address or self.front, name=name))
        assert caller.certificate == party(f"{machine} face").der
        caller.send(PREAMBLE, CLIENT)
        tentacle = self._keep(Peer.accept(self.listeners[machine]))
        identify(tentacle)
        caller.expect(SERVER)
        call(caller, tentacle)

    def _keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def sees_a_bare_close(self, name: str) -> None:
        with socket.create_connection(self.front, PATIENCE) as sock:
            sock.settimeout(PATIENCE)
            sock.sendall(client_hello(name))
            assert sock.recv(1) == b""

    def close(self) -> None:
        for each in (*self._peers, *self.listeners.values()):
            each.close()


@pytest.fixture
def corner(tmp_path: Path) -> Iterator[Corner]:
    made = Corner(tmp_path)
    try:
        yield made
        made.close()
        made.relay.expect_rest()
        made.relay.stop()
    finally:
        made.close()
        made.relay.kill()


def test_calls_by_name_and_by_port(corner: Corner) -> None:
    corner.calls("web01.relay.corp", "web01")
    corner.calls("WEB02.relay.corp", "web02")
    corner.calls("", "web02", corner.port)
    assert corner.relay.access
    assert [line["machine"] for line in corner.relay.access.wait(3, outcome="ok")] == ["web01", "web02", "web02"]


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("web03.relay.corp", "unknown-name", "no machine has the host web03.relay.corp"),
        ("", "no-name", "it did not say by SNI which machine it wants"),
    ],
)
def test_whoever_names_no_machine_sees_a_bare_close(corner: Corner, name: str, reason: str, detail: str) -> None:
    corner.sees_a_bare_close(name)
    [line] = corner.relay.log.wait(event="caller refused")
    assert (line["reason"], line["detail"]) == (reason, detail)


def test_hosts_move_with_a_reload(corner: Corner) -> None:
    corner.reload("web02", "web03")
    corner.calls("web02.relay.corp", "web01")
    corner.calls("web03.relay.corp", "web02")
    corner.sees_a_bare_close("web01.relay.corp")
