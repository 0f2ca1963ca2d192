import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted import PATIENCE, Peer, party
from tables import machine, table

from relay.shown import shown_at
from routing.addresses import Address

HOST = "127.0.0.1"


@contextmanager
def relay(host: str = HOST) -> Iterator[tuple[Address, list[bytes | None]]]:
    """What stands for a relay: takes one caller as the party "ours". Yields where, whom the caller asks for, what it says."""
    said: list[bytes | None] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            peer = Peer.accept(listener, "ours")
            said.extend((peer.server_name, peer.receive()))
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            peer.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Address(host, listener.getsockname()[1]), said
        thread.join(PATIENCE)


@pytest.mark.parametrize(("written", "dialled"), [(HOST, HOST), ("", HOST), ("0.0.0.0", HOST), ("::1", "::1"), ("::", "::1")])
def test_at_a_door_of_its_own(tmp_path: Path, written: str, dialled: str) -> None:
    with relay(dialled) as (address, said):
        web01 = machine(door=Address(written, address.port))
        assert shown_at(table(tmp_path, web01), web01) == (address, party("ours").thumbprint)
    assert said == [None, b"HELLO\r\n\r\n"]


def test_at_the_shared_door_by_its_name(tmp_path: Path) -> None:
    with relay() as (address, said):
        web01 = machine(door=None, host="web01.relay.corp")
        shared = table(tmp_path, web01)
        object.__setattr__(shared, "front", address)
        assert shown_at(shared, web01) == (address, party("ours").thumbprint)
    assert said == [b"web01.relay.corp", b"HELLO\r\n\r\n"]


def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    for door in (Address(HOST, port), None):
        web01 = machine(door=door)
        assert shown_at(table(tmp_path, web01), web01) is None


def test_one_who_does_not_speak_tls(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            sock.sendall(b"220 mail\r\n")
            sock.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        web01 = machine(door=Address(HOST, listener.getsockname()[1]))
        assert shown_at(table(tmp_path, web01), web01) is None
        thread.join(PATIENCE)
