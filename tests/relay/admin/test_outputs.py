import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tables import machine, table
from twisted.internet.task import Clock

from relay.admin.outputs import Outputs
from relay.admin.writer import FLUSH_AFTER, RETRY_AFTER
from relay.call import Call
from relay.errors import StartError
from relay.outcomes import Outcome
from routing.table import Table


class Kept:
    """Outputs, with standard output and standard error in files of the test."""

    def __init__(self, folder: Path, **relay: Any) -> None:
        self._folder = folder
        self.clock = Clock()
        self.outputs = Outputs(self.clock, self.table(**relay).relay)

    def table(self, **relay: Any) -> Table:
        return table(self._folder, machine(), **relay)

    def take(self, **relay: Any) -> None:
        self.outputs.prepare(self.table(**relay)).commit()

    def call(self, peer: str) -> None:
        self.outputs.access_log.write(Call("web01", "production", peer, 100.0, ended=101.0, outcome=Outcome.OK))
        self.clock.advance(FLUSH_AFTER)

    def peers(self, name: str) -> list[str]:
        """Whose calls are in this file."""
        return [json.loads(line)["peer"] for line in (self._folder / name).read_text().splitlines()]

    def events(self) -> list[str]:
        self.clock.advance(FLUSH_AFTER)
        return [json.loads(line)["event"] for line in (self._folder / "stderr").read_text().splitlines()]


@pytest.fixture(autouse=True)
def descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output and standard error are files; and whatever was opened is closed at the end."""
    with (tmp_path / "stdout").open("ab") as out, (tmp_path / "stderr").open("ab") as error:
        monkeypatch.setattr("relay.admin.outputs.STANDARD_OUTPUT", out.fileno())
        monkeypatch.setattr("relay.admin.outputs.STANDARD_ERROR", error.fileno())
        yield
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert [path for path in opened if path.startswith(str(tmp_path))] == []


def test_the_level_of_the_log_is_that_of_the_configuration_in_force(tmp_path: Path) -> None:
    kept = Kept(tmp_path, log_level="warning")
    kept.outputs.log.info("quiet")
    kept.take(log_level="debug")
    kept.outputs.log.debug("told")
    kept.take(log_level="error")
    kept.outputs.log.warning("quiet again")
    assert kept.events() == ["told"]
    kept.outputs.close()


def test_the_access_log_goes_where_the_configuration_in_force_says(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.call("1")
    kept.take(access_log=tmp_path / "calls")
    kept.call("2")
    kept.take(access_log=tmp_path / "calls", log_level="debug")
    kept.call("3")
    kept.take(access_log=tmp_path / "others")
    kept.call("4")
    kept.take()
    kept.call("5")
    kept.outputs.close()
    assert (kept.peers("stdout"), kept.peers("calls"), kept.peers("others")) == (["1", "5"], ["2", "3"], ["4"])
    assert kept.outputs.lost_access == 0


def test_what_waited_for_the_old_access_log_is_written_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.outputs.access_log.write(Call("web01", "production", "1", 100.0, ended=101.0, outcome=Outcome.OK))
    kept.take(access_log=tmp_path / "calls")
    assert kept.peers("stdout") == ["1"]
    kept.outputs.close()


def test_a_reader_that_is_slow_keeps_no_reload_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not taken is written when it reads again."""
    read, write = os.pipe()
    size = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    os.write(write, b"\n" * size)
    monkeypatch.setattr("relay.admin.outputs.STANDARD_OUTPUT", write)
    kept = Kept(tmp_path)
    kept.call("1")
    kept.take(access_log=tmp_path / "calls")
    kept.call("2")
    assert kept.peers("calls") == ["2"]
    assert os.read(read, size) == b"\n" * size
    kept.clock.advance(RETRY_AFTER)
    assert json.loads(os.read(read, size))["peer"] == "1"
    os.write(write, b"\n" * size)
    kept.outputs.close()
    os.close(read)
    os.close(write)


def test_a_new_access_log_that_cannot_be_opened_refuses_the_reload(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    missing = tmp_path / "missing" / "calls"
    with pytest.raises(StartError) as raised:
        kept.outputs.prepare(kept.table(access_log=missing, log_level="debug"))
    assert str(raised.value) == (
        f"cannot write the access log {missing}: No such file or directory. Name another file in relay.access_log."
    )
    kept.call("1")
    kept.outputs.log.debug("quiet")
    kept.outputs.close()
    assert (kept.peers("stdout"), kept.events()) == (["1"], [])


def test_a_reload_that_something_else_refuses_leaves_no_file_open(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.outputs.prepare(kept.table(access_log=tmp_path / "calls", log_level="debug")).abandon()
    kept.outputs.prepare(kept.table(log_level="debug")).abandon()
    kept.call("1")
    kept.outputs.log.debug("quiet")
    kept.outputs.close()
    assert (kept.peers("stdout"), kept.events()) == (["1"], [])


def test_lines_that_an_earlier_access_log_has_lost_are_still_counted(tmp_path: Path) -> None:
    kept = Kept(tmp_path, access_log=Path("/dev/full"))
    kept.call("1")
    assert "the access log cannot be written" in kept.events()
    kept.take(access_log=tmp_path / "calls")
    kept.outputs.close()
    assert kept.outputs.lost_access == 1


def test_the_access_log_of_a_start_is_opened_or_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot write the access log"):
        Outputs(Clock(), replace(table(tmp_path, machine()).relay, access_log=tmp_path / "missing" / "calls"))
