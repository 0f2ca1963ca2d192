from benchmarks.messages import REQUEST, RESPONSE, STREAM_ID, upload_request, upload_response
from relay.halibut.envelope import EnvelopeReader
from relay.halibut.limits import Limits
from relay.halibut.message import Kind, Message


def read(kind: Kind, data: bytes) -> Message:
    reader = EnvelopeReader(kind, Limits())
    assert reader.feed(data) == len(data)
    assert reader.message
    return reader.message


def test_an_upload_announces_the_stream_that_hload_sends() -> None:
    message = read(Kind.REQUEST, upload_request(64 << 20))
    assert (message.service, message.method) == ("IFileTransferService", "UploadFile")
    assert [(stream.id, stream.length) for stream in message.streams] == [(STREAM_ID, 64 << 20)]
    assert read(Kind.RESPONSE, upload_response(64 << 20)).id == message.id


def test_the_recorded_call_is_one() -> None:
    message = read(Kind.REQUEST, REQUEST.read_bytes())
    assert (message.service, message.method) == ("ICapabilitiesServiceV2", "GetCapabilities")
    assert read(Kind.RESPONSE, RESPONSE.read_bytes()).id == message.id
