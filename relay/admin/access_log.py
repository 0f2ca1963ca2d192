"""The access log: one JSON line for each exchange, when it ends, and for each connection that was passed through.

Fields of an exchange, always all of them and in this order; times in milliseconds, sizes in bytes:

    time            when it ended, UTC
    relay           relay.name
    machine         the machine's name
    octopus         the name of the calling Octopus' entry
    peer            the caller's address
    service         of the request, null where none came
    method
    activity        the request's activity id, as Octopus shows it in its own logs; null where none came
    outcome         a word of relay/outcomes.py
    detail          what happened, in words; empty where all went well
    reused          whether the connection to the Tentacle had been used before
    request_bytes   forwarded to the Tentacle, streams included
    request_streams data streams that the request announced
    reply_bytes     forwarded to Octopus, streams included
    reply_streams
    queue_ms        from the caller's identity or NEXT until a connection was picked or dialled
    dial_ms         from then until the Tentacle was ready: dial, TLS and identity, or proof; null where it never was
    first_byte_ms   from the request's last byte to the reply's first: the Tentacle's own time; null where there was none
    total_ms        from the caller's identity or NEXT to the end

And those of a connection of a machine with `passthrough: true`:

    time            when it ended, UTC
    relay           relay.name
    machine         the machine's name
    passthrough     true
    door            the relay's own address that the caller came to
    peer            the caller's address
    outcome         a word of relay/outcomes.py
    detail          what happened, in words; empty where both sides have closed
    request_bytes   that the Tentacle's host has taken, TLS included
    reply_bytes     that the caller's host has taken
    dial_ms         until the Tentacle's host had taken the connection: name and TCP; null where it never did
    first_byte_ms   from then until the Tentacle's first byte; null where none came
    total_ms        from the caller's arrival to the end

Parameters, endpoints and stream contents are never logged: they hold secrets (wire.md 10.20).
"""

import time
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from relay.admin.writer import LineWriter
from relay.call import Call
from relay.outcomes import Outcome
from relay.passed import Passed

_WORDS: Final = {outcome: outcome.value for outcome in Outcome}


class AccessLog:
    """Writes the lines."""

    def __init__(self, relay: str, writer: LineWriter) -> None:
        self._relay = quoted(relay)
        self._writer = writer
        self._second = -1
        self._stamp = ""

    def write_to(self, writer: LineWriter) -> LineWriter:
        """Writes there from now on; where it wrote until now."""
        before, self._writer = self._writer, writer
        return before

    def write(self, call: Call) -> None:
        """Writes the line of an exchange that has ended."""
        self._writer.write_line(format_call(self._now(), self._relay, call).encode("ascii"))

    def write_passed(self, passed: Passed) -> None:
        """Writes the line of a connection that was passed through."""
        self._writer.write_line(format_passed(self._now(), self._relay, passed).encode("ascii"))

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"


def format_call(stamp: str, relay: str, call: Call) -> str:
    """The line. stamp: the time as it shall stand; relay: quoted already."""
    request, reply, began, served, ended = call.request, call.reply, call.began, call.served, call.ended
    service = method = activity = "null"
    if request:
        service, method = quoted(request.service), quoted(request.method)
        if request.activity_id:
            activity = f'"{_guid(request.activity_id)}"'
    dial = f"{(call.ready - served) * 1000:.1f}" if served and call.ready else "null"
    first_byte = f"{(call.replied - call.requested) * 1000:.1f}" if call.requested and call.replied else "null"
    return (
        f'{{"time":"{stamp}","relay":{relay},"machine":{quoted(call.machine)},'
        f'"octopus":{quoted(call.octopus)},"peer":{quoted(call.peer)},"service":{service},"method":{method},'
        f'"activity":{activity},"outcome":"{_WORDS[call.outcome] if call.outcome else ""}","detail":{quoted(call.detail)},'
        f'"reused":{"true" if call.reused else "false"},'
        f'"request_bytes":{call.request_bytes},"request_streams":{len(request.streams) if request else 0},'
        f'"reply_bytes":{call.reply_bytes},"reply_streams":{len(reply.streams) if reply else 0},'
        f'"queue_ms":{((served or ended) - began) * 1000:.1f},"dial_ms":{dial},'
        f'"first_byte_ms":{first_byte},"total_ms":{(ended - began) * 1000:.1f}}}'
    )


def format_passed(stamp: str, relay: str, passed: Passed) -> str:
    """The same of a connection that was passed through."""
    dial = f"{(passed.ready - passed.began) * 1000:.1f}" if passed.ready else "null"
    first_byte = f"{(passed.replied - passed.ready) * 1000:.1f}" if passed.replied else "null"
    return (
        f'{{"time":"{stamp}","relay":{relay},"machine":{quoted(passed.machine)},"passthrough":true,'
        f'"door":{quoted(passed.door)},"peer":{quoted(passed.peer)},'
        f'"outcome":"{_WORDS[passed.outcome] if passed.outcome else ""}","detail":{quoted(passed.detail)},'
        f'"request_bytes":{passed.request_bytes},"reply_bytes":{passed.reply_bytes},'
        f'"dial_ms":{dial},"first_byte_ms":{first_byte},"total_ms":{(passed.ended - passed.began) * 1000:.1f}}}'
    )


def _guid(data: bytes) -> str:
    """As text, from .NET's order: the first three fields are little-endian (wire.md 4.4)."""
    return f"{data[3::-1].hex()}-{data[5:3:-1].hex()}-{data[7:5:-1].hex()}-{data[8:10].hex()}-{data[10:].hex()}"
