import uuid
import zlib
from dataclasses import replace

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, NULL_ENVELOPE, PROCEED, SERVER_IDENTITY, subscriber_identity
from relay.peers import framing
from relay.peers.documents import deflate, encode, records
from relay.peers.errors import EndedError, PeerError, TruncatedError
from relay.peers.framing import Caller
from relay.peers.messages import Request, Response, endpoint
from relay.peers.streams import DataStream

END_OF_PEER = object()


class Memory:
    """A sink in memory."""

    def __init__(self):
        self.data = b""
        self.aborted = False

    def write(self, data):
        self.data += data

    def finish(self):
        return self.data

    def abort(self):
        self.aborted = True


def feed(reader, *steps):
    """What the reader returns; "more" where it still waits after the last step."""
    next(reader)
    for number, step in enumerate(steps):
        try:
            if step is END_OF_PEER:
                reader.throw(EndedError("gone"))
            else:
                reader.send(step)
        except StopIteration as stop:
            assert number == len(steps) - 1, "done before all was fed"
            return stop.value
    return "more"


def message_of(params):
    """A request's envelope and its streams."""
    streams = []
    request = Request.new(1, endpoint("https://h:1/", "A" * 40), "IService", "Method", params)
    return deflate(encode(request.document(streams))), streams


def frame(stream, body):
    length = stream.length.to_bytes(8, "little")
    return [stream.id, length, *([body] if body else []), length]


@pytest.mark.parametrize(
    ("steps", "result"),
    [
        ([b"MX\n\n"], True),
        ([b"MX\r\n\r\n"], True),
        ([b"HELLO\r\n\r\n"], False),
        ([b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"], False),
        ([b"M" * 16384, b"M" * 3616], False),
        ([b"M" * 16384], "more"),
        ([b"\n\n"], False),
    ],
)
def test_preambles(steps, result):
    assert feed(framing.preamble(), *steps) == result


@pytest.mark.parametrize(
    "steps", [[b"MX\n"], [b"M", b"X"], [b"MX-more\r\n\r\n"], [b"MX\r\n\r\n" + CLIENT_IDENTITY], [b"MX\r\n\n"]]
)
def test_other_preambles_break_2_1(steps):
    with pytest.raises(PeerError, match=r"wire.md 2\.1"):
        feed(framing.preamble(), *steps)


def test_an_end_before_the_preamble_is_orderly_and_a_stranger_may_stop_anywhere():
    for steps in ([END_OF_PEER], [b"GET /", END_OF_PEER]):
        with pytest.raises(EndedError):
            feed(framing.preamble(), *steps)


def test_identities():
    assert feed(framing.identity(), CLIENT_IDENTITY) == Caller()
    assert feed(framing.identity(), subscriber_identity("poll://sq-tentapoll/")) == Caller("poll://sq-tentapoll/")
    assert feed(framing.server_identity(), SERVER_IDENTITY) is None


@pytest.mark.parametrize(
    "record",
    [
        b"MX-CLIENT 1.0\r\n",
        b"MX-CLIENT 1.0\n\n",
        b"MX-CLIENT 2.0\r\n\r\n",
        b"MX-client 1.0\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 \r\n\r\n",
        b"MX-SUBSCRIBER 1.0 https://x/\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 poll://x/ more\r\n\r\n",
        b"MX-SUBSCRIBER 1.0 poll://" + b"x" * 2000 + b"/\r\n\r\n",
        CLIENT_IDENTITY + NEXT,
        SERVER_IDENTITY,
    ],
)
def test_other_identities_break_2_4(record):
    with pytest.raises(PeerError, match=r"wire.md 2\.4"):
        feed(framing.identity(), record)


@pytest.mark.parametrize("record", [b"MX-SERVER 1.0\r\n", SERVER_IDENTITY + PROCEED, CLIENT_IDENTITY, b"\r\n"])
def test_other_identities_of_a_listener_break_2_4(record):
    with pytest.raises(PeerError, match=r"wire.md 2\.4"):
        feed(framing.server_identity(), record)


def test_control_lines():
    assert feed(framing.proceed(), PROCEED) is None
    assert feed(framing.next_or_end(), NEXT) is True
    assert feed(framing.next_or_end(), END) is False
    assert feed(framing.next_or_end(), END_OF_PEER) is False


@pytest.mark.parametrize("record", [b"NEXT", b"NEXT\n", b"next\r\n", b"\r\nNEXT\r\n", NEXT + NEXT, PROCEED, b"NE"])
def test_other_control_lines_break_3(record):
    with pytest.raises(PeerError, match=r"wire.md 3\)"):
        feed(framing.next_or_end(), record)
    with pytest.raises(PeerError, match=r"wire.md 3\)"):
        feed(framing.proceed(), record + b"x")


def test_a_null_message():
    incoming = feed(framing.message(None), NULL_ENVELOPE)
    assert incoming.message is None
    assert not incoming.ended


def test_a_message_with_streams_takes_their_contents():
    streams = [DataStream.of_bytes(b"hello"), DataStream.of_bytes(b"")]
    envelope, _ = message_of(["path", streams[0], {"Contents": streams[1]}])
    incoming = feed(framing.message(lambda _: Memory()), envelope, *frame(streams[0], b"hello"), *frame(streams[1], b""))
    assert incoming.message.params == ["path", b"hello", {"Contents": b""}]


def test_an_envelope_and_a_body_may_come_in_records_of_any_size():
    text = "".join(str(uuid.uuid4()) for _ in range(3000))
    stream = DataStream.of_bytes(b"abcdef")
    envelope, _ = message_of([text, stream])
    cut = records(envelope)
    assert len(cut) > 2
    body = [stream.id, (6).to_bytes(8, "little"), b"ab", b"c", b"def", (6).to_bytes(8, "little")]
    assert feed(framing.message(lambda _: Memory()), *cut, *body).message.params == [text, b"abcdef"]


def test_end_instead_of_a_message_is_orderly_where_a_dialler_may_say_it():
    for step in (END, END_OF_PEER):
        assert feed(framing.message(None, may_end=True), step).ended
    with pytest.raises(EndedError):
        feed(framing.message(None), END_OF_PEER)


STREAM = DataStream.of_bytes(b"hello")
OTHER = DataStream.of_bytes(b"hello")
ENVELOPE, _ = message_of([STREAM])
TWO, _ = message_of([STREAM, OTHER])
FIVE, SIX = (5).to_bytes(8, "little"), (6).to_bytes(8, "little")
RANDOM = b"".join(uuid.uuid4().bytes for _ in range(4000))
BIG, _ = message_of([RANDOM])

BROKEN = {
    "END from a listener": ([END], "3"),
    "NEXT instead of an envelope": ([NEXT], "3"),
    "PROCEED instead of an envelope": ([PROCEED], "3"),
    "garbage": ([b"\xff" * 64], "4.1"),
    "a byte after the envelope": ([ENVELOPE + b"\0"], "2.7 a"),
    "the stream's id in the envelope's record": ([ENVELOPE + STREAM.id], "2.7 a"),
    "the envelope's last byte in a record of its own": ([ENVELOPE[:-1], ENVELOPE[-1:]], "2.7 c"),
    "no document inside": ([deflate(b"hello")], "4.1"),
    "two documents inside": ([deflate(encode({"Message": None}) * 2)], "4.1"),
    "half a document inside": ([deflate(encode({"Message": None})[:10])], "4.1"),
    "an unknown stream": ([ENVELOPE, OTHER.id], "5.7"),
    "streams in another order": ([TWO, OTHER.id], "5.7"),
    "NEXT instead of a stream": ([ENVELOPE, NEXT], "5.7"),
    "id and length in one record": ([ENVELOPE, STREAM.id + FIVE], "5.7"),
    "half an id": ([ENVELOPE, STREAM.id[:8]], "5.7"),
    "another length than announced": ([ENVELOPE, STREAM.id, SIX], "5.2"),
    "length and body in one record": ([ENVELOPE, STREAM.id, FIVE + b"hello"], "5.2"),
    "body and closing length in one record": ([ENVELOPE, STREAM.id, FIVE, b"hello" + FIVE], "2.7 a"),
    "another closing length": ([ENVELOPE, STREAM.id, FIVE, b"hello", SIX], "5.7"),
    "a control line instead of the second stream": ([TWO, *frame(STREAM, b"hello"), NEXT], "5.7"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_message(case):
    steps, rule = BROKEN[case]
    with pytest.raises(PeerError) as error:
        feed(framing.message(lambda _: Memory()), *steps)
    assert error.value.rule == rule
    assert not isinstance(error.value, TruncatedError)


TRUNCATED = {
    "inside the envelope": [BIG[:1000]],
    "after the envelope": [ENVELOPE],
    "after the id": [ENVELOPE, STREAM.id],
    "inside the body": [ENVELOPE, STREAM.id, FIVE, b"hel"],
    "before the closing length": [ENVELOPE, STREAM.id, FIVE, b"hello"],
    "before the second stream": [TWO, *frame(STREAM, b"hello")],
}


@pytest.mark.parametrize("case", TRUNCATED)
def test_an_end_in_the_middle_is_told(case):
    with pytest.raises(TruncatedError):
        feed(framing.message(lambda _: Memory()), *TRUNCATED[case], END_OF_PEER)


def test_what_was_received_is_aborted_when_the_rest_does_not_come():
    sinks = []

    def open_sink(reference):
        sinks.append(Memory())
        return sinks[-1]

    reader = framing.message(open_sink)
    assert feed(reader, TWO, *frame(STREAM, b"hello"), OTHER.id, FIVE, b"he") == "more"
    reader.close()
    assert [(sink.data, sink.aborted) for sink in sinks] == [(b"hello", True), (b"he", True)]


def test_a_bomb_is_refused_while_it_inflates(monkeypatch):
    monkeypatch.setattr(framing, "_ENVELOPE_LIMIT", 100_000)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    size = (50 << 20).to_bytes(4, "little")
    data = bomb.compress(size + bytes(50 << 20)) + bomb.flush()
    with pytest.raises(PeerError, match="more than 100000 bytes"):
        feed(framing.message(None), data[:16384])


def test_a_stream_of_an_absurd_length_is_refused():
    stream = replace(DataStream.of_bytes(b""), length=1 << 50)
    envelope, _ = message_of([stream])
    with pytest.raises(PeerError, match=r"wire.md 5\.2"):
        feed(framing.message(lambda _: Memory()), envelope)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8), st.sampled_from(["message", "identity", "preamble", "line"]))
def test_no_records_raise_anything_but_peer_error(steps, kind):
    reader = {
        "message": lambda: framing.message(lambda _: Memory()),
        "identity": framing.identity,
        "preamble": framing.preamble,
        "line": framing.next_or_end,
    }[kind]()
    next(reader)
    for step in steps:
        try:
            reader.send(step)
        except (PeerError, StopIteration):
            return


def conversation(listening, recorded):
    """Reads a whole recording, each side's records by what is due from it; the messages in order."""
    client, service = ("dialler", "listener") if listening else ("listener", "dialler")
    came = iter(recorded)

    def take(side, reader):
        next(reader)
        while True:
            whose, record = next(came)
            assert whose == side, (whose, record[:40])
            try:
                reader.send(record)
            except StopIteration as stop:
                return stop.value

    assert take("dialler", framing.preamble())
    take("dialler", framing.identity())
    take("listener", framing.server_identity())
    found = []
    while True:
        incoming = take(client, framing.message(lambda _: Memory()))
        if incoming.message is not None:
            reply = take(service, framing.message(lambda _: Memory()))
            assert reply.message.id == incoming.message.id
            found += [incoming.message, reply.message]
        if not take("dialler", framing.next_or_end()):
            return found
        take("listener", framing.proceed())


VERSIONS = ["head-to-head", "4.4.8-to-4.4.8", "head-to-4.4.8", "4.4.8-to-head", "6.0.658-to-head", "5.0.236-to-head"]


@pytest.mark.parametrize("versions", VERSIONS)
def test_recorded_conversations_break_no_rule(recording, versions):
    recorded = recording(f"listening-{versions}")
    found = conversation(True, recorded)
    assert isinstance(found[0], Request)
    assert isinstance(found[1], Response)
    assert len(found) >= 30


@pytest.mark.parametrize("versions", ["head", "4.4.8"])
def test_recorded_big_envelopes_break_no_rule(recording, versions):
    assert len(conversation(True, recording(f"listening-big-envelopes-{versions}"))) == 6


def test_bson_null_is_the_recorded_null_envelope():
    assert bson.decode(zlib.decompress(NULL_ENVELOPE, -15)) == {"Message": None}
