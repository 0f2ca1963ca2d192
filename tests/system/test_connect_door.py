"""The CONNECT door of a real relay: recorded requests, curl, a strict Octopus with a strict Tentacle, and slow callers."""

import base64
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_twisted
from exchanges import call
from json_docs import parsed
from scripted import CLIENT, PATIENCE, PREAMBLE, SERVER, Peer, party
from system import HOST, RelayProcess, free_ports, identify
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from relay.peers.octopus import Octopus
from relay.peers.tentacle import Tentacle
from relay.peers.tunnel import WebProxy

CAPTURES: Final = Path(__file__).parents[1] / "captures"
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


def requests() -> dict[str, bytes]:
    """What Octopus was recorded to send to a proxy, by its recording; none came where the proxy had closed before."""
    found = {}
    for file in sorted(CAPTURES.glob("listening-*/proxy*.jsonl")):
        for line in map(json.loads, file.read_text().splitlines()):
            if line["from"] in ("caller", "dialler") and "b64" in line:
                found[file.parent.name] = base64.b64decode(line["b64"])
                break
    return found


REQUESTS: Final = requests()


def target_of(request: bytes) -> str:
    return request.split(b" ")[1].decode()


class Site:
    """A relay whose machine web01 has the target web01.internal:10933; the others have those of the recordings."""

    def __init__(self, folder: Path, users: str = "", **limits: int) -> None:
        self._folder = folder
        self._users = users
        self._limits = limits
        [port] = free_ports(1)
        self.address = (HOST, port)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[Any] = []
        self._targets = {target.replace(":", "-"): target for target in sorted(map(target_of, REQUESTS.values()))}
        for name in ("web01", "octopus entry", *self._targets):
            (folder / f"{name}.pem").touch(0o600)
            (folder / f"{name}.pem").write_bytes(party(f"{name} face").pem())
        (folder / "users").touch(0o600)
        (folder / "users").write_text(users)
        self.relay = RelayProcess(folder, self.configuration())

    def configuration(self, users: bool = True) -> dict[str, Any]:
        tentacle = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        pins = [f"{number:040x}" for number in range(len(self._targets))]
        credentials = {"credentials": "users"} if self._users and users else {}
        web01 = {"name": "web01", "tentacle": tentacle, "identity": "web01.pem", "connect": "web01.internal"}
        return {
            "version": 1,
            "relay": {"name": "test", "state": "state", "limits": self._limits},
            "admin": {"listen": "none"},
            "octopus": [
                {"name": "production", "thumbprints": [str(party("octopus").thumbprint)], "identity": "octopus entry.pem"}
            ],
            "front": {"listen": f"{HOST}:{self.address[1]}", "connect": True, **credentials},
            "machines": [
                {**web01, "thumbprint": str(party("tentacle").thumbprint)},
                *(
                    {"name": name, "tentacle": tentacle, "thumbprint": pin, "connect": target, "identity": f"{name}.pem"}
                    for (name, target), pin in zip(self._targets.items(), pins, strict=True)
                ),
            ],
        }

    def reload(self, users: bool = True) -> None:
        (self._folder / "relay.yaml").write_text(json.dumps(self.configuration(users)))
        count = len([line for line in self.relay.log.found if line["event"] == "reloaded"])
        self.relay.signal(signal.SIGHUP)
        self.relay.log.wait(count + 1, event="reloaded")

    def dial(self, data: bytes = b"") -> socket.socket:
        sock = self._keep(socket.create_connection(self.address, PATIENCE))
        sock.settimeout(PATIENCE)
        sock.sendall(data)
        return sock

    def answer(self, request: bytes) -> bytes:
        """The answer's header."""
        sock = self.dial(request)
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            more = sock.recv(1)
            assert more, f"closed behind {data!r}"
            data += more
        return data

    def through(self, request: bytes) -> Peer:
        """A caller with its tunnel and TLS."""
        sock = self.dial(request)
        data = sock.recv(len(ESTABLISHED), socket.MSG_WAITALL)
        assert data == ESTABLISHED
        return self._keep(Peer.begin(sock))

    def calls(self, request: bytes) -> None:
        """A call through the tunnel, from one end to the other."""
        caller = self.through(request)
        assert caller.certificate == party("web01 face").der
        caller.send(PREAMBLE, CLIENT)
        tentacle = self._keep(Peer.accept(self.listener))
        identify(tentacle)
        caller.expect(SERVER)
        call(caller, tentacle)
        for peer in (caller, tentacle):
            peer.close()

    def _keep(self, peer: Any) -> Any:
        self._open.append(peer)
        return peer

    def close(self) -> None:
        for each in (*self._open, self.listener):
            each.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, **getattr(request, "param", {}))
    try:
        yield made
        made.close()
        made.relay.expect_rest()
        made.relay.stop()
    finally:
        made.close()
        made.relay.kill()


def asking(target: str = "web01.internal:10933", credentials: str = "") -> bytes:
    user, _, password = credentials.partition(":")
    return WebProxy("", 0, user, password).request(target)


USERS = {"users": "octo:s3cret:x\nrelay:s3cret\n"}


@pytest.mark.parametrize("site", [USERS], indirect=True)
def test_recorded_requests_are_let_through_with_their_credentials_and_without(site: Site) -> None:
    assert len(REQUESTS) == 15
    with_user = [name for name, request in REQUESTS.items() if b"Proxy-Authorization" in request]
    assert {"listening-through-proxy-password-4.4.8", "listening-through-proxy-password-head"} <= set(with_user)
    for name, request in REQUESTS.items():
        expected = b"HTTP/1.1 200 " if name in with_user else b"HTTP/1.1 407 Proxy Authentication Required\r\n"
        assert site.answer(request).startswith(expected), name
    site.calls(asking(credentials="octo:s3cret:x"))
    site.reload(users=False)
    for name, request in REQUESTS.items():
        assert site.answer(request) == ESTABLISHED, name
    site.calls(asking())
    assert site.relay.access
    assert [line["machine"] for line in site.relay.access.wait(2, outcome="ok")] == ["web01", "web01"]
    text = json.dumps(site.relay.log.found)
    assert "no credentials; it asked for localhost:" in text
    assert "s3cret" not in text
    assert not any(base64.b64encode(user.encode()).decode() in text for user in USERS["users"].split())


@pytest.mark.parametrize("site", [USERS], indirect=True)
def test_curl(site: Site) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")

    def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", ""]
        return subprocess.run([program, *options, *arguments], capture_output=True, text=True, check=False)

    host, port = site.address
    page = "https://web01.internal:10933/"
    right = f"http://octo:s3cret%3Ax@{host}:{port}"
    done = curl("--proxy", right, "--insecure", page)
    assert done.returncode == 0, done.stderr
    assert "<p>Hello!</p>" in done.stdout
    for proxy, where, status in (
        (f"http://octo:wrong@{host}:{port}", page, "407"),
        (f"http://{host}:{port}", page, "407"),
        (right, "https://example.org/", "403"),
    ):
        done = curl("--proxy", proxy, "--insecure", where)
        assert done.returncode == 56, done
        assert status in done.stderr
    for arguments, status in (
        ([f"http://{host}:{port}/"], "200 OK"),
        (["--head", f"http://{host}:{port}/"], "200 OK"),
        ([f"http://{host}:{port}/metrics"], "404 Not Found"),
        (["--proxy", right, "http://example.org/"], "405 Method Not Allowed"),
        (["--data", "x", f"http://{host}:{port}/"], "405 Method Not Allowed"),
    ):
        done = curl(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"HTTP/1.1 {status}\n")
        assert "--head" in arguments or "Octopus may use it as an HTTP proxy" in done.stdout


@pytest_twisted.ensureDeferred
async def test_a_strict_octopus_and_a_strict_tentacle(site: Site, tmp_path: Path) -> None:
    tentacle = Tentacle(reactor, party("tentacle").pem(), [str(party("octopus entry face").thumbprint)], tmp_path / "home")
    port = site.listener.getsockname()[1]
    site.listener.close()
    await tentacle.listen(port)
    octopus = Octopus(reactor, party("octopus").pem(), spool=tmp_path)
    try:
        proxy = WebProxy(*site.address)
        thumbprint = str(party("web01 face").thumbprint)
        assert await octopus.discover("web01.internal", 10933, proxy) == thumbprint
        machine = octopus.machine("WEB01.internal", 10933, thumbprint, proxy=proxy)
        assert "IScriptServiceV2" in await machine.get_capabilities()
        assert (await machine.run_script("echo through the tunnel")).text() == "through the tunnel"
        assert list(octopus.violations) == []
    finally:
        await octopus.stop()
        await tentacle.stop()
    assert site.relay.access
    assert {line["outcome"] for line in await deferToThread(site.relay.access.wait, 3)} == {"ok"}


@pytest.mark.parametrize("site", [{"connections": 20}], indirect=True)
def test_slow_callers_take_no_more_than_their_place_and_everybody_is_answered(site: Site) -> None:
    slow = [site.dial(asking()[:-2]) for _ in range(10)]  # as many of the 20 as one source may have that is not identified
    assert site.answer(asking()) == ESTABLISHED  # no place: a tunnel, and a close, which Octopus tries again
    assert site.answer(asking("nowhere:1")).startswith(b"HTTP/1.1 403 Forbidden\r\n")
    site.relay.log.wait(reason="source-strangers")
    slow.pop().close()
    site.relay.log.wait(reason="left-early")
    site.calls(asking())
    for sock in slow:
        sock.sendall(b"\r\n")
        assert sock.recv(len(ESTABLISHED), socket.MSG_WAITALL) == ESTABLISHED


@pytest.mark.parametrize("site", [USERS], indirect=True)
def test_the_relay_s_door_is_probed(site: Site, tmp_path: Path) -> None:
    def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "relay", "probe", *arguments, "--config", str(tmp_path / "relay.yaml")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    done = probe("web01", "--connect")
    assert (done.returncode, done.stderr) == (0, "")
    heading, row = done.stdout.splitlines()
    assert heading.split() == ["MACHINE", "TARGET", "DOOR", "RESULT", "MS"]
    assert row.split()[:4] == ["web01", "web01.internal:10933", f"{HOST}:{site.address[1]}", "fine"]
    [found] = parsed(probe("web01", "--connect", "--json").stdout, "probe-connect")
    assert found["shown"] == found["expected"] == str(party("web01 face").thumbprint)
    (tmp_path / "users").write_text("octo:newer\n")
    done = probe("web01", "--connect")
    assert done.returncode == 1
    assert "What happened: it answered 407 Proxy Authentication Required." in done.stdout
    assert "What to do: Reload the relay, if front.credentials has changed" in done.stdout
    assert probe("web01", "--connect", "--octopus", "production").returncode == 2
    assert probe("web01", "--address", "relay.corp").returncode == 2
