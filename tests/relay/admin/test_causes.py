import pytest

from relay.admin.causes import CAUSES
from relay.outcomes import NodeTrouble, Outcome, Refusal


@pytest.mark.parametrize("word", [*Outcome, *Refusal, *NodeTrouble])
def test_each_word_has_a_cause_in_words(word: Outcome | Refusal | NodeTrouble) -> None:
    cause = CAUSES[word]
    assert len(cause.text) > 10
    assert word.value.replace("-", " ") != cause.text
    assert cause.remedy == "" or cause.remedy.endswith(".")


@pytest.mark.parametrize(
    "word",
    [
        Outcome.RESOLVE, Outcome.REFUSED, Outcome.UNREACHABLE, Outcome.CONNECT_TIMEOUT, Outcome.TLS, Outcome.WRONG_CERTIFICATE,
        Outcome.NOT_TRUSTED, Outcome.QUEUE_TIMEOUT, Outcome.READY_TIMEOUT, Outcome.DESCRIPTORS, Refusal.UNTRUSTED,
        Refusal.CERTIFICATE_REFUSED, Refusal.CONNECTIONS, Refusal.NOT_OWNER, Outcome.NO_POLLER, NodeTrouble.NOT_TRUSTED,
    ],
)  # fmt: skip
def test_what_an_operator_can_mend_has_a_remedy(word: Outcome | Refusal | NodeTrouble) -> None:
    assert CAUSES[word].remedy
