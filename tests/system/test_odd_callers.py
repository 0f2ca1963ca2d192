"""Callers that are not Octopus, or not a polite one: what the relay answers, beside what real Tentacles answered them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from halibut_bytes import REQUEST, RESPONSE
from recordings import Side, label, odd_cases, records
from scripted import CLIENT, PREAMBLE, SERVER, Peer
from system import Machine, identify

from relay.page import PAGE

Answer = tuple[bytes, bool]  # what came, and whether the connection was closed behind it; False: silence

CASES = [path for path in odd_cases() if path.parent.name.startswith("odd-tentacle-")]
CALLERS = {
    "browser-get": "",
    "handshake-post": "",
    "hello": "",
    "unknown-word": "",
    "client-without-certificate": "",
    "subscriber-without-certificate": "",
    "client-untrusted": "intruder",
    "subscriber-untrusted": "intruder",
}
STRICTER: Final[dict[str, dict[str, Answer]]] = {
    # No machine's queue and no other role is for whoever is trusted as an Octopus (wire.md 10.13); Halibut does not look.
    "subscriber-trusted": {"4.4.8": (b"", True), "head": (b"", True)},
    # An identity ends in CRLF, as since 5.0.205; 4.4.8 takes any newline. No Octopus sends a bare one (wire.md 2.4).
    "client-lf-only": {"4.4.8": (b"", False)},
    # The relay has nothing to keep for a caller that is gone; a real Tentacle waits for its read timeout.
    "client-half-then-close": {"4.4.8": (b"", True), "head": (b"", True)},
}


def test_every_case_is_here() -> None:
    assert len(CASES) == 42


@pytest.mark.parametrize("path", CASES, ids=label)
def test_odd_caller(machine: Machine, path: Path) -> None:
    version = path.parent.name.removeprefix("odd-tentacle-")
    theirs = recorded(path)
    assert theirs != STRICTER.get(path.stem, {}).get(version), "no difference: the line in STRICTER is of no use"
    ours = STRICTER.get(path.stem, {}).get(version, theirs)
    assert answered(machine, path) == ours


def recorded(path: Path) -> Answer:
    listener = [record for record in records(path) if record.side is Side.LISTENER]
    return b"".join(record.data for record in listener), any(record.closed for record in listener)


def answered(machine: Machine, path: Path) -> Answer:
    """Says the same to the relay's door."""
    who = CALLERS.get(path.stem, "octopus")
    caller = machine.call(who)
    said, heard, tentacle = b"", b"", None
    for record in records(path):
        if record.side is Side.LISTENER:
            continue
        caller.send(record.data)
        said += record.data
        if tentacle is None and who == "octopus" and b"MX-CLIENT" in said and said.endswith(b"\r\n\r\n"):
            tentacle = machine.accept()
            identify(tentacle)
            heard = caller.receive()
    if path.stem == "client-half-then-close":
        caller.half_close()
    if path.stem in SILENT:
        SILENT[path.stem](machine, caller, tentacle)
        return heard, False
    while record := caller.receive():
        heard += record
    if tentacle:
        tentacle.expect_fin()  # nothing of what was said reached it
    else:
        machine.expect_no_dial()
    return heard, True


# ---- silence: nothing has come where what comes next is the answer to something else --------------------------------------


def begins(machine: Machine, caller: Peer, _: Peer | None) -> None:
    """It had not begun."""
    caller.send(PREAMBLE, CLIENT)
    identify(machine.accept())
    caller.expect(SERVER)


def calls(_: Machine, caller: Peer, tentacle: Peer | None) -> None:
    """It is welcome, and makes its call."""
    assert tentacle
    caller.send(REQUEST)
    tentacle.expect(REQUEST)
    tentacle.send(RESPONSE)
    caller.expect(RESPONSE)


def ends_line(machine: Machine, caller: Peer, _: Peer | None) -> None:
    """Its line is still open: it is an identity as soon as it ends. The first word decides, here and in Halibut."""
    caller.send(b"\r\n\r\n")
    identify(machine.accept())
    caller.expect(SERVER)


def ends_preamble(machine: Machine, caller: Peer, _: Peer | None) -> None:
    """Its preamble is still open: it is none as soon as it ends."""
    caller.send(b"\n\n")
    caller.expect(PAGE)
    caller.expect_fin()
    machine.expect_no_dial()


SILENT: Final[dict[str, Callable[[Machine, Peer, Peer | None], None]]] = {
    "silence": begins,
    "client-trusted-then-silence": calls,
    "client-in-one-write": calls,
    "client-byte-by-byte": calls,
    "client-wrong-version": calls,
    "client-lf-only": ends_line,
    "garbage": ends_preamble,
}
