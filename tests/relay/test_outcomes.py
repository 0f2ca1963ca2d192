import re

import pytest

from relay.outcomes import NodeTrouble, Outcome, Refusal


@pytest.mark.parametrize("words", [Outcome, Refusal, NodeTrouble])
def test_each_word_is_one_that_can_be_searched_for(words: type[Outcome] | type[Refusal] | type[NodeTrouble]) -> None:
    values = [word.value for word in words]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", value) for value in values)
