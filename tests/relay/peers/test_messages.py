import uuid
import zlib
from dataclasses import replace

import bson
import pytest
from bson.binary import Binary
from bson.int64 import Int64

from relay.halibut.lines import DATA_STREAM_TYPE
from relay.peers import documents, messages
from relay.peers.errors import PeerError
from relay.peers.messages import ErrorReply, Request, Response
from relay.peers.streams import DataStream

HEADS = ["listening-head-to-head", "polling-head-to-head", "listening-upload-200k-head", "listening-download-200k"]
ID = Binary(uuid.uuid4().bytes_le, 4)
UNTYPED = {"id": ID, "length": Int64(1)}
TYPED = {"$type": DATA_STREAM_TYPE, **UNTYPED}


def envelopes(records):
    """The inflated documents among records that each hold a whole envelope."""
    for _, record in records:
        inflater = zlib.decompressobj(-15)
        try:
            document = inflater.decompress(record)
        except zlib.error:
            continue
        if inflater.eof and not inflater.unused_data and document.startswith(len(document).to_bytes(4, "little")):
            yield document


def ours(message, references):
    """The message as one of our own: DataStreams where its references stood."""
    for reference in references:
        reference.replace(replace(DataStream.of_bytes(bytes(reference.length)), id=reference.id))


@pytest.mark.parametrize("folder", HEADS)
def test_recorded_messages_are_written_as_they_were(recording, folder):
    count = 0
    for document in envelopes(recording(folder)):
        root = documents.decode(document)
        message, references = messages.read(root)
        ours(message, references)
        streams = []
        written = messages.settled(message, root).document(streams)
        assert documents.encode(written) == document
        assert [stream.id for stream in streams] == [reference.id for reference in references]
        count += 1
    assert count >= 2


def test_a_new_request_has_the_recorded_form(recording):
    recorded = documents.decode(next(envelopes(recording("listening-head-to-head"))))["Message"]
    where = messages.endpoint("https://localhost:26004/", "F69040D4D55F46B30A3719B816AB234433049F9D")
    request = Request.new(1, where, "ICapabilitiesServiceV2", "GetCapabilities", [])
    written = request.document([])["Message"]
    assert list(written) == list(recorded)
    assert written["endpoint"] == recorded["endpoint"]
    assert list(written["endpoint"]) == list(recorded["endpoint"])
    assert written["id"] == f"ICapabilitiesServiceV2::GetCapabilitiesAsync[1] / {request.activity_id}"
    assert written["activityId"] == Binary(request.activity_id.bytes_le, 4)


def test_a_null_message_is_read():
    assert messages.read({"Message": None}) == (None, [])


def request_document(**changes):
    request = Request.new(1, messages.endpoint("https://h:1/", "A" * 40), "IService", "Method", ["x"])
    return {**request.document([])["Message"], **changes}


def response_document(**changes):
    return {**Response("IService::MethodAsync[1] / x", 1).document([])["Message"], **changes}


def without(document, name):
    return {key: value for key, value in document.items() if key != name}


def endpoint_with(**changes):
    return request_document(endpoint={**messages.endpoint("https://h:1/", "A" * 40), **changes})


REFUSED = {
    "two members in the root": ({"Message": None, "More": 1}, "4.2"),
    "another root": ({"message": None}, "4.2"),
    "a message that is no document": ({"Message": "x"}, "4.2"),
    "another type": ({"Message": {"$type": "Other"}}, "4.4"),
    "an unknown member": ({"Message": request_document(extra=1)}, "4.4"),
    "a member in another case": ({"Message": request_document(Service="IOther")}, "4.4"),
    "a missing member": ({"Message": without(request_document(), "method")}, "4.4"),
    "another order": ({"Message": {"id": "x", **without(request_document(), "id")}}, "4.4"),
    "a service that is no string": ({"Message": request_document(service=1)}, "4.4"),
    "an activity of another subtype": ({"Message": request_document(activityId=Binary(bytes(16), 3))}, "4.4"),
    "an id without its guid": ({"Message": request_document(id="IService::MethodAsync[1]")}, "4.4"),
    "an id with another guid": ({"Message": request_document(id=f"IService::MethodAsync[1] / {uuid.uuid4()}")}, "4.4"),
    "an unknown member of endpoint": ({"Message": endpoint_with(Extra=1)}, "4.4"),
    "an int64 in endpoint": ({"Message": endpoint_with(RetryCountLimit=Int64(5))}, "4.4"),
    "an unknown member of a proxy": ({"Message": endpoint_with(Proxy={"Host": "h", "More": 1})}, "4.4"),
    "a stream outside params": ({"Message": endpoint_with(Proxy=UNTYPED)}, "4.4"),
    "a stream in the error": ({"Message": response_document(error=UNTYPED, result=None)}, "5.5"),
    "a stream in params without type": ({"Message": request_document(params=[UNTYPED])}, "5.1"),
    "a stream as result without type": ({"Message": response_document(result=UNTYPED)}, "5.1"),
    "one stream twice": ({"Message": request_document(params=[TYPED, dict(TYPED)])}, "5.4"),
    "an unknown member of a response": ({"Message": response_document(extra=1)}, "4.5"),
    "error and result": ({"Message": response_document(error={"message": "m", "details": "d"})}, "4.5"),
    "an error without details": ({"Message": response_document(error={"message": "m"}, result=None)}, "4.5"),
    "details of null": ({"Message": response_document(error={"message": "m", "details": None}, result=None)}, "4.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_page_does_not_have_is_refused(case):
    root, rule = REFUSED[case]
    with pytest.raises(PeerError) as error:
        messages.read(documents.decode(bson.encode(root)))
    assert error.value.rule == rule


@pytest.mark.parametrize(
    "error", [ErrorReply("m", "d", None), ErrorReply("m", "d", "Halibut.Exceptions.ServiceNotFoundHalibutClientException")]
)
def test_error_replies_both_ways(error):
    root = documents.decode(documents.encode(Response("i", error=error).document([])))
    assert messages.read(root)[0].error == error


def test_an_old_error_reply_has_no_halibut_error_type():
    message, _ = messages.read({"Message": response_document(error={"message": "m", "details": "d"}, result=None)})
    assert message.error == ErrorReply("m", "d", None)


def test_a_replaced_result_is_settled():
    root = {"Message": response_document(result=dict(TYPED))}
    message, references = messages.read(root)
    references[0].replace("arrived")
    assert messages.settled(message, root).result == "arrived"


def test_secrets_of_endpoint_and_params_are_not_shown():
    request = Request.new(1, {"Password": "hush"}, "IService", "Method", ["a secret script"])
    assert "hush" not in repr(request)
    assert "secret" not in repr(request)
