"""One connection to the Tentacle at a time: callers queue for it. And what becomes of a connection that nobody uses."""

import time

from exchanges import asked, call, told
from scripted import CLIENT, END, NEXT, PREAMBLE, PROCEED, SERVER, Peer
from system import Machine, identify

READY = 1.5
OPTIONS = {
    "defaults": {
        "limits": {"connections": 1},
        "timeouts": {"ready": "1500ms", "connect": "1s", "prove": "500ms", "back_idle": "700ms", "front_idle": "1s"},
    },
    "relay": {"timeouts": {"identify": "1s", "client_hello": "1s"}},
}


def waiting(machine: Machine) -> Peer:
    """A caller that has said who it is, and that the relay has heard: a later one comes after it."""
    caller = machine.call()
    caller.send(PREAMBLE, CLIENT)
    machine.expect_heard(caller)
    return caller


def test_callers_take_their_turn(machine: Machine) -> None:
    """The connection goes from one to the next in the order in which they came, proved each time; there is no second one."""
    first, tentacle = machine.ready()
    callers = [first] + [waiting(machine) for _ in range(3)]
    first.send(asked("0"))
    tentacle.expect(asked("0"))
    tentacle.send(told("0"))
    first.expect(told("0"))
    for caller in callers[1:]:
        tentacle.expect(NEXT)
        tentacle.send(PROCEED)
        caller.expect(SERVER)
        call(caller, tentacle)
    machine.expect_no_dial()
    lines = machine.calls(4)
    assert [line["outcome"] for line in lines] == ["ok"] * 4
    assert all(line["queue_ms"] > 0 and line["reused"] for line in lines[1:])


def test_caller_that_waits_in_vain(machine: Machine) -> None:
    """No longer than ``ready``, and then it sees a close without a byte, as of a Tentacle that is overloaded."""
    first, tentacle = machine.ready()
    first.send(asked("long"))
    tentacle.expect(asked("long"))
    begun = time.monotonic()
    second = waiting(machine)
    second.expect_fin(within=2 * READY)
    assert time.monotonic() - begun >= READY * 0.95
    tentacle.send(told("long"))
    first.expect(told("long"))
    machine.expect_outcomes("queue-timeout", "ok")


def test_caller_that_leaves_the_queue(machine: Machine) -> None:
    """Whoever is behind it takes its turn."""
    first, tentacle = machine.ready()
    first.send(asked("call"))
    tentacle.expect(asked("call"))
    second, third = waiting(machine), waiting(machine)
    second.close()
    machine.expect_outcomes("caller-left")
    tentacle.send(told("call"))
    first.expect(told("call"))
    tentacle.expect(NEXT)
    tentacle.send(PROCEED)
    third.expect(SERVER)
    call(third, tentacle)


def test_connection_that_dies_with_callers_behind_it(machine: Machine) -> None:
    """Its own caller loses its call; the next one gets a new connection."""
    first, tentacle = machine.ready()
    first.send(asked("call"))
    tentacle.expect(asked("call"))
    second = waiting(machine)
    tentacle.close()
    first.expect_fin()
    another = machine.accept()
    identify(another)
    second.expect(SERVER)
    call(second, another)
    machine.expect_outcomes("tentacle-gone", "ok")


def test_idle_connection_is_given_up(machine: Machine) -> None:
    """Before its Tentacle would drop it, and with END, as Octopus does (wire.md 1.10, 3.2). The caller's own stays."""
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    tentacle.expect(END)
    tentacle.expect_fin()
    caller.send(NEXT)
    identify(machine.accept())
    caller.expect(PROCEED)


def test_callers_that_are_silent(machine: Machine) -> None:
    """Whoever does not say who it is, does not send its request, or does not call again: the relay looks every five seconds."""
    caller, tentacle = machine.ready()
    call(caller, tentacle)
    tentacle.expect(END)
    ready, tentacle = machine.ready()
    mute = machine.call()
    half = machine.call()
    half.send(PREAMBLE)
    for each in (caller, mute, half, ready):
        each.expect_fin(within=8)
    tentacle.expect_fin()
    machine.expect_outcomes("ok", "caller-silent")
    [line] = machine.relay.log.wait(event="caller refused", machine=machine.name)  # the second of its kind is only counted
    assert line["reason"] == "identify-timeout"
