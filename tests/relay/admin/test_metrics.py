from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from relay.admin.metrics import Metrics
from relay.call import Call
from relay.halibut.message import Kind, Message
from relay.outcomes import Outcome, Refusal


class Scraped:
    """Metrics, and what a scraper sees of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def ended(self, machine: str = "web01", outcome: Outcome = Outcome.OK, reply_id: str = "call 1", **fields: int) -> None:
        request = Message(Kind.REQUEST, "call 1")
        reply = Message(Kind.RESPONSE, reply_id)
        call = Call(machine, "production", "192.0.2.1:50000", 100.0, request=request, reply=reply, outcome=outcome)
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
    assert scraped.value("relay_exchanges_total", machine="web02", outcome="cancelled") is None


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


def test_everything_says_what_it_is_and_nothing_that_a_caller_chooses_is_a_label(scraped: Scraped) -> None:
    scraped.ended()
    text = generate_latest(scraped.registry).decode()
    for line in text.splitlines():
        assert not line.startswith("# HELP") or len(line.split(" ", 3)[3]) > 10
    labels = {label for line in text.splitlines() if "{" in line for label in line.split("{")[1].split("}")[0].split(",")}
    assert {label.partition("=")[0] for label in labels} == {"machine", "outcome", "direction", "reason"}


def test_what_is_counted_elsewhere_is_scraped_as_it_is_then(scraped: Scraped) -> None:
    counts = {"ok": 0, "failed": 0}
    scraped.metrics.counter("relay_reloads", "Reloads.", "outcome", counts)
    counts["failed"] += 2
    assert (scraped.value("relay_reloads_total", outcome="ok"), scraped.value("relay_reloads_total", outcome="failed")) == (
        0,
        2,
    )
