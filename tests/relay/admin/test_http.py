import errno
import gzip
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from changes import Changes, turns
from clocked_reactor import ClockedReactor
from fake_controls import FakeControls
from json_lines import JsonLines
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from stream_client import StreamClient
from twisted.internet import reactor as real

from relay.admin.exposition import Exposition, Page
from relay.admin.families import families
from relay.admin.http import HEADERS, LIFETIME, MOST, REQUEST, AdminPages
from relay.admin.log import make_log
from relay.admin.readings import read_from
from relay.admin.slices import cooperator
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.errors import StartError
from routing.addresses import Address

LOOPBACK = Address("127.0.0.1", 0)


class Reply:
    """What a page said."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if self.headers.get("transfer-encoding") == "chunked" and self.body:
            self.body = unchunked(self.body)


def unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        found, data = found + data[:length], data[length + 2 :]
        if not length:
            assert data == b""
            return found
    raise AssertionError("it has no end")


class Pages:
    """The admin pages in this process, and browsers."""

    def __init__(self, folder: Path, machines: int = 2) -> None:
        self.controls = FakeControls(folder, *[f"web{number:05}" for number in range(machines)])
        read_from(self.controls.metrics, self.controls)
        self.reactor, self.changes, self._lines = ClockedReactor(), Changes(), JsonLines()
        log = make_log(LineWriter(self.reactor, self._lines), "info")
        metrics = self.controls.metrics
        exposition = Exposition(cooperator(real), lambda: families(metrics), metrics.registry)
        self.pages = AdminPages(self.reactor, self.controls, exposition, log)
        self._clients: list[StreamClient] = []

    def serve(self, address: Address | None = LOOPBACK) -> None:
        self.pages.prepare(replace(self.controls.table, admin=address)).commit()

    def client(self, window: int = 0) -> StreamClient:
        assert self.pages.address
        self._clients.append(StreamClient.tcp(self.changes, self.pages.address, window))
        return self._clients[-1]

    async def ask(self, request: bytes) -> Reply:
        client = self.client()
        await client.write(request)
        return Reply(await client.end())

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return await self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())

    def logged(self, event: str) -> list[dict[str, Any]]:
        self.reactor.advance(FLUSH_AFTER)
        return [line for line in self._lines.found if line["event"] == event]

    async def clean(self) -> None:
        self.pages.stop()
        for client in self._clients:
            client.close()
        await turns()
        self.reactor.advance(FLUSH_AFTER)
        assert self.reactor.timers == []


@pytest_twisted.async_yield_fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    await turns()
    before = len(os.listdir("/proc/self/fd"))
    made = Pages(tmp_path)
    made.serve()
    yield made
    await made.clean()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- the pages ----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_health_is_that_the_process_serves(pages: Pages) -> None:
    for pages.controls.draining in (False, True):
        reply = await pages.get("/healthz")
        assert (reply.status, reply.body) == (200, b"serving\n")


@pytest_twisted.ensureDeferred
async def test_readiness_says_why_not(pages: Pages) -> None:
    reply = await pages.get("/readyz")
    assert (reply.status, reply.body) == (200, b"ready\n")
    pages.controls.draining = True
    reply = await pages.get("/readyz")
    assert (reply.status, reply.body) == (503, b"draining: the relay lets its calls end, and stops\n")
    pages.controls.draining, pages.controls.started = False, 0.0
    reply = await pages.get("/readyz")
    assert (reply.status, reply.body) == (503, b"starting: not all doors are open\n")


@pytest_twisted.ensureDeferred
async def test_the_first_page_links_the_others(pages: Pages) -> None:
    reply = await pages.get("/")
    assert reply.headers["content-type"].startswith("text/html")
    for path in ("/metrics", "/healthz", "/readyz"):
        assert f'href="{path}"'.encode() in reply.body
        assert (await pages.get(path)).status == 200


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "//metrics", "/Metrics", "/../metrics", "*", "/%6detrics"])
@pytest_twisted.ensureDeferred
async def test_there_is_nothing_else(pages: Pages, path: str) -> None:
    assert (await pages.get(path)).status == 404


@pytest_twisted.ensureDeferred
async def test_a_query_changes_nothing(pages: Pages) -> None:
    assert (await pages.get("/healthz?verbose=1")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/nowhere"])
@pytest_twisted.ensureDeferred
async def test_they_are_for_reading(pages: Pages, method: str, path: str) -> None:
    reply = await pages.get(path, method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/nowhere"])
@pytest_twisted.ensureDeferred
async def test_head_is_get_without_its_body(pages: Pages, path: str) -> None:
    head, get = await pages.get(path, "HEAD"), await pages.get(path)
    assert (head.status, head.body) == (get.status, b"")
    del get.headers["transfer-encoding" if path == "/metrics" else "connection"]
    assert get.headers.items() <= head.headers.items()


@pytest_twisted.ensureDeferred
async def test_no_page_says_what_serves_it(pages: Pages) -> None:
    for path in ("/", "/metrics", "/nowhere"):
        reply = await pages.get(path)
        assert "server" not in reply.headers
        assert b"twisted" not in reply.body.lower()
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["connection"] == "close"


# ---- metrics ------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_metrics_are_text_unless_openmetrics_is_asked_for(pages: Pages) -> None:
    text = await pages.get("/metrics")
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in parse_text(text.body.decode())}
    other = await pages.get("/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert other.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert {family.name for family in parse_openmetrics(other.body.decode())} == names
    assert "relay_exchanges" in names


@pytest_twisted.ensureDeferred
async def test_metrics_are_compressed_for_who_takes_it(pages: Pages) -> None:
    plain = await pages.get("/metrics")
    assert "content-encoding" not in plain.headers
    packed = await pages.get("/metrics", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 5
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept, Accept-Encoding"


@pytest_twisted.ensureDeferred
async def test_http_1_0_has_its_end_by_the_close(pages: Pages) -> None:
    reply = await pages.ask(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in reply.headers
    assert list(parse_text(reply.body.decode()))


@pytest_twisted.ensureDeferred
async def test_metrics_that_cannot_be_made(pages: Pages) -> None:
    from twisted.logger import globalLogPublisher

    seen: list[Any] = []
    observer: Any = seen.append
    globalLogPublisher.addObserver(observer)
    try:
        pages.controls.metrics.gauge("relay_odd", "An odd one.", lambda: 1 // 0)
        reply = await pages.get("/metrics")
    finally:
        globalLogPublisher.removeObserver(observer)
    assert (reply.status, reply.body) == (500, b"The metrics could not be made; the relay's log says why.\n")
    assert any(event.get("log_failure") and event["log_failure"].check(ZeroDivisionError) for event in seen)
    assert (await pages.get("/healthz")).status == 200


@pytest_twisted.ensureDeferred
async def test_who_leaves_before_they_are_made_does_no_harm(pages: Pages) -> None:
    client = pages.client()
    await client.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    client.close()
    assert (await pages.get("/metrics")).status == 200


@pytest_twisted.ensureDeferred
async def test_who_reads_slowly_is_written_to_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(tmp_path, 5000)
    inflated: list[list[int]] = []
    plain = Page.plain

    def counted(page: Page) -> Iterator[bytes]:
        inflated.append([0])
        of_this = inflated[-1]
        for chunk in plain(page):
            of_this[0] += len(chunk)
            yield chunk

    monkeypatch.setattr(Page, "plain", counted)
    pages.serve()
    try:
        slow = pages.client(window=4096)
        slow.pause()
        await slow.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        quick = await pages.get("/metrics")
        assert len(quick.body) > 10_000_000
        assert not slow.ended
        assert min(inflated)[0] < 5_000_000  # for the slow one: what the kernel takes, and no more
        assert max(inflated)[0] == len(quick.body)
        slow.read()
        assert Reply(await slow.end()).body == quick.body
    finally:
        await pages.clean()


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_is_cut_in_time(tmp_path: Path) -> None:
    pages = Pages(tmp_path, 5000)
    pages.serve()
    try:
        stuck = pages.client(window=4096)
        stuck.pause()
        await stuck.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await pages.get("/metrics")).status == 200
        pages.reactor.advance(LIFETIME)
        stuck.read()
        with pytest.raises(AssertionError, match="it has no end"):
            Reply(await stuck.end())
    finally:
        await pages.clean()


# ---- limits -------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_request_that_does_not_come_is_closed_in_time(pages: Pages) -> None:
    clients = [pages.client(), pages.client()]
    await clients[1].write(b"GET /metrics HT")
    pages.reactor.advance(REQUEST - 0.1)
    await clients[1].write(b"TP/1.1\r\n")  # drops do not make it longer
    await turns(20)
    assert not any(client.ended for client in clients)
    pages.reactor.advance(0.1)
    for client in clients:
        assert await client.end() == b""


@pytest.mark.parametrize(
    "head", [b"X: " + b"y" * HEADERS + b"\r\n", b"X: y\r\n" * 100, b"X: " + b"y" * HEADERS], ids=["long", "many", "no end"]
)
@pytest_twisted.ensureDeferred
async def test_headers_are_bounded(pages: Pages, head: bytes) -> None:
    client = pages.client()
    await client.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    assert b" 200 " not in (await client.end() if head.endswith(b"\n") else await late(pages, client))


async def late(pages: Pages, client: StreamClient) -> bytes:
    await turns(20)
    pages.reactor.advance(REQUEST)
    return await client.end()


@pytest_twisted.ensureDeferred
async def test_a_body_is_thrown_away(pages: Pages) -> None:
    body = b"x" * 1_000_000
    reply = await pages.ask(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert reply.status == 405


@pytest_twisted.ensureDeferred
async def test_a_body_without_an_end_is_cut_in_time(pages: Pages) -> None:
    client = pages.client()
    await client.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 1000)
    assert await late(pages, client) == b""


@pytest_twisted.ensureDeferred
async def test_one_request_a_connection(pages: Pages) -> None:
    reply = await pages.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert reply.body == b"serving\n"


@pytest_twisted.ensureDeferred
async def test_there_are_only_so_many_at_once(pages: Pages) -> None:
    inside = []
    for _ in range(MOST):
        inside.append(pages.client())
        await turns()
    assert await pages.client().end() == b""
    inside[0].close()
    await turns(20)
    assert (await pages.get("/healthz")).status == 200


# ---- where --------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken(pages: Pages) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
        with pytest.raises(StartError) as raised:
            pages.pages.prepare(replace(pages.controls.table, admin=address))
    assert str(raised.value) == (
        f"admin.listen: cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}. "
        "Free the port, or write another address, or none, in admin.listen."
    )
    assert (await pages.get("/healthz")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_step_that_is_abandoned_changes_nothing(pages: Pages) -> None:
    before = pages.pages.address
    pages.pages.prepare(replace(pages.controls.table, admin=Address("127.0.0.2", 0))).abandon()
    pages.pages.prepare(replace(pages.controls.table, admin=None)).abandon()
    assert pages.pages.address == before
    assert (await pages.get("/healthz")).status == 200


@pytest_twisted.ensureDeferred
async def test_it_may_open_to_every_interface_on_the_same_port(pages: Pages) -> None:
    """The old socket is there until the new one is."""
    assert pages.pages.address
    port = pages.pages.address[1]
    pages.serve(Address("", port))
    assert pages.pages.address == ("::", port)
    pages.serve(Address("127.0.0.1", port))
    assert pages.pages.address == ("127.0.0.1", port)
    assert (await pages.get("/healthz")).status == 200


@pytest_twisted.ensureDeferred
async def test_the_address_may_move_or_go(pages: Pages) -> None:
    first = pages.pages.address
    other = Address("127.0.0.2", 0)
    pages.serve(other)
    assert pages.pages.address
    assert pages.pages.address[0] == "127.0.0.2"
    assert (await pages.get("/healthz")).status == 200
    with socket.socket() as sock:
        assert first
        assert sock.connect_ex(first) == errno.ECONNREFUSED
    second = pages.pages.address
    pages.serve(other)
    assert pages.pages.address == second
    pages.serve(None)
    assert pages.pages.address is None
    with socket.socket() as sock:
        assert sock.connect_ex(second) == errno.ECONNREFUSED


@pytest_twisted.ensureDeferred
async def test_ipv6(tmp_path: Path) -> None:
    pages = Pages(tmp_path)
    pages.serve(Address("::1", 0))
    assert (await pages.get("/healthz")).status == 200
    await pages.clean()


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", 0), ("127.8.9.1", 0), ("::1", 0), ("", 1), ("::", 1)])
@pytest_twisted.ensureDeferred
async def test_an_address_that_others_reach_is_a_warning(tmp_path: Path, host: str, warned: int) -> None:
    pages = Pages(tmp_path)
    pages.serve(Address(host, 0))
    lines = pages.logged("admin.listen is open to other hosts: whoever reaches it reads the metrics")
    assert [line["level"] for line in lines] == ["warning"] * warned
    assert len(pages.logged("admin pages open")) == 1
    await pages.clean()


@pytest_twisted.ensureDeferred
async def test_the_end_cuts_everybody(pages: Pages) -> None:
    client = pages.client()
    await turns(20)
    pages.pages.stop()
    assert await client.end() == b""
    pages.pages.stop()
