"""Links that are cut, on legs of every kind: packets to the peer are dropped, and nothing comes back, neither ACK nor RST.

docs/topologies.md says how soon the relay finds out. Most of it is the kernel's doing and takes its time:
RELAY_TENTACLE_SLOW_TESTS=1 runs that.
"""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from exchanges import asked, call, told
from scripted import CLIENT, NEXT, PREAMBLE, PROCEED, SERVER, SOON, Peer, party, vanish
from system import HOST, Machine, RelayProcess, eventually, free_ports, identify, site

from relay.halibut.lines import subscriber_identity

PROVE: Final = 0.5
CONNECT: Final = 1.0
QUICK: Final = {"timeouts": {"prove": "500ms", "connect": "1s"}}

slow = pytest.mark.skipif(
    not os.environ.get("RELAY_TENTACLE_SLOW_TESTS"), reason="takes 100 s; RELAY_TENTACLE_SLOW_TESTS=1 runs it"
)
KEEP_ALIVE: Final = (60, 67)  # seconds: 15 and 10 times 5 from what came last
CUT_OFF: Final = (65, 80)  # 65 s in which nothing moved, which is looked at every 5 s, and begins when that is seen
_ID: Final = {"kiosk": "poll://sq-kiosk/", "pulled": "poll://sq-pulled/", "called": "poll://sq-called/"}
WEB, KIOSK, PULLED, CALLED = "web", "kiosk", "pulled", "called"


def test_an_idle_connection_costs_the_next_call_its_proof(quick: Machine) -> None:
    """And no more, where the Tentacle can be dialled."""
    caller, tentacle = quick.ready()
    call(caller, tentacle)
    tentacle.vanish()
    caller.send(NEXT)
    begun = time.monotonic()
    another = quick.accept()
    assert time.monotonic() - begun >= PROVE * 0.95
    identify(another)
    caller.expect(PROCEED)
    call(caller, another)
    quick.expect_outcomes("ok", "ok")
    assert not quick.relay.holds(tentacle)


def test_a_tentacle_that_is_gone_altogether_is_said_to_be(quick: Machine) -> None:
    """Its proof and one dial, and the caller sees the close of a Tentacle that cannot be had."""
    caller, tentacle = quick.ready()
    call(caller, tentacle)
    tentacle.vanish()
    vanish(quick.listener)
    begun = time.monotonic()
    caller.send(NEXT)
    caller.expect_fin(within=PROVE + CONNECT + SOON)
    assert time.monotonic() - begun >= (PROVE + CONNECT) * 0.95
    quick.expect_outcomes("ok", "connect-timeout")


class Legs:
    """A relay with machines of each kind: web and kiosk are dialled by Octopus, pulled and called are polled for; kiosk's
    Tentacle polls, the others' listen.
    """

    def __init__(self, folder: Path) -> None:
        self._peers: list[Peer] = []
        self.doors = dict(zip((WEB, KIOSK, "back"), free_ports(3), strict=True))
        self.node = socket.create_server((HOST, 0))
        self.tentacles = {name: socket.create_server((HOST, 0)) for name in (WEB, PULLED, CALLED)}
        for name, who in ((name, f"{name} as Tentacle") for name in (WEB, KIOSK, PULLED, CALLED)):
            _write(folder, name, who)
        _write(folder, "production", "relay as Octopus")
        polled = {"front": "polling"}
        ways: dict[str, dict[str, Any]] = {
            WEB: {**self._at(WEB), "port": f"{HOST}:{self.doors[WEB]}"},
            KIOSK: {"tentacle": "poll://sq-kiosk/", "port": f"{HOST}:{self.doors[KIOSK]}"},
            PULLED: {**self._at(PULLED), **polled, "subscription": "poll://sq-pulled/"},
            CALLED: {**self._at(CALLED), **polled, "subscription": "poll://sq-called/"},
        }
        pin = str(party("tentacle").thumbprint)
        self.relay = RelayProcess(
            folder,
            {
                "relay": {"name": "test", "state": "state"},
                "octopus": [
                    {
                        "name": "production",
                        "thumbprint": str(party("octopus").thumbprint),
                        "identity": "production.pem",
                        "nodes": [f"https://{HOST}:{self.node.getsockname()[1]}"],
                    }
                ],
                "back": {"listen": f"{HOST}:{self.doors['back']}"},
                "machines": [{"name": name, "thumbprint": pin, "identity": f"{name}.pem", **way} for name, way in ways.items()],
                "admin": {"listen": "none"},
            },
        )

    def _at(self, name: str) -> dict[str, str]:
        return {"tentacle": f"https://{HOST}:{self.tentacles[name].getsockname()[1]}"}

    def keep(self, peer: Peer) -> Peer:
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        self.relay.kill()
        for each in (*self._peers, self.node, *self.tentacles.values()):
            each.close()

    # ---- who is there -----------------------------------------------------------------------------------------------

    def tentacle(self, name: str) -> Peer:
        """The relay dials it."""
        tentacle = self.keep(Peer.accept(self.tentacles[name]))
        identify(tentacle)
        return tentacle

    def caller(self, name: str) -> Peer:
        caller = self.keep(Peer.dial((HOST, self.doors[name])))
        caller.send(PREAMBLE, CLIENT)
        return caller

    def poller(self) -> Peer:
        poller = self.keep(Peer.dial((HOST, self.doors["back"]), "tentacle"))
        poller.send(PREAMBLE, subscriber_identity("poll://sq-kiosk/"))
        poller.expect(SERVER)
        return poller

    def polls(self) -> dict[bytes, Peer]:
        """A poll for each machine that is polled for, by what it says it is."""
        found = {}
        for _ in range(2):
            poll = self.keep(Peer.accept(self.node, "octopus"))
            poll.expect(PREAMBLE)
            found[poll.receive()] = poll
            poll.send(SERVER)
        return found

    def web(self) -> tuple[Peer, Peer]:
        caller = self.caller(WEB)
        tentacle = self.tentacle(WEB)
        caller.expect(SERVER)
        return caller, tentacle


def _write(folder: Path, name: str, who: str) -> None:
    (folder / f"{name}.pem").touch(0o600)
    (folder / f"{name}.pem").write_bytes(party(who).pem())


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Machine]:
    with site(tmp_path, defaults=QUICK) as made:
        yield made.unused()


@pytest.fixture
def legs(tmp_path: Path) -> Iterator[Legs]:
    made = Legs(tmp_path)
    yield made
    made.close()


def begin(caller: Peer, tentacle: Peer, text: str) -> None:
    caller.send(asked(text))
    tentacle.expect(asked(text))


@slow
def test_each_leg_is_found_in_its_time(legs: Legs) -> None:
    """And whoever waits at the other side of a call hears of it at once."""
    parked_back, called_back = legs.tentacle(PULLED), legs.tentacle(CALLED)
    polls = legs.polls()
    busy_poll, idle_poll = polls[subscriber_identity(_ID[CALLED])], polls[subscriber_identity(_ID[PULLED])]
    begin(busy_poll, called_back, "of a node that goes")
    legs.tentacle(CALLED)  # another one is kept ready
    busy_poller = legs.poller()
    kiosk_caller = legs.caller(KIOSK)
    kiosk_caller.expect(SERVER)
    begin(kiosk_caller, busy_poller, "to a polling Tentacle that goes")
    parked_poller = legs.poller()
    gone_caller, left_back = legs.web()
    begin(gone_caller, left_back, "of a caller that goes")
    sending_caller, silent_back = legs.web()
    deaf_caller, replying_back = legs.web()
    begin(deaf_caller, replying_back, "whose reply is lost")
    left_caller, gone_back = legs.web()
    begin(left_caller, gone_back, "to a Tentacle that goes")
    idle_caller, idle_back = legs.web()
    call(idle_caller, idle_back)

    cut = {
        "a polling Tentacle's, parked": (parked_poller, (83, 92)),  # a null message after 30 s, and 60 s for NEXT
        "a poll, without a call": (idle_poll, (55, 68)),  # 60 s, which are looked at every 5 s, and 2 s for its FIN
        "a connection that is parked for polls": (parked_back, KEEP_ALIVE),
        "a connection that is idle in the pool": (idle_back, (48, 54)),
        "a caller's, between two calls": (idle_caller, KEEP_ALIVE),
        "a caller's, in a call": (gone_caller, KEEP_ALIVE),
        "a poll, in a call": (busy_poll, KEEP_ALIVE),
        "a listening Tentacle's, in a call": (gone_back, KEEP_ALIVE),
        "a polling Tentacle's, in a call": (busy_poller, KEEP_ALIVE),
        "a listening Tentacle's, with a request on its way": (silent_back, CUT_OFF),
        "a caller's, with a reply on its way": (deaf_caller, CUT_OFF),
    }
    for peer, _ in cut.values():
        peer.vanish()
    sending_caller.send(asked("to a Tentacle that went before"))
    replying_back.send(told("a part of it")[:5])
    found = times_of({name: peer for name, (peer, _) in cut.items()}, legs.relay)
    assert {name: found[name] for name, (_, (least, most)) in cut.items() if not least <= found[name] <= most} == {}
    for left in (left_back, called_back, left_caller, kiosk_caller, sending_caller, replying_back):
        left.expect_end()
    assert legs.relay.access
    outcomes = [line["outcome"] for line in legs.relay.access.wait(7)]
    assert sorted(outcomes) == [*["cancelled"] * 3, "ok", *["tentacle-gone"] * 3]


def times_of(peers: dict[str, Peer], relay: RelayProcess) -> dict[str, float]:
    """After how many seconds the relay has given each of them up."""
    begun = time.monotonic()
    found: dict[str, float] = {}

    def all_gone() -> bool:
        for name in peers.keys() - found.keys():
            if not relay.holds(peers[name]):
                found[name] = round(time.monotonic() - begun, 1)
        return peers.keys() == found.keys()

    assert all(map(relay.holds, peers.values()))
    eventually(all_gone, lambda: f"still held: {sorted(peers.keys() - found.keys())}; {found}", within=100, every=0.2)
    return found
