from pathlib import Path

import pytest
from identity_site import Run
from json_docs import parsed

from certs.rotation import Rotation
from certs.store import IdentityStore
from relay import running
from relay.running import Reloaded
from relay.trust import Trust


@pytest.fixture
def rotation(store: IdentityStore) -> Rotation:
    store.machine("web01")
    return Rotation(store.machine_file("web01"), "web01", "x")


def test_a_machines_step_by_step(run: Run, store: IdentityStore, rotation: Rotation, identity_config: Path) -> None:
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
    assert f"  2. Here: relay-tentacle identity rotate web01 --activate --config {identity_config}" in lines
    assert lines[-1].endswith(f"relay-tentacle identity rotate web01 --cancel --config {identity_config}")
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
        f"The way back: relay-tentacle identity rotate web01 --back --config {identity_config}",
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


def test_octopus_is_not_to_be_changed_while_the_relay_shows_the_old_one(
    run: Run, rotation: Rotation, identity_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True, "relay.yaml:3: a mistake"))
    run("rotate", "web01")
    new = rotation.next
    assert new is not None
    reload = f"relay-tentacle reload --config {identity_config}"
    result = run("rotate", "web01", "--activate")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[4:] == [
        f"The running relay still shows what it had. Mend what is said below, and run: {reload}",
        "Do not change the thumbprint of web01 in Octopus before a reload has gone well: then it must be",
        f"  {new.thumbprint}",
        "If it is changed there already, its calls fail until then. Check its health there afterwards.",
        f"The way back: relay-tentacle identity rotate web01 --back --config {identity_config}",
    ]


def test_tentacles_keep_the_old_one_while_the_relay_shows_it(
    run: Run, store: IdentityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.octopus("both")
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True, "relay.yaml:3: a mistake"))
    run("rotate", "both", "--tentacle-side")
    result = run("rotate", "both", "--tentacle-side", "--activate")
    assert "When a reload has gone well, and all of it works, take the old one from each Tentacle:" in result.stdout


def test_polling_tentacles_are_told_of_it_in_their_own_way(
    run: Run, store: IdentityStore, identity_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = identity_config.read_text().replace("octopus: production", "octopus: both")
    text = text.replace('"https://web01"', "poll://kiosk/").replace("octopus: both", "octopus: production", 1)
    assert "poll://kiosk/" in text
    identity_config.write_text(f"{text}back: {{listen: 10943, octopus: production}}\n")
    old = store.octopus("production")
    seen = {"web01": {"live": True, "pollers": 3, "last_failure": None}}
    monkeypatch.setattr(running, "machines", lambda state: seen)
    monkeypatch.setattr("relay.cli.identity_rotate.wait_for", lambda work: work(None))  # no reactor: nobody is dialled
    monkeypatch.setattr(
        "relay.cli.identity_rotate.who_trusts", lambda reactor, machines, *others: [Trust(each, None) for each in machines]
    )
    result = run("rotate", "production", "--tentacle-side")
    new = Rotation(store.octopus_file("production"), "production", "x").next
    assert new is not None
    tell = f"  Tentacle update-trust --oldThumbprint {old.thumbprint} --newThumbprint {new.thumbprint}"
    assert "it polls the relay with 3 connections, so it trusts the identity in use" in result.stdout
    assert tell in result.stdout.splitlines()
    assert "--tentacle-side --activate --config" in result.stdout.splitlines()[-1]
    assert result.stdout.splitlines()[-1].endswith(" --force")
    assert "configure --trust" not in result.stdout
    result = run("rotate", "production", "--tentacle-side", "--activate", "--force")
    lines = result.stdout.splitlines()
    assert lines[lines.index(tell) - 1].startswith("Polling Tentacles that were not told of it are away now")


def test_what_else_the_reload_took(run: Run, store: IdentityStore, rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    store.octopus("production")
    many = tuple(f"db{number}" for number in range(7))
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True, "", ("new",), ("web01", "both"), many))
    run("rotate", "web01")
    lines = run("rotate", "web01", "--activate").stdout.splitlines()
    assert lines[5] == (
        "It has read the whole configuration anew, besides: machines added: new; machines changed: both; "
        "machines removed: db0, db1, db2, db3, db4 and 2 others."
    )
    step = parsed(run("rotate", "web01", "--back", "--json").stdout, "identity-rotate")
    assert step["reload_changes"] == {"added": ["new"], "changed": ["web01", "both"], "removed": list(many)}
    monkeypatch.setattr(running, "reload", lambda state: Reloaded(True, "", (), ("web01", "both"), ()))
    Rotation(store.octopus_file("production"), "production", "x").prepare()
    served = run("rotate", "production", "--tentacle-side", "--activate", "--force")
    assert served.exit_code == 0
    assert "besides" not in served.stdout


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
