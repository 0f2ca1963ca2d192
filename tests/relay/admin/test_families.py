import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from scraped import sample, text

from relay.admin.families import escaped, families, series
from relay.admin.metrics import Metrics, Reading
from relay.outcomes import Outcome
from relay.passed import Passed
from relay.version import VERSION


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(CollectorRegistry())
    made.declare(["web01"])
    return made


def test_the_version_is_a_label(metrics: Metrics) -> None:
    assert sample(metrics, "relay_build_info", version=VERSION) == 1


def test_names_follow_the_conventions(metrics: Metrics) -> None:
    metrics.counter("relay_lost_lines", "Lines that were lost.", lambda: 1)
    for family in families(metrics):
        assert family.name.startswith("relay_")
        assert family.exposed.endswith("_total") == (family.kind == "counter")
        assert (family.kind == "histogram") == (family.name.endswith("_seconds") and "timestamp" not in family.name)
        assert family.documentation.endswith(".")


def test_every_sample_is_one_of_its_family(metrics: Metrics) -> None:
    for family in families(metrics):
        for name, _ in family.samples():
            assert name.partition("{")[0].removeprefix(family.exposed) in ("", "_bucket", "_sum", "_count")


def test_a_series_is_there_once(metrics: Metrics) -> None:
    names = [name for family in families(metrics) for name, _ in family.samples()]
    assert len(names) == len(set(names))


def test_nothing_that_a_caller_chooses_is_a_label(metrics: Metrics) -> None:
    labels = {label for family in families(metrics) for label in family.labels}
    assert labels == {"version", "machine", "outcome", "direction", "reason", "service", "method"}


@pytest.mark.parametrize("value", ['quo"te', "back\\slash", "new\nline", "\\n", '\\"', "ümlaut", ""])
def test_label_values_are_read_as_they_were(metrics: Metrics, value: str) -> None:
    metrics.add(Reading("relay_odd", "gauge", "An odd one.", ("one", "two"), lambda: [((value, "x"), 7)]))
    assert sample(metrics, "relay_odd", one=value, two="x") == 7


@pytest.mark.parametrize("value", ['quo"te', "back\\slash", "new\nline"])
def test_machine_names_are_escaped_too(value: str) -> None:
    """They need not be, as long as the configuration takes none of these."""
    metrics = Metrics(CollectorRegistry())
    metrics.declare([value])
    metrics.machine_gauge("relay_machine_waiting", "Calls that wait.", lambda name: 0)
    found = [each for family in text_string_to_metric_families(text(metrics)) for each in family.samples]
    assert {each.labels["machine"] for each in found if "machine" in each.labels} == {value}


def test_escaped_and_series() -> None:
    assert escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'
    assert series("relay_x", ("a", "b"), ("1", "2")) == 'relay_x{a="1",b="2"}'
    assert series("relay_x") == "relay_x"


def test_only_machines_that_are_passed_through_have_connections_of_that_kind(metrics: Metrics) -> None:
    name = "relay_passthrough_connections_total"
    metrics.declare(["web01", "vault01"], ["vault01"])
    assert sample(metrics, name, machine="vault01", outcome="ok") == 0
    assert sample(metrics, name, machine="web01", outcome="ok") is None
    metrics.passed(Passed("vault01", "", "", 0.0, outcome=Outcome.OK, request_bytes=3, reply_bytes=4))
    metrics.passed(Passed("removed", "", "", 0.0, outcome=Outcome.OK))
    metrics.declare(["web01", "vault01"], ["vault01"])
    assert sample(metrics, name, machine="vault01", outcome="ok") == 1
    assert sample(metrics, "relay_bytes_total", machine="vault01", direction="reply") == 4
    metrics.declare(["web01", "vault01"])
    assert sample(metrics, name, machine="vault01", outcome="ok") is None
