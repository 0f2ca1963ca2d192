import os
import stat
from pathlib import Path

import pytest

from certs.errors import CertificateError
from certs.identity import Identity
from certs.rotation import Rotation
from certs.store import IdentityStore


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail)


@pytest.fixture
def first(store: IdentityStore) -> Identity:
    return store.machine("web01")


@pytest.fixture
def rotation(store: IdentityStore, first: Identity) -> Rotation:
    return Rotation(store.machine_file("web01"), "web01", "Octopus Tentacle")


def now(rotation: Rotation) -> tuple[Identity | None, Identity | None, Identity | None]:
    return rotation.current, rotation.next, rotation.old


def test_the_next_one_waits_and_changes_nothing(rotation: Rotation, first: Identity, store: IdentityStore) -> None:
    made, new = rotation.prepare()
    assert new
    assert made != first
    assert made.certificate.subject.rfc4514_string() == "CN=Octopus Tentacle"
    assert now(rotation) == (first, made, None)
    assert store.machine("web01") == first
    assert stat.S_IMODE(rotation.next_file.stat().st_mode) == 0o600


def test_asking_again_has_the_same_one(rotation: Rotation) -> None:
    made, _ = rotation.prepare()
    assert rotation.prepare() == (made, False)


def test_there_and_back(rotation: Rotation, first: Identity, store: IdentityStore) -> None:
    made, _ = rotation.prepare()
    assert rotation.activate() == made
    assert now(rotation) == (made, None, first)
    assert store.machine("web01") == made
    assert rotation.back() == first
    assert now(rotation) == (first, made, None)
    assert rotation.activate() == made
    assert now(rotation) == (made, None, first)
    again, _ = rotation.prepare()
    rotation.activate()
    assert now(rotation) == (again, None, made)


def test_dropping_it(rotation: Rotation, first: Identity) -> None:
    made, _ = rotation.prepare()
    assert rotation.cancel() == made
    assert now(rotation) == (first, None, None)
    assert [path.name for path in rotation.file.parent.iterdir()] == ["web01.pem"]


def test_what_is_not_there(rotation: Rotation, store: IdentityStore) -> None:
    for call in (rotation.activate, rotation.cancel):
        with pytest.raises(CertificateError, match=r"web01\.pem\.next: no such file: no new identity waits"):
            call()
    with pytest.raises(CertificateError, match=r"web01\.pem\.old: no such file: no identity was in use before"):
        rotation.back()
    with pytest.raises(CertificateError, match=r"web02\.pem: not made yet, so there is nothing to rotate"):
        Rotation(store.machine_file("web02"), "web02", "x").prepare()


def test_going_back_overwrites_no_other_that_waits(rotation: Rotation, first: Identity) -> None:
    second, _ = rotation.prepare()
    rotation.activate()
    third, _ = rotation.prepare()
    with pytest.raises(CertificateError, match=rf"another identity waits, {third.thumbprint}, .* Drop it with --cancel first"):
        rotation.back()
    assert now(rotation) == (second, third, first)
    rotation.cancel()
    assert rotation.back() == first


@pytest.mark.parametrize("step", ["activate", "back"])
def test_cut_off_in_between_it_can_be_done_again(
    rotation: Rotation, first: Identity, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename that puts the other identity in its place fails, as if the process had been killed before it."""
    made, _ = rotation.prepare()
    if step == "back":
        rotation.activate()
    before = rotation.current
    real = os.rename

    def failing(source: Path, target: Path) -> None:
        if target == rotation.file:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", failing)
        with pytest.raises(CertificateError, match=r"web01\.pem: cannot write: No space left on device"):
            getattr(rotation, step)()
    assert rotation.current == before
    getattr(rotation, step)()
    expected = (made, None, first) if step == "activate" else (first, made, None)
    assert now(rotation) == expected


def test_changing_ones_mind_in_between(rotation: Rotation, first: Identity) -> None:
    """A way back was cut off before its last rename, and then the new one is wanted after all."""
    made, _ = rotation.prepare()
    rotation.activate()
    rotation.next_file.touch(0o600)
    rotation.next_file.write_bytes(made.pem())
    assert rotation.activate() == made
    assert now(rotation) == (made, None, first)


def test_a_machine_that_is_named_like_a_waiting_file_is_another(store: IdentityStore, rotation: Rotation) -> None:
    other = store.machine("web01.next"), store.machine("web01.pem.next"), store.machine("web01.old")
    made, _ = rotation.prepare()
    rotation.activate()
    assert (store.machine("web01.next"), store.machine("web01.pem.next"), store.machine("web01.old")) == other
    assert store.machine("web01") == made
