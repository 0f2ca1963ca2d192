import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

import certs
from certs.errors import CertificateError, PasswordError
from certs.identity import Identity
from certs.passwords import Credential, PasswordFile
from certs.pfx import write_pfx
from certs.store import RESTORING, IdentityStore, Provisioned, read_identity

Made = list[tuple[Identity, Path]]

# Says "ready", waits for a line, and then asks for the identity.
CHILD = """
import sys
from pathlib import Path
from certs.store import IdentityStore
store = IdentityStore(Path(sys.argv[1]), lambda identity, path: print("made", flush=True), print)
print("ready", flush=True)
sys.stdin.readline()
print(store.machine("web01").thumbprint, flush=True)
"""


@pytest.fixture(scope="module")
def other() -> Identity:
    return Identity.new("web01", "Octopus Tentacle")


@pytest.fixture
def made() -> Made:
    return []


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, made: Made, warnings: list[str]) -> IdentityStore:
    return IdentityStore(tmp_path / "state", lambda identity, path: made.append((identity, path)), warnings.append)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fail(warning: str) -> None:
    pytest.fail(warning)


def private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def test_made_on_first_use_with_a_notice_and_then_the_same(store: IdentityStore, made: Made, tmp_path: Path) -> None:
    path = tmp_path / "state" / "machines" / "web01.pem"
    assert store.machine_file("web01") == path
    first = store.machine("web01")
    assert made == [(first, path)]
    assert Identity.from_pem("web01", path.read_bytes()) == first
    assert store.machine("web01") == first
    assert store.find_machine("web01") == first
    assert len(made) == 1


def test_both_kinds_are_apart(store: IdentityStore, made: Made, tmp_path: Path) -> None:
    machine, octopus = store.machine("same"), store.octopus("same")
    assert machine.thumbprint != octopus.thumbprint
    assert made[1] == (octopus, tmp_path / "state" / "octopus" / "same.pem")
    assert store.octopus_file("same") == made[1][1]
    assert store.find_octopus("same") == octopus
    assert store.find_machine("same") == machine


def test_the_certificates_say_what_they_stand_for(store: IdentityStore) -> None:
    assert store.machine("web01").certificate.subject.rfc4514_string() == "CN=Octopus Tentacle"
    assert store.octopus("production").certificate.subject.rfc4514_string() == "CN=Octopus Portal"


def test_a_key_may_be_parsed_when_it_is_first_used(
    store: IdentityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.machine("web01")
    parsed: list[bytes] = []
    parse = serialization.load_pem_private_key

    def watching(data: bytes, *arguments: Any, **options: Any) -> Any:
        parsed.append(data)
        return parse(data, *arguments, **options)

    monkeypatch.setattr(serialization, "load_pem_private_key", watching)
    later = store.machine("web01", key_later=True)
    assert (later, later.thumbprint, parsed) == (made, made.thumbprint, [])
    (tmp_path / "state" / "machines" / "web01.pem").unlink()  # it is the one that the file had
    assert [later.pem(), later.pem()] == [made.pem()] * 2
    assert len(parsed) == 1


def test_a_damaged_key_is_then_found_when_it_is_first_used(store: IdentityStore, tmp_path: Path) -> None:
    path = store.machine_file("web01")
    whole = store.machine("web01").pem()
    path.write_bytes(whole.replace(b"\nM", b"\n!", 1))
    later = store.machine("web01", key_later=True)
    with pytest.raises(CertificateError, match=f"^{re.escape(str(path))}: identity web01: the private key cannot be read"):
        later.pem()
    key, _, certificate = whole.partition(b"-----BEGIN CERTIFICATE-----")
    stranger = Identity.new("web02", "Octopus Tentacle").certificate_pem()
    path.write_bytes(key + stranger)
    with pytest.raises(CertificateError, match=f"^{re.escape(str(path))}: .* does not belong to the private key"):
        store.machine("web01", key_later=True).pem()
    for damaged in (key, key + key + stranger, key + b"-----BEGIN CERTIFICATE-----" + certificate.replace(b"\nM", b"\n!", 1)):
        path.write_bytes(damaged)
        with pytest.raises(CertificateError, match=f"^{re.escape(str(path))}: identity web01: "):
            store.machine("web01", key_later=True)


def test_finding_makes_nothing(store: IdentityStore, made: Made, tmp_path: Path) -> None:
    assert store.find_machine("web01") is None
    assert store.find_octopus("production") is None
    assert (made, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_whatever_the_umask(store: IdentityStore, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store.machine("web01")
    finally:
        os.umask(before)
    state = tmp_path / "state"
    assert [mode(path) for path in (state, state / "machines", state / "machines" / "web01.pem")] == [0o700, 0o700, 0o600]


def test_the_file_is_private_before_its_first_byte(
    store: IdentityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    real = os.open

    def watching(path: Path, flags: int, *arguments: int) -> int:
        descriptor = real(path, flags, *arguments)
        if flags & os.O_CREAT:
            about = os.fstat(descriptor)
            seen.append((stat.S_IMODE(about.st_mode), about.st_size))
        return descriptor

    monkeypatch.setattr(os, "open", watching)
    before = os.umask(0)
    try:
        store.machine("web01")
    finally:
        os.umask(before)
    assert seen == [(0o600, 0)]


def test_no_temporary_file_is_left(
    store: IdentityStore, other: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.machine("web01")
    with pytest.raises(CertificateError):
        store.import_machine(other)
    store.import_machine(other, replace=True)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CertificateError, match=r"web02\.pem: cannot write: No space left on device"):
        store.machine("web02")
    assert [path.name for path in (tmp_path / "state" / "machines").iterdir()] == ["web01.pem"]


def test_file_and_folder_are_synced_before_the_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = os.fsync

    def watching(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    IdentityStore(tmp_path / "state", lambda identity, path: events.append("notice"), events.append).machine("web01")
    assert events == ["folder", "folder", "file", "folder", "notice"]


def test_two_processes_at_once_end_with_one_identity(tmp_path: Path) -> None:
    root = str(Path(certs.__file__).parents[1])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        for _ in range(3)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        # All of them are loaded and waiting: now they race.
        outputs = []
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            outputs.append(child.communicate(timeout=60)[0].split())
            assert child.returncode == 0
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert len({output[-1] for output in outputs}) == 1
    assert sum(output.count("made") for output in outputs) == 1
    assert [path.name for path in (tmp_path / "state" / "machines").iterdir()] == ["web01.pem"]


def test_the_loser_of_a_race_takes_the_winners(
    store: IdentityStore, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = IdentityStore(tmp_path / "state", lambda identity, path: None, fail)
    real = Identity.new
    won: list[Identity] = []

    def slow(name: str, common_name: str) -> Identity:
        # While this one makes its key, the other one is quicker.
        monkeypatch.setattr(Identity, "new", real)
        won.append(winner.machine("web01"))
        return real(name, common_name)

    monkeypatch.setattr(Identity, "new", slow)
    assert store.machine("web01") == won[0]
    assert made == []


@pytest.mark.parametrize("bad", [0o640, 0o604, 0o620, 0o601, 0o660, 0o644])
def test_a_key_that_others_may_use_is_refused(store: IdentityStore, tmp_path: Path, bad: int) -> None:
    store.machine("web01")
    path = tmp_path / "state" / "machines" / "web01.pem"
    path.chmod(bad)
    for call in (store.machine, store.find_machine):
        with pytest.raises(CertificateError, match=rf"mode {bad:04o}: .* Run: chmod 600 {path}$"):
            call("web01")


@pytest.mark.parametrize("good", [0o600, 0o400])
def test_a_key_for_its_owner_is_fine(store: IdentityStore, tmp_path: Path, good: int) -> None:
    first = store.machine("web01")
    (tmp_path / "state" / "machines" / "web01.pem").chmod(good)
    assert store.machine("web01") == first


@pytest.mark.parametrize("which", ["state", "state/machines"])
@pytest.mark.parametrize("bad", [0o750, 0o705, 0o770, 0o711])
def test_a_folder_that_others_may_use_is_refused(
    store: IdentityStore, tmp_path: Path, other: Identity, which: str, bad: int
) -> None:
    store.machine("web01")
    (tmp_path / which).chmod(bad)
    calls: list[Callable[[], object]] = [
        lambda: store.machine("web01"),
        lambda: store.machine("web02"),
        lambda: store.find_machine("web01"),
        lambda: store.import_machine(other, replace=True),
    ]
    for call in calls:
        with pytest.raises(CertificateError, match=rf"mode {bad:04o}: .* Run: chmod 700 {tmp_path / which}$"):
            call()


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "a\0b", "-x", "a b", "x" * 65, "ä", "x\n"])
def test_names_that_are_no_file_names(store: IdentityStore, tmp_path: Path, name: str) -> None:
    for call in (store.machine, store.octopus, store.find_machine, store.find_octopus):
        with pytest.raises(CertificateError, match="not a name for an identity"):
            call(name)
    with pytest.raises(CertificateError, match="not a name for an identity"):
        store.import_machine(Identity.new(name, "x"))
    assert list(tmp_path.iterdir()) == []


def test_an_import_is_kept(store: IdentityStore, made: Made, other: Identity, tmp_path: Path) -> None:
    path = store.import_machine(other)
    assert path == tmp_path / "state" / "machines" / "web01.pem"
    assert mode(path) == 0o600
    assert store.machine("web01") == other
    assert store.import_octopus(other) == tmp_path / "state" / "octopus" / "web01.pem"
    assert store.octopus("web01") == other
    assert made == []


def test_an_import_overwrites_only_when_told(store: IdentityStore, other: Identity) -> None:
    first = store.machine("web01")
    with pytest.raises(CertificateError) as raised:
        store.import_machine(other)
    assert str(first.thumbprint) in str(raised.value)
    assert "Import with --replace" in str(raised.value)
    assert store.machine("web01") == first
    store.import_machine(other, replace=True)
    assert store.machine("web01") == other


def test_importing_the_same_again_is_no_mistake(store: IdentityStore, other: Identity) -> None:
    assert store.import_machine(other) == store.import_machine(other)


def test_replace_mends_a_broken_file(store: IdentityStore, other: Identity, tmp_path: Path) -> None:
    store.machine("web01")
    (tmp_path / "state" / "machines" / "web01.pem").write_bytes(b"broken")
    with pytest.raises(CertificateError, match=r"web01\.pem: identity web01: no private key"):
        store.machine("web01")
    store.import_machine(other, replace=True)
    assert store.machine("web01") == other


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("key.pem", Identity.pem),
        ("key.pfx", lambda identity: write_pfx(identity, None)),
        ("KEY.P12", lambda identity: write_pfx(identity, None)),
        ("key", lambda identity: write_pfx(identity, None)),  # known by its contents
        ("key.txt", Identity.pem),
    ],
)
def test_a_provisioned_one_is_read_and_nothing_written(
    store: IdentityStore, made: Made, other: Identity, tmp_path: Path, name: str, data: Callable[[Identity], bytes]
) -> None:
    path = private(tmp_path / name, data(other))
    path.chmod(0o400)
    before = path.stat()
    for load in (store.machine, store.octopus):
        assert load("web01", Provisioned(path)) == other
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_mode) == (before.st_mtime_ns, before.st_ino, before.st_mode)
    assert list(tmp_path.iterdir()) == [path]
    assert made == []


def test_a_provisioned_one_may_be_a_link_and_keeps_our_name(store: IdentityStore, other: Identity, tmp_path: Path) -> None:
    # As Kubernetes mounts its secrets.
    link = tmp_path / "link.pem"
    link.symlink_to(private(tmp_path / "data.pem", other.pem()))
    assert store.machine("renamed", Provisioned(link)).name == "renamed"


def test_a_provisioned_one_that_cannot_be_used(store: IdentityStore, made: Made, other: Identity, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    open_to_all = private(tmp_path / "open.pem", other.pem())
    open_to_all.chmod(0o646)
    cases = [
        (tmp_path / "missing.pem", "no such file. It is the provisioned identity of web01"),
        (open_to_all, f"mode 0646: others than its owner may use this private key. Run: chmod 600 {open_to_all}"),
        (tmp_path, "not a file"),
        (pipe, "not a file"),
        (private(tmp_path / "big.pem", bytes(1024 * 1024 + 1)), "more than 1048576 bytes"),
        (private(tmp_path / "junk.pem", b"junk"), "identity web01: no private key"),
        (private(tmp_path / "junk.pfx", b"junk"), "identity web01: not a PFX file"),
        (private(tmp_path / "locked.pfx", write_pfx(other, "secret")), "identity web01: the PFX cannot be opened"),
        (open_to_all / "below.pem", "cannot read: Not a directory"),
    ]
    for path, problem in cases:
        with pytest.raises(CertificateError) as raised:
            store.machine("web01", Provisioned(path))
        assert str(raised.value).startswith(f"{path}: {problem}")
    assert made == []
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    file = private(tmp_path / "file", b"")
    missing = f"cannot make this folder: {tmp_path / 'no'} is not there. Run: mkdir -p {tmp_path / 'no'}"
    for folder, problem in [
        (file, "not a folder"),
        (tmp_path / "no" / "state", missing),
        (file / "state", "cannot look at it: Not a directory"),
    ]:
        with pytest.raises(CertificateError) as raised:
            IdentityStore(folder, lambda identity, path: None, fail).machine("web01")
        assert str(raised.value).startswith(f"{folder}: {problem}")


@pytest.mark.parametrize("below", ["", "machines"])
def test_what_is_no_folder_is_known_to_whoever_only_looks(store: IdentityStore, tmp_path: Path, below: str) -> None:
    assert store.find_machine("web01") is None
    folder = tmp_path / "state" / below
    if below:
        (tmp_path / "state").mkdir(mode=0o700)
    private(folder, b"")
    with pytest.raises(CertificateError, match=f"^{folder}: not a folder"):
        store.find_machine("web01")


@pytest.mark.parametrize("shared", [0o640, 0o604, 0o644, 0o440, 0o444, 0o755])
def test_a_provisioned_one_that_others_may_read_is_worth_one_warning(
    store: IdentityStore, warnings: list[str], other: Identity, tmp_path: Path, shared: int
) -> None:
    path = private(tmp_path / "shared.pem", other.pem())
    path.chmod(shared)
    for load in (store.machine, store.octopus, store.machine):
        assert load("web01", Provisioned(path)) == other
    said = f"{path}: mode {shared:04o}: others than its owner may read this private key. Run: chmod 600 {path}"
    assert warnings == [said]


def test_each_such_file_has_its_own_warning(store: IdentityStore, warnings: list[str], other: Identity, tmp_path: Path) -> None:
    paths = [private(tmp_path / name, other.pem()) for name in ("a.pem", "b.pem")]
    for path in paths:
        path.chmod(0o640)
        store.machine("web01", Provisioned(path))
    assert [warning.partition(":")[0] for warning in warnings] == [str(path) for path in paths]


@pytest.mark.parametrize("private_mode", [0o600, 0o400, 0o700])
def test_a_provisioned_one_of_its_owner_alone_is_worth_none(
    store: IdentityStore, warnings: list[str], other: Identity, tmp_path: Path, private_mode: int
) -> None:
    path = private(tmp_path / "key.pem", other.pem())
    path.chmod(private_mode)
    assert store.machine("web01", Provisioned(path)) == other
    assert warnings == []


@pytest.mark.parametrize("writable", [0o620, 0o602, 0o660, 0o666, 0o777])
def test_a_provisioned_one_that_others_may_write_is_refused(
    store: IdentityStore, warnings: list[str], other: Identity, tmp_path: Path, writable: int
) -> None:
    path = private(tmp_path / "key.pem", other.pem())
    path.chmod(writable)
    with pytest.raises(CertificateError, match=rf"mode {writable:04o}: others than its owner may use .* chmod 600 {path}$"):
        store.machine("web01", Provisioned(path))
    assert warnings == []


def test_reading_a_file_of_the_operators_with_its_password(other: Identity, tmp_path: Path) -> None:
    path = private(tmp_path / "key.pfx", write_pfx(other, "secret"))
    assert read_identity(path, "web01", "secret", fail) == other
    assert read_identity(tmp_path / "none.pfx", "web01", "secret", fail) is None
    for password, problem in [("wrong", "the password is wrong"), (None, "it needs a password, and none was given")]:
        with pytest.raises(PasswordError, match=f"{path}: identity web01: the PFX cannot be opened: {problem}"):
            read_identity(path, "web01", password, fail)


def test_a_provisioned_one_is_opened_by_its_password(
    store: IdentityStore, other: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = private(tmp_path / "password", b"secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name, data in [("key.pfx", write_pfx(other, "secret")), ("key.pem", other.pem("secret"))]:
        path = private(tmp_path / name, data)
        for source in (PasswordFile(password), Credential("password")):
            assert store.machine("web01", Provisioned(path, source)) == other
            assert store.octopus("web01", Provisioned(path, source)) == other


@pytest.mark.parametrize("name", ["key.pfx", "key.pem"])
def test_a_provisioned_ones_password_that_is_wrong_or_missing(
    store: IdentityStore, other: Identity, tmp_path: Path, name: str
) -> None:
    path = private(tmp_path / name, write_pfx(other, "secret") if name == "key.pfx" else other.pem("secret"))
    password = private(tmp_path / "password", b"swordfish\n")
    with pytest.raises(PasswordError) as raised:
        store.machine("web01", Provisioned(path, PasswordFile(password)))
    assert str(raised.value).startswith(f"{path}: identity web01: the ")
    assert str(raised.value).endswith(f" The password is from {password}.")
    assert "swordfish" not in str(raised.value)
    with pytest.raises(PasswordError, match="identity_password in the configuration"):
        store.machine("web01", Provisioned(path))
    with pytest.raises(CertificateError, match=f"^{tmp_path / 'none'}: no such file. Name a file whose first line is"):
        store.machine("web01", Provisioned(path, PasswordFile(tmp_path / "none")))


def test_a_restore_that_was_cut_off_leaves_nothing_to_use(store: IdentityStore, tmp_path: Path) -> None:
    store.machine("web01")
    (tmp_path / "state" / RESTORING).mkdir()
    for call in (store.machine, store.octopus, store.find_machine, store.find_octopus):
        with pytest.raises(CertificateError, match=f"^{tmp_path / 'state'}: a restore was cut off in the middle"):
            call("web01")


# ---- subscription ids ---------------------------------------------------------------------------------------------------


def test_a_subscription_id_is_made_once_as_tentacles_make_theirs(store: IdentityStore, tmp_path: Path) -> None:
    made = store.subscription("web01")
    assert re.fullmatch(r"poll://[a-z0-9]{20}/", made)
    assert [store.subscription("web01"), store.subscription("web02") == made] == [made, False]
    file = tmp_path / "state" / "subscriptions" / "web01"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (f"{made}\n", 0o600)


def test_no_subscription_id_is_read_or_made_in_the_middle_of_a_restore(store: IdentityStore, tmp_path: Path) -> None:
    store.subscription("web01")
    (tmp_path / "state" / RESTORING).mkdir()
    for name in ("web01", "web02"):
        with pytest.raises(CertificateError, match="a restore was cut off in the middle"):
            store.subscription(name)


def test_a_subscription_id_that_others_could_have_written_is_not_believed(store: IdentityStore, tmp_path: Path) -> None:
    store.subscription("web01")
    (tmp_path / "state" / "subscriptions").chmod(0o770)
    with pytest.raises(CertificateError, match="mode 0770"):
        store.find_subscription("web01")


def test_a_subscription_id_that_is_none_is_not_replaced(store: IdentityStore, tmp_path: Path) -> None:
    store.subscription("web01")
    file = tmp_path / "state" / "subscriptions" / "web01"
    file.write_bytes(b"poll://\xff/\n")
    with pytest.raises(CertificateError, match="subscriptions/web01: not a subscription id"):
        store.subscription("web01")
    file.chmod(0o644)
    with pytest.raises(CertificateError, match="chmod 600"):
        store.subscription("web01")
    with pytest.raises(CertificateError, match="not a name"):
        store.subscription("../web01")
