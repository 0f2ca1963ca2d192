import gc
import gzip
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_controls import FakeControls
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator

from relay.admin.exposition import SAMPLES, Exposition, Page, text_pieces
from relay.admin.families import families
from relay.admin.readings import read_from
from relay.admin.slices import PAUSE, cooperator

MANY = 10_000


def relay(folder: Path, machines: int = 2) -> FakeControls:
    """Metrics of so many machines, and all that is served with them."""
    controls = FakeControls(folder, *[f"machine-{number:05}" for number in range(machines)])
    read_from(controls.metrics, controls)
    ProcessCollector(registry=controls.metrics.registry)
    PlatformCollector(registry=controls.metrics.registry)
    return controls


def exposition(controls: FakeControls, shared: Cooperator) -> Exposition:
    return Exposition(shared, lambda: families(controls.metrics), controls.metrics.registry)


def result(asked: "Deferred[Page]") -> list[Page]:
    """The page, if it is there."""
    found: list[Page] = []
    asked.addCallback(found.append)
    return found


def whole(clock: Clock, asked: "Deferred[Page]") -> Page:
    found = result(asked)
    while not found:
        clock.advance(PAUSE)
    return found[0]


def plain(page: Page) -> str:
    return b"".join(page.plain()).decode()


# ---- the text -----------------------------------------------------------------------------------------------------------


def test_both_formats_are_read_by_their_parsers_and_say_the_same(tmp_path: Path) -> None:
    controls = relay(tmp_path)
    controls.numbers["machine-00000", "in_flight"] = 4
    texts = ["".join(text_pieces(families(controls.metrics), controls.metrics.registry, om)) for om in (False, True)]
    found = []
    for text, parse in zip(texts, (parse_text, parse_openmetrics), strict=True):
        samples = [each for family in parse(text) for each in family.samples if each.name.startswith("relay_")]
        found.append({(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples})
    assert found[0] == found[1]
    assert found[0]["relay_machine_exchanges_in_flight", (("machine", "machine-00000"),)] == 4
    assert texts[1].endswith("# EOF\n")


def test_each_family_is_told_once_in_front_of_its_samples(tmp_path: Path) -> None:
    controls = relay(tmp_path, 3)
    lines = "".join(text_pieces(families(controls.metrics), controls.metrics.registry, False)).splitlines()
    seen: list[str] = []
    for line in lines:
        if line.startswith("# HELP"):
            seen.append(line.split()[2])
        elif line.startswith("# TYPE"):
            assert line.split()[2] == seen[-1]
        else:
            assert line.partition("{")[0].partition(" ")[0].removeprefix(seen[-1]) in ("", "_bucket", "_sum", "_count")
    assert len(seen) == len(set(seen))


def test_the_process_itself_is_told(tmp_path: Path) -> None:
    controls = relay(tmp_path)
    text = "".join(text_pieces(families(controls.metrics), controls.metrics.registry, False))
    names = {family.name for family in parse_text(text)}
    assert {"process_open_fds", "process_max_fds", "process_resident_memory_bytes", "python_info"} <= names


# ---- in slices ----------------------------------------------------------------------------------------------------------


class Ticking:
    """A clock that moves by a millisecond each time that somebody looks."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks / 1000


def test_a_turn_makes_no_more_than_a_few_pieces(tmp_path: Path) -> None:
    controls = relay(tmp_path, 200)
    clock, ticking = Clock(), Ticking()
    made = result(exposition(controls, cooperator(clock, ticking)).page(False))
    pieces = list(text_pieces(families(controls.metrics), controls.metrics.registry, False))
    assert len(pieces) > 50
    assert max(piece.count("\n") for piece in pieces[:-1]) <= SAMPLES
    turns = 0
    while not made:
        before = ticking.looks
        clock.advance(PAUSE)
        assert ticking.looks - before <= 6  # one to begin, and one behind each piece: 4 ms are over
        turns += 1
    assert turns >= len(pieces) / 5


def test_no_turn_of_a_scrape_of_ten_thousand_machines_takes_50_ms(tmp_path: Path) -> None:
    controls = relay(tmp_path, MANY)
    clock, longest = Clock(), [0.0]

    class Timed(Clock):
        def callLater(self, delay: float, callable: Callable[[], None]) -> object:  # noqa: A002 (Twisted's name)
            def timed() -> None:
                begun = time.thread_time()  # of the processor: what else runs on this host is not the relay's fault
                callable()
                longest[0] = max(longest[0], time.thread_time() - begun)

            return clock.callLater(delay, timed)

    gc.freeze()  # as run does
    begun = time.thread_time()
    asked = exposition(controls, cooperator(Timed())).page(False)
    assert time.thread_time() - begun < 0.05
    page = whole(clock, asked)
    gc.unfreeze()
    assert longest[0] < 0.05
    assert sum(map(len, page.compressed())) < 4_000_000
    assert plain(page).count("\n") > 30 * MANY


def test_scrapes_at_the_same_time_share_one_text(tmp_path: Path) -> None:
    controls, clock = relay(tmp_path), Clock()
    served = exposition(controls, cooperator(clock))
    first, second, other = (served.page(openmetrics) for openmetrics in (False, False, True))
    pages = [whole(clock, asked) for asked in (first, second, other)]
    assert pages[0] is pages[1]
    assert pages[2] is not pages[0]
    assert whole(clock, served.page(False)) is not pages[0]


def test_machines_that_go_in_the_middle_do_no_harm(tmp_path: Path) -> None:
    controls, clock = relay(tmp_path, 300), Clock()
    made = result(exposition(controls, cooperator(clock, Ticking())).page(False))
    for _ in range(3):
        clock.advance(PAUSE)
    keep = controls.table.machines[:100]
    controls.table = type(controls.table)(controls.table.relay, controls.table.octopus, keep, controls.table.source)
    controls.metrics.declare(machine.name for machine in keep)
    while not made:
        clock.advance(PAUSE)
    found = list(parse_text(plain(made[0])))
    [waiting] = [family for family in found if family.name == "relay_machine_waiting"]
    assert len(waiting.samples) == 100


def test_a_failure_is_told_to_everybody_and_the_next_is_made_anew(tmp_path: Path) -> None:
    controls, clock = relay(tmp_path), Clock()
    served = exposition(controls, cooperator(clock))
    divisors = [0, 1]
    controls.metrics.gauge("relay_odd", "An odd one.", lambda: 5 // divisors.pop(0))
    failed: list[str] = []
    for asked in (served.page(False), served.page(False)):
        asked.addErrback(lambda failure: failed.append(failure.type.__name__))
    while len(failed) < 2:
        clock.advance(PAUSE)
    assert failed == ["ZeroDivisionError"] * 2
    assert "relay_odd 5\n" in plain(whole(clock, served.page(False)))


# ---- kept ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machines", [1, 2000])
def test_the_compressed_text_and_the_plain_one_are_the_same(tmp_path: Path, machines: int) -> None:
    controls, clock = relay(tmp_path, machines), Clock()
    page = whole(clock, exposition(controls, cooperator(clock)).page(False))
    chunks = list(page.plain())
    assert gzip.decompress(b"".join(page.compressed())) == b"".join(chunks)
    assert max(map(len, chunks)) <= 32 * 1024
    assert b"".join(page.plain()) == b"".join(chunks)  # again, for the next reader
