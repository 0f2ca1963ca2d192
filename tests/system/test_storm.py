"""Strangers in numbers, and limits that are reached: calls that are under way do not feel it, and the relay recovers."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import pytest
from exchanges import call
from scripted import CLIENT, NEXT, PREAMBLE, Peer, client_hello
from system import Machine, eventually, site

SCANNERS: Final = 1000


class Calling:
    """Calls one after the other, each time as the next caller in the pool's turn, until it is told to stop."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._caller, self._tentacle = machine.ready()
        self._stop = threading.Event()
        self._more = threading.Condition()
        self._error: BaseException | None = None
        self.count = 0
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            call(self._caller, self._tentacle)
            while not self._stop.is_set():
                begun = time.monotonic()
                self._machine.turn(self._caller, self._tentacle)
                call(self._caller, self._tentacle)
                with self._more:
                    self.longest = max(self.longest, time.monotonic() - begun)
                    self.count += 1
                    self._more.notify_all()
        except BaseException as error:
            self._error = error
            with self._more:
                self._more.notify_all()

    def more(self, count: int) -> None:
        """Waits until it has made so many more calls."""
        with self._more:
            wanted = self.count + count
            assert self._more.wait_for(lambda: self.count >= wanted or self._error, 20)


# ---- scanners -----------------------------------------------------------------------------------------------------------


class Scanner:
    """Connections of strangers, kept open."""

    def __init__(self, door: tuple[str, int]) -> None:
        self._door = door
        self._open: list[Any] = []

    def _connect(self, data: bytes = b"") -> None:
        sock = socket.create_connection(self._door, 20)
        self._open.append(sock)
        with contextlib.suppress(OSError):
            sock.sendall(data)

    def silent(self) -> None:
        self._connect()

    def gone(self) -> None:
        self._connect()
        self._open.pop().close()

    def garbage(self) -> None:
        self._connect(b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00")

    def half_hello(self) -> None:
        self._connect(client_hello()[:60])

    def broken_hello(self) -> None:
        hello = bytearray(client_hello())
        hello[44] ^= 0xFF  # a length within it
        self._connect(bytes(hello))

    def half_handshake(self) -> None:
        self._connect(client_hello())

    def broken_handshake(self) -> None:
        self._connect(client_hello() + b"\x17\x03\x03\x00\x01x")

    def silent_in_tls(self) -> None:
        self._open.append(Peer.dial(self._door, who=""))

    def browser(self) -> None:
        self._open.append(Peer.dial(self._door, who=""))
        self._open[-1].send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")

    def stranger(self) -> None:
        self._open.append(Peer.dial(self._door, who="intruder"))
        self._open[-1].send(PREAMBLE, CLIENT)

    def come(self, number: int) -> None:
        """One more, in one of all these ways; those with a handshake take longer than the others, and come now and then."""
        quick = [self.silent, self.gone, self.garbage]
        hellos = [self.half_hello, self.broken_hello, self.half_handshake, self.broken_handshake]
        slow = [self.silent_in_tls, self.browser, self.stranger]
        ways = quick + hellos if number % 10 else slow
        ways[number % len(ways)]()

    def close(self) -> None:
        for each in self._open:
            each.close()


@contextlib.contextmanager
def scanner(machine: Machine) -> Iterator[Scanner]:
    made = Scanner(machine.address)
    try:
        yield made
    finally:
        made.close()


def test_scanner_while_calls_go_on(tmp_path: Path) -> None:
    """Every call succeeds, and none waits long."""
    with site(tmp_path, relay={"timeouts": {"client_hello": "500ms", "identify": "1s"}}) as made:
        [machine] = made.machines
        with Calling(machine) as calling, scanner(machine) as strangers:
            for number in range(SCANNERS):
                strangers.come(number)
            calling.more(20)
            for reason in ("left-early", "not-tls", "hello-timeout", "tls", "untrusted"):
                made.relay.log.wait(event="caller refused", reason=reason)
        assert calling.longest < 1
        assert {line["outcome"] for line in machine.calls(calling.count)} == {"ok"}


# ---- limits -------------------------------------------------------------------------------------------------------------


def test_descriptors_run_out(tmp_path: Path) -> None:
    """Accepting pauses, and says so; calls go on. As soon as there are descriptors again, callers come in."""
    with site(tmp_path, descriptors=64) as made, contextlib.ExitStack() as stack:
        [machine] = made.machines
        caller, tentacle = machine.ready()
        call(caller, tentacle)
        for _ in range(100):
            stack.enter_context(socket.create_connection(machine.address, 20))
        made.relay.log.wait(event="accepting pauses: no file descriptor is free")
        assert made.relay.held()[0] == 64
        machine.turn(caller, tentacle)
        call(caller, tentacle)
        stack.close()
        for _ in range(3):
            call(machine.next_caller(tentacle), tentacle)
        machine.expect_outcomes(*["ok"] * 5)


def test_no_descriptor_for_a_dial(tmp_path: Path) -> None:
    """The caller sees what it sees of a Tentacle that is down, and the log says why."""
    with site(tmp_path, descriptors=64) as made, contextlib.ExitStack() as stack:
        [machine] = made.machines
        caller, tentacle = machine.ready()
        call(caller, tentacle)
        tentacle.close()
        eventually(lambda: made.relay.held()[0] == made.relay.at_rest[0] + 1, lambda: "the Tentacle's close goes unseen")
        for _ in range(100):
            stack.enter_context(socket.create_connection(machine.address, 20))
        made.relay.log.wait(event="accepting pauses: no file descriptor is free")
        caller.send(NEXT)
        caller.expect_fin()
        machine.expect_outcomes("ok", "descriptors")


def test_connections_are_limited(tmp_path: Path) -> None:
    """One caller more is closed at once, before TLS; when one has gone, another may come."""
    with site(tmp_path, relay={"limits": {"connections": 5}}) as made:
        [machine] = made.machines
        callers = [machine.ready()[0] for _ in range(5)]
        with pytest.raises(ConnectionError):
            machine.call()
        [line] = made.relay.log.wait(event="caller refused")
        assert line["reason"] == "connections"
        callers[2].close()
        eventually(lambda: made.relay.held()[0] == made.relay.at_rest[0] + 8, lambda: "the caller's close goes unseen")
        call(*machine.ready())


def test_a_stranger_makes_room_for_another_source(tmp_path: Path) -> None:
    """Whoever holds all that is for strangers loses its oldest, and its own next one is refused."""
    with site(tmp_path, relay={"limits": {"connections": 10, "strangers": 3}}) as made:
        [machine] = made.machines
        held = [socket.create_connection(machine.address, 20, ("127.0.0.9", 0)) for _ in range(3)]
        with socket.create_connection(machine.address, 20, ("127.0.0.9", 0)) as beyond:
            beyond.settimeout(20)
            assert beyond.recv(1) == b""
        call(*machine.ready())  # of another address
        held[0].settimeout(20)
        assert held[0].recv(1) == b""
        lines = made.relay.log.wait(event="caller refused", reason="source-strangers")
        lines += made.relay.log.wait(event="caller refused", reason="strangers")
        assert all(line["peer"].startswith("127.0.0.9:") for line in lines)
        for sock in held:
            sock.close()


def test_handshakes_are_limited(tmp_path: Path) -> None:
    """Callers beyond the rate wait for their turn, and calls under way do not."""
    with site(tmp_path, relay={"limits": {"handshakes": 20}}) as made:
        [machine] = made.machines
        with Calling(machine) as calling:
            begun = time.monotonic()
            for _ in range(20):
                machine.call()
            assert time.monotonic() - begun > 0.8
        assert calling.longest < 0.5
        assert calling.count > 20
