"""What a scraper sees of the relay's metrics."""

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from relay.admin.exposition import text_pieces
from relay.admin.families import families
from relay.admin.metrics import Metrics


def text(metrics: Metrics, openmetrics: bool = False) -> str:
    """All of it."""
    return "".join(text_pieces(families(metrics), metrics.registry, openmetrics))


def samples(metrics: Metrics) -> list[Sample]:
    """Every sample."""
    return [each for family in text_string_to_metric_families(text(metrics)) for each in family.samples]


def sample(metrics: Metrics, series: str, /, **labels: str) -> float | None:
    """The value of one series, None where there is no such series."""
    of_that_name = [family for family in families(metrics) if series.startswith(family.name)]
    told = "".join(text_pieces(of_that_name, CollectorRegistry(), False))
    read = [each for family in text_string_to_metric_families(told) for each in family.samples]
    found = [each.value for each in read if each.name == series and each.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None
