"""The pair: whole transfers, several at once, and what they cost in memory."""

import tracemalloc

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from relay.peers.errors import TruncatedError
from relay.peers.services import Service
from relay.peers.streams import DataStream, ReceivedStream
from relay.peers.times import pause

MIB = 1 << 20


STYLES = pytest.mark.parametrize("style", ["pair", "polling_pair"])


@pytest.fixture
def machine(request, style):
    return request.getfixturevalue(style)[2]


def zeros(length):
    async def chunks():
        for _ in range(length // 16384):
            yield bytes(16384)

    return DataStream(length, chunks)


@STYLES
@pytest_twisted.ensureDeferred
async def test_an_upload_of_64_mib_and_its_download_stay_out_of_memory(machine, tmp_path):
    await machine.get_capabilities()
    tracemalloc.start()
    try:
        result = await machine.upload_file("big", zeros(64 * MIB))
        there = await machine.download_file("big", tmp_path / "back")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (result.length, there.length) == (64 * MIB, 64 * MIB)
    assert there.sha256 == result.hash
    # Both peers are in this process.
    assert peak < 4 * MIB


@STYLES
@pytest_twisted.ensureDeferred
async def test_a_pair_does_many_calls_at_once(machine):
    calls = [Deferred.fromCoroutine(machine.upload_file(f"f{number}", bytes([number]) * 50000)) for number in range(8)]
    results = await gatherResults(calls)
    assert len({result.hash for result in results}) == 8


@pytest_twisted.ensureDeferred
async def test_streams_deep_in_params_and_in_results(new_octopus, new_tentacle):
    async def reverse(streams):
        return {
            "$type": "System.Collections.Generic.List`1[[Halibut.DataStream, Halibut]], System.Private.CoreLib",
            "$values": [DataStream.of_bytes(stream.path.read_bytes()) for stream in reversed(streams["$values"])],
        }

    octopus = new_octopus()
    tentacle = new_tentacle(services=[Service("IManyStreamsService", "Many", {"Reverse": reverse})])
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    streams = [DataStream.of_bytes(b"x" * length) for length in (10, 0, 20000)]
    result = await machine.call("IManyStreamsService", "Reverse", {"$values": streams})
    received = result["$values"]
    assert all(isinstance(stream, ReceivedStream) for stream in received)
    assert [stream.length for stream in received] == [20000, 0, 10]
    for stream in received:
        stream.discard()
    assert not octopus.violations
    assert not tentacle.violations


@pytest_twisted.ensureDeferred
async def test_a_cancelled_upload_is_an_end_in_the_middle_for_the_tentacle(new_octopus, new_tentacle, tmp_path):
    octopus, tentacle = new_octopus(), new_tentacle()
    machine = octopus.machine("127.0.0.1", await tentacle.listen(), tentacle.thumbprint)
    half_way, never = Deferred(), Deferred()

    async def chunks():
        yield bytes(16384)
        half_way.callback(None)
        await never

    upload = Deferred.fromCoroutine(machine.upload_file("f", DataStream(32768, chunks)))
    await half_way
    # Out of the generator, which is running at this moment.
    await pause(reactor, 0)
    upload.cancel()
    with pytest.raises(CancelledError):
        await upload
    while not tentacle.violations:
        await pause(reactor, 0)
    assert [type(error) for error in tentacle.violations] == [TruncatedError]
    assert not (tmp_path / "home/f").exists()
    assert list((tmp_path / "home/.spool").iterdir()) == []
    assert not octopus.violations


def test_pins_are_checked(new_octopus):
    with pytest.raises(ValueError, match="40 hex digits"):
        new_octopus().machine("h", 1, "A")
    with pytest.raises(ValueError, match="40 hex digits"):
        new_octopus().polling_machine("poll://x/", "A")
