import os
from collections.abc import Callable
from pathlib import Path

import pytest

from certs.errors import CertificateError
from certs.identity import Identity
from certs.lock import locked
from certs.store import IdentityStore
from relay import identities, rotating, running
from relay.outcomes import Outcome
from relay.rotating import Action, Step
from relay.running import Reloaded
from relay.trust import Trust
from routing.load import load
from routing.table import Machine, Table

Do = Callable[..., Step]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"""\
relay: {{name: r, state: state}}
octopus:
  - {{name: one, thumbprint: {"A" * 40}}}
  - {{name: two, thumbprint: {"B" * 40}}}
  - {{name: unused, thumbprint: {"C" * 40}}}
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"D" * 40}, port: 11001, octopus: [one, two]}}
  - {{name: web02, tentacle: "https://web02", thumbprint: {"E" * 40}, port: 11002, octopus: one}}
  - {{name: given, tentacle: "https://web03", thumbprint: {"F" * 40}, port: 11003, octopus: two, identity: given.pem}}
"""
    )
    return load(path)


@pytest.fixture
def store(table: Table) -> IdentityStore:
    return IdentityStore(table.relay.state, lambda identity, path: None, pytest.fail)


class Tentacles:
    """Answers for them: each trusts or does not, or cannot be asked. asked: with which identities."""

    def __init__(self) -> None:
        self.trusting: dict[str, bool | None] = {}
        self.asked: list[tuple[list[str], Identity, Identity]] = []

    def ask(self, machines: list[Machine], new: Identity, current: Identity) -> list[Trust]:
        self.asked.append(([machine.name for machine in machines], new, current))
        said = [(machine, self.trusting.get(machine.name, True)) for machine in machines]
        return [Trust(machine, trusts, None if trusts else Outcome.NOT_TRUSTED) for machine, trusts in said]


@pytest.fixture
def tentacles() -> Tentacles:
    return Tentacles()


@pytest.fixture
def reloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The state folders whose relay was told."""
    told: list[Path] = []

    def reload(state: Path) -> Reloaded:
        told.append(state)
        return Reloaded(True)

    monkeypatch.setattr(running, "reload", reload)
    return told


@pytest.fixture
def do(table: Table, store: IdentityStore, tentacles: Tentacles, reloads: list[Path]) -> Do:
    def do(name: str, action: Action = "prepare", force: bool = False) -> Step:
        return rotating.rotate(table, store, identities.entry(table, name), action, force, tentacles.ask)

    return do


def test_a_machines(do: Do, store: IdentityStore, tentacles: Tentacles, reloads: list[Path], table: Table) -> None:
    first = store.machine("web01")
    prepared = do("web01")
    new = prepared.rotation.next
    assert (prepared.result, prepared.trusts, prepared.fine) == ("prepared", None, True)
    assert do("web01").result == "waits"
    assert reloads == []
    activated = do("web01", "activate")
    assert (activated.result, activated.reloaded, activated.fine) == ("activated", Reloaded(True), True)
    assert (store.machine("web01"), activated.rotation.old) == (new, first)
    assert do("web01", "back").result == "went-back"
    assert store.machine("web01") == first
    assert reloads == [table.relay.state] * 2
    assert do("web01", "cancel").result == "cancelled"
    assert len(reloads) == 2
    assert tentacles.asked == []


def test_an_octopus_entrys_tentacles_are_asked(do: Do, store: IdentityStore, tentacles: Tentacles) -> None:
    first = store.octopus("one")
    tentacles.trusting = {"web01": False}
    prepared = do("one")
    new = prepared.rotation.next
    assert prepared.trusts is not None
    assert [(trust.machine.name, trust.trusts) for trust in prepared.trusts] == [("web01", False), ("web02", True)]
    assert tentacles.asked == [(["web01", "web02"], new, first)]
    assert prepared.fine


@pytest.mark.parametrize("answer", [False, None])
def test_it_is_not_used_while_a_tentacle_is_not_known_to_trust_it(
    do: Do, store: IdentityStore, tentacles: Tentacles, reloads: list[Path], answer: bool | None
) -> None:
    first = store.octopus("one")
    do("one")
    tentacles.trusting = {"web02": answer}
    refused = do("one", "activate")
    assert (refused.result, refused.fine) == ("refused", False)
    assert store.octopus("one") == first
    assert reloads == []
    tentacles.trusting = {}
    assert do("one", "activate").result == "activated"
    assert store.octopus("one") != first


def test_by_force_nobody_is_asked(do: Do, store: IdentityStore, tentacles: Tentacles) -> None:
    store.octopus("one")
    do("one")
    tentacles.asked.clear()
    assert do("one", "activate", force=True).result == "activated"
    assert tentacles.asked == []


def test_nobody_uses_it(do: Do, store: IdentityStore, tentacles: Tentacles) -> None:
    store.octopus("unused")
    assert do("unused").trusts == []
    assert do("unused", "activate").result == "activated"
    assert tentacles.asked == []


def test_a_relay_that_does_not_reload(do: Do, store: IdentityStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.machine("web01")
    new = do("web01").rotation.next
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True, "a mistake"))
    assert not do("web01", "activate").fine
    assert store.machine("web01") == new


def test_what_cannot_be_rotated(
    do: Do, store: IdentityStore, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"machine given: the configuration names a file for its identity, {tmp_path / 'given.pem'}, and the relay never"
    with pytest.raises(CertificateError, match=given):
        do("given")
    store.machine("web01")
    with pytest.raises(CertificateError, match="not made yet"):
        do("web02")
    for action in ("activate", "cancel"):
        with pytest.raises(CertificateError, match="no new identity waits"):
            do("web01", action)
    with locked(table.relay.state), pytest.raises(CertificateError, match="another command is changing it"):
        do("web01")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4_000_000)
    with pytest.raises(CertificateError, match="Run the same command as"):
        do("web01")
    assert [path.name for path in store.machine_file("web01").parent.iterdir()] == ["web01.pem"]
