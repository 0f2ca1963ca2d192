import pytest

from routing.subscriptions import same_for_all


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("poll://SQ-TENTAPOLL/", "poll://sq-tentapoll/"),
        ("POLL://sq-tentapoll", "poll://sq-tentapoll/"),
        ("poll://sq-tentapoll/", "poll://sq-tentapoll/"),
        ("poll://a/B", "poll://a/b"),
        ("nonsense", "nonsense"),
    ],
)
def test_one_spelling_for_all(written: str, spelled: str) -> None:
    assert same_for_all(written) == spelled
    assert same_for_all(spelled) == spelled
