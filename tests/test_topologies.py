"""docs/topologies.md says what is so: its times are those of the code, and each is shown by a test that there is."""

import re
from pathlib import Path

from relay.backs.parked import PARKED
from relay.backs.polling import KEEP_ALIVE, OVERDUE, TURN
from relay.exchange import SILENCE
from relay.fronts.poll import PICKED_UP, SILENT
from relay.service import CHECK_EVERY
from relay.transport.tcp import CUT_OFF
from routing.table import Timeouts

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "topologies.md").read_text()
ROWS = {row.split(" | ")[0][2:]: row for row in TEXT.splitlines() if row.startswith("| ")}


def test_each_time_is_shown_by_a_test_that_there_is() -> None:
    shown = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", TEXT)
    assert len(shown) >= 8
    for path, name in shown:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


def test_the_times_are_those_of_the_code() -> None:
    parked = ROWS["a polling Tentacle's, parked"]
    assert (
        f"| {KEEP_ALIVE + TURN:.0f} s | {KEEP_ALIVE + TURN:.0f} s: a null message every {KEEP_ALIVE:.0f} s, and {TURN:.0f} s"
        in parked
    )
    assert f"| {SILENT:.0f} s | {SILENT:.0f} s without" in ROWS["a poll at an Octopus node, without a call"]
    assert f"| {PARKED / 60:.0f} min, when" in ROWS["a connection to a listening Tentacle, parked for polls"]
    times = Timeouts()
    assert f"`back_idle` ({times.back_idle:.0f} s)" in ROWS["a connection to a listening Tentacle, idle in the pool"]
    assert f"`prove` ({times.prove:.0f} s)" in ROWS["a connection to a listening Tentacle, idle in the pool"]
    assert f"`front_idle` ({times.front_idle / 60:.0f} min)" in ROWS["a caller's, between two calls"]
    assert f"| {SILENCE / 60:.0f} min: a call" in ROWS["any, in a call"]
    assert f"| {CUT_OFF:.0f} s: TCP keep-alive;" in ROWS["any, in a call"]
    assert f"nothing has moved for {CUT_OFF:.0f} s" in " ".join(TEXT.split())
    assert f"The relay itself looks every {CHECK_EVERY:.0f} s" in TEXT
    assert f"at most {PICKED_UP:.0f} s" in TEXT
    assert f"a null message for {OVERDUE:.0f} s makes room" in " ".join(TEXT.split()).replace(
        " connection that has not answered", ""
    )


def test_what_is_configured_is_named_as_the_configuration_has_it() -> None:
    keys = (ROOT / "docs" / "configuration.md").read_text()
    for key in ("ready", "waiting", "node_connections", "nodes", "proxy", "back_idle", "front_idle", "prove", "connections"):
        assert f"`{key}`" in keys
        assert re.search(rf"[`.]{key}`", TEXT), key
