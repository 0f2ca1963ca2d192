import hashlib
import stat

import pytest
import pytest_twisted

from relay.peers.streams import CallbackSink, DataStream, Spool


async def contents(stream):
    return [chunk async for chunk in stream.chunks()]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 40000])
async def test_bytes_and_files_come_in_records(tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    path = tmp_path / "f"
    path.write_bytes(data)
    for stream in (DataStream.of(data), DataStream.of(path)):
        chunks = await contents(stream)
        assert stream.length == size
        assert b"".join(chunks) == data
        assert all(len(chunk) == 16384 for chunk in chunks[:-1])


def test_ids_are_version_4_guids_in_dotnet_order():
    ids = {DataStream.of_bytes(b"").id for _ in range(50)}
    assert len(ids) == 50
    assert all(id_[7] >> 4 == 4 and id_[8] >> 6 == 2 for id_ in ids)


def test_a_stream_is_passed_on_as_it_is():
    stream = DataStream.of_bytes(b"x")
    assert DataStream.of(stream) is stream


def test_a_missing_file_is_told_when_the_stream_is_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        DataStream.of(tmp_path / "none")


def test_a_spool_keeps_hashes_and_moves(tmp_path):
    spool = Spool(tmp_path)
    spool.write(b"hel")
    spool.write(b"lo")
    received = spool.finish()
    assert stat.S_IMODE(received.path.stat().st_mode) == 0o600
    assert (received.length, received.sha256) == (5, hashlib.sha256(b"hello").hexdigest())
    received.move_to(tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"hello"
    received.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_an_aborted_spool_leaves_nothing(tmp_path):
    spool = Spool(tmp_path)
    spool.write(b"x")
    spool.abort()
    finished = Spool(tmp_path)
    finished.finish()
    finished.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_callback_sink_hands_on_and_counts():
    came = []
    sink = CallbackSink(came.append)
    sink.write(b"ab")
    sink.write(b"c")
    sink.abort()
    assert (came, sink.finish()) == ([b"ab", b"c"], 3)
