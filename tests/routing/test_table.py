import dataclasses
from pathlib import Path

import pytest

from certs.thumbprint import Thumbprint
from routing.addresses import Address
from routing.table import Limits, Machine, Octopus, Places, Relay, RelayLimits, RelayTimeouts, Table, Timeouts

PRODUCTION = Octopus("production", (Thumbprint.of(b"old"), Thumbprint.of(b"new", "sha256")), None)
STAGING = Octopus("staging", (Thumbprint.of(b"staging"),), None)


def machine(name: str, port: int, *octopus: Octopus) -> Machine:
    pins = (Thumbprint.of(name.encode()),)
    door, host = Address("", port), f"{name}.relay.corp"
    return Machine(name, Address("t", 10933), pins, octopus, door, None, Limits(), Timeouts(), host)


@pytest.fixture
def table() -> Table:
    relay = Relay("r", Path("/s"), None, "info", RelayLimits(), RelayTimeouts())
    machines = (machine("web01", 11001, PRODUCTION), machine("web02", 11002, STAGING, PRODUCTION))
    return Table(relay, (PRODUCTION, STAGING), machines, Path("relay.yaml"))


def test_a_machine_is_found_by_its_name_and_by_its_host(table: Table) -> None:
    web01 = table.machine("web01")
    assert web01 is table.machines[0]
    assert table.hosts["web01.relay.corp"] is web01
    assert set(table.hosts) == {"web01.relay.corp", "web02.relay.corp"}


def test_the_machine_of_a_polling_tentacles_certificate(table: Table) -> None:
    web01, web02 = table.machines
    pins = (Thumbprint.of(b"kiosk"), Thumbprint.of(b"kiosk again", "sha256"))
    kiosks = [
        dataclasses.replace(web02, name=name, tentacle=None, subscription=f"poll://{name}/", thumbprints=pins)
        for name in ("kiosk7", "kiosk8")
    ]
    polling = dataclasses.replace(table, machines=(web01, *kiosks))
    for certificate in (b"kiosk", b"kiosk again"):
        assert polling.polling_machine(certificate) is kiosks[0]
    assert polling.polling_machine(b"web01") is None  # it is dialled
    assert polling.polling_machine(b"stranger") is None


def test_what_is_not_declared_is_not_found(table: Table) -> None:
    assert table.machine("WEB01") is None
    assert table.machine("") is None
    assert "web01" not in table.hosts


def test_a_machine_knows_its_own_octopus_entries_and_no_other(table: Table) -> None:
    web01, web02 = table.machines
    assert web01.octopus_of(b"old") is PRODUCTION
    assert web01.octopus_of(b"new") is PRODUCTION
    assert web01.octopus_of(b"staging") is None
    assert web02.octopus_of(b"staging") is STAGING
    for nobody in (b"", b"web01", b"stranger"):
        assert web01.octopus_of(nobody) is None


def test_nothing_in_it_can_be_changed(table: Table) -> None:
    for thing in (table, table.relay, table.machines[0], table.machines[0].limits, table.octopus[0], Address("", 1)):
        field = dataclasses.fields(thing)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field, None)
        assert not hasattr(thing, "__dict__")
    with pytest.raises(TypeError):
        table.hosts["web03"] = table.machines[0]


def test_an_entry_says_where_each_of_its_keys_is() -> None:
    places = Places(Path("relay.yaml"), 7, {"name": 7, "port": 9})
    assert str(places.of("port")) == "relay.yaml:9"
    assert str(places.of("thumbprint", "port")) == "relay.yaml:9"
    assert str(places.of("thumbprint")) == "relay.yaml:7"


def test_where_it_is_declared_makes_no_other_machine() -> None:
    elsewhere = dataclasses.replace(machine("web01", 1, PRODUCTION), places=Places(Path("other.yaml"), 3))
    assert elsewhere == machine("web01", 1, PRODUCTION)


def test_equal_tables_are_equal_and_hashable(table: Table) -> None:
    again = Table(table.relay, table.octopus, table.machines, table.source)
    assert again == table
    assert hash(again) == hash(table)
    other = dataclasses.replace(table.machines[0], limits=Limits(connections=1))
    assert Table(table.relay, table.octopus, (other,), table.source) != table


def test_how_many_connections_are_kept_to_nodes() -> None:
    entry = dataclasses.replace(PRODUCTION, nodes=(Address("a", 1), Address("b", 1)), node_connections=3)
    dialled = machine("web01", 1, entry, STAGING)
    polled = dataclasses.replace(dialled, polled_for=True)
    assert [dialled.polls, polled.polls, dataclasses.replace(polled, octopus=(STAGING,)).polls] == [0, 6, 0]


def test_a_machine_names_its_tentacle_as_the_configuration_does() -> None:
    listening = dataclasses.replace(machine("web01", 1, PRODUCTION), tentacle=Address("::1", 1))
    assert listening.uri == "https://[::1]:1"
    assert dataclasses.replace(listening, tentacle=None, subscription="poll://sq/").uri == "poll://sq/"
