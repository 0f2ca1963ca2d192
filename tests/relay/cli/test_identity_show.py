import datetime as dt
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from identity_site import Run, private, thumbprint
from json_docs import parsed

from certs.identity import Identity
from certs.rotation import Rotation
from certs.store import IdentityStore

# ---- show ---------------------------------------------------------------------------------------------------------------


def test_all_are_shown_with_who_sees_them(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.machine("web01")
    result = run("show")
    assert result.exit_code == 0
    state, expires = tmp_path / "state", f"{made.expires:%Y-%m-%d}"
    missing = ["not", "made", "yet:", "`run`", "makes", "it", "-"]
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["KIND", "NAME", "SHOWN", "TO", "THUMBPRINT", "EXPIRES", "FILE"],
        ["machine", "web01", "Octopus", str(made.thumbprint), expires, str(state / "machines" / "web01.pem")],
        ["machine", "both", "Octopus", *missing, str(state / "machines" / "both.pem")],
        ["machine", "given", "Octopus", thumbprint("tentacle"), "2051-11-18", str(tmp_path / "given.pem")],
        ["octopus", "production", "Tentacles", *missing, str(state / "octopus" / "production.pem")],
        ["octopus", "both", "Tentacles", *missing, str(state / "octopus" / "both.pem")],
    ]


def test_showing_makes_nothing(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run("show").exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("how", [("web01",), ("--machine", "web01")])
def test_one_that_is_there(run: Run, store: IdentityStore, how: tuple[str, ...]) -> None:
    made = store.machine("web01")
    result = run("show", *how)
    assert result.exit_code == 0
    assert str(made.thumbprint) in result.stdout
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize("how", [("web01",), ("--machine", "both"), ("--octopus", "both"), ("production",)])
def test_one_that_was_not_made_yet(run: Run, how: tuple[str, ...]) -> None:
    result = run("show", *how)
    assert result.exit_code == 1
    assert "not made yet" in result.stdout


def test_the_kind_tells_two_of_one_name_apart(run: Run, store: IdentityStore) -> None:
    machine, octopus = store.machine("both"), store.octopus("both")
    assert str(machine.thumbprint) in run("show", "--machine", "both").stdout
    assert str(octopus.thumbprint) in run("show", "--octopus", "both").stdout
    result = run("show", "both")
    assert result.exit_code == 2
    assert result.stderr.endswith("Say which one is meant. Give --machine both or --octopus both.\n")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (["nix"], "no machine or octopus entry is named nix. There are: web01, both, given, production, both."),
        (["--machine", "production"], "no machine is named production. There are: web01, both, given."),
        (["--octopus", "web01"], "no octopus entry is named web01. There are: production, both."),
        (["--octopus", ""], "no octopus entry is named . There are: production, both."),
    ],
)
def test_one_that_is_not_configured(run: Run, how: list[str], said: str, identity_config: Path) -> None:
    result = run("show", *how)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"relay-tentacle: {identity_config}: {said}\n"


@pytest.mark.parametrize("how", [["web01", "--machine", "web01"], ["--machine", "web01", "--octopus", "production"]])
def test_more_than_one_name(run: Run, how: list[str]) -> None:
    result = run("show", *how)
    assert result.exit_code == 2
    assert "more than one identity is named" in result.stderr


def test_a_broken_file_hides_no_other(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.machine("web01")
    private(tmp_path / "given.pem", b"junk")
    result = run("show")
    assert result.exit_code == 1
    assert str(made.thumbprint) in result.stdout
    assert "cannot be used" in result.stdout
    assert f"machine given: {tmp_path / 'given.pem'}: identity given: no private key in the PEM" in result.stderr


def test_a_provisioned_file_that_others_may_read_is_shown_with_a_warning(run: Run, tmp_path: Path) -> None:
    (tmp_path / "given.pem").chmod(0o640)
    result = run("show", "given")
    assert result.exit_code == 0
    assert thumbprint("tentacle") in result.stdout
    assert f"warning: {tmp_path / 'given.pem'}: mode 0640" in result.stderr


def test_json(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.octopus("production")
    (tmp_path / "given.pem").chmod(0o666)
    assert parsed(run("show", "production", "--json").stdout, "identity-show") == [
        {
            "kind": "octopus",
            "name": "production",
            "shown_to": "Tentacles",
            "thumbprint": str(made.thumbprint),
            "sha256": str(made.sha256),
            "expires": f"{made.expires:%Y-%m-%dT%H:%M:%SZ}",
            "file": str(tmp_path / "state" / "octopus" / "production.pem"),
            "provisioned": False,
            "next": None,
            "old": None,
            "warnings": [],
            "problem": None,
        }
    ]
    result = run("show", "given", "--json")
    [given] = parsed(result.stdout, "identity-show")
    assert result.exit_code == 1
    assert (given["provisioned"], given["thumbprint"], given["expires"]) == (True, None, None)
    assert given["problem"].startswith(f"{tmp_path / 'given.pem'}: mode 0666")


@pytest.mark.parametrize("wrong", ["a file", "open to others"])
def test_a_state_folder_that_run_refuses(run: Run, tmp_path: Path, wrong: str) -> None:
    state = tmp_path / "state"
    if wrong == "a file":
        state.touch(0o600)
    else:
        state.mkdir()
        state.chmod(0o755)
    result = run("show")
    assert result.exit_code == 1
    assert "not made yet" not in result.stdout
    assert f"machine web01: {state}: {'not a folder' if wrong == 'a file' else 'mode 0755'}" in result.stderr


def test_a_configuration_with_mistakes(run: Run, identity_config: Path) -> None:
    identity_config.write_text("relay: {name: r}\n")
    assert run("show").exit_code == 2


def test_one_that_waits_and_one_from_before(run: Run, store: IdentityStore) -> None:
    first = store.machine("web01")
    rotation = Rotation(store.machine_file("web01"), "web01", "Octopus Tentacle")
    rotation.prepare()
    second = rotation.activate()
    third, _ = rotation.prepare()
    [shown] = parsed(run("show", "web01", "--json").stdout, "identity-show")
    assert [shown["thumbprint"], shown["next"]["thumbprint"], shown["old"]["thumbprint"]] == [
        str(identity.thumbprint) for identity in (second, third, first)
    ]
    said = f"machine web01: a new identity waits, {third.thumbprint}. `identity rotate` says what to do."
    assert said in run("show").stdout.splitlines()


def test_a_broken_one_that_waits_is_said(run: Run, store: IdentityStore) -> None:
    made = store.machine("web01")
    private(store.machine_file("web01").with_name("web01.pem.next"), b"junk")
    result = run("show", "web01")
    assert result.exit_code == 1
    assert str(made.thumbprint) in result.stdout
    assert "web01.pem.next: identity web01: no private key in the PEM" in result.stderr


def test_thumbprints_alone(run: Run, store: IdentityStore) -> None:
    made = store.machine("web01"), store.octopus("production")
    result = run("show", "web01", "--thumbprint-only")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{made[0].thumbprint}\n", "")
    result = run("show", "--thumbprint-only")
    assert result.stdout.split() == [str(made[0].thumbprint), thumbprint("tentacle"), str(made[1].thumbprint)]
    assert "machine both: not made yet" in result.stderr
    result = run("show", "--octopus", "both", "--thumbprint-only")
    assert (result.exit_code, result.stdout) == (1, "")
    assert run("show", "--thumbprint-only", "--json").exit_code == 2


def expiring(path: Path, days: int) -> None:
    """An identity whose certificate ends in so many days."""
    made = Identity.new("given", "x")
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(made.certificate.subject, made.certificate.subject, made.key.public_key(), 1)
    builder = builder.not_valid_before(now - dt.timedelta(days=900)).not_valid_after(now + dt.timedelta(days=days))
    private(path, Identity("given", builder.sign(made.key, hashes.SHA256()), made.key).pem())


@pytest.mark.parametrize(("days", "said"), [(-1, "expired on"), (80, "expires on"), (100, "")])
def test_an_end_that_is_near_is_a_warning_and_nothing_worse(run: Run, tmp_path: Path, days: int, said: str) -> None:
    expiring(tmp_path / "given.pem", days)
    result = run("show", "given")
    assert result.exit_code == 0
    [shown] = parsed(run("show", "given", "--json").stdout, "identity-show")
    if said:
        assert f"warning: machine given: its certificate {said} {shown['expires'][:10]}." in result.stderr
        assert said in shown["warnings"][0]
    else:
        assert (result.stderr, shown["warnings"]) == ("", [])


# ---- new ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [[], ["--all"]])
def test_all_that_are_missing_are_made_and_none_is_replaced(run: Run, store: IdentityStore, how: list[str]) -> None:
    before = store.machine("web01")
    rows = parsed(run("new", *how, "--json").stdout, "identity-new")
    assert [(row["kind"], row["name"], row["made"]) for row in rows] == [
        ("machine", "web01", False),
        ("machine", "both", True),
        ("octopus", "production", True),
        ("octopus", "both", True),
    ]
    assert rows[0]["thumbprint"] == str(before.thumbprint)
    for row in rows:
        find = store.find_machine if row["kind"] == "machine" else store.find_octopus
        found = find(row["name"])
        assert found is not None
        assert (row["thumbprint"], row["sha256"]) == (str(found.thumbprint), str(found.sha256))
    again = parsed(run("new", *how, "--json").stdout, "identity-new")
    assert [{**row, "made": False} for row in rows] == again


@pytest.mark.parametrize("how", [["web01"], ["--machine", "both"], ["--octopus", "both"]])
def test_one_is_made_and_no_other(run: Run, store: IdentityStore, tmp_path: Path, how: list[str]) -> None:
    result = run("new", *how)
    assert result.exit_code == 0
    [file] = (tmp_path / "state").rglob("*.pem")
    made = Identity.from_pem("x", file.read_bytes())
    assert result.stdout.splitlines()[1].split()[-3:] == [str(made.thumbprint), "now", str(file)]
    assert run("new", *how).stdout.splitlines()[1].split()[-3:] == [str(made.thumbprint), "before", str(file)]


def test_what_cannot_be_made(run: Run, tmp_path: Path) -> None:
    result = run("new", "given")
    assert result.exit_code == 1
    assert f"machine given: the configuration names a file for its identity, {tmp_path / 'given.pem'}" in result.stderr
    assert run("new", "nix").exit_code == 1
    assert run("new", "web01", "--all").exit_code == 2
    assert not (tmp_path / "state").exists()


def test_a_broken_one_hides_no_other_and_stays(run: Run, store: IdentityStore) -> None:
    store.machine("web01")
    store.machine_file("web01").write_bytes(b"junk")
    result = run("new")
    assert result.exit_code == 1
    assert "web01.pem: identity web01: no private key in the PEM" in result.stderr
    assert store.machine_file("web01").read_bytes() == b"junk"
    assert store.find_machine("both") is not None


def test_nothing_is_made_in_another_users_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4_000_000)
    result = run("new", "web01")
    assert result.exit_code == 1
    assert "Run the same command as" in result.stderr
    assert list((tmp_path / "state").iterdir()) == []
