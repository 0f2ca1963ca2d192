from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from scraped import sample, samples

from relay.admin.metrics import BUCKETS, METHODS, Metrics
from relay.call import Call
from relay.halibut.message import Kind, Message
from relay.outcomes import Outcome, Refusal


class Scraped:
    """Metrics, and what a scraper sees of them."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.declare(["web01", "web02"])

    def value(self, name: str, **labels: str) -> float | None:
        return sample(self.metrics, name, **labels)

    def ended(self, machine: str = "web01", outcome: Outcome = Outcome.OK, reply_id: str = "call 1", **fields: Any) -> None:
        request = Message(Kind.REQUEST, "call 1", service="IScriptServiceV2", method="GetStatus")
        reply = Message(Kind.RESPONSE, reply_id)
        call = Call(machine, "production", "192.0.2.1:50000", 100.0, request=request, reply=reply, outcome=outcome, ended=100.0)
        for name, value in fields.items():
            setattr(call, name, value)
        self.metrics.ended(call)


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def test_exchanges_are_counted_by_machine_and_outcome(scraped: Scraped) -> None:
    for machine, outcome in [("web01", Outcome.OK), ("web01", Outcome.OK), ("web01", Outcome.CANCELLED), ("web02", Outcome.OK)]:
        scraped.ended(machine, outcome)
    assert scraped.value("relay_exchanges_total", machine="web01", outcome="ok") == 2
    assert scraped.value("relay_exchanges_total", machine="web01", outcome="cancelled") == 1
    assert scraped.value("relay_exchanges_total", machine="web02", outcome="ok") == 1
    assert scraped.value("relay_exchanges_total", machine="web02", outcome="cancelled") == 0


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_word(scraped: Scraped, outcome: Outcome) -> None:
    scraped.ended(outcome=outcome)
    assert scraped.value("relay_exchanges_total", machine="web01", outcome=outcome.value) == 1


def test_bytes_are_counted_each_way(scraped: Scraped) -> None:
    scraped.ended(request_bytes=100, reply_bytes=7)
    scraped.ended(request_bytes=20, reply_bytes=1)
    assert scraped.value("relay_bytes_total", machine="web01", direction="request") == 120
    assert scraped.value("relay_bytes_total", machine="web01", direction="reply") == 8


@pytest.mark.parametrize("refusal", Refusal)
def test_refusals_are_counted_by_reason_and_all_of_them_are_there(scraped: Scraped, refusal: Refusal) -> None:
    assert scraped.value("relay_refusals_total", reason=refusal.value) == 0
    scraped.metrics.refused(refusal)
    scraped.metrics.refused(refusal)
    assert scraped.value("relay_refusals_total", reason=refusal.value) == 2


def test_accept_pauses_are_counted(scraped: Scraped) -> None:
    scraped.metrics.accept_pauses += 3
    assert scraped.value("relay_accept_pauses_total") == 3


def test_replies_with_another_call_s_id_are_counted(scraped: Scraped) -> None:
    """wire.md 11.3."""
    scraped.ended()
    assert scraped.value("relay_mismatched_replies_total", machine="web01") == 0
    scraped.ended(reply_id="call 2")
    assert scraped.value("relay_mismatched_replies_total", machine="web01") == 1


def test_exchanges_with_unknown_members_are_counted(scraped: Scraped) -> None:
    """wire.md 5.5."""
    call = Call("web01", "production", "192.0.2.1:50000", 100.0, outcome=Outcome.OK)
    call.request = Message(Kind.REQUEST, "call 1", unknown=("later", "still later"))
    scraped.metrics.ended(call)
    scraped.ended()
    assert scraped.value("relay_unknown_members_total", machine="web01") == 1


def test_a_gauge_is_read_when_it_is_asked_for(scraped: Scraped) -> None:
    values = [1.0, 2.0]
    read: Callable[[], float] = lambda: values.pop(0)  # noqa: E731 (a Callable of its own type)
    scraped.metrics.gauge("relay_connections", "Callers.", read)
    assert scraped.value("relay_connections") == 1
    assert scraped.value("relay_connections") == 2


def test_what_is_counted_elsewhere_is_scraped_as_it_is_then(scraped: Scraped) -> None:
    counts = {"ok": 0, "failed": 0}
    scraped.metrics.counters("relay_reloads", "Reloads.", "outcome", counts)
    counts["failed"] += 2
    assert [scraped.value("relay_reloads_total", outcome=outcome) for outcome in ("ok", "failed")] == [0, 2]


def test_a_gauge_may_be_yes_or_no(scraped: Scraped) -> None:
    scraped.metrics.gauge("relay_config_last_reload_successful", "Whether.", lambda: True)
    assert scraped.value("relay_config_last_reload_successful") == 1


def test_machines_have_all_their_series_from_the_start(scraped: Scraped) -> None:
    found = samples(scraped.metrics)
    for machine in ("web01", "web02"):
        named = {each.labels["outcome"] for each in found if each.labels.get("machine") == machine and "outcome" in each.labels}
        assert named == {outcome.value for outcome in Outcome}
    assert all(each.value == 0 for each in found if "machine" in each.labels)


def test_machines_come_and_go_and_those_that_stay_keep_their_counts(scraped: Scraped) -> None:
    for name in ("web01", "web02"):
        scraped.ended(name)
    scraped.metrics.declare(["web02", "web03"])
    scraped.ended("web01")  # a call that was in flight
    values = [scraped.value("relay_exchanges_total", machine=name, outcome="ok") for name in ("web01", "web02", "web03")]
    assert values == [None, 1, 0]


def test_a_machine_s_gauge_is_read_of_each(scraped: Scraped) -> None:
    scraped.metrics.machine_gauge("relay_machine_waiting", "Calls that wait.", {"web01": 3, "web02": 0}.__getitem__)
    assert [scraped.value("relay_machine_waiting", machine=name) for name in ("web01", "web02")] == [3, 0]


def test_a_machine_that_goes_while_they_are_read_is_left_out(scraped: Scraped) -> None:
    def read(name: str) -> int:
        assert name == "web01"
        scraped.metrics.declare(["web01"])
        return 1

    scraped.metrics.machine_gauge("relay_machine_waiting", "Calls that wait.", read)
    reading = scraped.metrics.readings["relay_machine_waiting"].read()
    assert list(reading) == [(("web01",), 1)]


# ---- times --------------------------------------------------------------------------------------------------------------


def bucket(scraped: Scraped, name: str, le: str, service: str = "IScriptServiceV2", method: str = "GetStatus") -> float | None:
    return scraped.value(f"{name}_bucket", service=service, method=method, le=le)


@pytest.mark.parametrize(
    ("seconds", "first"), [(0.0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (600.0, "600.0"), (600.1, "+Inf")]
)
def test_a_time_is_in_the_bucket_of_its_bound_and_in_all_above(scraped: Scraped, seconds: float, first: str) -> None:
    scraped.ended(began=0.0, ended=seconds)
    bounds = [*map(str, BUCKETS), "+Inf"]
    at = bounds.index(first)
    found = [bucket(scraped, "relay_exchange_duration_seconds", le) for le in bounds]
    assert found == [0] * at + [1] * (len(bounds) - at)
    assert scraped.value("relay_exchange_duration_seconds_sum", service="IScriptServiceV2", method="GetStatus") == seconds


def test_each_part_of_a_call_has_its_histogram(scraped: Scraped) -> None:
    scraped.ended(began=100.0, ready=102.0, requested=103.0, replied=107.0, ended=116.0)
    for part, seconds in [("duration", 16.0), ("ready", 2.0), ("first_byte", 4.0)]:
        labels = {"service": "IScriptServiceV2", "method": "GetStatus"}
        assert scraped.value(f"relay_exchange_{part}_seconds_sum", **labels) == seconds
        assert scraped.value(f"relay_exchange_{part}_seconds_count", **labels) == 1


def test_what_never_came_is_in_no_histogram(scraped: Scraped) -> None:
    scraped.ended(outcome=Outcome.REFUSED, request=None, reply=None, ended=101.0)
    labels = {"service": "none", "method": "none"}
    assert scraped.value("relay_exchange_duration_seconds_count", **labels) == 1
    assert scraped.value("relay_exchange_ready_seconds_count", **labels) == 0
    assert scraped.value("relay_exchange_first_byte_seconds_count", **labels) == 0


def asked(service: str, method: str) -> Message:
    return Message(Kind.REQUEST, "call 1", service=service, method=method)


@pytest.mark.parametrize(("service", "method"), [(service, method) for service in METHODS for method in METHODS[service]])
def test_known_methods_are_labels_however_they_are_spelled(scraped: Scraped, service: str, method: str) -> None:
    for request in (asked(service, method), asked(service.upper(), method.lower())):
        scraped.ended(request=request)
    assert scraped.value("relay_exchange_duration_seconds_count", service=service, method=method) == 2


@pytest.mark.parametrize("words", [("IScriptService", "Launch"), ("Theirs", "GetStatus"), ("none", "none"), ("", "")])
def test_other_methods_are_one_label(scraped: Scraped, words: tuple[str, str]) -> None:
    """Whoever calls chooses these words, and must not fill the memory with them."""
    before = {str(each.labels) for each in samples(scraped.metrics)}
    scraped.ended(request=asked(*words))
    assert scraped.value("relay_exchange_duration_seconds_count", service="other", method="other") == 1
    assert {str(each.labels) for each in samples(scraped.metrics)} == before
