from pathlib import Path

import pytest
from identity_site import Run
from json_docs import parsed

from certs.rotation import Rotation
from certs.store import IdentityStore
from relay import running
from relay.running import Reloaded


@pytest.fixture
def rotation(store: IdentityStore) -> Rotation:
    store.machine("web01")
    return Rotation(store.machine_file("web01"), "web01", "x")


def test_a_machines_step_by_step(run: Run, store: IdentityStore, rotation: Rotation) -> None:
    first = rotation.current
    assert first is not None
    result = run("rotate", "web01")
    new = rotation.next
    assert result.exit_code == 0
    assert new is not None
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "machine web01: a new identity was made; nobody is shown it yet",
        f"  in use  {first.thumbprint}",
        f"  new     {new.thumbprint}",
    ]
    assert "  2. Here: relay-tentacle identity rotate web01 --activate" in lines
    assert f"     {new.thumbprint}" in lines
    assert run("rotate", "web01").stdout.splitlines()[0] == "machine web01: a new identity waits; nobody is shown it yet"
    assert rotation.next == new
    result = run("rotate", "web01", "--activate")
    assert result.exit_code == 0
    assert store.machine("web01") == new
    assert result.stdout.splitlines() == [
        "machine web01: the new identity is in use",
        f"  in use  {new.thumbprint}",
        f"  before  {first.thumbprint}",
        "",
        "No relay runs with this state folder here: it shows this identity when it is started.",
        f"In Octopus, web01 must have the thumbprint {new.thumbprint} now: until it has, its calls fail.",
        "Then check its health there.",
        "The way back: relay-tentacle identity rotate web01 --back",
    ]
    assert run("rotate", "web01", "--back").stdout.startswith("machine web01: the identity from before is in use again")
    assert store.machine("web01") == first
    result = run("rotate", "web01", "--cancel")
    assert result.stdout.splitlines()[0] == "machine web01: the new identity was deleted"
    assert rotation.next is None


def test_json(run: Run, rotation: Rotation) -> None:
    first = rotation.current
    assert first is not None
    prepared = parsed(run("rotate", "web01", "--json").stdout, "identity-rotate")
    new = rotation.next
    assert new is not None
    assert [prepared["result"], prepared["current"]["thumbprint"], prepared["next"]["sha256"], prepared["trust"]] == [
        "prepared",
        str(first.thumbprint),
        str(new.sha256),
        None,
    ]
    assert parsed(run("rotate", "web01", "--json").stdout, "identity-rotate") == {**prepared, "result": "waits"}
    activated = parsed(run("rotate", "web01", "--activate", "--json").stdout, "identity-rotate")
    assert (activated["result"], activated["next"], activated["reload"]) == ("activated", None, "not-running")
    assert activated["old"]["thumbprint"] == str(first.thumbprint)
    assert parsed(run("rotate", "web01", "--back", "--json").stdout, "identity-rotate")["result"] == "went-back"
    assert parsed(run("rotate", "web01", "--cancel", "--json").stdout, "identity-rotate")["result"] == "cancelled"


def test_a_relay_that_was_told(run: Run, rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True))
    run("rotate", "web01")
    result = run("rotate", "web01", "--activate")
    assert result.exit_code == 0
    assert "The running relay was told, and shows it from now on." in result.stdout.splitlines()
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True, "relay.yaml:3: a mistake"))
    result = run("rotate", "web01", "--back", "--json")
    assert result.exit_code == 1
    assert "the running relay does not show it yet: relay.yaml:3: a mistake" in result.stderr
    step = parsed(result.stdout, "identity-rotate")
    assert (step["reload"], step["reload_problem"]) == ("failed", "relay.yaml:3: a mistake")


def test_no_key_is_ever_shown(run: Run, store: IdentityStore, rotation: Rotation) -> None:
    said = [run("rotate", "web01", *options).output for options in ([], ["--json"], ["--activate"], ["--back"])]
    for identity in (rotation.current, rotation.next):
        assert identity is not None
        lines = [line for line in identity.pem().decode().splitlines() if len(line) == 64]
        assert lines
        assert not any(line in text for line in lines for text in [*said, repr(identity)])


def test_what_cannot_be_rotated(run: Run, rotation: Rotation, tmp_path: Path) -> None:
    cases = [
        ([], 2, "of which machine? Give its name: web01, both, given."),
        (["--tentacle-side"], 2, "of which octopus entry? Give its name: production, both."),
        (["production"], 2, "production is an octopus entry, and its Tentacles see its identity. Give --tentacle-side, too."),
        (["nix"], 1, "no machine is named nix"),
        (["web01", "--tentacle-side"], 1, "no octopus entry is named web01"),
        (["given"], 1, f"machine given: the configuration names a file for its identity, {tmp_path / 'given.pem'}"),
        (["both"], 1, "both.pem: not made yet, so there is nothing to rotate"),
        (["web01", "--activate"], 1, "no new identity waits"),
        (["web01", "--activate", "--back"], 2, "--activate and --back are given. Give one of them."),
        (["web01", "--activate", "--force"], 2, "--force belongs to --tentacle-side --activate."),
    ]
    for arguments, code, said in cases:
        result = run("rotate", *arguments)
        assert result.exit_code == code, arguments
        assert said in result.stderr
        assert result.stdout == ""
    assert [path.name for path in rotation.file.parent.iterdir()] == ["web01.pem"]
