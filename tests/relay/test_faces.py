from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from identities import identity
from scripted import party
from tables import PRODUCTION, STAGING, machine, table

from certs.contexts import likeness, server_context
from certs.errors import CertificateError
from certs.identity import Identity
from certs.sharing import Context
from certs.store import IdentityStore
from relay.errors import StartError
from relay.faces import Faces
from routing.addresses import Address
from routing.table import HttpProxy

WEB01, WEB02 = machine("web01", octopus=(PRODUCTION,)), machine("web02")


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    """With an identity for everybody."""
    made = IdentityStore(tmp_path / "state", lambda identity, path: pytest.fail(f"made {path}"), pytest.fail)
    for name in ("web01", "web02"):
        made.import_machine(type(identity(name))(name, identity(name).certificate, identity(name).key))
    for name in ("production", "staging"):
        made.import_octopus(identity(name))
    return made


def test_contexts_are_made_once_and_go_on_in_use_where_the_certificate_is_the_same(
    tmp_path: Path, store: IdentityStore
) -> None:
    before = Faces.read(table(tmp_path, WEB01, WEB02), store)
    contexts = before.server("web01"), before.server("web02"), before.client("production")
    assert before.server("web01") is contexts[0]
    store.machine_file("web02").write_bytes(identity("replaced").pem())
    after = Faces.read(table(tmp_path, WEB01, WEB02), store, before)
    assert after.server("web01") is contexts[0]
    assert after.server("web02") is not contexts[1]
    assert after.client("production") is contexts[2]
    assert after.of_machine("web02").der == identity("replaced").der
    assert after.of_octopus("staging").der == identity("staging").der


def test_a_machine_is_the_same_where_both_sides_see_the_same_certificates(tmp_path: Path, store: IdentityStore) -> None:
    first = Faces.read(table(tmp_path, WEB01, WEB02), store)
    assert Faces.read(table(tmp_path, WEB01, WEB02), store, first).same(first, WEB02)
    store.octopus_file("staging").write_bytes(identity("replaced").pem())
    second = Faces.read(table(tmp_path, WEB01, WEB02), store, first)
    assert [second.same(first, each) for each in (WEB01, WEB02)] == [True, False]
    assert second.same_to_callers(first, "web02")
    assert [second.same_to_tentacles(first, each.name) for each in (PRODUCTION, STAGING)] == [True, False]
    store.machine_file("web01").write_bytes(identity("replaced").pem())
    third = Faces.read(table(tmp_path, WEB01, WEB02), store, second)
    assert [third.same(second, each) for each in (WEB01, WEB02)] == [False, True]


def test_pollers_see_the_identity_of_the_entry_at_the_back_and_a_machine_of_theirs_changes_with_it(
    tmp_path: Path, store: IdentityStore
) -> None:
    kiosk = machine("web01", octopus=(PRODUCTION,), tentacle=None, subscription="poll://sq/")
    before = Faces.read(table(tmp_path, kiosk, WEB02, back_octopus=STAGING), store)
    assert before.entrance() is not before.client("staging")
    after = Faces.read(table(tmp_path, kiosk, WEB02, back_octopus=PRODUCTION), store, before)
    assert [after.same(before, each) for each in (kiosk, WEB02)] == [False, True]
    again = Faces.read(table(tmp_path, kiosk, WEB02, back_octopus=PRODUCTION), store, after)
    assert again.same(after, kiosk)
    assert again.entrance() is not before.entrance()


def test_a_polled_machine_changes_with_the_credentials_of_its_proxy(tmp_path: Path, store: IdentityStore) -> None:
    file = tmp_path / "credentials"
    file.touch(0o600)
    file.write_text("user:one")
    entry = replace(PRODUCTION, proxy=HttpProxy(Address("proxy", 3128), file))
    polled = machine("web01", octopus=(entry,), polled_for=True, subscription="poll://sq/")
    before = Faces.read(table(tmp_path, polled), store)
    proxy = before.proxy("production")
    assert proxy
    assert (str(proxy), proxy.credentials) == ("proxy:3128", "user:one")
    assert Faces.read(table(tmp_path, polled), store, before).same(before, polled)
    file.write_text("user:two")
    assert not Faces.read(table(tmp_path, polled), store, before).same(before, polled)
    file.chmod(0o644)
    with pytest.raises(StartError, match="chmod 600"):
        Faces.read(table(tmp_path, polled), store, before)


def test_one_context_of_each_kind_is_made_to_start_and_the_others_when_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def server(shown: Identity) -> Context:
        made.append(shown.name)
        return server_context(shown)

    monkeypatch.setattr("relay.faces.server_context", server)
    store = IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail)
    rsa = Identity.new("web01", "Octopus Tentacle")
    for name, shown in [("web01", rsa), ("web02", rsa), ("web03", identity("octopus")), ("web04", rsa)]:
        store.import_machine(Identity(name, shown.certificate, shown.key))
    store.import_octopus(identity("production"))
    machines = [machine(f"web0{number}", octopus=(PRODUCTION,)) for number in range(1, 5)]
    faces = Faces.read(table(tmp_path, *machines), store)
    assert len(made) == len({likeness(faces.of_machine(name)) for name in ("web01", "web02", "web03", "web04")}) < 4
    made.clear()
    faces.server("web04")
    faces.server("web04")
    assert made == ["web04"]


def test_an_identity_that_openssl_refuses_is_found_among_others_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server(shown: Identity) -> Context:
        if shown.name == "web02":
            raise CertificateError("identity web02: OpenSSL refuses it")
        return server_context(shown)

    monkeypatch.setattr("relay.faces.server_context", server)
    store = IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail)
    store.import_machine(Identity.new("web01", "Octopus Tentacle"))
    curve = party("web02")
    store.import_machine(Identity("web02", curve.certificate, curve.key))
    store.import_octopus(identity("production"))
    with pytest.raises(CertificateError, match="web02"):
        Faces.read(table(tmp_path, *(machine(name, octopus=(PRODUCTION,)) for name in ("web01", "web02"))), store)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys that are parsed from now on."""
    found: list[bytes] = []
    parse = serialization.load_pem_private_key

    def watching(data: bytes, *arguments: Any, **options: Any) -> Any:
        found.append(data)
        return parse(data, *arguments, **options)

    monkeypatch.setattr(serialization, "load_pem_private_key", watching)
    return found


def alike(folder: Path, *names: str) -> IdentityStore:
    """With identities that OpenSSL cannot tell apart, all of them of one key."""
    made = IdentityStore(folder / "state", lambda identity, path: None, pytest.fail)
    one = identity("web01")
    for name in names:
        made.import_machine(Identity(name, one.certificate, one.key))
    made.import_octopus(identity("production"))
    return made


def test_keys_of_machines_are_parsed_when_a_caller_comes(tmp_path: Path, parsed: list[bytes]) -> None:
    names = [f"web0{number}" for number in range(1, 7)]
    store = alike(tmp_path, *names)
    faces = Faces.read(table(tmp_path, *(machine(name, octopus=(PRODUCTION,)) for name in names)), store)
    assert len(parsed) == 2  # that of the octopus entry, and one machine's, to see whether OpenSSL takes such keys
    faces.server("web05")
    faces.server("web05")
    assert len(parsed) == 3


def test_the_key_with_which_the_relay_polls_is_parsed_at_once(tmp_path: Path, parsed: list[bytes]) -> None:
    store = alike(tmp_path, "web01", "web02")
    polled = machine("web02", octopus=(PRODUCTION,), polled_for=True, subscription="poll://sq/")
    path = store.machine_file("web02")
    path.write_bytes(path.read_bytes().replace(b"\nM", b"\n!", 1))
    with pytest.raises(CertificateError, match="web02: the private key cannot be read"):
        Faces.read(table(tmp_path, machine(octopus=(PRODUCTION,)), polled), store)


def test_a_key_that_was_damaged_and_is_mended_is_taken_by_a_reload(tmp_path: Path) -> None:
    store = alike(tmp_path, "web01", "web02")
    declared = table(tmp_path, *(machine(name, octopus=(PRODUCTION,)) for name in ("web01", "web02")))
    path = store.machine_file("web02")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\nM", b"\n!", 1))
    before = Faces.read(declared, store)
    with pytest.raises(CertificateError, match="web02"):
        before.server("web02")
    path.write_bytes(whole)
    after = Faces.read(declared, store, before)
    assert after.same(before, declared.machines[1])
    after.server("web02")


def test_identities_that_nobody_has_used_are_kept_where_their_files_are_the_same(tmp_path: Path) -> None:
    store = alike(tmp_path, "web01", "web02")
    declared = table(tmp_path, *(machine(name, octopus=(PRODUCTION,)) for name in ("web01", "web02")))
    before = Faces.read(declared, store)
    assert Faces.read(declared, store, before).of_machine("web02") is before.of_machine("web02")
