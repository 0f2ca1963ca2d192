import re

import pytest

from relay.outcomes import Outcome, Refusal


@pytest.mark.parametrize("words", [Outcome, Refusal])
def test_each_word_is_one_that_can_be_searched_for(words: type[Outcome] | type[Refusal]) -> None:
    values = [word.value for word in words]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", value) for value in values)
