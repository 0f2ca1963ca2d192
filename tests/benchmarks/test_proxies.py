from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.proxies import Proxy, fill, installed, version_at, write_relay_configuration
from benchmarks.tools import Tools
from benchmarks.trouble import TroubleError
from certs.store import IdentityStore
from routing.load import load

ROOT = Path(__file__).parents[2]
MANY = 600


def values(folder: Path) -> dict[str, str]:
    return {
        "dir": str(folder), "front_port": "12001", "back_port": "12002", "admin_port": "12003", "target_port": "12004",
        "octopus_thumbprint": "54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D",
        "tentacle_thumbprint": "7E5A02D3C4B1968F7E5A02D3C4B1968F7E5A02F1",
    }  # fmt: skip


@pytest.mark.parametrize("polling", [False, True])
def test_the_relay_takes_its_configuration(tmp_path: Path, polling: bool) -> None:
    """However many machines there are: no two Tentacles at one address."""
    (tmp_path / "relay.pem").write_text("an identity")
    table = load(write_relay_configuration(tmp_path, MANY, polling, values(tmp_path)))
    assert [machine.host for machine in table.machines] == [f"web{number}.test" for number in range(MANY)]
    assert [machine.tentacle is None for machine in table.machines] == [polling] * (MANY - 1) + [False]
    assert table.relay.access_log == tmp_path / "access.log"
    assert table.admin


def test_the_relay_polls_nodes_for_whoever_polls_it(tmp_path: Path) -> None:
    (tmp_path / "relay.pem").write_text("an identity")
    table = load(write_relay_configuration(tmp_path, 3, True, values(tmp_path), ["127.0.0.1:12005", "127.0.0.2:12005"]))
    assert [machine.polled_for for machine in table.machines] == [True, True, False]
    assert [str(node) for node in table.octopus[0].nodes] == ["127.0.0.1:12005", "127.0.0.2:12005"]


def test_the_relay_has_its_identities_already(tmp_path: Path) -> None:
    (tmp_path / "relay.pem").write_text("an identity")
    table = load(write_relay_configuration(tmp_path, 2, True, values(tmp_path)))
    store = IdentityStore(table.relay.state, lambda *_: None, lambda _: None)
    for file in (*map(store.machine_file, ("web0", "web1")), store.octopus_file("bench")):
        assert file.read_text() == "an identity"


def test_only_names_that_have_a_value_are_filled_in() -> None:
    assert fill("{a} {b} {c: 1}", {"a": "x"}) == "x {b} {c: 1}"


def test_which_relay_is_measured(tmp_path: Path) -> None:
    tree = version_at("before", ROOT)
    assert tree.argv[1:] == ("-m", "relay")
    assert tree.environment == (("PYTHONPATH", str(ROOT)),)
    for name, argv in (("relay-tentacle", ()), ("python3", ("-m", "relay"))):
        program = tmp_path / name
        program.touch()
        assert version_at("other", program).argv == (str(program), *argv)
    with pytest.raises(TroubleError, match="neither a tree of this project nor a program"):
        version_at("other", tmp_path)


def test_what_is_measured_has_a_number() -> None:
    assert installed().number.split(" ")[0] == __import__("relay.version").version.VERSION
    assert Tools({}).stream_module == ""


def test_what_ends_at_once_is_tried_again_on_other_ports(tmp_path: Path) -> None:
    """Between the look for a free port and its use, somebody else may have taken it."""
    ports = []

    def command(filled: dict[str, str]) -> list[str]:
        ports.append(filled["front_port"])
        return ["false"]

    with pytest.raises(TroubleError, match="ended at once, with status 1"):
        Proxy("ours", tmp_path, command, {}).start(SimpleNamespace(rpc=[]))
    assert len(ports) == 3
    assert len(set(ports)) > 1
