from dataclasses import replace
from pathlib import Path

import pytest
from identities import identity
from strangers import issued
from tables import machine

from relay.probe.remedies import Situation, remedy
from relay.probe.result import Cause
from relay.probe.shown import look_at
from routing.table import Places

OURS = identity("production").thumbprint
SHOWN = look_at(identity("another").certificate)
PLACES = Places(Path("relay.yaml"), 7, {"tentacle": 8, "thumbprints": 9})


@pytest.mark.parametrize("cause", Cause, ids=lambda cause: cause.value)
def test_every_cause_has_one(cause):
    text = remedy(cause, Situation(machine(), OURS))
    assert text.endswith((".", "?"))
    assert ":0" not in text  # the place of a machine that no file declares


def test_it_names_the_line():
    declared = replace(machine(), places=PLACES)
    assert "(relay.yaml:8)" in remedy(Cause.REFUSED, Situation(declared, OURS))
    text = remedy(Cause.WRONG_CERTIFICATE, Situation(declared, OURS, SHOWN))
    assert f"If it prints {SHOWN.thumbprint}" in text
    assert "its thumbprint (relay.yaml:9)" in text


def test_a_certificate_that_is_known_is_not_the_machines():
    assert "show-thumbprint" not in remedy(Cause.WRONG_CERTIFICATE, Situation(machine(), OURS, SHOWN, "machine web02's"))


def test_an_issued_certificate_may_be_a_boxs():
    shown = look_at(issued("web01", "Corp Root").certificate)
    assert "inspection" in remedy(Cause.NOT_A_TENTACLE, Situation(machine(), OURS, shown))
    assert "inspection" not in remedy(Cause.NOT_A_TENTACLE, Situation(machine(), OURS))
