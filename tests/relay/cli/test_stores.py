import pytest
from tables import machine, table

from certs.store import IdentityStore
from relay.cli.stores import reading_store


def test_it_reads_what_is_there(tmp_path):
    made = IdentityStore(tmp_path / "state", lambda *_: None, pytest.fail).machine("web01")
    found = reading_store(table(tmp_path, machine())).find_machine("web01")
    assert found is not None
    assert found.thumbprint == made.thumbprint


def test_others_that_may_read_a_key_are_worth_a_warning(tmp_path, capsys):
    made = IdentityStore(tmp_path / "state", lambda *_: None, pytest.fail)
    made.machine("web01")
    file = made.machine_file("web01")
    file.chmod(0o644)
    reading_store(table(tmp_path, machine())).machine("web01", file)
    assert capsys.readouterr().err.startswith(f"relay-tentacle: warning: {file}: mode 0644: ")
