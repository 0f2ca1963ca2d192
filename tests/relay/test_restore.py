import datetime as dt
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import party

from certs import files
from certs.errors import CertificateError
from certs.identity import Identity
from certs.lock import locked
from certs.store import RESTORING, IdentityStore
from relay.backup import Backup, BackupError, collect
from relay.restore import Plan, plan, put_back

NOW = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)


def store_of(state: Path) -> IdentityStore:
    return IdentityStore(state, lambda identity, path: pytest.fail("made"), pytest.fail)


def fill(state: Path, machines: dict[str, str], octopus: dict[str, str]) -> Path:
    """Puts identities there: each name with the one of this party."""
    store = IdentityStore(state, lambda identity, path: None, pytest.fail)
    for name, who in machines.items():
        store.import_machine(Identity(name, party(who).certificate, party(who).key))
    for name, who in octopus.items():
        store.import_octopus(Identity(name, party(who).certificate, party(who).key))
    return state


@pytest.fixture
def made(tmp_path: Path) -> Backup:
    lost = fill(tmp_path / "lost", {"web01": "a", "web02": "b"}, {"production": "c"})
    store_of(lost).subscription("web02")
    return collect(lost, "dc-east", NOW)


def inside(folder: Path) -> dict[str, bytes]:
    """Every file of identities in it."""
    found = [path for kind in ("machines", "octopus", "subscriptions") for path in (folder / kind).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def expected(made: Backup) -> dict[str, bytes]:
    return {item.path: item.data for item in made.items}


def test_into_nothing(made: Backup, tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = os.umask(0)
    try:
        assert put_back(state, made, replace=False, now=NOW) is None
    finally:
        os.umask(before)
    assert inside(state) == expected(made)
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*") if path.is_dir()} == {0o700}
    assert sorted(path.name for path in state.iterdir()) == [".lock", "machines", "octopus", "subscriptions"]
    store = store_of(state)
    assert store.machine("web01").der == party("a").der
    assert store.subscription("web02") == store_of(tmp_path / "lost").find_subscription("web02")


def test_into_a_folder_without_identities(made: Backup, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "machines").mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    (state / "logs").mkdir()
    aside = put_back(state, made, replace=False, now=NOW)
    assert inside(state) == expected(made)
    assert aside is not None
    assert inside(aside) == {}
    assert (state / "logs").is_dir()


def test_another_subscription_id_is_not_lost(made: Backup, tmp_path: Path) -> None:
    state = tmp_path / "state"
    put_back(state, made, replace=False, now=NOW)
    (state / "subscriptions" / "web02").unlink()
    other = store_of(state).subscription("web02")
    assert plan(state, made).others == ["subscriptions/web02"]
    with pytest.raises(BackupError, match=r"1 files are there that the backup does not have, subscriptions/web02 among them"):
        put_back(state, made, replace=False, now=NOW)
    aside = put_back(state, made, replace=True, now=NOW)
    assert aside is not None
    assert inside(state) == expected(made)
    assert inside(aside)["subscriptions/web02"] == f"{other}\n".encode()


def test_a_backup_that_knows_no_subscription_ids_leaves_them(made: Backup, tmp_path: Path) -> None:
    state = tmp_path / "state"
    there = store_of(state).subscription("web09")
    older = replace(made, items=tuple(item for item, _ in made.identities), folders=("machines", "octopus"))
    assert put_back(state, older, replace=False, now=NOW) is None
    assert store_of(state).find_subscription("web09") == there
    assert set(inside(state)) == {"subscriptions/web09", *expected(older)}


def test_a_second_time_changes_nothing(made: Backup, tmp_path: Path) -> None:
    state = tmp_path / "state"
    put_back(state, made, replace=False, now=NOW)
    before = (state / "machines").stat().st_ino
    assert put_back(state, made, replace=False, now=NOW) is None
    assert ((state / "machines").stat().st_ino, inside(state)) == (before, expected(made))


@pytest.mark.parametrize(
    ("machines", "octopus", "others"),
    [
        ({"web01": "x"}, {}, ["machines/web01.pem"]),
        ({"web03": "x"}, {}, ["machines/web03.pem"]),
        ({"web01": "a"}, {"production": "x", "other": "y"}, ["octopus/production.pem", "octopus/other.pem"]),
    ],
)
def test_other_identities_are_moved_away_only_when_told(
    made: Backup, tmp_path: Path, machines: dict[str, str], octopus: dict[str, str], others: list[str]
) -> None:
    state = fill(tmp_path / "state", machines, octopus)
    before = inside(state)
    assert plan(state, made).others == others
    with pytest.raises(BackupError) as raised:
        put_back(state, made, replace=False, now=NOW)
    said = f"{state}: {len(others)} files are there that the backup does not have, {others[0]} among them"
    assert str(raised.value).startswith(said)
    assert inside(state) == before
    aside = put_back(state, made, replace=True, now=NOW)
    assert inside(state) == expected(made)
    assert aside is not None
    assert aside.name.startswith("replaced-20260304T050607Z-")
    assert inside(aside) == before
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700


def test_the_plan_says_what_each_meets(made: Backup, tmp_path: Path) -> None:
    assert plan(tmp_path / "none", made) == Plan(dict.fromkeys(expected(made), "new"))
    state = fill(tmp_path / "state", {"web01": "a", "web02": "x", "web03": "y"}, {})
    # the same identity, in the same words
    (state / "machines" / "web01.pem").write_bytes(expected(made)["machines/web01.pem"])
    assert plan(state, made) == Plan(
        {
            "machines/web01.pem": "same",
            "machines/web02.pem": "replaces",
            "octopus/production.pem": "new",
            "subscriptions/web02": "new",
        },
        ("machines/web03.pem",),
    )


def failing_at(monkeypatch: pytest.MonkeyPatch, count: int) -> Callable[[], bool]:
    """The rename of this number fails, counted from 0. Returns whether it came to that."""
    real, calls = os.rename, [0]

    def rename(source: Path, target: Path) -> None:
        if ".restore-" in str(source) + str(target) or "replaced-" in str(target):
            calls[0] += 1
            if calls[0] == count + 1:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    return lambda: calls[0] > count


@pytest.mark.parametrize("count", range(5))
def test_a_move_that_fails_leaves_all_as_it_was(
    made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    state = fill(tmp_path / "state", {"web01": "x"}, {"production": "y"})
    before = inside(state)
    with monkeypatch.context() as patched:
        failed = failing_at(patched, count)
        with pytest.raises(CertificateError, match=f"^{state}: cannot restore into it: No space left on device"):
            put_back(state, made, replace=True, now=NOW)
        assert failed()
    assert inside(state) == before
    assert sorted(path.name for path in state.iterdir()) == [".lock", "machines", "octopus"]
    put_back(state, made, replace=True, now=NOW)
    assert inside(state) == expected(made)


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(
    made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fill(tmp_path / "state", {"web01": "x"}, {})
    before = inside(state)

    def full(path: Path, data: bytes, mode: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "_write_synced", full)
        with pytest.raises(CertificateError, match="No space left on device"):
            put_back(state, made, replace=True, now=NOW)
    assert inside(state) == before
    assert sorted(path.name for path in state.iterdir()) == [".lock", "machines"]


class PowerCutError(BaseException):
    """Nothing runs behind it."""


@pytest.mark.parametrize("count", range(5))
def test_cut_off_in_the_middle_no_relay_uses_it_and_it_can_be_done_again(
    made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    state = fill(tmp_path / "state", {"web01": "x"}, {"production": "y"})
    store = IdentityStore(state, lambda identity, path: None, pytest.fail)
    real, calls = os.rename, [0]

    def rename(source: Path, target: Path) -> None:
        calls[0] += 1
        if calls[0] > count:
            raise PowerCutError  # and from now on nothing can be renamed, so nothing is taken back
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        with pytest.raises(PowerCutError):
            put_back(state, made, replace=True, now=NOW)
    if count:
        assert (state / RESTORING).is_dir()
        with pytest.raises(CertificateError, match="a restore was cut off in the middle"):
            store.machine("web01")
    put_back(state, made, replace=True, now=NOW)
    assert inside(state) == expected(made)
    assert not (state / RESTORING).exists()
    assert store.machine("web01").der == party("a").der


def test_refused_it_is_still_cut_off(made: Backup, tmp_path: Path) -> None:
    """Whoever forgets --replace the second time must not end with half of two sets."""
    state = fill(tmp_path / "state", {"web01": "x"}, {})
    (state / RESTORING).mkdir()
    with pytest.raises(BackupError):
        put_back(state, made, replace=False, now=NOW)
    assert (state / RESTORING).is_dir()


def test_one_at_a_time_and_only_in_a_private_folder(made: Backup, tmp_path: Path) -> None:
    state = fill(tmp_path / "state", {"web01": "a"}, {})
    with locked(state), pytest.raises(CertificateError, match="another command is changing it"):
        put_back(state, made, replace=True, now=NOW)
    state.chmod(0o755)
    with pytest.raises(CertificateError, match="mode 0755"):
        put_back(state, made, replace=True, now=NOW)
