import socket
from dataclasses import replace

import pytest
from tables import PRODUCTION, STAGING, machine, table

from certs.store import IdentityStore
from relay.instructions import Guide, Way, own_name
from routing.addresses import Address
from routing.table import Table

FRONT = Address("", 10933)


def guide(folder, known: Table, address=None) -> Guide:
    def guess() -> str:
        guesses.append("asked")
        return "relay01"

    guesses: list[str] = []
    store = IdentityStore(folder / "state", lambda *_: None, lambda _: None)
    made = Guide(known, store, address, guess)
    made.guesses = guesses
    return made


@pytest.mark.parametrize("everywhere", ["", "::", "0.0.0.0"])
def test_a_door_on_every_address_has_the_name_of_this_host_as_a_guess_asked_once(tmp_path, everywhere):
    known = table(tmp_path, *(machine(f"web{port}", door=Address(everywhere, port)) for port in (11001, 11002)))
    guided = guide(tmp_path, known)
    ways = [guided.of(each).ways for each in known.machines]
    assert ways == [(Way(Address("relay01", port), "guessed"),) for port in (11001, 11002)]
    assert guided.guesses == ["asked"]
    assert ways[0][0].uri == "https://relay01:11001/"


def test_a_door_on_one_address_has_it(tmp_path):
    web01 = machine(door=Address("2001:db8::7", 11001))
    [way] = guide(tmp_path, table(tmp_path, web01)).of(web01).ways
    assert (way, way.uri) == (Way(Address("2001:db8::7", 11001), "declared"), "https://[2001:db8::7]:11001/")


def test_an_address_that_is_given_is_that_of_every_port(tmp_path):
    web01 = machine(door=Address("10.0.0.7", 11001))
    guided = guide(tmp_path, table(tmp_path, web01), "relay.corp")
    assert guided.of(web01).ways == (Way(Address("relay.corp", 11001), "given"),)
    assert guided.guesses == []


def test_a_host_stands_at_the_shared_door_whatever_address_is_given(tmp_path):
    web01 = machine(host="web01.relay.corp", door=None)
    both = machine("web02", host="web02.relay.corp", door=Address("", 11002))
    guided = guide(tmp_path, replace(table(tmp_path, web01, both), front=FRONT), "relay.corp")
    assert guided.of(web01).ways == (Way(Address("web01.relay.corp", 10933), "declared"),)
    assert guided.of(both).ways == (
        Way(Address("web02.relay.corp", 10933), "declared"),
        Way(Address("relay.corp", 11002), "given"),
    )


def test_identities_are_looked_at_and_not_made(tmp_path):
    web01 = machine(octopus=(PRODUCTION, STAGING))
    known = table(tmp_path, web01)
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    seen = store.machine("web01")
    trusted = store.octopus("staging")
    found = guide(tmp_path, known).of(web01)
    assert found.identity.identity is not None
    assert found.identity.identity.thumbprint == seen.thumbprint
    assert [each.entry.name for each in found.trusts] == ["production", "staging"]
    assert [each.identity and each.identity.thumbprint for each in found.trusts] == [None, trusted.thumbprint]
    assert not store.octopus_file("production").exists()


def test_this_hosts_name(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "relay01")
    for known, name in [("relay01.corp", "relay01.corp"), ("localhost", "relay01"), ("localhost.localdomain", "relay01")]:
        monkeypatch.setattr(socket, "getfqdn", lambda known=known: known)
        assert own_name() == name
