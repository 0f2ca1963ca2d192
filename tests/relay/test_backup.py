import datetime as dt
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from scripted import party

from certs.errors import CertificateError
from certs.identity import Identity
from certs.lock import locked
from certs.rotation import Rotation
from certs.store import IdentityStore
from relay import backup
from relay.backup import BackupError, collect, pack, unpack

NOW = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with two machines, of which one is being rotated, and one is polled for, and an octopus entry."""
    store = IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail)
    for who in ("web01", "web02"):
        store.import_machine(Identity(who, party(who).certificate, party(who).key))
    store.import_octopus(Identity("production", party("production").certificate, party("production").key))
    rotation = Rotation(store.machine_file("web01"), "web01", "x")
    rotation.prepare()
    rotation.activate()
    rotation.prepare()
    store.subscription("web02")
    return tmp_path / "state"


def test_all_of_it_round_trip(state: Path) -> None:
    (state / "control.sock").touch()
    (state / "machines" / ".web01.pem.0123456789abcdef").write_bytes(b"a leftover")
    (state / "machines" / "README").write_bytes(b"")
    made = collect(state, "dc-east", NOW)
    again = unpack(pack(made))
    assert again == made
    assert (again.made, again.relay) == (NOW, "dc-east")
    assert [(item.path, item.kind, item.name, item.turn) for item in again.items] == [
        ("machines/web01.pem", "machine", "web01", "current"),
        ("machines/web01.pem.next", "machine", "web01", "next"),
        ("machines/web01.pem.old", "machine", "web01", "old"),
        ("machines/web02.pem", "machine", "web02", "current"),
        ("octopus/production.pem", "octopus", "production", "current"),
        ("subscriptions/web02", "subscription", "web02", "current"),
    ]
    store = IdentityStore(state, lambda identity, path: None, pytest.fail)
    assert [item.shown for item in again.subscriptions] == [store.find_subscription("web02")]
    assert all(item.data == (state / item.path).read_bytes() for item in again.items)


def test_any_tar_reads_it(state: Path) -> None:
    data = pack(collect(state, None, NOW))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        members = archive.getmembers()
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert members[0].name == "manifest.json"
    assert {member.mode for member in members} == {0o600}
    assert manifest["relay"] is None
    [first, *_] = manifest["files"]
    file = (state / "machines" / "web01.pem").read_bytes()
    assert first["sha256"] == hashlib.sha256(file).hexdigest()
    assert first["thumbprint"] == str(Identity.from_pem("x", file).thumbprint)


def test_no_key_in_a_repr(state: Path) -> None:
    made = collect(state, None, NOW)
    assert "PRIVATE" not in repr(made)
    assert "machines/web02.pem" in repr(made)


def test_what_cannot_be_backed_up(state: Path, tmp_path: Path) -> None:
    with locked(state), pytest.raises(CertificateError, match="another command is changing it"):
        collect(state, None, NOW)
    with pytest.raises(CertificateError, match="cannot look at this folder"):
        collect(tmp_path / "none", None, NOW)
    empty = tmp_path / "empty"
    empty.mkdir(0o700)
    with pytest.raises(BackupError, match=f"^{empty}: no identity and no subscription id is in this folder"):
        collect(empty, None, NOW)
    for break_it, said in [
        (lambda path: path.write_bytes(b"junk"), "no private key in the PEM. .* back up again: nothing was written."),
        (lambda path: path.chmod(0o640), "mode 0640"),
        (lambda path: path.parent.chmod(0o750), "mode 0750"),
    ]:
        break_it(state / "octopus" / "production.pem")
        with pytest.raises(CertificateError, match=said):
            collect(state, None, NOW)
        (state / "octopus").chmod(0o700)


# ---- what is no backup --------------------------------------------------------------------------------------------------


class Forge:
    """Makes an archive in which anything may be wrong. files: path to what is in it."""

    def __init__(self, state: Path) -> None:
        self.files = {item.path: item.data for item in collect(state, None, NOW).items if item.turn == "current"}
        self.manifest: Any = {
            "format": "relay-tentacle backup",
            "version": 2,
            "made": "2026-03-04T05:06:07Z",
            "relay": None,
            "files": [self.entry(path, data) for path, data in self.files.items()],
        }
        self.members: list[tuple[tarfile.TarInfo, bytes]] = [self.member(path, data) for path, data in self.files.items()]

    @staticmethod
    def entry(path: str, data: bytes) -> dict[str, str]:
        known_by = {"id": data.decode().strip()}
        if not path.startswith("subscriptions/"):
            known_by = {"thumbprint": str(Identity.from_pem("x", data).thumbprint)}
        return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), **known_by}

    @staticmethod
    def member(path: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
        made = tarfile.TarInfo(path)
        made.size, made.type, made.linkname = len(data), kind, link
        return made, data

    def data(self, manifest: bytes | None = None, first: str = "manifest.json") -> bytes:
        text = json.dumps(self.manifest).encode() if manifest is None else manifest
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for made, data in [self.member(first, text), *self.members]:
                archive.addfile(made, io.BytesIO(data))
        return out.getvalue()


@pytest.fixture
def forge(state: Path) -> Forge:
    return Forge(state)


def refused(data: bytes, said: str) -> None:
    with pytest.raises(BackupError, match=said) as raised:
        unpack(data)
    assert "PRIVATE" not in str(raised.value)


def test_an_honest_one_is_taken(forge: Forge) -> None:
    assert len(unpack(forge.data()).items) == 4


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../machines/web01.pem",
        "machines/../../x.pem",
        "machines/.hidden.pem",
        "machines/sub/web01.pem",
        "machines/web01.key",
        "machines/web01.pem.new",
        "other/web01.pem",
        "web01.pem",
        "control.sock",
        "machines/a\nb.pem",
        f"machines/{'x' * 65}.pem",
        "subscriptions/../web01",
        f"subscriptions/{'x' * 65}",
    ],
)
def test_a_name_that_no_identity_has(forge: Forge, path: str) -> None:
    data = forge.files["machines/web02.pem"]
    forge.members.append(forge.member(path, data))
    forge.manifest["files"].append(forge.entry(path, data))
    refused(forge.data(), "is in it, and not as a file of its manifest")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_what_is_no_plain_file(forge: Forge, kind: bytes) -> None:
    forge.members[0] = forge.member("machines/web01.pem", kind=kind, link="/etc/shadow")
    refused(forge.data(), "'machines/web01.pem' in it is not a plain file")


def test_files_and_manifest_have_to_agree(forge: Forge) -> None:
    whole = list(forge.members)
    forge.members = whole[1:]
    refused(forge.data(), r"1 files of its manifest are not in it, 'machines/web01\.pem' among them")
    forge.members = [*whole, whole[0]]
    refused(forge.data(), r"'machines/web01\.pem' is in it, and not as a file of its manifest")
    forge.members = [forge.member("machines/web01.pem", forge.files["machines/web02.pem"]), *whole[1:]]
    refused(forge.data(), "has another hash than its manifest says")
    forge.members = whole
    forge.manifest["files"][0]["thumbprint"] = "A" * 40
    refused(forge.data(), "has another thumbprint than its manifest says")


def test_a_subscription_that_is_none(forge: Forge) -> None:
    junk = b"poll://Somebody/else\n"
    forge.members[-1] = forge.member("subscriptions/web02", junk)
    forge.manifest["files"][-1] = forge.entry("subscriptions/web02", junk)
    refused(forge.data(), "a file in it cannot be used: subscriptions/web02: not a subscription id")
    forge.members[-1] = forge.member("subscriptions/web02", b"poll://other/\n")
    forge.manifest["files"][-1] = {**forge.entry("subscriptions/web02", b"poll://other/\n"), "id": "poll://another/"}
    refused(forge.data(), "subscriptions/web02 in it has another id than its manifest says")


def test_an_older_one_has_no_subscriptions(forge: Forge) -> None:
    forge.manifest["version"] = 1
    refused(forge.data(), "'subscriptions/web02' is in it, and not as a file of its manifest")
    del forge.members[-1], forge.manifest["files"][-1]
    older = unpack(forge.data())
    assert (len(older.items), older.folders, older.knows_subscriptions) == (3, ("machines", "octopus"), False)


def test_subscriptions_alone_are_worth_a_backup(tmp_path: Path) -> None:
    IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail).subscription("web01")
    [item] = unpack(pack(collect(tmp_path / "state", None, NOW))).items
    assert item.path == "subscriptions/web01"


def test_an_identity_that_is_none(forge: Forge) -> None:
    junk = forge.files["machines/web01.pem"].replace(b"BEGIN CERTIFICATE", b"BEGIN CERTIFICATION")
    forge.members[0] = forge.member("machines/web01.pem", junk)
    forge.manifest["files"][0]["sha256"] = hashlib.sha256(junk).hexdigest()
    refused(forge.data(), "a file in it cannot be used: identity web01: no certificate")


def test_one_that_is_too_big(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    big = bytes(64 * 1024 + 1)
    forge.members[0] = forge.member("machines/web01.pem", big)
    refused(forge.data(), "has 65537 bytes, more than 65536")
    monkeypatch.setattr(backup, "_MAX_TOTAL", 20_000)
    forge.members = [forge.member("machines/web01.pem", bytes(64 * 1024))]
    refused(forge.data(), "more than 20000 bytes when decompressed")
    monkeypatch.setattr(backup, "_MAX_ITEMS", 2)
    refused(forge.data(), "its manifest lists 4 files, or one twice")


def test_a_manifest_that_is_none(forge: Forge) -> None:
    for text in (
        b"",
        b"junk",
        b"[]",
        b"{}",
        b"3",
        b"[" * 100_000,
        b"\xff",
        b'{"format": "relay-tentacle backup", "version": 1}',
    ):
        refused(forge.data(text), "not a backup, or damaged")
    for first in ("manifest.txt", "machines/web01.pem"):
        refused(forge.data(first=first), r"no manifest\.json comes first in it")
    for key, value, said in [
        ("format", "other", "not a backup of a relay's"),
        ("version", 3, "of version 3, and this relay knows 2"),
        ("relay", 3, "no text"),
        ("made", "yesterday", "not a backup, or damaged"),
        ("made", None, "not a backup, or damaged"),
        ("files", None, "not a backup, or damaged"),
        ("files", [], "lists 0 files"),
        ("files", [3], "not a backup, or damaged"),
        ("files", forge.manifest["files"] * 2, "lists 8 files, or one twice"),
    ]:
        refused(forge.data(json.dumps({**forge.manifest, key: value}).encode()), said)


def test_what_is_damaged_or_something_else(forge: Forge) -> None:
    whole = forge.data()
    for data in (b"", b"junk", gzip.compress(b"junk"), gzip.compress(b""), whole[:100], whole[:-8], whole[:-1]):
        refused(data, "not a backup")
    for place in (-1, -5):  # gzip's length, and its check sum
        changed = bytearray(whole)
        changed[place] ^= 1
        refused(bytes(changed), "not a backup, or damaged")
