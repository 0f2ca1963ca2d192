from pathlib import Path

import pytest
from identities import identity
from tables import PRODUCTION, STAGING, machine, table

from certs.store import IdentityStore
from relay.faces import Faces

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
