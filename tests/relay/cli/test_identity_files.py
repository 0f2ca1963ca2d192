import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from identity_site import CAPTURES, Run, Terminal, private, thumbprint

from certs.identity import Identity
from certs.lock import locked
from certs.pfx import read_pfx, write_pfx
from certs.store import IdentityStore

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
    run: Run, identity_config: Path, store: IdentityStore, tmp_path: Path, new: Identity, encrypted: str
) -> None:
    if encrypted == "key.pfx":
        data = write_pfx(new, "secret")
    else:
        secret = serialization.BestAvailableEncryption(b"secret")
        data = new.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    file = private(tmp_path / encrypted, data)
    command = [sys.executable, "-m", "relay", "identity", "import", "--machine", "web01", file, "--config", identity_config]
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


def test_the_password_comes_by_a_pipe_of_the_shell(
    identity_config: Path, store: IdentityStore, tmp_path: Path, new: Identity
) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    command = (
        f"{sys.executable} -m relay identity import --machine web01 {file} --password-file <(echo secret) "
        f"--config {identity_config}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert store.machine("web01") == new


def test_the_password_comes_as_a_credential_of_systemd(
    run: Run, store: IdentityStore, tmp_path: Path, new: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    private(tmp_path / "pfx", b"secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert run("import", "--machine", "web01", file, "--password-credential", "pfx").exit_code == 0
    assert store.machine("web01") == new
    for options, said in [
        (["--password-credential", "none"], f"credential:none: not in {tmp_path}"),
        (["--password-credential", "../x"], "--password-credential ../x: not the name of a credential"),
        (["--password-credential", "pfx", "--password-file", tmp_path / "pfx"], "more than one password is named"),
    ]:
        result = run("import", "--machine", "web01", file, *options)
        assert result.exit_code == 2
        assert said in result.stderr


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_password_file_that_others_may_read(run: Run, tmp_path: Path, new: Identity, mode: int) -> None:
    file = private(tmp_path / "key.pfx", write_pfx(new, "secret"))
    password = private(tmp_path / "password", b"secret")
    password.chmod(mode)
    result = run("import", "--machine", "web01", file, "--password-file", password)
    assert result.exit_code == 2
    assert f"mode {mode:04o}: others than its owner may use this password. Run: chmod 600 {password}" in result.stderr


def test_an_import_waits_for_no_other_command(run: Run, store: IdentityStore, tmp_path: Path, new: Identity) -> None:
    store.octopus("production")
    file = private(tmp_path / "key.pem", new.pem())
    with locked(tmp_path / "state"):
        result = run("import", "--machine", "web01", file)
    assert result.exit_code == 1
    assert "another command is changing it" in result.stderr
    assert store.find_machine("web01") is None


# ---- export -------------------------------------------------------------------------------------------------------------


def password_file(tmp_path: Path) -> list[object]:
    return ["--password-file", private(tmp_path / "password", b"secret\n")]


@pytest.mark.parametrize("encryption", ["3des", "aes256"])
def test_a_pfx_that_tentacle_takes(
    run: Run, store: IdentityStore, tmp_path: Path, encryption: str, openssl: Callable[..., str]
) -> None:
    made = store.machine("web01")
    file = tmp_path / "web01.pfx"
    result = run("export", file, "--machine", "web01", "--encryption", encryption, *password_file(tmp_path))
    assert result.exit_code == 0
    assert result.stdout == f"machine web01: exported, thumbprint {made.thumbprint}, file {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_pfx("web01", file.read_bytes(), "secret") == made
    inside = openssl("pkcs12", "-in", file, "-passin", "pass:secret", "-nokeys", "-info")
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in inside) == (encryption == "3des")
    assert ("AES-256-CBC" in inside) == (encryption == "aes256")


def test_what_is_exported_can_be_imported(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.octopus("production")
    for name in ("e.pfx", "e.pem"):
        assert run("export", tmp_path / name, "--octopus", "production", *password_file(tmp_path)).exit_code == 0
        assert run("import", tmp_path / name, "--octopus", "both", "--replace", *password_file(tmp_path)).exit_code == 0
        assert store.octopus("both").der == made.der


@pytest.mark.parametrize("name", ["e.pem", "e.PEM", "e"])
def test_a_pem(run: Run, store: IdentityStore, tmp_path: Path, name: str, openssl: Callable[..., str]) -> None:
    made = store.machine("web01")
    form = [] if name.lower().endswith(".pem") else ["--format", "pem"]
    assert run("export", tmp_path / name, "--machine", "web01", *form, *password_file(tmp_path)).exit_code == 0
    text = (tmp_path / name).read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in text
    assert Identity.from_pem("web01", text, "secret") == made
    assert "BEGIN PRIVATE KEY" in openssl("pkey", "-in", tmp_path / name, "-passin", "pass:secret")


def test_without_a_password_only_where_that_is_said(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.machine("web01")
    file = tmp_path / "web01.pfx"
    result = run("export", file, "--machine", "web01")
    assert result.exit_code == 2
    assert "Give --password-file, --password-credential, or --no-password." in result.stderr
    assert not file.exists()
    assert run("export", file, "--machine", "web01", "--no-password", *password_file(tmp_path)).exit_code == 2
    assert run("export", file, "--machine", "web01", "--no-password").exit_code == 0
    assert read_pfx("web01", file.read_bytes(), None) == made


def test_the_password_is_asked_for_twice(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.machine("web01")
    file = tmp_path / "web01.pfx"
    result = run("export", file, "--machine", "web01", typed=Terminal(b"secret\nsecret\n"))
    assert result.exit_code == 0
    assert f"New password for {file}: " in result.stderr
    assert "secret" not in result.output
    assert read_pfx("web01", file.read_bytes(), "secret") == made
    result = run("export", tmp_path / "b.pfx", "--machine", "web01", typed=Terminal(b"secret\nother\n"))
    assert result.exit_code == 2
    assert not (tmp_path / "b.pfx").exists()


def test_a_file_that_is_there_is_overwritten_only_when_told(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    store.machine("web01")
    file = private(tmp_path / "web01.pfx", b"precious")
    result = run("export", file, "--machine", "web01", "--no-password")
    assert result.exit_code == 1
    assert f"{file}: is there already. Name another file, or give --replace to overwrite it." in result.stderr
    assert file.read_bytes() == b"precious"
    file.chmod(0o644)
    assert run("export", file, "--machine", "web01", "--no-password", "--replace").exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_killed_write_leaves_the_old_file(
    run: Run, store: IdentityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.machine("web01")
    file = private(tmp_path / "web01.pfx", b"precious")

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    result = run("export", file, "--machine", "web01", "--no-password", "--replace")
    assert result.exit_code == 1
    assert f"{file}: cannot write: No space left on device" in result.stderr
    assert file.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.pem", "relay.yaml", "state", "web01.pfx"]


def test_the_certificate_alone_is_public(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    made = store.machine("web01")
    file = tmp_path / "web01.crt"
    before = os.umask(0o077)
    try:
        assert run("export", file, "--machine", "web01", "--public").exit_code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert file.read_bytes() == made.certificate_pem()
    assert b"PRIVATE" not in file.read_bytes()
    result = run("export", "-", "--machine", "web01", "--public")
    assert result.stdout_bytes == made.certificate_pem()
    assert run("export", file, "--machine", "web01", "--public", "--no-password", "--replace").exit_code == 2


def test_keys_go_to_a_pipe_and_never_to_a_terminal(
    run: Run, identity_config: Path, store: IdentityStore, tmp_path: Path
) -> None:
    made = store.machine("web01")
    arguments = ["export", "-", "--machine", "web01", *password_file(tmp_path)]
    result = run(*arguments)
    assert result.exit_code == 0
    assert read_pfx("web01", result.stdout_bytes, "secret") == made
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "relay", "identity", *map(str, arguments), "--config", str(identity_config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert "standard output is a terminal, and keys are not shown" in done.stderr


def test_a_provisioned_one_is_exported_too(run: Run, tmp_path: Path) -> None:
    assert run("export", tmp_path / "e.pfx", "--machine", "given", "--no-password").exit_code == 0
    exported = read_pfx("given", (tmp_path / "e.pfx").read_bytes(), None)
    assert str(exported.thumbprint) == thumbprint("tentacle")


def test_what_cannot_be_exported(run: Run, store: IdentityStore, tmp_path: Path) -> None:
    store.machine("web01")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    cases = [
        ([tmp_path / "e.pfx", "--machine", "both", "--no-password"], 1, "machine both: not made yet. Make it with"),
        ([tmp_path / "e.pfx"], 2, "Give --machine NAME or --octopus NAME."),
        ([tmp_path / "no" / "e.pfx", "--machine", "web01", "--no-password"], 1, "cannot write: No such file or directory"),
        ([pipe, "--machine", "web01", "--no-password", "--replace"], 1, f"{pipe}: not a file"),
        ([tmp_path, "--machine", "web01", "--no-password", "--replace"], 1, f"{tmp_path}: not a file"),
    ]
    for arguments, code, said in cases:
        result = run("export", *arguments)
        assert result.exit_code == code
        assert said in result.stderr
        assert result.stdout == ""
