from dataclasses import replace
from pathlib import Path

from identities import identity
from tables import PRODUCTION, machine, table

from certs.store import IdentityStore
from relay.probe.acquaintances import whose
from routing.table import Places


def test_whose_a_certificate_is(tmp_path):
    places = Places(Path("relay.yaml"), 3, {"thumbprint": 4})
    octopus = replace(PRODUCTION, thumbprints=(identity("octopus").thumbprint,), places=places)
    web02 = machine("web02", thumbprints=(identity("tentacle").thumbprint,), octopus=(octopus,), places=places)
    known = table(tmp_path, machine("web01", octopus=(octopus,)), web02)
    store = IdentityStore(tmp_path / "state", lambda *_: None, lambda _: None)
    facing_octopus, facing_tentacles = store.machine("web01"), store.octopus("production")
    broken = store.machine_file("web02")
    broken.touch(0o600)

    def said(der: bytes) -> str:
        return whose(known, store, der)

    assert said(identity("tentacle").der) == "the one that machine web02 has pinned (relay.yaml:4)"
    assert said(identity("octopus").der) == "the one of the Octopus server production (relay.yaml:4), and no Tentacle's"
    assert said(facing_octopus.der) == "this relay's own, which it shows to Octopus for the machine web01"
    assert said(facing_tentacles.der) == "this relay's own, which it shows to Tentacles for the octopus entry production"
    assert said(identity("stranger").der) == ""
    assert broken.read_bytes() == b""
