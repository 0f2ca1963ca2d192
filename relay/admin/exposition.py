"""What a scraper gets: the text of all metrics, made in slices, so that no scrape holds up a call.

Ten thousand machines are some 300 000 lines: half a second of work. It is shared out over many turns of the reactor
(slices.py), and all who ask while it goes on get the same text. It is kept compressed, a twentieth of its size: a scraper
that reads slowly holds little.
"""

import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure

from relay.admin.families import Family

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
SAMPLES: Final = 250  # lines between two looks at the clock: a small part of a millisecond
_CHUNK: Final = 32 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_FASTEST: Final = 1


def text_pieces(families: list[Family], registry: CollectorRegistry, openmetrics: bool) -> Iterator[str]:
    """The text, a piece at a time: each of few lines. registry: what comes last, in one piece."""
    for family in families:
        # Of a counter, OpenMetrics names the family, and the older format the series.
        name = family.name if openmetrics else family.exposed
        yield f"# HELP {name} {family.documentation}\n# TYPE {name} {family.kind}\n"
        samples = family.samples()
        while lines := "".join([f"{series} {value}\n" for series, value in islice(samples, SAMPLES)]):
            yield lines
    yield (generate_openmetrics if openmetrics else generate_latest)(registry).decode()


class Page:
    """A text that was made, compressed."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def fill(self, pieces: Iterator[str]) -> Iterator[None]:
        """Takes the pieces, one each time that this is asked to go on."""
        gzip = zlib.compressobj(_FASTEST, wbits=_GZIP)
        waiting, size = [], 0
        for piece in pieces:
            data = gzip.compress(piece.encode())
            if data:
                waiting.append(data)
                size += len(data)
            if size >= _CHUNK:
                self._chunks.append(b"".join(waiting))
                waiting, size = [], 0
            yield
        self._chunks.append(b"".join(waiting) + gzip.flush())

    def compressed(self) -> Iterator[bytes]:
        """Chunks of the text as gzip."""
        return iter(self._chunks)

    def plain(self) -> Iterator[bytes]:
        """Chunks of the text itself, inflated as they are asked for."""
        gunzip = zlib.decompressobj(_GZIP)
        for chunk in self._chunks:
            left = chunk
            while left:
                if data := gunzip.decompress(left, _CHUNK):
                    yield data
                left = gunzip.unconsumed_tail
        while data := gunzip.decompress(b"", _CHUNK):  # what it had no room for in its last answer
            yield data


class Exposition:
    """See above. cooperator: shares out the work. families: asked for when a text is begun."""

    def __init__(self, cooperator: Cooperator, families: Callable[[], list[Family]], registry: CollectorRegistry) -> None:
        self._cooperator = cooperator
        self._families = families
        self._registry = registry
        self._waiting: dict[bool, list[Deferred[Page]]] = {}

    def page(self, openmetrics: bool) -> "Deferred[Page]":
        """A text, in one of the two formats: the one that is being made, or else a new one."""
        asked: Deferred[Page] = Deferred()
        if openmetrics in self._waiting:
            self._waiting[openmetrics].append(asked)
            return asked
        self._waiting[openmetrics] = [asked]
        page = Page()
        work = page.fill(text_pieces(self._families(), self._registry, openmetrics))
        done = self._cooperator.cooperate(work).whenDone()
        done.addCallbacks(lambda _: self._made(openmetrics, page), lambda failure: self._failed(openmetrics, failure))
        return asked

    def _made(self, openmetrics: bool, page: Page) -> None:
        for asked in self._waiting.pop(openmetrics):
            asked.callback(page)

    def _failed(self, openmetrics: bool, failure: Failure) -> None:
        for asked in self._waiting.pop(openmetrics):
            asked.errback(failure)
