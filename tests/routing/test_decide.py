import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from tables import OCTOPUS, OTHER_OCTOPUS, PRODUCTION, STAGING, STRANGER, machine, table

from certs.thumbprint import Thumbprint
from relay.outcomes import Refusal
from routing.addresses import Address
from routing.decide import Certificate, Denied, Reason, judge, machine_at, machine_for

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


def lookups(count: int) -> float:
    """Seconds of CPU for some thousand lookups among so many machines, the best of three."""
    named = [machine(f"m{number}", host=f"m{number}.relay.corp", octopus=(PRODUCTION,)) for number in range(count)]
    polling = [
        replace(each, name=f"p{each.name}", host=None, tentacle=None, subscription=f"poll://{each.name}/") for each in named
    ]
    made = table(Path(), *named, *polling)
    asked = [f"m{number * 7919 % count}" for number in range(5000)]
    times = []
    for _ in range(3):
        before = time.process_time()
        for name in asked:
            assert machine_at(made.hosts, f"{name}.relay.corp") is made.machine(name)
            assert made.subscriptions[f"poll://{name}/"]
            machine_at(made.hosts, "nobody.relay.corp")
        times.append(time.process_time() - before)
    return min(times)


def test_a_lookup_costs_the_same_among_ten_machines_and_ten_thousand() -> None:
    assert lookups(10_000) < 5 * lookups(10)


def test_a_machine_by_its_target():
    known = {Address("web01.corp", 10933): WEB01}
    for target in ("web01.corp:10933", "WEB01.corp.:10933", "web01.corp"):
        assert machine_for(known, target) is WEB01


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("web01.corp:443", "no machine has the target web01.corp:443"),
        ("\x1b[1mweb01:0", "it asked for ?[1mweb01:0: not a port from 1 to 65535"),
        ("", "it asked for nothing: not a host name or IP address"),
        ("/" * 1000, f"it asked for {'/' * 100}: too long for a host and a port"),
    ],
)
def test_no_machine_by_its_target(target, detail):
    known = {Address("web01.corp", 10933): WEB01}
    assert machine_for(known, target) == Denied("unknown-target", detail)
