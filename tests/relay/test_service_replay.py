"""What real peers said to each other while polling, said again through a running relay in each combination that has one who
polls: every byte and every record of every message, over real sockets and TLS of the recorded version.

What a relay does otherwise, by design (wire.md 10): null messages and control lines are each leg's own.
"""

import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from changes import turns
from recorded_calls import CALLS, IDENTITY, POLLING, Recorded, calls, ended_by, expect_units, joined
from recordings import CAPTURES, Side, label
from recordings import turns as recorded_turns
from replay_site import Peer, ReplaySite
from tls_peer import FIN, RST, TlsPeer
from wires import Held

from relay.halibut.lines import END, NEXT, PREAMBLE
from routing.addresses import Address

WAYS = [("polling", "polling"), ("polling", "listening"), ("dialling", "polling")]
REFUSED = [path for path in POLLING if path not in CALLS]
THROUGH = sorted(CAPTURES.glob("polling-through-proxy-*/conn-1.jsonl"))
ASKED = sorted(CAPTURES.glob("polling-connect-*/proxy.jsonl"))


def version(path: Path) -> str:
    """The recorded dialler's."""
    scenario = json.loads((path.parent / "scenario.json").read_text("utf-8"))
    found: str = scenario["connections"][0]["tls"]
    return found


@pytest_twisted.async_yield_fixture
async def sites() -> AsyncIterator[list[ReplaySite]]:
    """Those that a test has made are cleaned up behind it, and nothing is left."""
    await turns()
    before = Held.now()
    made: list[ReplaySite] = []
    yield made
    for site in made:
        await site.clean()
    await turns()
    assert Held.now().more_than(before) == ""


class Play:
    """One conversation, in one combination. together: records and lines come in as few as hold them, and not one by one."""

    def __init__(self, site: ReplaySite, path: Path, together: bool) -> None:
        self.site = site
        self.path = path
        self.together = together
        self.expected: list[tuple[tuple[str, ...], int, int]] = []

    async def play(self) -> None:
        site = self.site
        for call in calls(self.path):
            for _ in range(call.nulls):
                await site.null()
            await self.call(call)
            if call.closed:
                await self.cut(call.closed)
                return
            await site.turn()
        await self.leave()

    async def call(self, call: Recorded) -> None:
        """The request, and the reply if there was one."""
        site = self.site
        self.say(await site.calling(), call.request)
        sent = sum(map(len, call.request))
        self.same(await site.takes(site.tentacle, sent), call.request)
        if call.closed:
            self.expected.append((("cancelled",) if call.closed is Side.LISTENER else ("tentacle-gone",), sent, 0))
        else:
            await self.reply(call.reply)
            self.expected.append((("ok", "error-reply"), sent, sum(map(len, call.reply))))

    def say(self, peer: Peer, records: tuple[bytes, ...], behind: bytes = b"") -> None:
        for record in joined((*records, behind)) if self.together else [*records, behind]:
            if record:
                peer.write(record)

    def same(self, got: list[bytes], recorded: tuple[bytes, ...]) -> None:
        if self.together:
            expect_units(got, recorded)
        else:
            assert got == list(recorded)

    async def reply(self, records: tuple[bytes, ...]) -> None:
        site = self.site
        self.say(site.tentacle, records, NEXT if site.back == "polling" else b"")
        own = NEXT if site.front == "polling" else b""  # the relay's, behind the reply
        assert site.octopus
        got = await site.takes(site.octopus, sum(map(len, records)) + len(own))
        if own:
            assert got.pop() == own
        self.same(got, records)

    async def cut(self, side: Side) -> None:
        """One of them ends it in the call, and the other hears of it at once."""
        site = self.site
        assert site.octopus
        gone, other = (site.octopus, site.tentacle) if side is Side.LISTENER else (site.tentacle, site.octopus)
        gone.close()
        in_stream = self.path.parent.name == "polling-cancelled-in-stream"  # an old Tentacle notices nothing else (5.7)
        assert await site.ended(other) == (RST if in_stream else FIN)

    async def leave(self) -> None:
        """Whoever did it in the recording closes between two calls."""
        site = self.site
        assert site.octopus
        if ended_by(self.path) is Side.LISTENER:
            site.octopus.close()
            await turns(5)
            assert site.tentacle.end is None  # it waits for the next one
            assert site.tentacle.data == b""
        elif site.back == "polling":
            site.tentacle.write(END)
            site.tentacle.close()
            await site.until(lambda: site.service.back_connections("kiosk7") == 0)
            if site.front == "polling":  # no call is wanted that nobody could take
                assert await site.ended(site.octopus) == FIN
                assert site.octopus.data == b""


@pytest.mark.parametrize("together", [False, True], ids=["record by record", "joined"])
@pytest.mark.parametrize(("front", "back"), WAYS)
@pytest.mark.parametrize("path", CALLS, ids=label)
@pytest_twisted.ensureDeferred
async def test_conversation(sites: list[ReplaySite], tmp_path: Path, path: Path, front: str, back: str, together: bool) -> None:
    site = ReplaySite(tmp_path, front, back, version(path))
    sites.append(site)
    await site.open()
    play = Play(site, path, together)
    await play.play()
    await turns()
    lines = site.relay.access()[: len(play.expected)]  # behind them, a caller that left
    for line, (outcomes, sent, received) in zip(lines, play.expected, strict=True):
        assert line["outcome"] in outcomes
        assert (line["request_bytes"], line["reply_bytes"]) == (sent, received)
    assert len(play.expected) == len(calls(path))


@pytest.mark.parametrize("back", ["polling", "listening"])
@pytest_twisted.ensureDeferred
async def test_two_nodes_are_polled_at_once(sites: list[ReplaySite], tmp_path: Path, back: str) -> None:
    """Each sends what it sent to one Tentacle, call by call, the other's between its own."""
    one, other = (CAPTURES / "polling-two-octopus-nodes" / f"{name}-1.jsonl" for name in ("conn", "other"))
    site = ReplaySite(tmp_path, "polling", back, version(one), second_node=True)
    sites.append(site)
    await site.open()
    nodes = [site.octopus, await site.octopus_comes()]
    plays = [Play(site, path, together=False) for path in (one, other)]
    for pair in zip(calls(one), calls(other), strict=False):
        for node, play, call in zip(nodes, plays, pair, strict=True):
            site.octopus = node
            await play.call(call)
            await site.turn()
    assert len(site.relay.calls()) == 2 * min(len(calls(one)), len(calls(other))) >= 4


# ---- who is turned away -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REFUSED, ids=label)
@pytest_twisted.ensureDeferred
async def test_a_node_that_closes_before_mx_server_is_dialled_again(
    sites: list[ReplaySite], tmp_path: Path, path: Path
) -> None:
    """The relay hears from the node what the recorded Tentacle heard: nothing."""
    site = ReplaySite(tmp_path, "polling", "polling", version(path))
    sites.append(site)
    site.tentacle = await site.tentacle_comes()
    node = site.listening(await site.nodes.take(), "octopus")
    await site.takes(node, len(PREAMBLE + IDENTITY))
    node.close()
    await site.until(lambda: site.service.last_failure("kiosk7"))
    assert [line["reason"] for line in site.relay.log("node not polled")] == ["not-trusted"]
    assert site.tentacle.data == b""
    await site.advance(10)
    site.octopus = await site.octopus_comes()


@pytest.mark.parametrize("path", REFUSED, ids=label)
@pytest_twisted.ensureDeferred
async def test_a_tentacle_that_octopus_turned_away_is_turned_away(sites: list[ReplaySite], tmp_path: Path, path: Path) -> None:
    """It says what was recorded, and hears what was recorded: FIN, and not one byte (wire.md 11.3)."""
    many = path.parent.name == "polling-too-many-connections"
    site = ReplaySite(tmp_path, "polling", "polling", version(path), connections=1 if many else 5)
    sites.append(site)
    if many:
        site.tentacle = await site.tentacle_comes()
    tentacle = await site.poller("tentacle" if many else "stranger")
    for turn in recorded_turns(path):
        if turn.side is Side.DIALLER:
            for record in turn.records:
                tentacle.write(record)
    assert await site.ended(tentacle) in (FIN, RST)  # END may come behind the close
    assert tentacle.data == b""
    assert [line["reason"] for line in site.relay.log("caller refused")] == ["pollers" if many else "not-owner"]


# ---- through a proxy ----------------------------------------------------------------------------------------------------


def exchange(path: Path) -> tuple[bytes, bytes, bool]:
    """The first request to the proxy, its answer, and whether it closed behind that."""
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    first = [entry for entry in entries if entry.get("connection", 1) == 1]
    asked, answered = (
        b"".join(base64.b64decode(entry["b64"]) for entry in first if "b64" in entry and (entry["from"] == "proxy") is proxy)
        for proxy in (False, True)
    )
    return asked, answered, any("closed" in entry for entry in first if entry["from"] == "proxy")


def behind_proxy(folder: Path, asked: bytes, spoken: str = "TLSv1.3") -> ReplaySite:
    """A relay that is told what the recorded Tentacle was told: the node, and the credentials."""
    lines = dict(line.split(b": ") for line in asked.splitlines()[1:] if line)
    host, port = lines[b"Host"].decode("ascii").split(":")
    credentials = base64.b64decode(lines.get(b"Proxy-Authorization", b"").removeprefix(b"Basic ")).decode("ascii")
    return ReplaySite(folder, "polling", "polling", spoken, node=Address(host, int(port)), credentials=credentials)


async def ask(site: ReplaySite, asked: bytes) -> socket.socket:
    """The relay has asked the proxy what the recorded Tentacle asked."""
    sock = await site.nodes.take()
    heard = b""

    def complete() -> bool:
        nonlocal heard
        with contextlib.suppress(BlockingIOError):
            heard += sock.recv(4096)
        return heard.endswith(b"\r\n\r\n")

    await site.until(complete)
    assert heard == asked
    return sock


@pytest.mark.parametrize("path", THROUGH, ids=label)
@pytest_twisted.ensureDeferred
async def test_a_conversation_through_a_proxy(sites: list[ReplaySite], tmp_path: Path, path: Path) -> None:
    asked, answered, _ = exchange(path.parent / "proxy-1.jsonl")
    site = behind_proxy(tmp_path, asked, version(path))
    sites.append(site)
    site.tentacle = await site.tentacle_comes()
    sock = await ask(site, asked)
    sock.send(answered)
    node = site.octopus = await site.node_identifies(site.listening(sock, "octopus"))
    assert isinstance(node, TlsPeer)
    assert node.tls.version() == version(path)
    play = Play(site, path, together=False)
    await play.play()
    assert len(site.relay.calls()) == len(calls(path))


@pytest.mark.parametrize("path", ASKED, ids=label)
@pytest_twisted.ensureDeferred
async def test_a_proxy_s_answer(sites: list[ReplaySite], tmp_path: Path, path: Path) -> None:
    """What the recorded Tentacle went through, the relay goes through, and what it tried again, the relay tries again."""
    asked, answered, closed = exchange(path)
    if not asked:  # it closed before the request came: what that would have been is in the other recordings
        asked = exchange(path.parent.parent / "polling-connect-200" / "proxy.jsonl")[0]
    tunnel = b" 200 " in answered
    site = behind_proxy(tmp_path, asked)
    sites.append(site)
    site.tentacle = await site.tentacle_comes()
    sock = await ask(site, asked)
    if answered:
        sock.send(answered)
    if tunnel and not closed:
        site.octopus = await site.node_identifies(site.listening(sock, "octopus"))
        await site.until(lambda: site.service.polls("kiosk7"))
        assert len(site.relay.log("node polled")) == 1
        return
    sock.close()
    await site.until(lambda: site.service.last_failure("kiosk7"))
    [line] = site.relay.log("node not polled")
    status = answered.split(b"\r\n")[0].partition(b" ")[2].decode("ascii")
    if tunnel:
        assert line["reason"] == "tls"
    else:
        assert line["reason"] == "proxy"
        assert (status or "closed without an answer") in line["detail"]
    await site.advance(10)
    again = await ask(site, asked)
    again.close()
