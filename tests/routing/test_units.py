import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.mistakes import WrongValueError
from routing.units import count, duration, show_duration, show_size, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("3ms", 0.003),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("0s", 0.0),
        ("007s", 7.0),
        ("5min", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1m30s", 90.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("5 s", 5.0),
        ("2 minutes", 120.0),
        ("1 hour", 3600.0),
        ("30sec", 30.0),
        ("1h1m1s1ms", 3661.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "5x", "5S", " 5s", "5s ", "5s\n", "-5s", ".5s", "5.s", "1.5", "30s1m", "5s5s", "5  s", "٣s", "9" * 13 + "s"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(WrongValueError) as raised:
        duration(text)
    assert raised.value.problem == "not a duration"


def test_a_plain_number_is_told_its_unit() -> None:
    with pytest.raises(WrongValueError) as raised:
        duration("30")
    assert str(raised.value) == ("a duration without a unit. Write 30s for seconds, or another unit: 500ms, 5m, 1h.")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("65536", 65536),
        ("2KB", 2000),
        ("10MB", 10_000_000),
        ("1GB", 10**9),
        ("4KiB", 4096),
        ("64MiB", 64 * 1024 * 1024),
        ("1GiB", 2**30),
        ("64mib", 64 * 1024 * 1024),
        ("64 Mb", 64_000_000),
        ("1.5MiB", 1536 * 1024),
        ("1_000", 1000),
        ("1_000KB", 1_000_000),
        ("7B", 7),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "MiB", "1TB", "1 000", "1,5MiB", "64  MiB", "-1", "1_00", "1_0000", "_1", "٣", "1\n"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(WrongValueError, match="not a size"):
        size(text)


@pytest.mark.parametrize(("text", "remedy"), [("64M", "Write 64MiB (of 1024) or 64MB (of 1000)."), ("1 k", "Write 1KiB ")])
def test_a_size_that_means_two_things(text: str, remedy: str) -> None:
    with pytest.raises(WrongValueError, match="which means two things") as raised:
        size(text)
    assert raised.value.remedy.startswith(remedy)


def test_what_is_finer_than_what_is_counted() -> None:
    with pytest.raises(WrongValueError, match="not whole milliseconds"):
        duration("0.0001s")
    with pytest.raises(WrongValueError, match="not a whole number of bytes"):
        size("1.0001KB")


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("10", 10), ("1_000", 1000), ("1_000_000", 1_000_000)])
def test_whole_numbers(text: str, number: int) -> None:
    assert count(text) == number


@pytest.mark.parametrize("text", ["", "-1", "1.0", "0x10", "1_00", "1000_000", "1e3", "٣", "1\n", "9" * 13])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(WrongValueError, match="not a whole number"):
        count(text)


@given(
    number=st.integers(min_value=0, max_value=10**9),
    unit=st.sampled_from([("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]),
)
def test_a_duration_that_is_shown_is_the_same_when_read(number: int, unit: tuple[str, int]) -> None:
    seconds = duration(f"{number}{unit[0]}")
    assert round(seconds * 1000) == number * unit[1]
    assert duration(show_duration(seconds)) == seconds


@given(number=st.integers(min_value=0, max_value=10**11))
def test_a_size_that_is_shown_is_the_same_when_read(number: int) -> None:
    assert size(show_size(number)) == number
    assert size(str(number)) == count(str(number)) == number


@given(st.text(max_size=30))
def test_any_text_is_read_or_wrong(text: str) -> None:
    for read in (duration, size, count):
        try:
            value = read(text)
        except WrongValueError:
            continue
        assert value >= 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.0, "45s"), (60.0, "1m"), (0.5, "500ms"), (3600.0, "1h"), (90.0, "90s"), (0.0, "0ms")]
)
def test_durations_are_shown_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(2**28, "256MiB"), (2**30, "1GiB"), (1000, "1000"), (3072, "3KiB"), (0, "0")])
def test_sizes_are_shown_in_the_largest_whole_unit(number: int, text: str) -> None:
    assert show_size(number) == text
