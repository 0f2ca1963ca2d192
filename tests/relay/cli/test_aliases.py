import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from identity_site import CAPTURES, private, thumbprint
from json_docs import parsed

from certs.pfx import read_pfx
from certs.store import IdentityStore
from relay.cli.main import main

Call = Callable[..., Result]


@pytest.fixture
def call(identity_config: Path) -> Call:
    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "--config", str(identity_config)])

    return call


def test_new_certificate(call: Call, store: IdentityStore) -> None:
    assert call("new-certificate", "web01").exit_code == 0
    made = store.machine("web01")
    result = call("new-certificate", "--if-blank")
    assert result.exit_code == 0
    assert store.machine("web01") == made
    assert store.find_octopus("both") is not None


def test_new_certificate_for_elsewhere(call: Call, tmp_path: Path) -> None:
    file, password = tmp_path / "new.pfx", private(tmp_path / "password", b"secret\n")
    result = call("new-certificate", "--export-pfx", file, "--password-file", password)
    assert result.exit_code == 0
    made = read_pfx("x", file.read_bytes(), "secret")
    assert made.certificate.subject.rfc4514_string() == "CN=Octopus Tentacle"
    assert f"thumbprint {made.thumbprint}" in result.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not (tmp_path / "state").exists()
    for arguments, code, said in [
        (["--export-pfx", file, "--password-file", password], 1, "is there already"),
        (["--export-pfx", tmp_path / "b"], 2, "Give --password-file, --password-credential, or --no-password."),
        (["web01", "--export-pfx", file, "--no-password"], 2, "leave out the name"),
        (["web01", "--no-password"], 2, "a password belongs to --export-pfx"),
    ]:
        result = call("new-certificate", *arguments)
        assert result.exit_code == code
        assert said in result.stderr


@pytest.mark.parametrize("option", ["--from-file", "-f"])
def test_import_certificate(call: Call, store: IdentityStore, tmp_path: Path, option: str) -> None:
    file = private(tmp_path / "tentacle.pfx", (CAPTURES / "tentacle.pfx").read_bytes())
    assert call("import-certificate", option, file, "--machine", "web01").exit_code == 0
    assert str(store.machine("web01").thumbprint) == thumbprint("tentacle")
    assert call("import-certificate", option, file).exit_code == 2


@pytest.mark.parametrize("command", [["import-certificate", "-f", "x", "--machine", "web01"], ["new-certificate"]])
@pytest.mark.parametrize("option", ["--pfx-password", "--pw"])
def test_no_password_on_the_command_line(call: Call, command: list[str], option: str) -> None:
    result = call(*command, f"{option}=swordfish")
    assert result.exit_code == 2
    assert "everybody on this host sees a password on the command line" in result.stderr
    assert "give --password-file" in result.stderr
    assert "swordfish" not in result.output


def test_show_thumbprint(call: Call, store: IdentityStore, tmp_path: Path) -> None:
    made = store.machine("web01"), store.octopus("both")
    result = call("show-thumbprint", "web01", "--nologo", "--thumbprint-only")
    assert (result.exit_code, result.stdout) == (0, f"{made[0].thumbprint}\n")
    result = call("show-thumbprint", "--octopus", "both", "--format", "JSON", "--export-file", tmp_path / "t")
    assert parsed(result.stdout, "show-thumbprint") == {"Thumbprint": str(made[1].thumbprint)}
    assert (tmp_path / "t").read_text() == f"{made[1].thumbprint}\n"
    for arguments, code, said in [
        ([], 2, "for whom?"),
        (["--machine", "both"], 1, "machine both: not made yet. `relay-tentacle new-certificate` makes it."),
        (["web01", "--export-file", tmp_path / "no" / "t"], 1, "cannot write: No such file or directory"),
    ]:
        result = call("show-thumbprint", *arguments)
        assert result.exit_code == code
        assert said in result.stderr


def test_a_single_machine_needs_no_name(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    config.write_text(
        f"relay: {{name: r, state: state}}\noctopus: [{{name: o, thumbprint: {'A' * 40}}}]\n"
        f"machines: [{{name: w, tentacle: 'https://w', thumbprint: {'B' * 40}, port: 1}}]\n"
    )
    made = IdentityStore(tmp_path / "state", lambda identity, path: None, pytest.fail).machine("w")
    result = CliRunner().invoke(main, ["show-thumbprint", "--config", str(config)])
    assert result.stdout == f"{made.thumbprint}\n"
