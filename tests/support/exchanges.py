"""Calls for scripted peers: requests and replies that can be told apart, and streams that are never whole in memory."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from halibut_bytes import deflated, guid, reference, request, response
from scripted import RECORD, Peer

MIB = 1024 * 1024
ID = request()["Message"]["id"]


def asked(text: str) -> bytes:
    """A request's envelope."""
    return deflated(request((text,)))


def told(text: str) -> bytes:
    """A reply's envelope."""
    return deflated(response(text, id=ID))


@dataclass(frozen=True)
class Stream:
    """A data stream of so many bytes; another number is another content."""

    size: int
    number: int = 1

    @property
    def id(self) -> bytes:
        return guid(self.number)

    @property
    def length(self) -> bytes:
        return self.size.to_bytes(8, "little")

    @property
    def uploaded(self) -> bytes:
        """The envelope of a request that carries it."""
        return deflated(request((f"file {self.number}", reference(self.id, self.size, typed=True))))

    @property
    def downloaded(self) -> bytes:
        """The envelope of a reply that carries it."""
        return deflated(response(reference(self.id, self.size, typed=True), id=ID))

    def records(self) -> Iterator[bytes]:
        """Its body, as Halibut cuts it. It repeats itself, but not at a record's edge or within half a megabyte."""
        content = random.Random(self.number).randbytes(MIB // 2 + 1)
        content += content[:RECORD]
        for start in range(0, self.size, RECORD):
            offset = start % (MIB // 2 + 1)
            yield content[offset : offset + min(RECORD, self.size - start)]

    @property
    def hash(self) -> str:
        return _hash(self.records())

    def send(self, peer: Peer) -> None:
        """Its frame."""
        peer.send(self.id, self.length)
        peer.send_all(self.records())
        peer.send(self.length)

    def expect(self, peer: Peer) -> None:
        """Its frame comes, each unit in records of its own, and the body is what it was."""
        peer.expect(self.id, self.length)
        assert _hash(peer.receive_exactly(self.size)) == self.hash
        peer.expect(self.length)


def _hash(records: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(record)
    return digest.hexdigest()


def call(caller: Peer, tentacle: Peer, text: str = "call") -> None:
    """One call, there and back."""
    caller.send(asked(text))
    tentacle.expect(asked(text))
    tentacle.send(told(text))
    caller.expect(told(text))
