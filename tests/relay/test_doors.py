import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from identities import identity
from service_site import OCTOPUS, Service
from street import Street
from tables import machine, table
from tls_peer import FIN, RST, TlsPeer, client_side
from wires import Held

from certs.thumbprint import Thumbprint
from relay import doors
from relay.doors import LANES, OWN_LANES, OWN_LANES_OF_ALL, sockets_needed
from relay.errors import StartError
from relay.refusals import SUMMARY
from relay.service import CHECK_EVERY
from relay.transport.lanes import listening_socket
from routing.addresses import Address
from routing.table import Machine

FRONT = Address("127.0.0.1", 0)


def hosted(name: str, host: str, door: Address | None = None) -> Machine:
    return machine(name, host=host, door=door, octopus=(OCTOPUS,), tentacle=Address("127.0.0.1", 1))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Corner:
    """A relay with doors, and callers at them."""

    def __init__(self, folder: Path, *machines: Machine, front: Address | None = FRONT) -> None:
        self.street = Street()
        self.relay = Service(folder, self.street.reactor, *machines, front=front)
        self.service = self.relay.service
        self.service.start()

    @property
    def shared(self) -> tuple[str, int]:
        address = self.service.shared_door
        assert address
        return address

    async def calls(self, name: str | None, address: tuple[str, int] | None = None) -> str:
        """Which machine somebody gets who asks for this name."""
        context = client_side("TLSv1.3", identity("octopus"))
        return self.shown(await self.street.call(address or self.shared, context, name=name))

    def shown(self, caller: TlsPeer) -> str:
        """Whose certificate a caller was shown."""
        certificate = caller.tls.getpeercert(binary_form=True)
        assert certificate
        thumbprint = Thumbprint.of(certificate)
        names = self.service.routes
        return next(name for name in names if self.service.faces.of_machine(name).thumbprint == thumbprint)

    async def turned_away(self, name: str | None) -> None:
        """Somebody who asks for it sees a close, and no byte before it."""
        caller = await self.street.call(self.shared, shakes=False, name=name)
        assert await self.street.ended(caller) == FIN
        assert (caller.records, caller.shaken) == ([], False)

    def refusals(self) -> list[tuple[str, str]]:
        return [(line["reason"], line["detail"]) for line in self.relay.log("caller refused")]

    async def clean(self) -> None:
        self.service.stop()
        await self.street.clean()
        self.street.reactor.advance(100)
        assert self.street.reactor.timers == []
        assert self.relay.metric("relay_connections") == 0


@pytest_twisted.async_yield_fixture
async def made(tmp_path: Path) -> AsyncIterator[list[Corner]]:
    await turns()
    before = Held.now()
    corners: list[Corner] = []
    yield corners
    for corner in corners:
        await corner.clean()
    await turns()
    assert Held.now() == before


@pytest.fixture
def corner(tmp_path: Path, made: list[Corner]) -> Corner:
    """Two machines behind the shared door; the second has a port as well."""
    made.append(Corner(tmp_path, hosted("web01", "web01.relay.corp"), hosted("web02", "web02.relay.corp", FRONT)))
    return made[0]


# ---- the shared door ----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_name_says_which_machine_is_meant(corner: Corner) -> None:
    assert await corner.calls("web01.relay.corp") == "web01"
    assert await corner.calls("WEB02.Relay.Corp") == "web02"
    assert corner.relay.log("caller refused") == []


@pytest_twisted.ensureDeferred
async def test_a_machine_may_have_a_port_too_where_no_name_is_needed(corner: Corner) -> None:
    [(owner, address)] = corner.service.doors.items()
    assert owner == "web02"
    assert await corner.calls(None, address) == "web02"
    assert await corner.calls("web01.relay.corp", address) == "web02"


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("web03.relay.corp", "unknown-name", "no machine has the host web03.relay.corp"),
        ("web01", "unknown-name", "no machine has the host web01"),
        (None, "no-name", "it did not say by SNI which machine it wants"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_whoever_names_no_machine_sees_no_byte(corner: Corner, name: str | None, reason: str, detail: str) -> None:
    await corner.turned_away(name)
    assert corner.refusals() == [(reason, detail)]
    [line] = corner.relay.log("caller refused")
    assert (line["machine"], line["level"]) == (None, "warning")
    assert corner.relay.metric("relay_refusals_total", reason=reason) == 1
    assert corner.relay.metric("relay_connections") == 0


@pytest_twisted.ensureDeferred
async def test_a_scan_for_names_costs_a_line_and_its_sum(corner: Corner) -> None:
    for number in range(5):
        await corner.turned_away(f"web9{number}.relay.corp")
    assert corner.refusals() == [("unknown-name", "no machine has the host web90.relay.corp")]
    for _ in range(int(SUMMARY / CHECK_EVERY) + 1):
        corner.street.reactor.advance(CHECK_EVERY)
    [line] = corner.relay.log("callers refused")
    assert (line["reason"], line["source"], line["count"], line["machines"]) == ("unknown-name", "127.0.0.1", 4, [])
    assert line["last_detail"] == "no machine has the host web94.relay.corp"


@pytest_twisted.ensureDeferred
async def test_a_name_that_ends_with_a_dot_is_the_same(corner: Corner) -> None:
    assert await corner.calls("web01.relay.corp.") == "web01"


@pytest_twisted.ensureDeferred
async def test_a_drained_machine_is_closed_at_the_shared_door_and_the_others_are_not(corner: Corner) -> None:
    corner.service.drain_machine("web01")
    await corner.turned_away("web01.relay.corp")
    assert corner.refusals() == [("machine-drained", "the machine is drained")]
    assert await corner.calls("web02.relay.corp") == "web02"


@pytest_twisted.ensureDeferred
async def test_contexts_are_made_for_whoever_is_asked_for(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    first = corner.service.faces.server
    made: list[str] = []
    monkeypatch.setattr(corner.service.faces, "server", lambda name: (made.append(name), first(name))[1])
    for _ in range(2):
        assert await corner.calls("web01.relay.corp") == "web01"
    assert made == ["web01"] * 2
    assert first("web01") is first("web01")


@pytest_twisted.ensureDeferred
async def test_a_shared_door_that_cannot_be_opened_names_its_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartError) as raised:
            Corner(tmp_path, hosted("web01", "web01.relay.corp"), front=address)
    assert str(raised.value) == (
        f"the shared door: cannot listen on {address}: Address already in use. "
        "Free the port, or write another one in `front.listen`."
    )


# ---- another table ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_hosts_are_those_of_the_table_in_force(corner: Corner) -> None:
    early = corner.street.connect(corner.shared)
    await corner.street.spin(lambda: corner.relay.metric("relay_connections") == 1)
    corner.relay.reload(hosted("web01", "web02.relay.corp"), hosted("web02", "other.relay.corp"), front=FRONT)
    assert await corner.calls("web02.relay.corp") == "web01"
    assert await corner.calls("other.relay.corp") == "web02"
    await corner.turned_away("web01.relay.corp")
    # Whoever had come before and not said whom it wants is judged by the new table as well.
    caller = TlsPeer(corner.street.changes, early, client_side("TLSv1.3"), name="other.relay.corp")
    corner.street.callers.append(caller)
    await corner.street.changes.until(lambda: caller.shaken)
    assert corner.shown(caller) == "web02"


@pytest_twisted.ensureDeferred
async def test_the_shared_door_opens_and_closes_by_reloads(tmp_path: Path, made: list[Corner]) -> None:
    corner = Corner(tmp_path, hosted("web01", "web01.relay.corp", FRONT), front=None)
    made.append(corner)
    assert corner.service.shared_door is None
    corner.relay.reload(hosted("web01", "web01.relay.corp", FRONT), front=FRONT)
    address = corner.shared
    assert await corner.calls("web01.relay.corp") == "web01"
    silent = corner.street.connect(address)
    await corner.street.spin(lambda: corner.relay.metric("relay_connections") == 2)
    corner.relay.reload(hosted("web01", "web01.relay.corp", FRONT))
    assert corner.service.shared_door is None
    assert corner.refusals() == [("draining", "a reload has closed the door")]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, 1):
        pass
    assert silent.fileno() > 0


@pytest_twisted.ensureDeferred
async def test_a_port_that_stays_is_never_closed_whoever_it_leads_to(tmp_path: Path, made: list[Corner]) -> None:
    """Two machines swap their ports, and the shared door's goes to one and back: whoever has connected before gets through."""
    first, second, third = (Address("127.0.0.1", free_port()) for _ in range(3))
    before = hosted("web01", "a", first), hosted("web02", "b", second)
    after = hosted("web01", "a", second), hosted("web02", "b", third)
    corner = Corner(tmp_path, *before, front=third)
    made.append(corner)
    sockets = {door: corner.street.connect((door.host, door.port)) for door in (first, second, third)}  # not accepted yet
    corner.relay.reload(*after, front=first)
    wanted = {first: ("b", "web02"), second: (None, "web01"), third: (None, "web02")}
    for door, (name, owner) in wanted.items():
        caller = TlsPeer(corner.street.changes, sockets[door], client_side("TLSv1.3"), name=name)
        corner.street.callers.append(caller)
        await corner.street.changes.until(lambda caller=caller: caller.shaken)
        assert corner.shown(caller) == owner
    assert corner.refusals() == []


@pytest.mark.parametrize(("host", "other"), [("", "127.0.0.1"), ("127.0.0.1", ""), ("127.0.0.1", "0.0.0.0")])
@pytest_twisted.ensureDeferred
async def test_an_address_that_overlaps_with_the_old_one_is_opened_first(
    tmp_path: Path, made: list[Corner], host: str, other: str
) -> None:
    port = free_port()
    corner = Corner(tmp_path, machine(door=Address(host, port)), front=None)
    made.append(corner)
    corner.relay.reload(machine(door=Address(other, port)))
    assert await corner.calls(None, ("127.0.0.1", port)) == "web01"
    with pytest.raises(OSError, match="Address already in use"):  # no other relay can have it as well
        listening_socket(other, port).close()


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """How many the process may have."""
    return lambda limit: monkeypatch.setattr(doors, "descriptor_limit", lambda: limit)


def test_doors_of_many_machines_have_fewer_queues_each(tmp_path: Path, descriptors: Callable[[int], None]) -> None:
    def needed(machines: int, **doors: Address) -> int:
        return sockets_needed(table(tmp_path, *(machine(f"web{number}") for number in range(machines)), **doors))

    descriptors(16 * OWN_LANES_OF_ALL)
    assert needed(0) == 0
    assert needed(1) == OWN_LANES
    assert needed(OWN_LANES_OF_ALL // OWN_LANES) == OWN_LANES_OF_ALL
    for machines in (200, 400, 600, 900):
        assert machines <= needed(machines) <= OWN_LANES_OF_ALL
    assert needed(10_000) == 10_000
    assert needed(1, front=FRONT) == OWN_LANES + LANES
    assert needed(1, front=FRONT, back=FRONT) == OWN_LANES + 2 * LANES
    descriptors(1024)
    assert needed(1, front=FRONT) == OWN_LANES + 16
    assert needed(64) == 64
    assert needed(900) == 900
    descriptors(40)
    assert needed(2, front=FRONT, back=FRONT) == 4


@pytest_twisted.ensureDeferred
async def test_what_a_table_needs_is_what_is_open(tmp_path: Path, made: list[Corner], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a reload brings more machines: their doors have as many as all would have, and the others keep theirs."""
    monkeypatch.setattr(doors, "OWN_LANES_OF_ALL", 64)
    few = [hosted(f"web{number}", f"web{number}.relay.corp", FRONT) for number in range(4)]
    before = Held.now().descriptors
    corner = Corner(tmp_path, *few)
    made.append(corner)
    needed = sockets_needed(corner.service.table)
    assert needed <= Held.now().descriptors - before < needed + 20
    more = [hosted(f"more{number}", f"more{number}.relay.corp", FRONT) for number in range(4)]
    before = Held.now().descriptors
    corner.relay.reload(*few, *more, front=FRONT)
    assert Held.now().descriptors - before == len(more) * 64 // 8
    assert len(corner.service.doors) == len(few) + len(more)
    assert await corner.calls(None, corner.service.doors["more3"]) == "more3"


@pytest_twisted.ensureDeferred
async def test_a_door_that_cannot_be_opened_leaves_all_doors_as_they_are(corner: Corner) -> None:
    doors, shared = corner.service.doors, corner.shared
    descriptors = Held.now().descriptors
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartError, match=f"machine web04: cannot listen on {address}: Address already in use"):
            corner.relay.reload(machine("web03"), machine("web04", door=address))
    assert (corner.service.doors, corner.shared) == (doors, shared)
    assert Held.now().descriptors == descriptors
    assert await corner.calls("web01.relay.corp") == "web01"
    assert list(corner.service.routes) == ["web01", "web02"]


@pytest_twisted.ensureDeferred
async def test_whoever_waits_for_its_handshake_gets_the_machine_of_the_table_in_force(
    tmp_path: Path, made: list[Corner]
) -> None:
    """Or sees a close without a byte, where that table has none for it."""
    corner = Corner(tmp_path, hosted("web01", "web01.relay.corp"), hosted("web02", "web02.relay.corp"))
    made.append(corner)
    corner.relay.reload(*(each for each in map(corner.service.table.machine, ("web01", "web02")) if each), handshakes=1,
                        front=FRONT)  # fmt: skip
    (await corner.street.call(corner.shared, name="web01.relay.corp")).close()
    names = ["web01.relay.corp", "web02.relay.corp"]
    waiting = [await corner.street.call(corner.shared, shakes=False, name=name) for name in names]
    await corner.street.spin(lambda: corner.relay.metric("relay_handshakes_waiting") == 2)
    corner.relay.reload(hosted("web03", "web01.relay.corp"), front=FRONT)  # a thousand a second again
    corner.street.reactor.advance(1)
    await corner.street.changes.until(lambda: waiting[0].shaken)
    assert corner.shown(waiting[0]) == "web03"
    corner.street.reactor.advance(1)
    assert await corner.street.ended(waiting[1]) in (FIN, RST)
    assert waiting[1].records == []
