from pathlib import Path
from subprocess import CompletedProcess

import pytest

from benchmarks import network
from benchmarks.trouble import TroubleError


def test_loopbacks_mtu() -> None:
    assert network.mtu() == int(Path("/sys/class/net/lo/mtu").read_text())


def test_without_the_programs_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.shutil, "which", lambda *_, **__: None)
    with pytest.raises(TroubleError, match="install util-linux and iproute2"):
        network.enter(["-m", "benchmarks.compare"])


class BegunError(Exception):
    """This program would be another one by now."""


@pytest.fixture
def unshare(monkeypatch: pytest.MonkeyPatch) -> CompletedProcess[str]:
    """What a trial of it gives."""
    trial = CompletedProcess([""], 0, "", "")

    def begin(program: str, argv: list[str]) -> None:
        assert argv[-2:] == ["-m", "benchmarks.compare"]
        raise BegunError

    monkeypatch.setattr(network.shutil, "which", lambda *_, **__: "/bin/there")
    monkeypatch.setattr(network.subprocess, "run", lambda *_, **__: trial)
    monkeypatch.setattr(network.os, "execvp", begin)
    return trial


def test_it_begins_anew_where_it_may(unshare: CompletedProcess[str]) -> None:
    with pytest.raises(BegunError):
        network.enter(["-m", "benchmarks.compare"])


def test_it_says_why_it_may_not(unshare: CompletedProcess[str]) -> None:
    unshare.returncode, unshare.stderr = 1, "unshare: not permitted\n"
    with pytest.raises(TroubleError, match="which this user may not have: unshare: not permitted"):
        network.enter(["-m", "benchmarks.compare"])


def test_an_mtu_that_cannot_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.subprocess, "run", lambda argv, **_: CompletedProcess(argv, 2, "", "RTNETLINK: not permitted"))
    with pytest.raises(TroubleError, match="loopback's MTU cannot be 1500: RTNETLINK: not permitted"):
        network.set_mtu(1500)
