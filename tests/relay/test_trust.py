import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import turns
from clocked_reactor import ClockedReactor, real
from identities import identity
from street import Street
from tables import PRODUCTION, STAGING, machine, table
from tls_peer import TlsPeer, server_side
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from wires import Held

from relay import trust
from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE
from relay.outcomes import Outcome
from relay.peers.tentacle import Tentacle
from relay.trust import Trust, machines_of, told_by_relay, who_trusts
from routing.addresses import Address
from routing.table import Machine

Start = Callable[..., Awaitable[Machine]]
NEW, IN_USE, STRANGER = "the next", "in use", "a stranger"


@pytest_twisted.async_yield_fixture
async def nothing_left() -> AsyncIterator[None]:
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")  # Twisted keeps a descriptor in reserve from the first on
    await port.stopListening()
    await turns()
    before = Held.now()
    yield
    await turns()
    assert Held.now() == before


@pytest_twisted.async_yield_fixture
async def start(nothing_left: None, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a Tentacle that trusts these identities; the machine in front of it."""
    started: list[Tentacle] = []

    async def listen(name: str, *trusted: str, **changed: Any) -> Machine:
        shown = identity("tentacle")
        whom = [str(identity(each).thumbprint) for each in trusted]
        tentacle = Tentacle(reactor, shown.pem(), whom, tmp_path / name)
        started.append(tentacle)
        at = Address("127.0.0.1", await tentacle.listen())
        return machine(name, **{"tentacle": at, "thumbprints": (shown.thumbprint,), **changed})

    yield listen
    for tentacle in started:
        await tentacle.stop()


def asked(*machines: Machine, **options: Any) -> Awaitable[list[Trust]]:
    return who_trusts(options.pop("reactor", real), machines, identity(NEW), identity(IN_USE), **options)


@pytest_twisted.ensureDeferred
async def test_each_says_whether_it_trusts_the_next_one(start: Start) -> None:
    both = await start("both", IN_USE, NEW)
    old = await start("old", IN_USE)
    neither = await start("neither", STRANGER)
    known: list[Trust] = []
    found = await asked(both, old, neither, progress=known.append)
    assert found == [
        Trust(both, True),
        Trust(old, False, Outcome.NOT_TRUSTED, "it trusts the identity in use, and not this one yet"),
        Trust(neither, False, Outcome.NOT_TRUSTED, "it closes on the identity in use, too: it trusts neither, or is stopping"),
    ]
    assert sorted(known, key=found.index) == found


@pytest_twisted.ensureDeferred
async def test_a_pin_of_either_kind_is_enough(start: Start) -> None:
    others = (identity(STRANGER).thumbprint, identity("tentacle").sha256)
    assert await asked(pinned := await start("pinned", NEW, thumbprints=others)) == [Trust(pinned, True)]


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_be_asked_is_no_yes_and_no_no(start: Start) -> None:
    other = await start("other", NEW, thumbprints=(identity(STRANGER).thumbprint,))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    down = machine("down", tentacle=Address("127.0.0.1", port))
    wrong, refused = await asked(other, down)
    assert (wrong.trusts, wrong.outcome) == (None, Outcome.WRONG_CERTIFICATE)
    assert str(identity("tentacle").thumbprint) in wrong.detail
    assert (refused.trusts, refused.outcome, refused.detail) == (None, Outcome.REFUSED, "Connection refused")


@pytest_twisted.ensureDeferred
async def test_one_that_says_nothing_is_given_up(nothing_left: None) -> None:
    """It shakes hands, and no more."""
    street = Street()
    shown = identity("tentacle")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = Address("127.0.0.1", listener.getsockname()[1])
        silent = machine("silent", tentacle=at, thumbprints=(shown.thumbprint,), connect=5.0, ready=8.0)
        asking = Deferred.fromCoroutine(asked(silent, reactor=street.reactor))
        await street.spin(lambda: select.select([listener], [], [], 0)[0])
        sock, _ = listener.accept()
    sock.setblocking(False)
    tentacle = TlsPeer(street.changes, sock, server_side("TLSv1.3", shown), listens=True)
    await street.changes.until(lambda: len(tentacle.data) >= len(PREAMBLE + CLIENT_IDENTITY))
    street.reactor.advance(7.9)
    assert not tentacle.end
    street.reactor.advance(0.1)
    await street.ended(tentacle)
    assert await asking == [Trust(silent, None, Outcome.READY_TIMEOUT, "it did not say within `ready` who it is")]
    assert street.reactor.timers == []


@pytest_twisted.ensureDeferred
async def test_no_more_than_so_many_are_asked_at_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "AT_ONCE", 2)
    at_once: list[int] = []
    visits: list[trust._Visit] = []

    class Counted(trust._Visit):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            visits.append(self)
            at_once.append(sum(not visit.end.called for visit in visits))

    monkeypatch.setattr(trust, "_Visit", Counted)
    machines = [await start(f"web{number}", NEW) for number in range(5)]
    assert [found.trusts for found in await asked(*machines)] == [True] * 5
    assert max(at_once) == 2


@pytest_twisted.ensureDeferred
async def test_nobody_to_ask() -> None:
    assert await asked(reactor=ClockedReactor()) == []


def test_the_machines_whose_tentacles_see_an_entry(tmp_path: Path) -> None:
    both, one = machine("both", octopus=(PRODUCTION, STAGING)), machine("one", octopus=(STAGING,))
    found = table(tmp_path, both, one)
    assert machines_of(found, "production") == [both]
    assert machines_of(found, "staging") == [both, one]


def test_a_polling_tentacle_sees_the_identity_of_the_entry_at_the_back(tmp_path: Path) -> None:
    kiosk = machine("kiosk7", tentacle=None, subscription="poll://sq/")
    both = table(tmp_path, kiosk, machine("web01"), back_octopus=STAGING)
    assert [each.name for each in machines_of(both, "production")] == ["web01"]
    assert [each.name for each in machines_of(both, "staging")] == ["kiosk7", "web01"]


@pytest_twisted.ensureDeferred
async def test_a_polling_tentacle_cannot_be_asked(nothing_left: None) -> None:
    kiosk = machine("kiosk7", tentacle=None, subscription="poll://sq/")
    told = await who_trusts(ClockedReactor(), [kiosk], identity(NEW), identity(IN_USE))
    assert told == [Trust(kiosk, None, None, "its Tentacle polls the relay, and cannot be asked")]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, "no relay runs here"),
        ({}, "the running relay does not know this machine yet"),
        ({"live": True, "pollers": 2, "last_failure": None}, "with 2 connections, so it trusts the identity in use"),
        ({"live": False, "last_failure": None}, "it polls the relay, and is away"),
        ({"live": False, "last_failure": {"kind": "node", "word": "refused"}}, "it polls the relay, and is away"),
        (
            {"live": False, "last_failure": {"kind": "refusal", "word": "certificate-refused"}},
            "has refused the identity in use",
        ),
    ],
)
def test_what_the_running_relay_knows_of_a_polling_tentacle(told: dict[str, object] | None, said: str) -> None:
    kiosk = machine("kiosk7", tentacle=None, subscription="poll://kiosk7/")
    machines = None if told is None else {"kiosk7": told} if told else {}
    web, polls = told_by_relay([Trust(machine("web01"), True), Trust(kiosk, None)], machines)
    assert web == Trust(machine("web01"), True)
    assert polls.trusts is None
    assert said in polls.detail
