from typing import get_args

import pytest
from tables import OCTOPUS, OTHER_OCTOPUS, PRODUCTION, STAGING, STRANGER, machine

from certs.thumbprint import Thumbprint
from relay.outcomes import Refusal
from routing.decide import Certificate, Denied, Reason, judge, machine_at

WEB01 = machine(host="web01.corp")


def test_a_certificate_has_its_pins():
    certificate = Certificate(OCTOPUS)
    assert certificate.has(Thumbprint.of(OCTOPUS))
    assert certificate.has(Thumbprint.of(OCTOPUS, "sha256"))
    assert not certificate.has(Thumbprint.of(STRANGER))
    assert str(certificate) == str(Thumbprint.of(OCTOPUS))


@pytest.mark.parametrize(("der", "octopus"), [(OCTOPUS, PRODUCTION), (OTHER_OCTOPUS, STAGING)])
def test_whoever_a_machine_trusts(der, octopus):
    assert judge(WEB01, Certificate(der)) is octopus


def test_everybody_else_is_denied():
    assert judge(WEB01, None) == Denied("no-certificate", "it showed no certificate")
    denied = judge(machine(octopus=(PRODUCTION,)), Certificate(OTHER_OCTOPUS))
    assert denied == Denied("untrusted", f"it showed {Thumbprint.of(OTHER_OCTOPUS)}, which is of no Octopus of this machine")


@pytest.mark.parametrize("name", ["web01.corp", "web01.corp."])
def test_a_machine_by_its_host(name):
    assert machine_at({"web01.corp": WEB01}, name) is WEB01


@pytest.mark.parametrize(
    ("name", "reason"), [("", "no-name"), (".", "no-name"), ("web02.corp", "unknown-name"), ("corp", "unknown-name")]
)
def test_no_machine(name, reason):
    denied = machine_at({"web01.corp": WEB01}, name)
    assert isinstance(denied, Denied)
    assert denied.reason == reason


def test_every_reason_is_a_word_of_the_log():
    assert {*get_args(Reason)} <= {refusal.value for refusal in Refusal}
