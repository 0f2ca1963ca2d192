import io
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization

from certs.identity import Identity
from certs.pfx import write_pfx
from certs.store import IdentityStore
from relay.cli.main import main

CAPTURES = Path(__file__).parents[2] / "captures" / "certs"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def new() -> Identity:
    return Identity.new("web01", "Octopus Tentacle")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"""\
relay: {{name: r, state: state}}
octopus:
  - {{name: production, thumbprint: {"A" * 40}}}
  - {{name: both, thumbprint: {"B" * 40}}}
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, octopus: production, port: 11001}}
  - {{name: both, tentacle: "https://web02", thumbprint: {"D" * 40}, octopus: production, port: 11002}}
  - {{name: given, tentacle: "https://web03", thumbprint: {"E" * 40}, octopus: production, port: 11003, identity: given.pem}}
"""
    )
    private(tmp_path / "given.pem", (CAPTURES / "tentacle.pem").read_bytes())
    return path


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail)


@pytest.fixture
def run(config: Path) -> Run:
    def run(*arguments: object, typed: str | IO[bytes] | None = None) -> Result:
        return CliRunner().invoke(main, ["identity", *map(str, arguments), "--config", str(config)], input=typed)

    return run


class Terminal(io.BytesIO):
    """Standard input that says it is one."""

    def isatty(self) -> bool:
        return True


def private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def thumbprint(name: str) -> str:
    return (CAPTURES / f"{name}.thumb").read_text().strip()


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
def test_one_that_is_not_configured(run: Run, how: list[str], said: str, config: Path) -> None:
    result = run("show", *how)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"relay-tentacle: {config}: {said}\n"


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
    assert json.loads(run("show", "production", "--json").stdout) == [
        {
            "kind": "octopus",
            "name": "production",
            "shown_to": "Tentacles",
            "thumbprint": str(made.thumbprint),
            "expires": f"{made.expires:%Y-%m-%dT%H:%M:%SZ}",
            "file": str(tmp_path / "state" / "octopus" / "production.pem"),
            "provisioned": False,
            "problem": None,
        }
    ]
    result = run("show", "given", "--json")
    [given] = json.loads(result.stdout)
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


def test_a_configuration_with_mistakes(run: Run, config: Path) -> None:
    config.write_text("relay: {name: r}\n")
    assert run("show").exit_code == 2


# ---- import -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tentacle.pem", "tentacle.pfx"])
@pytest.mark.parametrize("kind", ["machine", "octopus"])
def test_a_recorded_tentacles_file(run: Run, store: IdentityStore, tmp_path: Path, name: str, kind: str) -> None:
    file = private(tmp_path / name, (CAPTURES / name).read_bytes())
    result = run("import", f"--{kind}", "both", file)
    assert (result.exit_code, result.stderr) == (0, "")
    found = (store.find_machine if kind == "machine" else store.find_octopus)("both")
    assert found is not None
    assert str(found.thumbprint) == thumbprint("tentacle")
    assert thumbprint("tentacle") in result.stdout
    assert (store.find_octopus if kind == "machine" else store.find_machine)("both") is None


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nanother line\n"])
def test_the_password_is_the_first_line_of_a_file(
    run: Run, store: IdentityStore, tmp_path: Path, new: Identity, ending: str
) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, " pässwörd "))
    password = private(tmp_path / "password", f" pässwörd {ending}".encode())
    assert run("import", "--machine", "web01", file, "--password-file", password).exit_code == 0
    assert store.machine("web01") == new


def test_the_password_comes_by_standard_input(run: Run, store: IdentityStore, tmp_path: Path, new: Identity) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    assert run("import", "--machine", "web01", file, "--password-file", "-", typed="secret\n").exit_code == 0
    assert store.machine("web01") == new


def test_a_needed_password_is_asked_for(run: Run, store: IdentityStore, tmp_path: Path, new: Identity) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    file.chmod(0o640)
    result = run("import", "--machine", "web01", file, typed=Terminal(b"secret\n"))
    assert result.exit_code == 0
    assert f"Password of {file}: " in result.stderr
    assert "secret" not in result.output
    assert result.stderr.count("mode 0640: others than its owner may read this private key") == 1
    assert store.machine("web01") == new


def test_nobody_there_to_ask(run: Run, tmp_path: Path, new: Identity) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    result = run("import", "--machine", "web01", file, typed=Terminal())
    assert result.exit_code == 2
    assert "name a file with --password-file" in result.stderr


@pytest.mark.parametrize("encrypted", ["key.pfx", "key.pem"])
def test_without_a_terminal_it_asks_for_nothing(
    run: Run, config: Path, store: IdentityStore, tmp_path: Path, new: Identity, encrypted: str
) -> None:
    if encrypted == "key.pfx":
        data = write_pfx(new, "secret")
    else:
        secret = serialization.BestAvailableEncryption(b"secret")
        data = new.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    file = private(tmp_path / encrypted, data)
    command = [sys.executable, "-m", "relay", "identity", "import", "--machine", "web01", file, "--config", config]
    done = subprocess.run(command, input="secret\n", capture_output=True, text=True, start_new_session=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"relay-tentacle: {file}: needs a password, and there is no terminal to ask on. "
        "Name a file with it in --password-file.\n"
    )
    assert store.find_machine("web01") is None


@pytest.mark.parametrize("how", ["typed", "file"])
def test_a_wrong_password(run: Run, store: IdentityStore, tmp_path: Path, new: Identity, how: str) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    password = private(tmp_path / "password", b"swordfish")
    options = ["--password-file", password] if how == "file" else []
    result = run("import", "--machine", "web01", file, *options, typed=Terminal(b"swordfish\n"))
    assert result.exit_code == 1
    assert f"{file}: identity web01: the PFX cannot be opened: the password is wrong" in result.stderr
    assert "swordfish" not in result.output
    assert store.find_machine("web01") is None


def test_a_password_file_that_is_no_text(run: Run, tmp_path: Path, new: Identity) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    password = private(tmp_path / "password", b"\xff\xfe")
    result = run("import", "--machine", "web01", file, "--password-file", password)
    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr


def test_another_certificate_is_overwritten_only_when_told(
    run: Run, store: IdentityStore, tmp_path: Path, new: Identity
) -> None:
    first = store.machine("web01")
    file = private(tmp_path / "key.pem", new.pem())
    result = run("import", "--machine", "web01", file)
    assert result.exit_code == 1
    assert f"holds another identity, {first.thumbprint}" in result.stderr
    assert store.machine("web01") == first
    for _ in range(2):
        assert run("import", "--machine", "web01", file, "--replace").exit_code == 0
    assert store.machine("web01") == new
    assert run("import", "--machine", "web01", file).exit_code == 0


def test_the_file_that_the_configuration_names_is_not_ours_to_write(run: Run, tmp_path: Path, new: Identity) -> None:
    file = private(tmp_path / "key.pem", new.pem())
    before = (tmp_path / "given.pem").read_bytes()
    result = run("import", "--machine", "given", file, "--replace")
    assert result.exit_code == 1
    assert f"machine given: the configuration names a file for its identity, {tmp_path / 'given.pem'}" in result.stderr
    assert (tmp_path / "given.pem").read_bytes() == before
    assert not (tmp_path / "state").exists()


def test_what_cannot_be_imported(run: Run, tmp_path: Path) -> None:
    cases = [
        (["--machine", "web01", tmp_path / "none"], 1, "none: no such file. Name a PEM or PFX file"),
        (["--machine", "web01", tmp_path], 1, "not a file"),
        (["--machine", "web01", private(tmp_path / "junk", b"junk")], 1, "no private key in the PEM"),
        (["--machine", "nix", tmp_path / "junk"], 1, "no machine is named nix"),
        ([tmp_path / "junk"], 2, "Give --machine NAME or --octopus NAME."),
        (["--machine", "web01", "--octopus", "both", tmp_path / "junk"], 2, "Give either --machine NAME or --octopus NAME.\n"),
    ]
    for arguments, code, said in cases:
        result = run("import", *arguments)
        assert result.exit_code == code
        assert said in result.stderr
        assert result.stdout == ""


def test_a_state_folder_of_another_user(run: Run, tmp_path: Path, new: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    owner = pwd.getpwuid(os.getuid()).pw_name
    file = private(tmp_path / "key.pem", new.pem())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4_000_000)
    result = run("import", "--machine", "web01", file)
    assert result.exit_code == 1
    assert f"belongs to {owner}" in result.stderr
    assert f"Run the same command as {owner}: sudo -u {owner} relay-tentacle" in result.stderr
    assert list((tmp_path / "state").iterdir()) == []
