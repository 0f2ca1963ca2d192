"""Writes and closes in any order, in looks of the poller and between: each peer gets what was written, record by record."""

import os
from random import Random
from typing import Final

import pytest
import pytest_twisted
from changes import turns
from tls_peer import FIN, TlsPeer, client_side
from wires import End, Wires

from relay.transport.openssl import RECORD
from relay.transport.poller import GATHER, READ, SMALL, Poller

SIZES: Final = (1, 17, SMALL - 1, SMALL, RECORD, RECORD + 1, 3 * RECORD)


class Leg:
    """One connection, and what it was given."""

    def __init__(self, end: End, peer: TlsPeer) -> None:
        self.link, self.peer = end.link, peer
        self.writes: list[bytes] = []
        self.closed = self.reset = False

    def act(self, random: Random) -> None:
        """Writes, mostly."""
        word, data = random.choices("wca", (40, 1, 1))[0], random.randbytes(1) * random.choice(SIZES)
        if word == "w":
            if not self.closed:
                self.writes.append(data)
            self.link.write(data)
        elif not self.closed:
            self.closed, self.reset = True, word == "a"
            (self.link.abortConnection if self.reset else self.link.loseConnection)()

    def look(self, random: Random) -> None:
        """The peer reads, or does not."""
        if self.peer.end is None:
            random.choice((self.peer.read, self.peer.stop_reading))()

    @property
    def records(self) -> list[int]:
        """How many bytes are in each."""
        return [size for data in self.writes for size in [RECORD] * (len(data) // RECORD) + [len(data) % RECORD] if size]


class Ready:
    """Somebody who has a turn in the next look of a poller, and lets some legs act."""

    def __init__(self, poller: Poller, legs: list[Leg], random: Random) -> None:
        self._poller, self._legs, self._random = poller, legs, random
        self._descriptor = os.eventfd(1)
        poller.ask(self._descriptor, self, READ)

    def readable(self) -> None:
        self._poller.ask(self._descriptor, self, 0)
        os.close(self._descriptor)
        act(self._legs, self._random)

    def writable(self) -> None:
        """Not asked for."""

    def peer_closed(self) -> None:
        """Not asked for."""

    def failed(self, error: Exception) -> None:
        raise error


def act(legs: list[Leg], random: Random) -> None:
    for _ in range(random.randrange(1, 5)):
        random.choice(legs).act(random)


async def legs_of(wires: Wires, random: Random) -> list[Leg]:
    made = []
    for _ in range(random.randrange(1, 4)):
        version, buffers = random.choice(("TLSv1.2", "TLSv1.3")), random.choice((0, 8192))
        if random.random() < 0.5:
            made.append(Leg(*await wires.accepted(client_side(version), buffers=buffers)))
        else:
            made.append(Leg(*await wires.dialled(version, buffers=buffers)))
    return made


@pytest.mark.parametrize("seed", range(25))
@pytest_twisted.ensureDeferred
async def test_each_peer_gets_what_was_written(wires: Wires, seed: int) -> None:
    random = Random(seed)
    legs = await legs_of(wires, random)
    for _ in range(12):
        step = random.random()
        if step < 0.5:
            for _ in range(random.randrange(1, GATHER + 4)):
                Ready(wires.loop.poller, legs, random)
            wires.loop.poller.doRead()
            assert all(leg.link.backlogged == bool(leg.link.unsent) for leg in legs if not leg.closed)
        elif step < 0.7:
            act(legs, random)
        elif step < 0.85:
            await turns()
        else:
            random.choice(legs).look(random)
    for leg in legs:
        if leg.peer.end is None:
            leg.peer.read()
        if not leg.closed:
            leg.link.loseConnection()
    await wires.changes.until(lambda: all(leg.peer.end for leg in legs))
    for leg in legs:
        written, came = b"".join(leg.writes), leg.peer.data
        assert (came, leg.peer.end) == (written, FIN) or (leg.reset and written.startswith(came))
        assert leg.peer.sizes == leg.records[: len(leg.peer.sizes)]
