"""What an allow means: the compiled rules, and what a plain reader of docs/rules.md would say."""

import ipaddress
from pathlib import Path

import pytest
from halibut_bytes import bounded
from hypothesis import given
from rule_sets import Call, allowing, calls, is_for, rule_sets

from routing.rules import NotAllowed, Permitted, Rule, Rules, host_of
from routing.table import Place

PLACE = Place(Path("relay.yaml"), 31)


@bounded(1000)
@given(rule_sets(), calls())
def test_the_compiled_rules_are_the_rules(rules: Rules, call: Call) -> None:
    found = rules.permits(call.octopus, call.source, call.service, call.method)
    assert isinstance(found, Permitted) == (not rules.items or bool(allowing(rules, call)))
    assert rules.takes(call.octopus, call.source) == (not rules.items or any(is_for(item, call) for item in rules.items))
    grant = rules.grant(call.octopus, call.source)
    assert grant.permits(call.service, call.method) == found
    if grant.everything:
        assert isinstance(grant.permits("IAny", "Thing"), Permitted)
    assert rules.restricts_methods or not grant.items or grant.everything


@bounded(200)
@given(rule_sets(), calls())
def test_the_order_of_items_means_nothing(rules: Rules, call: Call) -> None:
    def permits(items: tuple[Rule, ...]) -> bool:
        return isinstance(Rules(items).permits(call.octopus, call.source, call.service, call.method), Permitted)

    assert permits(rules.items) == permits(rules.items[::-1])


def test_without_items_everything_is_allowed() -> None:
    assert Rules().permits("production", None, "IAny", "Thing") == Permitted()
    assert Rules().takes("production", "192.0.2.1")
    assert not Rules().restricts_methods


def test_a_call_that_is_allowed_knows_its_item_and_one_that_is_not_its_allow() -> None:
    item = Rule(("scripts",), place=PLACE)
    allow = Place(Path("relay.yaml"), 30)
    rules = Rules((item, Rule(("IScriptServiceV3",))), allow)
    assert rules.permits("production", None, "IScriptServiceV2", "GetStatus") == Permitted(PLACE)
    assert rules.permits("production", None, "IFileTransferService", "UploadFile") == NotAllowed(
        "no item of allow lets this caller call IFileTransferService.UploadFile (relay.yaml:30)", allow
    )


def test_names_that_only_some_readers_take_for_others_are_nobodys() -> None:
    rules = Rules((Rule(("scripts",)),))
    for service, method in [
        ("I\u017fcriptServiceV2", "GetStatus"),  # a long s, whose upper case is S
        ("IScriptServiceV2", "GetStatus\0"),
        ("IScriptServiceV2 ", "GetStatus"),
        ("IScriptServiceV2", "GetStatusAsyncAsync"),
        ("IScriptServiceV2", "*"),
        ("IScriptServiceV2", ""),
        ("", ""),
    ]:
        assert isinstance(rules.permits("production", None, service, method), NotAllowed), (service, method)


def test_long_names_of_callers_are_cut_in_what_is_said() -> None:
    found = Rules((Rule(("files",)),)).permits("production", None, "I" * 4000, "M" * 4000)
    assert isinstance(found, NotAllowed)
    assert len(found.detail) < 300


def test_rules_are_values() -> None:
    one, other = (Rules((Rule(("scripts",), place=Place(Path("a"), line)),), contact="us") for line in (1, 2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Rules((Rule(("scripts",)),), contact="them")


@pytest.mark.parametrize(
    ("peer", "host"),
    [("192.0.2.1:50000", "192.0.2.1"), ("[2001:db8::1]:50000", "2001:db8::1"), ("[fe80::1%eth0]:5", "fe80::1%eth0"), ("", "")],
)
def test_where_a_caller_is(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_who_has_no_address_is_in_no_network() -> None:
    (item,) = items = (Rule(networks=(ipaddress.ip_network("0.0.0.0/0"),)),)
    for source in (None, "", "web01", "2001:db8::1"):
        assert not Rules(items).takes("production", source), source
    assert Rules(items).takes("production", "::ffff:192.0.2.1")
    assert Rules(items).grant("production", "192.0.2.1").items == (item,)
