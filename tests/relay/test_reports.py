from json_lines import JsonLines
from prometheus_client import CollectorRegistry
from scraped import sample
from twisted.internet.task import Clock

from relay.admin.access_log import AccessLog
from relay.admin.log import make_log
from relay.admin.metrics import Metrics
from relay.admin.writer import FLUSH_AFTER, LineWriter
from relay.outcomes import NodeTrouble
from relay.reports import Reports


def test_a_node_is_said_to_be_polled_once_and_again_after_trouble() -> None:
    clock, lines, metrics = Clock(), JsonLines(), Metrics(CollectorRegistry())
    log = make_log(LineWriter(clock, lines), "debug")
    reports = Reports(clock, log, AccessLog("r", LineWriter(clock, JsonLines())), metrics)
    for _ in range(3):
        reports.node_polled("web01", "production", "octopus-1:10943")
    for _ in range(2):
        reports.node_troubled("web01", "production", "octopus-1:10943", NodeTrouble.CLOSED, "closed")
    reports.node_polled("web01", "production", "octopus-1:10943")
    clock.advance(FLUSH_AFTER)
    assert [line["event"] for line in lines.found] == ["node polled", "node not polled", "node polled"]
    assert (lines.found[1]["reason"], lines.found[1]["node"]) == ("closed", "octopus-1:10943")
    assert sample(metrics, "relay_node_troubles_total", reason="closed") == 2
    assert sample(metrics, "relay_node_troubles_total", reason="silent") == 0
