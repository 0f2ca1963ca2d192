"""One exchange with everybody around it in memory: what happens is written down, in order, as a test wants to read it."""

from collections.abc import Callable
from typing import Any

from fake_link import FakeLink
from twisted.internet.task import Clock

from relay.call import Call
from relay.exchange import Exchange, State
from relay.halibut.events import Part, Unit
from relay.halibut.message import Kind, Message, Reference
from relay.lease import Close, LeaseHolder
from relay.outcomes import Outcome

BEGAN = 100.0
READY = 45.0
ID = bytes.fromhex("00112233445566478899aabbccddeeff")


def request_message(id_: str = "call 1", streams: tuple[Reference, ...] = ()) -> Message:
    return Message(Kind.REQUEST, id_, bytes(16), "IScriptService", "StartScript", streams=streams)


def reply_message(id_: str = "call 1", failed: bool = False, streams: tuple[Reference, ...] = ()) -> Message:
    return Message(Kind.RESPONSE, id_, failed=failed, streams=streams)


def envelope(data: bytes, message: Message | None = None, last: bool = False) -> Part:
    """A part of an envelope; message: on its last part."""
    return Part(Unit.ENVELOPE, data, message, last)


def frame(body: bytes, last: bool = True, extra: bool = False) -> list[Part]:
    """The parts of one data stream; last: no other is due behind it."""
    length = len(body).to_bytes(8, "little")
    return [
        Part(Unit.STREAM_ID, ID, extra=extra),
        Part(Unit.STREAM_LENGTH, length, extra=extra),
        Part(Unit.STREAM_BODY, body, extra=extra),
        Part(Unit.STREAM_CLOSING_LENGTH, length, last=last and not extra, extra=extra),
    ]


class Receiver:
    """Of a link whose bytes go by in a pump only."""

    def __init__(self, closed: Callable[[], None]) -> None:
        self._closed = closed

    def connectionMade(self) -> None:
        raise AssertionError("the link is open from the start")

    def dataReceived(self, data: bytes) -> None:
        raise AssertionError("parts are given to the exchange itself")

    def peerClosed(self) -> None:
        self._closed()

    def connectionLost(self, reason: Exception) -> None:
        raise AssertionError("ends are told to the exchange itself")


class FakeLease:
    """A Lease. The test says when it is ready, and what of."""

    def __init__(self, story: list[str], holder: LeaseHolder, deadline: float) -> None:
        self._story = story
        self.holder = holder
        self.deadline = deadline
        self.link = FakeLink(Receiver(holder.back_closing))
        self.more_frames = False
        self.over = False

    def send(self, part: Part) -> None:
        assert not self.over, "a part is sent by a lease that is over"
        self._story.append(f"to tentacle: {part.unit.value} {part.data!r}")
        self.link.write(part.data)

    def abort(self, close: Close) -> None:
        self._end(f"abort {close.value}")
        self.link.loseConnection(reset=close is Close.RST)

    def release(self) -> None:
        self._end("release")

    def _end(self, how: str) -> None:
        assert not self.over, "a lease ends twice"
        self.over = True
        self._story.append(how)

    # ---- what a test does -------------------------------------------------------------------------------------------

    def ready(self) -> None:
        self.holder.lease_ready()

    def fail(self, outcome: Outcome, detail: str = "as told") -> None:
        self.over = True
        self.holder.lease_failed(outcome, detail)

    def lose(self, outcome: Outcome = Outcome.TENTACLE_GONE, detail: str = "closed") -> None:
        self.over = True
        self.holder.back_lost(outcome, detail)

    def reply(self, *parts: Part) -> None:
        for part in parts:
            self.holder.reply_part(part)


class FakeBack:
    """A Back. leases: all that were asked for, the latest last."""

    def __init__(self, story: list[str]) -> None:
        self._story = story
        self.leases: list[FakeLease] = []

    def acquire(self, call: Call, deadline: float, holder: LeaseHolder, again: bool = False) -> FakeLease:
        self._story.append("acquire")
        lease = FakeLease(self._story, holder, deadline)
        self.leases.append(lease)
        return lease


class FakeCaller:
    """A Caller. among_streams: as a front would say it."""

    def __init__(self, story: list[str]) -> None:
        self._story = story
        self.link = FakeLink(Receiver(lambda: None))
        self.among_streams = False
        self.ends: list[Close] = []

    def answer(self) -> None:
        self._story.append("answer")

    def send(self, part: Part) -> None:
        self._story.append(f"to caller: {part.unit.value} {part.data!r}")
        self.link.write(part.data)

    def exchange_ended(self, close: Close) -> None:
        self._story.append(f"caller {close.value}")
        self.ends.append(close)


class Scene:
    """An exchange that has just begun. story: what the exchange did, in order."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.clock = Clock()
        self.clock.advance(BEGAN)
        self.caller = FakeCaller(self.story)
        self.back = FakeBack(self.story)
        self.finished: list[Call] = []
        self.call = Call("web01", "production", "192.0.2.1:50000", self.clock.seconds())
        self.exchange = Exchange(self.clock, self.caller, self.back, self.call, READY, self._finished)

    def _finished(self, call: Call) -> None:
        assert call.outcome
        self.story.append(f"finished {call.outcome.value}")
        self.finished.append(call)

    @property
    def lease(self) -> FakeLease:
        """The latest."""
        return self.back.leases[-1]

    @property
    def outcome(self) -> Outcome | None:
        return self.call.outcome

    def request(self, *parts: Part) -> None:
        for part in parts:
            self.exchange.request_part(part)

    def take_story(self) -> list[str]:
        """What has happened since it was taken last."""
        story = list(self.story)
        self.story.clear()
        return story

    def body(self, towards: str, count: int) -> Callable[[], int]:
        """So many bytes of a stream may be pumped to the ``tentacle`` or the ``caller``; gives how often it was done."""
        done: list[Any] = []
        give = self.exchange.request_body if towards == "tentacle" else self.lease.holder.reply_body
        give(count, lambda: done.append(None))
        return lambda: len(done)


# ---- the usual way into a state, and what may happen there ----------------------------------------------------------------

REQUEST = envelope(b"request", request_message(), last=True)
REPLY = envelope(b"reply", reply_message(), last=True)
STREAM = (Reference(ID, 4),)


def acquiring(scene: Scene) -> None:
    assert scene.exchange.state is State.ACQUIRING


def ready(scene: Scene) -> None:
    scene.lease.ready()
    assert scene.exchange.state is State.READY


def in_request(scene: Scene) -> None:
    ready(scene)
    scene.request(envelope(b"req"))
    assert scene.exchange.state is State.REQUEST


def in_call(scene: Scene) -> None:
    ready(scene)
    scene.request(REQUEST)
    assert scene.exchange.state is State.CALL


def in_reply(scene: Scene) -> None:
    in_call(scene)
    scene.lease.reply(envelope(b"rep"))
    assert scene.exchange.state is State.REPLY


def among_streams(scene: Scene) -> None:
    in_call(scene)
    scene.lease.reply(envelope(b"reply", reply_message(streams=STREAM)), *frame(b"body")[:2])
    scene.caller.among_streams = True
    assert scene.exchange.state is State.REPLY


def delivering(scene: Scene) -> None:
    in_call(scene)
    scene.caller.link.fill()
    scene.lease.reply(REPLY)
    assert scene.exchange.state is State.DELIVERING


def caller_gone(scene: Scene) -> None:
    scene.exchange.caller_gone("closed")


def caller_broke(scene: Scene) -> None:
    scene.exchange.caller_broke("it said NEXT (wire.md 3)")


def relay_stops(scene: Scene) -> None:
    scene.exchange.stop()


def tentacle_gone(scene: Scene) -> None:
    scene.lease.lose()


def tentacle_broke(scene: Scene) -> None:
    scene.lease.lose(Outcome.TENTACLE_BROKE, "it said PROCEED (wire.md 3)")


def lease_fails(scene: Scene) -> None:
    scene.lease.fail(Outcome.REFUSED)
