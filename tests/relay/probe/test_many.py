from dataclasses import replace

import pytest
import pytest_twisted
from identities import identity
from tables import PRODUCTION, STAGING, machine, table
from twisted.internet.defer import Deferred

from certs.errors import CertificateError
from certs.store import IdentityStore
from relay.identities import NoSuchEntryError
from relay.probe.many import Job, NotReadyError, asked, jobs, probe_many

WEB01, WEB02 = machine("web01"), machine("web02", octopus=(STAGING,))


class Probes:
    """Stands for `probe`: each one ends when the test says so."""

    def __init__(self) -> None:
        self.going: list[tuple[str, Deferred[str]]] = []

    async def __call__(self, reactor, machine, identity, seconds, whose) -> str:
        done: Deferred[str] = Deferred()
        self.going.append((machine.name, done))
        return await done

    def end(self, name: str) -> None:
        [entry] = [entry for entry in self.going if entry[0] == name]
        self.going.remove(entry)
        entry[1].callback(f"result of {name}")


@pytest_twisted.ensureDeferred
async def test_so_many_at_once_and_the_results_in_order(monkeypatch):
    probes = Probes()
    monkeypatch.setattr("relay.probe.many.probe", probes)
    told: list[str] = []
    work = [Job(machine(f"web0{number}"), identity("production")) for number in range(4)]
    all_of_them = Deferred.fromCoroutine(probe_many(None, work, 1.0, 2, done=told.append))
    assert [name for name, _ in probes.going] == ["web00", "web01"]
    probes.end("web01")
    assert [name for name, _ in probes.going] == ["web00", "web02"]
    for name in ("web02", "web03", "web00"):
        probes.end(name)
    assert told == [f"result of web0{number}" for number in (1, 2, 3, 0)]
    assert await all_of_them == [f"result of web0{number}" for number in range(4)]


@pytest_twisted.ensureDeferred
async def test_an_identity_that_cannot_be_used_ends_all(monkeypatch):
    async def refuses(*arguments):
        raise CertificateError("OpenSSL refuses it")

    monkeypatch.setattr("relay.probe.many.probe", refuses)
    with pytest.raises(CertificateError, match="OpenSSL refuses it"):
        await Deferred.fromCoroutine(probe_many(None, [Job(WEB01, identity("production"))] * 3, 1.0, 2))


def planned(folder, names, octopus) -> list[tuple[str, str]]:
    store = IdentityStore(folder / "state", lambda *_: None, lambda _: None)
    there = table(folder, WEB01, WEB02)
    return [(job.machine.name, job.identity.name) for job in jobs(there, store, asked(there, names, octopus), octopus)]


def test_a_job_for_each_machine_and_octopus_entry(tmp_path):
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    with pytest.raises(NotReadyError, match="octopus entry production: its identity was not made yet"):
        planned(tmp_path, [], None)
    for octopus in (PRODUCTION, STAGING):
        store.octopus(octopus.name)
    assert planned(tmp_path, [], None) == [("web01", "production"), ("web01", "staging"), ("web02", "staging")]
    assert planned(tmp_path, [], "production") == [("web01", "production")]
    assert planned(tmp_path, ["web02", "web01", "web02"], "staging") == [("web02", "staging"), ("web01", "staging")]
    with pytest.raises(NoSuchEntryError, match=r"production may not call it. It has: staging."):
        planned(tmp_path, ["web02"], "production")


def test_an_identity_that_cannot_be_read(tmp_path):
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    store.octopus("staging")
    store.octopus_file("staging").write_bytes(b"nothing")
    with pytest.raises(NotReadyError, match=r"staging.pem"):
        planned(tmp_path, ["web02"], None)


def test_polling_tentacles_are_not_dialled(tmp_path):
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    store.import_octopus(identity("production"))
    kiosk = machine("kiosk7", octopus=(PRODUCTION,), tentacle=None, subscription="poll://sq/")
    web = machine("web01", octopus=(PRODUCTION,))
    there = table(tmp_path, kiosk, web)
    assert asked(there, (), None) == [kiosk, web]
    assert [job.machine.name for job in jobs(there, store, [kiosk, web], None)] == ["web01"]


def test_what_nobody_has(tmp_path):
    with pytest.raises(NoSuchEntryError, match="no machine is there, so there is nothing to probe"):
        asked(table(tmp_path), (), None)
    with pytest.raises(NoSuchEntryError, match="no machine has the octopus entry production"):
        asked(replace(table(tmp_path, WEB02), octopus=(PRODUCTION, STAGING)), (), "production")


def test_a_machine_that_is_passed_through_is_looked_at_once(tmp_path):
    """No identity has to be there for that."""
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    vault = machine("vault01", passthrough=True, octopus=(), thumbprints=())
    known = table(tmp_path, vault, machine("web01", octopus=(PRODUCTION,)))
    assert jobs(known, store, asked(known, ("vault01",), None), None) == [Job(vault, None)]
    with pytest.raises(NoSuchEntryError, match=r"production may not call it. It has: none, for it is passed through."):
        asked(known, ("vault01",), "production")
