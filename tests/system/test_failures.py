"""What goes wrong before a call has begun: Octopus sees a close and not one byte, as if it had called the Tentacle itself."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from exchanges import asked, call
from halibut_bytes import RESPONSE
from scripted import CLIENT, END, NEXT, PREAMBLE, PROCEED, SERVER, TLS12, TLS13, Peer, party
from system import Machine, Site, identify

CONNECT, PROVE, READY = 0.5, 0.3, 1.0
OPTIONS = {"defaults": {"timeouts": {"connect": "500ms", "prove": "300ms", "ready": "1s"}}}


@contextmanager
def between(least: float, most: float) -> Iterator[None]:
    """It takes no less and no more, in seconds."""
    begun = time.monotonic()
    yield
    assert least * 0.95 <= time.monotonic() - begun < most


def identified(machine: Machine) -> Peer:
    """A caller that waits for MX-SERVER."""
    caller = machine.call()
    caller.send(PREAMBLE, CLIENT)
    return caller


# ---- the Tentacle cannot be had -------------------------------------------------------------------------------------------


def test_tentacle_is_down(machine: Machine) -> None:
    machine.down()
    identified(machine).expect_fin()
    machine.expect_outcomes("refused")


def test_tentacle_is_down_at_a_next_call(machine: Machine) -> None:
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    tentacle.close()
    machine.down()
    caller.send(NEXT)
    caller.expect_fin()
    machine.expect_outcomes("ok", "refused")


def test_tentacle_is_up_again(machine: Machine) -> None:
    """A failure is of one call: the next one dials anew."""
    address = machine.listener.getsockname()
    machine.down()
    identified(machine).expect_fin()
    machine.listener = socket.create_server(address)
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    machine.expect_outcomes("refused", "ok")


def test_nobody_accepts(machine: Machine) -> None:
    """The Tentacle's machine drops what comes: here, a queue that is full."""
    machine.listener.listen(0)
    with ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(machine.listener.getsockname())
        with between(CONNECT, READY):
            identified(machine).expect_fin(within=2)
    machine.expect_outcomes("connect-timeout")


def test_no_answer_in_tls(machine: Machine) -> None:
    with between(CONNECT, READY):
        identified(machine).expect_fin(within=2)
    [line] = machine.calls()
    assert (line["outcome"], line["detail"]) == ("tls", "no TLS handshake in time")
    machine.listener.accept()[0].close()


def test_no_tls(machine: Machine) -> None:
    caller = identified(machine)
    sock, _ = machine.listener.accept()
    with sock:
        sock.sendall(b"220 mail.example ESMTP\r\n")
        caller.expect_fin()
    machine.expect_outcomes("tls")


def test_no_identity(machine: Machine) -> None:
    """TLS is done and MX-SERVER does not come: within ``ready``, all of it."""
    with between(READY, 2 * READY):
        caller = identified(machine)
        tentacle = machine.accept()
        tentacle.expect(PREAMBLE, CLIENT)
        caller.expect_fin(within=2)
    tentacle.expect_fin()
    machine.expect_outcomes("ready-timeout")


def test_something_else_than_its_identity(machine: Machine) -> None:
    caller = identified(machine)
    tentacle = machine.accept()
    tentacle.expect(PREAMBLE, CLIENT)
    tentacle.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    caller.expect_fin()
    tentacle.expect_fin()
    machine.expect_outcomes("tentacle-broke")


def test_tentacle_does_not_trust_the_relay(machine: Machine) -> None:
    caller = identified(machine)
    tentacle = machine.accept()
    tentacle.expect(PREAMBLE, CLIENT)
    tentacle.close()
    caller.expect_fin()
    machine.expect_outcomes("not-trusted")


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_wrong_certificate(machine: Machine, version: int) -> None:
    """Whoever shows it gets not one byte (wire.md 1.5), and the log names what was shown."""
    caller = identified(machine)
    tentacle = machine.accept(who="intruder", version=version)
    tentacle.expect_fin()
    caller.expect_fin()
    [line] = machine.calls()
    assert line["outcome"] == "wrong-certificate"
    assert str(party("intruder").thumbprint) in line["detail"]


def test_tentacle_breaks_the_protocol_in_its_reply(machine: Machine) -> None:
    caller, tentacle = machine.ready()
    caller.send(asked("call"))
    tentacle.expect(asked("call"))
    tentacle.send(b"\xff" * 64)
    caller.expect_fin()
    tentacle.expect_fin()
    machine.expect_outcomes("tentacle-broke")


def test_tentacle_says_more_than_its_reply(machine: Machine) -> None:
    """What came whole is delivered; a connection that says anything while it is idle is dropped on sight."""
    caller, tentacle = machine.ready()
    caller.send(asked("call"))
    tentacle.expect(asked("call"))
    tentacle.send(RESPONSE)
    caller.expect(RESPONSE)
    tentacle.send(RESPONSE)
    tentacle.expect(END)
    tentacle.expect_fin()
    caller.send(NEXT)
    identify(machine.accept())
    caller.expect(PROCEED)


# ---- the caller may not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [CLIENT, b"MX-SUBSCRIBER 1.0 poll://sq-tentapoll/\r\n\r\n"], ids=["client", "subscriber"])
@pytest.mark.parametrize(
    ("who", "reason"), [("intruder", "untrusted"), ("tentacle", "untrusted"), ("", "no-certificate")], ids=str
)
def test_caller_without_trust(machine: Machine, who: str, reason: str, identity: bytes) -> None:
    """Strangers, a machine's own Tentacle, and whoever shows nothing: not one byte, and not one dial."""
    caller = machine.call(who)
    caller.send(PREAMBLE, identity)
    caller.expect_end()
    machine.expect_no_dial()
    [line] = machine.relay.log.wait(event="caller refused", machine=machine.name)
    assert line["reason"] == reason


@pytest.mark.parametrize(
    "identity", [b"MX-SUBSCRIBER 1.0 poll://sq-tentapoll/\r\n\r\n", b"MX-SERVER 1.0\r\n\r\n", b"MX-OTHER 1.0\r\n\r\n"], ids=repr
)
def test_octopus_in_another_role(machine: Machine, identity: bytes) -> None:
    """Trust is for one role only (wire.md 10.13)."""
    caller = machine.call()
    caller.send(PREAMBLE, identity)
    caller.expect_end()
    machine.expect_no_dial()
    [line] = machine.relay.log.wait(event="caller refused", machine=machine.name)
    assert line["reason"] == "broke-protocol"


def test_smuggled_request(machine: Machine) -> None:
    """Behind its request a caller sends, as a frame, NEXT and another request: neither reaches the Tentacle."""
    caller, tentacle = machine.ready()
    caller.send(asked("call"), b"NEXT\r\n" + asked("smuggled"))
    tentacle.expect(asked("call"))
    tentacle.expect_fin()
    caller.expect_end()
    machine.expect_outcomes("caller-broke")


# ---- pooled connections that are none ---------------------------------------------------------------------------------------


def test_stale_pooled_connection(machine: Machine) -> None:
    """It is closed at the very moment that it is asked to prove itself: replaced within the same call."""
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    caller.send(NEXT)
    tentacle.expect(NEXT)
    tentacle.close()
    identify(machine.accept())
    caller.expect(PROCEED)


def test_black_holed_pooled_connection(machine: Machine) -> None:
    """It answers nothing: reset after ``prove``, and replaced within the same call. Others like it are not tried first."""
    first, dead = machine.ready()
    second, dead_too = machine.ready()
    call(first, dead)
    call(second, dead_too)
    with between(PROVE, READY):
        first.send(NEXT)
        dead_too.expect(NEXT)  # the one that was used last
        alive = machine.accept()
        identify(alive)
        first.expect(PROCEED)
    dead_too.expect_reset()
    dead.expect(END)
    dead.expect_fin()
    call(first, alive)
    machine.expect_outcomes("ok", "ok", "ok")


def test_black_holed_pooled_connection_and_nothing_else(machine: Machine) -> None:
    """The whole of it takes no longer than ``ready``."""
    caller, dead = machine.ready()
    call(caller, dead)
    with between(READY, 2 * READY):
        caller.send(NEXT)
        dead.expect(NEXT)
        machine.accept().expect(PREAMBLE, CLIENT)
        caller.expect_fin(within=2)
    dead.expect_reset()
    machine.expect_outcomes("ok", "ready-timeout")


def test_wrong_answer_of_a_pooled_connection(machine: Machine) -> None:
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    caller.send(NEXT)
    tentacle.expect(NEXT)
    tentacle.send(SERVER)
    tentacle.expect_end()
    identify(machine.accept())
    caller.expect(PROCEED)


def test_many_failures_leave_nothing(shared: Site) -> None:
    """Twenty callers at once of machines that are down, black-holed and mute."""
    machines = [shared.unused() for _ in range(3)]
    machines[0].down()
    callers = [identified(machine) for machine in machines for _ in range(7)]
    mute = [machines[2].accept() for _ in range(7)]
    for caller in callers:
        caller.expect_fin(within=3)
    for tentacle in mute:
        tentacle.expect(PREAMBLE, CLIENT)
        tentacle.expect_fin()
    for machine, word in zip(machines, ("refused", "tls", "ready-timeout"), strict=True):
        machine.expect_outcomes(*[word] * 7)
        machine.close()
    shared.relay.expect_rest()
