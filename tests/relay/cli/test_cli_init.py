"""A new site, from the first command to a configuration that `check` takes."""

import json
import os
import re
import shlex
import shutil
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from relay.cli.main import main
from routing import json_schema
from routing.addresses import Address
from routing.load import load
from routing.table import ConnectDoor

A, B = "A" * 40, "B" * 64
FILES = {"relay.yaml", "relay.schema.json", "machines.schema.json", "machines.d", "machines.d/web01.yaml.example"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "site" / "relay.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_it_makes_all_files_and_says_so(file: Path) -> None:
    done = run("init", file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert there(file.parent) == FILES
    made = [line.removeprefix("made ") for line in done.stdout.splitlines() if line.startswith("made ")]
    assert {str(Path(path).relative_to(file.parent)) for path in made} == FILES - {"machines.d"}


def test_what_is_left_to_do_is_one_line_that_check_names(file: Path) -> None:
    run("init", file)
    done = run("check", "--config", file)
    [mistake, last] = done.stderr.splitlines()
    line = int(mistake.removeprefix(f"{file}:").partition(":")[0])
    assert "FILL IN" in file.read_text().splitlines()[line - 1]
    assert mistake == (
        f"{file}:{line}: octopus[0].thumbprint: empty. "
        "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it. Several go into a list."
    )
    assert last.startswith("relay-tentacle: 1 mistake in ")
    file.write_text(file.read_text().replace("thumbprint:  # FILL IN", f"thumbprint: {A}  # was to be filled in"))
    assert run("check", "--config", file).exit_code == 0


def test_scripts_can_make_a_complete_one(file: Path, tmp_path: Path) -> None:
    done = run(
        "init", file, "--name", "dc-east", "--state", tmp_path / "state", "--octopus", "staging", "--octopus-thumbprint", A,
        "--octopus-thumbprint", B.lower(), "--front", "[::1]:10933", "--admin", "none",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "FILL IN" not in file.read_text() + done.stdout
    table = load(file)
    assert (table.relay.name, table.relay.state) == ("dc-east", tmp_path / "state")
    [octopus] = table.octopus
    assert (octopus.name, [str(each) for each in octopus.thumbprints]) == ("staging", [A, B])
    assert (table.front, table.admin, table.machines) == (Address("::1", 10933), None, ())


@pytest.mark.parametrize("front", [[], ["--front", "10933"]])
def test_the_next_steps_lead_to_a_machine(file: Path, front: list[str]) -> None:
    steps = run("init", file, "--octopus-thumbprint", A, *front).stdout.partition("Next:")[2]
    [(example, machine)] = re.findall(r"cp (\S+) (\S+), and", steps)
    shutil.copy(example, machine)
    [check] = re.findall(r"relay-tentacle (check .*)", steps)
    assert run(*shlex.split(check)).exit_code == 0
    [web01] = load(file).machines
    assert (web01.host, web01.door) == (("web01.relay.corp", None) if front else (None, Address("", 11001)))


def test_the_example_of_a_machine_is_not_read(file: Path) -> None:
    run("init", file, "--octopus-thumbprint", A)
    assert load(file).files == (file,)


def test_what_is_commented_out_is_right_too(file: Path) -> None:
    """And says the defaults."""
    run("init", file, "--octopus-thumbprint", A)
    plain = load(file)
    text = re.sub(
        r"^( *)# ((?:access_log|log_level|defaults|  limits|  timeouts|front|  listen|  connect): ?)",
        r"\1\2",
        file.read_text(),
        flags=re.M,
    )
    assert text.count("\n#") < file.read_text().count("\n#")
    file.write_text(text)
    (file.parent / "machines.d" / "w.yaml").write_text(
        f"machines: [{{name: w, tentacle: 'https://w', thumbprint: {B}, host: w}}]\n"
    )
    loaded = load(file)
    assert loaded.front == Address("", 10933)
    assert loaded.connect == ConnectDoor()
    assert (loaded.relay.log_level, loaded.admin) == (plain.relay.log_level, plain.admin)
    file.write_text(re.sub(r"^defaults:\n.*\n.*\n", "", text, flags=re.M))
    assert load(file).machines == loaded.machines


def test_the_first_line_names_the_schema_for_editors(file: Path) -> None:
    run("init", file, "--octopus-thumbprint", A)
    for page, expected in [
        (file, json_schema.main_file()),
        (file.parent / "machines.d" / "web01.yaml.example", json_schema.machines_file()),
    ]:
        first = page.read_text().partition("\n")[0]
        [name] = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", first)
        schema = json.loads((page.parent / name).read_text())
        assert schema == expected
        Draft202012Validator(schema).validate(yaml.safe_load(page.read_text()))


@pytest.mark.parametrize("name", sorted(FILES - {"machines.d"}))
def test_it_never_overwrites(file: Path, name: str) -> None:
    other = file.parent / name
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    before = there(file.parent)
    done = run("init", file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"{other}: is there already"
    assert "nothing was written" in done.stderr.splitlines()[1]
    assert (there(file.parent), other.read_text()) == (before, "mine")


def test_a_link_to_nowhere_is_there_too(file: Path) -> None:
    file.parent.mkdir()
    file.symlink_to(file.parent / "elsewhere")
    assert run("init", file).exit_code == 2
    assert there(file.parent) == {"relay.yaml"}


def test_a_folder_of_machines_that_is_there_stays(file: Path) -> None:
    machines = file.parent / "machines.d"
    machines.mkdir(parents=True)
    (machines / "w.yaml").write_text(f"machines: [{{name: w, tentacle: 'https://w', thumbprint: {B}, port: 1}}]\n")
    assert run("init", file, "--octopus-thumbprint", A).exit_code == 0
    assert [machine.name for machine in load(file).machines] == ["w"]


def test_all_or_nothing(file: Path) -> None:
    """The folder of machines cannot be made: what was written before it is taken away again."""
    file.parent.mkdir()
    (file.parent / "machines.d").write_text("no folder")
    done = run("init", file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "machines.d" in done.stderr
    assert there(file.parent) == {"machines.d"}


def test_where_it_cannot_be_made(tmp_path: Path) -> None:
    done = run("init", tmp_path / "a" / "b" / "relay.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"relay-tentacle: {tmp_path / 'a' / 'b'}: cannot be made: No such file or directory. Nothing was written. "
        "Check the path and who may write there.\n"
    )


def test_others_cannot_write_to_it(file: Path) -> None:
    before = os.umask(0)
    try:
        run("init", file)
    finally:
        os.umask(before)
    for path in [file.parent, *file.parent.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--name", "a b"),
        ("--state", "~/x"),
        ("--octopus-thumbprint", "AB"),
        ("--front", "x"),
        ("--admin", "off"),
        ("--octopus", "-"),
    ],
)
def test_wrong_values_are_usage_errors(file: Path, option: str, value: str) -> None:
    done = run("init", file, f"{option}={value}")
    assert done.exit_code == 2
    assert f"Invalid value for '{option}': '{value}': " in done.stderr
    assert not file.parent.exists()


@pytest.mark.parametrize("name", ["null", "Null", "0815", "true"])
def test_names_that_yaml_could_take_for_something_else(file: Path, name: str) -> None:
    assert run("init", file, "--name", name, "--octopus", name, "--octopus-thumbprint", A).exit_code == 0
    table = load(file)
    assert (table.relay.name, table.octopus[0].name) == (name, name)


@pytest.mark.parametrize("state", ["with: colon", "with #", "[x", "'", '"', "-", "a\\b", "ü", "x:"])
def test_paths_that_need_quotes(file: Path, state: str) -> None:
    assert run("init", file, "--state", state, "--octopus-thumbprint", A).exit_code == 0
    assert load(file).relay.state == file.parent / state
