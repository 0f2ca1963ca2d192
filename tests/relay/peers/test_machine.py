"""What Octopus does with a machine, against the Tentacle: listening and polling give the same."""

import hashlib
import random

import pytest
import pytest_twisted

from relay.peers.contracts import Source
from relay.peers.errors import CallError, ScriptTimeoutError, ServerError
from relay.peers.streams import DataStream
from relay.peers.tentacle import Tentacle

STYLES = pytest.mark.parametrize("style", ["pair", "polling_pair"])
VERSIONS = pytest.mark.parametrize("run", ["run_script", "run_script_v1"])


@pytest.fixture
def machine(request, style):
    return request.getfixturevalue(style)[2]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@STYLES
@pytest_twisted.ensureDeferred
async def test_capabilities(machine):
    assert await machine.get_capabilities() == ["IScriptService", "IFileTransferService", "IScriptServiceV2"]


@STYLES
@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 300_000])
@pytest_twisted.ensureDeferred
async def test_a_file_there_and_back(machine, home, tmp_path, size):
    data = random.Random(size).randbytes(size)
    told = []
    result = await machine.upload_file("Files/package.zip", data, lambda *now: told.append(now))
    assert (result.full_path, result.length) == (str(home / "Files/package.zip"), size)
    assert result.hash == hashlib.sha256(data).hexdigest()
    assert told[-1:] == ([(size, size)] if size else [])
    there = await machine.download_file("Files/package.zip", tmp_path / "back")
    assert (there.length, there.sha256) == (size, result.hash)
    assert (tmp_path / "back").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "home"]
    assert list((home / ".spool").iterdir()) == []


@STYLES
@pytest_twisted.ensureDeferred
async def test_errors_of_the_tentacle(machine, home, tmp_path):
    with pytest.raises(ServerError, match="Could not find nothing") as error:
        await machine.download_file("nothing", tmp_path / "back")
    assert " ---> System.IO.FileNotFoundException: " in error.value.details
    with pytest.raises(ServerError, match="has not been registered"):
        await machine.call("IMissingService", "Anything", DataStream.of_bytes(b"ignored"))
    with pytest.raises(ServerError, match="is denied"):
        await machine.upload_file("../outside", b"x")
    assert await machine.get_capabilities()
    assert list((home / ".spool").iterdir()) == []


@STYLES
@VERSIONS
@pytest_twisted.ensureDeferred
async def test_a_script_with_files_arguments_and_an_exit_code(machine, home, tmp_path, run):
    (tmp_path / "from-disk").write_text("second\n")
    result = await getattr(machine, run)(
        'cat first sub/second; echo "$1|$2" >&2; printf "no newline"; exit 3',
        files={"first": b"first\n", "sub/second": tmp_path / "from-disk"},
        arguments=["a b", "--flag"],
    )
    assert result.exit_code == 3
    assert [line.text for line in result.log if line.source is Source.STDOUT] == ["first", "second", "no newline"]
    assert [line.text for line in result.log if line.source is Source.STDERR] == ["a b|--flag"]
    assert "second" in result.text()
    assert list((home / "Work").iterdir()) == []


@VERSIONS
@pytest_twisted.ensureDeferred
async def test_a_long_script_is_followed_and_no_line_comes_twice(pair, run):
    result = await getattr(pair[2], run)("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")
    assert [line.text for line in result.log] == list("123456")


@VERSIONS
@pytest_twisted.ensureDeferred
async def test_a_script_that_takes_too_long_is_cancelled_with_what_it_started(pair, home, run):
    body = "sleep 600 & echo $! > ../../child; wait"
    with pytest.raises(ScriptTimeoutError):
        await getattr(pair[2], run)(body, time_limit=0.2)
    assert list((home / "Work").iterdir()) == []
    child = int((home / "child").read_text())
    assert gone(child)


def gone(pid):
    """Whether the process has ended; a zombie that waits for init has."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest_twisted.ensureDeferred
async def test_a_null_instead_of_a_file_is_told(pair, tmp_path, monkeypatch):
    machine = pair[2]

    async def call(*_, **__):
        return None

    monkeypatch.setattr(machine, "call", call)
    with pytest.raises(CallError, match="has no file 'f'"):
        await machine.download_file("f", tmp_path / "back")


def test_the_tentacle_makes_its_home(tmp_path, pem):
    from twisted.internet import reactor

    Tentacle(reactor, pem("tentacle"), (), tmp_path / "a/b")
    assert (tmp_path / "a/b/.spool").stat().st_mode & 0o777 == 0o700
