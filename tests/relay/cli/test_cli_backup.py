import io
import os
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from identity_site import Terminal, private
from json_docs import parsed

from certs.sealing import is_sealed
from certs.store import IdentityStore
from relay.cli.main import main

Call = Callable[..., Result]


@pytest.fixture
def call(identity_config: Path) -> Call:
    def call(*arguments: object, typed: object = None, config: bool = True) -> Result:
        command = [*map(str, arguments), *(["--config", str(identity_config)] if config else [])]
        return CliRunner().invoke(main, command, input=typed)  # type: ignore[arg-type]

    return call


@pytest.fixture
def password(tmp_path: Path) -> list[object]:
    return ["--password-file", private(tmp_path / "password", b"secret\n")]


@pytest.fixture
def filled(store: IdentityStore) -> dict[str, str]:
    """Three identities; their thumbprints."""
    made = {"web01": store.machine("web01"), "both": store.machine("both"), "production": store.octopus("production")}
    return {name: str(identity.thumbprint) for name, identity in made.items()}


def test_there_and_back_after_a_disaster(
    call: Call, filled: dict[str, str], password: list[object], tmp_path: Path, store: IdentityStore
) -> None:
    file = tmp_path / "b.backup"
    result = call("backup", file, *password)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{file}: 3 identities, encrypted"
    assert all(thumbprint in result.stdout for thumbprint in filled.values())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert is_sealed(file.read_bytes())
    (tmp_path / "state").rename(tmp_path / "lost")
    result = call("restore", file, *password)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{tmp_path / 'state'}: restored"
    found = {"web01": store.machine("web01"), "both": store.machine("both"), "production": store.octopus("production")}
    assert {name: str(identity.thumbprint) for name, identity in found.items()} == filled


def test_subscription_ids_there_and_back(
    call: Call, filled: dict[str, str], password: list[object], tmp_path: Path, store: IdentityStore
) -> None:
    uri = store.subscription("web01")
    file = tmp_path / "b.backup"
    result = call("backup", file, *password)
    assert result.stdout.splitlines()[-1] == f"{file}: 3 identities, 1 subscription ids, encrypted"
    assert ["subscription", "web01", "current", uri] in [line.split() for line in result.stdout.splitlines()]
    (tmp_path / "state").rename(tmp_path / "lost")
    restored = parsed(call("restore", file, *password, "--json").stdout, "restore")
    assert restored["subscriptions"] == [{"path": "subscriptions/web01", "name": "web01", "uri": uri}]
    assert restored["fates"]["subscriptions/web01"] == "new"
    assert store.find_subscription("web01") == uri
    assert stat.S_IMODE((tmp_path / "state" / "subscriptions" / "web01").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state" / "subscriptions").stat().st_mode) == 0o700


def test_a_backup_of_an_older_relay_says_that_it_has_no_subscription_ids(
    call: Call, filled: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "b.tar.gz"
    call("backup", file, "--no-password")
    older = tmp_path / "older.tar.gz"
    with tarfile.open(file) as source, tarfile.open(older, "w:gz") as target:
        for member in source:
            data = source.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == "manifest.json":
                data = data.replace(b'"version": 2', b'"version": 1')
                member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    older.chmod(0o600)
    for options in (("--list",), ("--dry-run",), ()):
        assert "An older relay made it, without subscription ids" in call("restore", older, *options).stdout
    assert parsed(call("restore", older, "--list", "--json").stdout, "restore")["subscriptions"] is None


def test_on_a_bare_host_without_a_configuration(
    call: Call, filled: dict[str, str], password: list[object], tmp_path: Path
) -> None:
    file = tmp_path / "b.backup"
    result = call("backup", file, *password, "--state", tmp_path / "state", "--json", config=False)
    made = parsed(result.stdout, "backup")
    assert (made["relay"], made["encrypted"], len(made["identities"])) == (None, True, 3)
    result = call("restore", file, *password, "--state", tmp_path / "new", "--json", config=False)
    restored = parsed(result.stdout, "restore")
    assert (restored["restored"], restored["replaced"]) == (True, None)
    assert set(restored["fates"].values()) == {"new"}
    assert {each["thumbprint"] for each in restored["identities"]} == set(filled.values())
    assert sorted(path.name for path in (tmp_path / "new" / "machines").iterdir()) == ["both.pem", "web01.pem"]
    result = call("restore", file, *password, "--state", tmp_path / "new")
    assert result.exit_code == 2
    assert "--state and --config are given" in result.stderr


def test_without_a_password_only_where_that_is_said(call: Call, filled: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    result = call("backup", file)
    assert result.exit_code == 2
    assert "Give --password-file, --password-credential, or --no-password." in result.stderr
    assert not file.exists()
    result = call("backup", file, "--no-password")
    assert result.stdout.splitlines()[-1] == f"{file}: 3 identities, not encrypted: keep it like the keys that are in it"
    with tarfile.open(file) as archive:
        assert len(archive.getnames()) == 4
    assert call("restore", file, "--list").exit_code == 0


def test_the_password_is_asked_for(call: Call, filled: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "b.backup"
    result = call("backup", file, typed=Terminal(b"secret\nsecret\n"))
    assert result.exit_code == 0
    assert f"New password for {file}: " in result.stderr
    result = call("restore", file, "--list", typed=Terminal(b"secret\n"))
    assert result.exit_code == 0
    assert f"Password of {file}: " in result.stderr
    assert "secret" not in result.output
    assert call("restore", file, "--list").exit_code == 2
    result = call("restore", file, "--list", typed=Terminal(b"swordfish\n"))
    assert result.exit_code == 1
    assert f"{file}: cannot be decrypted: the password is wrong, or the file is damaged" in result.stderr
    assert "swordfish" not in result.output


def test_a_list_and_a_dry_run_change_nothing(call: Call, filled: dict[str, str], tmp_path: Path, store: IdentityStore) -> None:
    file = tmp_path / "b.tar.gz"
    call("backup", file, "--no-password")
    result = call("restore", file, "--list")
    rows = [line.split() for line in result.stdout.splitlines()[2:]]
    assert rows == [
        ["KIND", "NAME", "TURN", "THUMBPRINT", "OR", "ID"],
        ["machine", "both", "current", filled["both"]],
        ["machine", "web01", "current", filled["web01"]],
        ["octopus", "production", "current", filled["production"]],
    ]
    assert parsed(call("restore", file, "--list", "--json").stdout, "restore")["fates"] is None
    (tmp_path / "state" / "machines" / "web01.pem").unlink()
    other = store.machine("web01")
    store.octopus("both")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "state").rglob("*")}
    result = call("restore", file, "--dry-run")
    assert result.exit_code == 1
    assert "machine  web01       current" in result.stdout
    assert "replaces another" in result.stdout
    assert "not in the backup, and moved away: octopus/both.pem" in result.stdout
    assert "nothing was done (--dry-run)" in result.stdout
    assert "2 files would be lost to it. A restore needs --replace." in result.stderr
    assert not parsed(call("restore", file, "--dry-run", "--json").stdout, "restore")["restored"]
    assert call("restore", file, "--dry-run", "--replace").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "state").rglob("*")} == before
    assert store.machine("web01") == other


def test_others_are_moved_away_only_when_told(call: Call, filled: dict[str, str], tmp_path: Path, store: IdentityStore) -> None:
    file = tmp_path / "b.tar.gz"
    call("backup", file, "--no-password")
    other = store.octopus("both")
    result = call("restore", file)
    assert result.exit_code == 1
    assert "1 files are there that the backup does not have, octopus/both.pem among them" in result.stderr
    assert "Give --replace to move them away." in result.stderr
    restored = parsed(call("restore", file, "--replace", "--json").stdout, "restore")
    assert restored["moved_away"] == ["octopus/both.pem"]
    assert store.find_octopus("both") is None
    assert Path(restored["replaced"], "octopus", "both.pem").read_bytes() == other.pem()


def test_not_under_a_running_relay(call: Call, filled: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    call("backup", file, "--no-password")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "state" / "control.sock"))
        door.listen()
        result = call("restore", file)
        assert result.exit_code == 1
        assert f"{tmp_path / 'state'}: a relay runs with this folder. Stop it first, or give --while-running." in result.stderr
        assert call("restore", file, "--dry-run").exit_code == 0
        assert call("restore", file, "--while-running").exit_code == 0
        assert call("backup", tmp_path / "c.tar.gz", "--no-password").exit_code == 0


def test_by_pipes_and_never_to_a_terminal(
    call: Call, identity_config: Path, filled: dict[str, str], password: list[object], tmp_path: Path
) -> None:
    result = call("backup", "-", *password)
    assert is_sealed(result.stdout_bytes)
    listed = call("restore", "-", "--list", "--json", *password, typed=result.stdout_bytes)
    assert len(parsed(listed.stdout, "restore")["identities"]) == 3
    assert call("backup", "-", "--json", *password).exit_code == 2
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "relay", "backup", "-", "--no-password", "--config", str(identity_config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2


def test_a_file_that_is_there_is_overwritten_only_when_told(call: Call, filled: dict[str, str], tmp_path: Path) -> None:
    file = private(tmp_path / "b", b"precious")
    result = call("backup", file, "--no-password")
    assert result.exit_code == 1
    assert f"{file}: is there already" in result.stderr
    assert file.read_bytes() == b"precious"
    assert call("backup", file, "--no-password", "--replace").exit_code == 0
    assert file.read_bytes() != b"precious"


def test_a_backup_that_others_may_use(call: Call, filled: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "b"
    call("backup", file, "--no-password")
    file.chmod(0o644)
    result = call("restore", file, "--list")
    assert result.exit_code == 0
    assert f"warning: {file}: mode 0644: others than its owner may read this backup" in result.stderr
    file.chmod(0o666)
    result = call("restore", file, "--list")
    assert result.exit_code == 1
    assert f"{file}: mode 0666: others than its owner may use this backup" in result.stderr


def test_what_cannot_be_done(call: Call, tmp_path: Path, filled: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    junk = private(tmp_path / "junk", b"junk")
    cases = [
        (
            ["restore", tmp_path / "none"],
            1,
            f"{tmp_path / 'none'}: no such file. Name a file that `relay-tentacle backup` wrote.",
        ),
        (["restore", junk], 1, f"{junk}: not a backup, or damaged"),
        (["restore", tmp_path], 1, f"{tmp_path}: not a file"),
        (["backup", tmp_path / "no" / "b", "--no-password"], 1, "cannot write: No such file or directory"),
    ]
    for arguments, code, said in cases:
        result = call(*arguments)
        assert result.exit_code == code
        assert said in result.stderr
        assert result.stdout == ""
    private(tmp_path / "state" / "machines" / "web01.pem", b"junk")
    result = call("backup", tmp_path / "b", "--no-password")
    assert result.exit_code == 1
    assert "web01.pem: identity web01: no private key in the PEM" in result.stderr
    assert not (tmp_path / "b").exists()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4_000_000)
    for command in (["backup", tmp_path / "b", "--no-password"], ["restore", junk]):
        assert call(*command).exit_code == 1
