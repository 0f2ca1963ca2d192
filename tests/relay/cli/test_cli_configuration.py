import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from identities import identity
from jsonschema import Draft202012Validator, ValidationError

from relay.cli.main import main

FINE = f"""\
relay: {{name: dc-east, state: state}}
octopus: [{{name: production, thumbprint: {"A" * 40}}}]
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, port: 11001}}
  - {{name: web02, tentacle: "https://web02", thumbprint: {"D" * 40}, port: 11002}}
"""
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "json" / "check.json").read_text())
Check = Callable[[str], Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.yaml"


@pytest.fixture
def check(path: Path) -> Check:
    def check(text: str) -> Result:
        path.write_text(text, "utf-8")
        return CliRunner().invoke(main, ["check", "--config", str(path)])

    return check


def test_a_file_without_mistakes(check: Check, path: Path) -> None:
    result = check(FINE)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{path}: fine; machines: 2, octopus entries: 1, files: 1",
        "front.listen: none",
        "back.listen: none",
        "admin.listen: 127.0.0.1:9933",
        "",
        f"MACHINE  PORT   HOST  FRONT  TENTACLE             OCTOPUS     {'DECLARED AT'}",
        f"web01    11001  -     -      https://web01:10933  production  {path}:4",
        f"web02    11002  -     -      https://web02:10933  production  {path}:5",
    ]


def test_files_without_machines_so_far(check: Check, path: Path) -> None:
    (path.parent / "machines.d").mkdir()
    head, _, _ = FINE.partition("machines:")
    result = check(head + "include: machines.d/*.yaml\nfront: {listen: '[::1]:10933'}\nadmin: {listen: none}\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{path}: fine; machines: 0, octopus entries: 1, files: 1",
        "There are no machines yet: the relay starts, and has nothing to relay.",
        "front.listen: [::1]:10933",
        "back.listen: none",
        "admin.listen: none",
    ]


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_says_mistakes_only(check: Check, path: Path, option: str) -> None:
    check(FINE)
    fine = CliRunner().invoke(main, ["check", "--config", str(path), option])
    assert (fine.exit_code, fine.output) == (0, "")
    check(FINE.replace("11002", "99999"))
    wrong = CliRunner().invoke(main, ["check", "--config", str(path), option])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "99999" in wrong.stderr


def as_json(path: Path) -> dict[str, Any]:
    """What check --json prints, which is as its schema in the docs says."""
    result = CliRunner().invoke(main, ["check", "--config", str(path), "--json"])
    found: dict[str, Any] = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0 if found["ok"] else 2, "")
    Draft202012Validator(SCHEMA).validate(found)
    return found


def test_json_of_what_is_declared(check: Check, path: Path) -> None:
    (path.parent / "more.yaml").write_text(
        f"machines:\n  - {{name: web03, tentacle: 'https://[::1]:1', thumbprint: {'E' * 64}, host: Web03.x.,"
        " identity: k.pem}\n"
    )
    (path.parent / "k.pem").touch(0o600)
    (path.parent / "k.pem").write_bytes(identity("web03").pem())
    check(FINE + "include: more.yaml\nfront: {listen: 10933}\nadmin: {listen: 9000}\n")
    found = as_json(path)
    assert found["counts"] == {"mistakes": 0, "machines": 3, "octopus": 1, "files": 2}
    assert found["files"] == [str(path), str(path.parent / "more.yaml")]
    assert (found["relay"], found["front"], found["admin"]) == ("dc-east", "10933", "127.0.0.1:9000")
    [octopus] = found["octopus"]
    assert octopus == {
        "name": "production",
        "thumbprints": ["A" * 40],
        "identity": None,
        "nodes": [],
        "file": str(path),
        "line": 2,
    }
    assert [machine["port"] for machine in found["machines"]] == ["11001", "11002", None]
    assert found["machines"][2] == {
        "name": "web03",
        "tentacle": "https://[::1]:1",
        "thumbprints": ["E" * 64],
        "octopus": ["production"],
        "port": None,
        "host": "web03.x",
        "connect": None,
        "front": None,
        "passthrough": False,
        "subscription": None,
        "identity": str(path.parent / "k.pem"),
        "file": str(path.parent / "more.yaml"),
        "line": 2,
    }


def test_json_of_polling(check: Check, path: Path) -> None:
    text = FINE.replace(f"thumbprint: {'A' * 40}", f"thumbprint: {'A' * 40}, nodes: [https://octopus-1, https://octopus-2:1]")
    check(text.replace("https://web02", "poll://SQ-1").replace("port: 11002", "front: polling") + "back: {listen: 10943}\n")
    found = as_json(path)
    assert (found["back"], found["octopus"][0]["nodes"]) == ("10943", ["https://octopus-1:10943", "https://octopus-2:1"])
    polling = found["machines"][1]
    assert [polling[key] for key in ("tentacle", "front", "subscription", "port")] == [
        "poll://sq-1/",
        "polling",
        "poll://sq-1/",
        None,
    ]


def test_json_of_mistakes(check: Check, path: Path) -> None:
    (path.parent / "more.yaml").write_text("machines: [\n")
    check(FINE.replace("11002", "99999") + "include: more.yaml\n")
    found = as_json(path)
    first, second = found["mistakes"]
    assert first == {
        "file": str(path),
        "line": 5,
        "where": "machines[1].port",
        "value": "99999",
        "problem": "not a port from 1 to 65535",
        "remedy": "Write a port (11001), or an IP address and a port: 127.0.0.1:11001 or '[::1]:11001'.",
        "text": first["text"],
    }
    assert first["text"].startswith(f"{path}:5: machines[1].port: '99999': not a port")
    assert (second["file"], second["line"], second["where"]) == (str(path.parent / "more.yaml"), 1, None)
    assert found["counts"] == {"mistakes": 2, "machines": None, "octopus": None, "files": 2}
    assert found["machines"] is None


WITH_IDENTITY = FINE.replace("port: 11002", "port: 11002, identity: k.pem")


def test_an_identity_that_is_missing_is_a_mistake(check: Check, path: Path) -> None:
    result = check(WITH_IDENTITY)
    assert (result.exit_code, result.stdout) == (2, "")
    key = path.parent / "k.pem"
    assert result.stderr.splitlines() == [
        f"{path}:5: machines[1].identity: {key}: no such file. Put a PEM or PFX with key and certificate there.",
        f"relay-tentacle: 1 mistake in {path}; nothing was done",
    ]
    [mistake] = as_json(path)["mistakes"]
    assert (mistake["file"], mistake["line"], mistake["where"]) == (str(path), 5, "machines[1].identity")
    assert mistake["problem"] == f"{key}: no such file"


def test_without_the_identities(check: Check, path: Path) -> None:
    check(WITH_IDENTITY)
    result = CliRunner().invoke(main, ["check", "--config", str(path), "--no-identities", "--quiet"])
    assert (result.exit_code, result.output) == (0, "")


def test_an_identity_that_others_may_read_is_a_warning(check: Check, path: Path) -> None:
    (path.parent / "k.pem").write_bytes(identity("web02").pem())
    (path.parent / "k.pem").chmod(0o644)
    result = check(WITH_IDENTITY)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"relay-tentacle: warning: {path.parent / 'k.pem'}: mode 0644: ")
    assert "machines: 2" in result.stdout


def test_json_where_there_is_no_file(path: Path) -> None:
    found = as_json(path)
    [mistake] = found["mistakes"]
    assert (mistake["line"], mistake["problem"], found["files"]) == (None, "no such file", [])


@pytest.mark.parametrize("change", [("ok", False), ("mistakes", None), ("machines", None), ("unknown", 1)])
def test_the_schema_tells_other_output(check: Check, path: Path, change: tuple[str, object]) -> None:
    check(FINE)
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(as_json(path) | dict([change]))


def test_checking_makes_nothing(check: Check, path: Path) -> None:
    check(FINE)
    assert list(path.parent.iterdir()) == [path]


def test_all_mistakes_at_once_with_their_lines_on_standard_error(check: Check, path: Path) -> None:
    wrong = FINE.replace("C" * 40, "xyz").replace("11002", "99999").replace("name: production", "nam: production")
    result = check(wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    *mistakes, last = result.stderr.splitlines()
    lines = [line for line in mistakes if line.startswith(f"{path}:")]
    assert {int(line.removeprefix(f"{path}:").split(":")[0]) for line in lines} == {2, 4, 5}
    assert last == f"relay-tentacle: {len(lines)} mistakes in {path}; nothing was done"


def test_a_single_mistake(check: Check, path: Path) -> None:
    result = check(FINE.replace("11002", "99999"))
    assert result.exit_code == 2
    assert "99999" in result.stderr
    assert result.stderr.endswith(f"relay-tentacle: 1 mistake in {path}; nothing was done\n")


def test_a_file_that_is_not_there(path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(path) in result.stderr


@pytest.mark.parametrize("text", ["", "[", "\x00", "a: &a [*a]", "- x"])
def test_a_file_that_is_no_configuration(check: Check, text: str) -> None:
    result = check(text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_the_usual_place_is_in_the_help() -> None:
    result = CliRunner().invoke(main, ["check", "-h"])
    assert "/etc/relay-tentacle/relay.yaml" in "".join(result.stdout.split())


CONNECT = "front: {listen: 10933, connect: true, credentials: users}\n"


def test_a_connect_door(check: Check, path: Path) -> None:
    (path.parent / "users").touch(0o600)
    (path.parent / "users").write_text("octo:s3cret\n")
    result = check(FINE.replace(", port: 11002", "") + CONNECT)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1:3] == [
        "front.listen: 10933",
        f"front.connect: true, for the users in {path.parent / 'users'}",
    ]
    assert [line.split()[:5] for line in result.stdout.splitlines()[-3:]] == [
        ["MACHINE", "PORT", "HOST", "CONNECT", "FRONT"],
        ["web01", "11001", "-", "web01:10933", "-"],
        ["web02", "-", "-", "web02:10933", "-"],
    ]
    found = as_json(path)
    assert found["connect"] == {"credentials": str(path.parent / "users")}
    assert [machine["connect"] for machine in found["machines"]] == ["web01:10933", "web02:10933"]
    check(FINE + CONNECT.replace(", credentials: users", ""))
    assert as_json(path)["connect"] == {"credentials": None}


def test_users_that_cannot_be_read_are_a_mistake(check: Check, path: Path) -> None:
    result = check(FINE + CONNECT)
    users = path.parent / "users"
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{path}:6: front.credentials: {users}: cannot read: No such file or directory. Check the path and who may use it.",
        f"relay-tentacle: 1 mistake in {path}; nothing was done",
    ]
    users.touch(0o644)
    result = check(FINE + CONNECT)
    assert f"{users}: mode 0644: others may use these credentials. Run: chmod 600 {users}" in result.stderr
    assert not as_json(path)["ok"]
    result = CliRunner().invoke(main, ["check", "--config", str(path), "--no-identities"])
    assert (result.exit_code, result.stderr) == (0, "")


def test_credentials_of_another_proxy_are_checked_too(check: Check, path: Path) -> None:
    keys = "nodes: 'https://o:1', proxy: 'http://p', proxy_credentials: proxy"
    result = check(FINE.replace(f"thumbprint: {'A' * 40}", f"thumbprint: {'A' * 40}, {keys}"))
    said = f"{path}:2: octopus[0].proxy_credentials: {path.parent / 'proxy'}: cannot read: No such file or directory. "
    assert result.exit_code == 2
    assert result.stderr.startswith(said)
