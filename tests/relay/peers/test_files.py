import hashlib

import pytest
import pytest_twisted

from relay.peers.contracts import ContractError, read_upload_result
from relay.peers.errors import ServiceError
from relay.peers.files import file_transfer, inside
from relay.peers.streams import Spool


@pytest.fixture
def methods(tmp_path):
    (tmp_path / "home").mkdir()
    return file_transfer(tmp_path / "home").methods


def received(tmp_path, data=b"hello"):
    spool = Spool(tmp_path)
    spool.write(data)
    return spool.finish()


@pytest_twisted.ensureDeferred
async def test_an_upload_lands_in_home_and_says_what_it_is(methods, tmp_path):
    result = read_upload_result(await methods["UploadFile"]("a\\b/c.zip", received(tmp_path)))
    there = tmp_path / "home/a/b/c.zip"
    assert there.read_bytes() == b"hello"
    assert (result.full_path, result.hash, result.length) == (str(there), hashlib.sha256(b"hello").hexdigest(), 5)


@pytest_twisted.ensureDeferred
async def test_a_download_is_the_file(methods, tmp_path):
    (tmp_path / "home/f").write_bytes(b"hello")
    stream = await methods["DownloadFile"]("f")
    assert stream.length == 5
    assert [chunk async for chunk in stream.chunks()] == [b"hello"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["../f", "a/../../f", "/etc/passwd", "..\\f", "", ".", "link/f", "f\0"])
async def test_paths_that_leave_home_are_refused(methods, tmp_path, path):
    (tmp_path / "home/link").symlink_to(tmp_path)
    (tmp_path / "f").write_text("secret")
    with pytest.raises(ServiceError):
        await methods["DownloadFile"](path)
    with pytest.raises(ServiceError):
        await methods["UploadFile"](path, received(tmp_path))
    assert (tmp_path / "f").read_text() == "secret"


@pytest_twisted.ensureDeferred
async def test_a_missing_file_reads_as_recorded(methods):
    with pytest.raises(ServiceError, match="Could not find nowhere/at/all") as error:
        await methods["DownloadFile"]("nowhere/at/all")
    assert error.value.dotnet_type == "System.IO.FileNotFoundException"


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_written_is_told(methods, tmp_path):
    (tmp_path / "home/folder").mkdir()
    (tmp_path / "home/file").write_text("x")
    for path in ("folder", "file/below"):
        with pytest.raises(ServiceError) as error:
            await methods["UploadFile"](path, received(tmp_path))
        assert error.value.dotnet_type == "System.IO.IOException"


@pytest_twisted.ensureDeferred
async def test_other_params_are_refused(methods):
    with pytest.raises(ContractError):
        await methods["UploadFile"]("f", None)
    with pytest.raises(ContractError):
        await methods["DownloadFile"](1)


def test_a_path_inside_is_resolved(tmp_path):
    assert inside(tmp_path.resolve(), "a/../b") == tmp_path.resolve() / "b"
