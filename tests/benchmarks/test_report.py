import pytest

from benchmarks.plan import WORKLOADS
from benchmarks.report import FIGURES, Row, add_over_direct, as_markdown, as_text, number, summarise, table, tables
from benchmarks.runs import Run


def rpc(proxy: str, round_: int, base: str = "haproxy", errors: int = 0, **figures: float) -> Run:
    return Run("rpc", proxy, round_, base, figures, errors, "no reply" if errors else "")


def rows(*runs: Run) -> dict[str, Row]:
    return {row.proxy: row for row in summarise(runs)}


def test_figures_are_medians_over_the_rounds() -> None:
    found = rows(rpc("ours", 0, rate=10.0), rpc("ours", 1, rate=500.0), rpc("ours", 2, rate=20.0))
    assert found["ours"].figures == {"rate": 20.0}


def test_ratios_are_medians_of_the_rounds_own_and_not_quotients_of_medians() -> None:
    """A machine that was slow for a round was slow for both."""
    found = rows(
        *(rpc("haproxy", round_, rate=rate) for round_, rate in enumerate((100.0, 10.0, 200.0))),
        *(rpc("ours", round_, rate=rate) for round_, rate in enumerate((50.0, 5.0, 300.0))),
    )
    assert found["ours"].figures["rate"] / found["haproxy"].figures["rate"] == 0.5
    assert found["ours"].ratios == {"rate": 0.5}
    assert found["haproxy"].ratios == {}
    skewed = rows(
        *(rpc("haproxy", round_, rate=rate) for round_, rate in enumerate((100.0, 10.0, 200.0))),
        *(rpc("ours", round_, rate=rate) for round_, rate in enumerate((90.0, 20.0, 400.0))),
    )
    assert skewed["ours"].ratios == {"rate": 2.0}
    assert skewed["ours"].figures["rate"] / skewed["haproxy"].figures["rate"] == 0.9


def test_a_round_without_its_base_has_no_ratio() -> None:
    found = rows(rpc("haproxy", 0, rate=10.0), rpc("ours", 0, rate=20.0), rpc("ours", 1, rate=1000.0))
    assert found["ours"].ratios == {"rate": 2.0}
    assert rows(rpc("ours", 0, rate=20.0))["ours"].ratios == {}
    assert rows(rpc("haproxy", 0), rpc("ours", 0, rate=20.0))["ours"].ratios == {}  # every call of it failed
    assert rows(rpc("haproxy", 0, rate=0.0), rpc("ours", 0, rate=20.0))["ours"].ratios == {}


def test_each_run_says_whom_it_is_compared_with() -> None:
    few, many = (Run("flat", name, 0, "few", {"cpu_us": cpu}) for name, cpu in (("few", 100.0), ("many", 105.0)))
    found = rows(rpc("haproxy", 0, cpu_us=1.0), few, many)
    assert found["many"].ratios == {"cpu_us": 1.05}
    assert found["few"].ratios == {}


def test_what_a_call_takes_longer_than_a_direct_one_of_its_round() -> None:
    runs = [rpc("direct", 0, p50_ms=1.0), rpc("haproxy", 0, p50_ms=3.0), rpc("ours", 0, p50_ms=4.0), rpc("ours", 1, p50_ms=9.0)]
    add_over_direct(runs)
    assert [run.figures.get("added_p50_ms") for run in runs] == [None, 2.0, 3.0, None]
    assert rows(*runs)["ours"].ratios["added_p50_ms"] == 1.5


def test_errors_are_added_up_and_the_first_one_is_told() -> None:
    row = rows(rpc("ours", 0, rate=1.0), rpc("ours", 1, errors=2), rpc("ours", 2, errors=1))["ours"]
    assert (row.errors, row.first_error) == (3, "no reply")


def test_every_workload_has_its_columns() -> None:
    assert set(FIGURES) == set(WORKLOADS)


def test_a_table_has_the_columns_that_somebody_has() -> None:
    found = summarise(
        [rpc("direct", 0, rate=1000.0), rpc("haproxy", 0, rate=10.0, cpu_us=50.0), rpc("ours", 0, rate=5.0, cpu_us=75)]
    )
    assert table(found, "rpc") == [
        ["rpc", "calls/s", "CPU us/call", "errors"],
        ["direct", "1000 x100.00", "", "0"],
        ["haproxy", "10.0", "50.0", "0"],
        ["ours", "5.00 x0.50", "75.0 x1.50", "0"],
    ]
    assert table(found, "stream") == []
    assert tables(found) == [table(found, "rpc")]


def test_counts_of_what_was_opened_are_not_compared() -> None:
    found = summarise([Run("idle", name, 0, "haproxy", {"legs": 400.0, "kb_each": 20.0}) for name in ("haproxy", "ours")])
    assert table(found, "idle")[2] == ["ours", "400", "20.0 x1.00", "0"]


def test_text_and_markdown() -> None:
    lines = [["rpc", "rate"], ["haproxy", "9"]]
    assert as_text(lines) == "rpc      rate\nhaproxy     9"
    assert as_markdown(lines) == "| rpc | rate |\n| --- | ---: |\n| haproxy | 9 |"


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.4, "1234"), (99.95, "100.0"), (12.34, "12.3"), (1.234, "1.23"), (0, "0.00"), (-0.5, "-0.50")]
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown
