from pathlib import Path

import pytest

from certs.identity import Identity
from certs.store import IdentityStore, Provisioned
from relay import identities
from relay.identities import AmbiguousNameError, Entry, NoSuchEntryError
from routing.load import load
from routing.table import Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"""\
relay: {{name: r, state: state}}
octopus:
  - {{name: both, thumbprint: {"A" * 40}}}
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, port: 11001, identity: given.pem}}
  - {{name: both, tentacle: "https://web02", thumbprint: {"D" * 40}, port: 11002}}
"""
    )
    return load(path)


@pytest.fixture
def store(table: Table) -> IdentityStore:
    return IdentityStore(table.relay.state, lambda identity, path: None, pytest.fail)


def test_every_identity_that_the_configuration_calls_for(table: Table, tmp_path: Path) -> None:
    found = identities.entries(table)
    assert found == [
        Entry("machine", "web01", Provisioned(tmp_path / "given.pem")),
        Entry("machine", "both", None),
        Entry("octopus", "both", None),
    ]
    assert [entry.faces for entry in found] == ["Octopus", "Octopus", "Tentacles"]
    assert [str(entry) for entry in found] == ["machine web01", "machine both", "octopus entry both"]


def test_by_name(table: Table) -> None:
    assert identities.entry(table, "web01").kind == "machine"
    assert identities.entry(table, "both", "octopus").kind == "octopus"
    with pytest.raises(AmbiguousNameError):
        identities.entry(table, "both")
    with pytest.raises(NoSuchEntryError, match=r"no octopus entry is named web01\. There are: both\.$"):
        identities.entry(table, "web01", "octopus")


def test_looking(table: Table, store: IdentityStore, tmp_path: Path) -> None:
    provisioned, machine, octopus = identities.entries(table)
    found = identities.look(store, provisioned)
    assert (found.identity, found.file) == (None, tmp_path / "given.pem")
    assert "no such file" in found.problem
    for entry, make, file in [(machine, store.machine, "machines"), (octopus, store.octopus, "octopus")]:
        before = identities.look(store, entry)
        assert (before.identity, before.problem, before.file) == (None, "", tmp_path / "state" / file / "both.pem")
        made = make("both")
        assert identities.look(store, entry).identity == made


def test_keeping(table: Table, store: IdentityStore) -> None:
    new = Identity.new("both", "Octopus Portal")
    _, machine, octopus = identities.entries(table)
    assert identities.keep(table, store, octopus, new, replace=False) == store.octopus_file("both")
    assert store.octopus("both") == new
    assert store.find_machine("both") is None
    assert identities.keep(table, store, machine, new, replace=False) == store.machine_file("both")


def test_a_machine_that_is_passed_through_has_none(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"""\
relay: {{name: r, state: state}}
octopus:
  - {{name: production, thumbprint: {"A" * 40}}}
machines:
  - {{name: vault01, tentacle: "https://vault01", passthrough: true, port: 11001}}
"""
    )
    table = load(path)
    assert identities.entries(table) == [Entry("octopus", "production", None)]
    for kind in (None, "machine"):
        with pytest.raises(NoSuchEntryError, match="machine vault01 is passed through, so it has no identity"):
            identities.entry(table, "vault01", kind)
    with pytest.raises(NoSuchEntryError, match="no octopus entry is named vault01"):
        identities.entry(table, "vault01", "octopus")
    assert identities.machine(table, "vault01").passthrough
    with pytest.raises(NoSuchEntryError, match=r"no machine is named vault02. There are: vault01."):
        identities.machine(table, "vault02")
